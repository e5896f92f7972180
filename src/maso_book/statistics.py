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
        """1 or −1 where the interval lies above or below 0, else 0; 0 where it has no width, which decides nothing."""
        return 0 if self.low == self.high else (self.low > 0) - (self.high < 0)

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of one value per seed."""
    from scipy.stats import ttest_1samp

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    if _all_equal(values):
        return Interval(mean, mean, mean)
    found = ttest_1samp(values, 0.0).confidence_interval(0.95)
    return Interval(mean, float(found.low), float(found.high))


def _all_equal(values: Sequence[float]) -> bool:
    """Whether these differ by no more than rounding."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


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


def p_value(values: Sequence[float]) -> float:
    """Two-sided p of Student's test that the mean over seeds is 0; 1 where all are equal, which decides nothing."""
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, 0.0).pvalue) if len(values) > 1 and not _all_equal(values) else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """These p-values adjusted for their number by Holm's method, in their order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def bootstrap(values: np.ndarray, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean and 95 % interval where both the seeds and the images were sampled: the percentile bootstrap over both.

    Args:
        values: one for each seed and image, (seeds, images); the images are the same for all seeds.
        draws: how many times seeds and images are drawn with replacement.
        seed: of the draws.
    """
    rng, (seeds, images) = np.random.default_rng(seed), values.shape
    values = np.asarray(values, np.float64)
    means = [
        values[rng.integers(seeds, size=seeds)].mean(0)[rng.integers(images, size=images)].mean() for _ in range(draws)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))
