"""Statistics that chapters share: means over seeds with their intervals, separation, modes, ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """Mean over seeds with its 95 % interval (Student); the interval of one seed is empty (NaN).

    Example:
        >>> f"{Interval(0.5, 0.25, 0.75):+.2f}", f"{Interval(0.5, 0.25, 0.75):.0%}"
        ('+0.50 [+0.25, +0.75]', '50% [25%, 75%]')
    """

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or −1 where the interval lies above or below 0, else 0."""
        return (self.low > 0) - (self.high < 0)

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of one value per seed."""
    from scipy.stats import ttest_1samp

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    found = ttest_1samp(values, 0.0).confidence_interval(0.95)
    return Interval(mean, float(found.low), float(found.high))


def student(values: Sequence[float]) -> tuple[float, float]:
    """The ends of `interval`, as seaborn's `errorbar=` takes them."""
    found = interval(values)
    return found.low, found.high


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a positive value exceeds a negative one, ties counting half: the area under the ROC curve."""
    from scipy.stats import mannwhitneyu

    ranked = mannwhitneyu(*(np.asarray(values, np.float64) for values in (positive, negative)), method="asymptotic")
    return float(ranked.statistic / (len(positive) * len(negative)))  # ranks are summed in the values' precision


def dip(values: np.ndarray) -> tuple[float, float]:
    """Hartigan's dip of the values, and the probability of a larger one if they had a single mode."""
    from diptest import diptest

    found, p = diptest(np.asarray(values, dtype=np.float64))
    return float(found), float(p)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of a with that of b, (N, D), (N, D) → (N,); 0 for constant rows."""
    from scipy.stats import rankdata

    ranks = [rankdata(rows, axis=1) for rows in (a, b)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(norms > 0, norms, 1)
