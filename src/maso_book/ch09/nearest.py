"""The way back: how near is the nearest β-VQ of a max-affine spline to GELU, ELU, mish and hard-swish? (09-nearest)

Far out a β-VQ follows its lines of smallest and largest slope, so a function that follows 0 and u is at a finite
distance only from those whose outer slopes are 0 and 1; offsets, further lines and β are free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtr, softmax

from maso_book.experiment import Rows

TARGETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "SiLU": lambda u: u / (1 + np.exp(-u)),
    "GELU": lambda u: u * ndtr(u),
    "ELU": lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))),
    "mish": lambda u: u * np.tanh(np.logaddexp(0, u)),
    "hard-swish": lambda u: u * np.clip(u / 6 + 0.5, 0, 1),
}
GRID = np.concatenate([np.linspace(-40, -8, 160, endpoint=False), np.linspace(-8, 8, 1601), np.linspace(8.2, 40, 160)])
FAMILIES = {"0 and u": 0, "two lines": 2, "three lines": 4}
"""Families, and their free numbers besides β: offsets of the outer lines, then slope and offset of one between."""


@dataclass(frozen=True)
class Nearest:
    """One function.

    Attributes:
        seed: of the starts.
        target: one of `TARGETS`.
        starts: random starts of the search in each family.
    """

    seed: int
    target: str
    starts: int = 10


def beta_vq(u: np.ndarray, slopes: np.ndarray, offsets: np.ndarray, odds: float) -> np.ndarray:
    """Σ_r softmax(η ℓ)_r ℓ_r of the lines ℓ_r = slopes[r] u + offsets[r], (N,) → (N,)."""
    lines = np.multiply.outer(u, slopes) + offsets
    values: np.ndarray = (softmax(odds * lines, axis=1) * lines).sum(1)
    return values


def lines_of(free: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes, offsets and η from the free numbers of a family, log η first."""
    odds, rest = float(np.exp(np.clip(free[0], -8, 8))), free[1:]
    slopes, offsets = np.array([0.0, 1.0]), np.zeros(2)
    if len(rest) >= 2:
        offsets = rest[:2]
    if len(rest) == 4:
        slopes, offsets = np.append(slopes, np.clip(rest[2], 0, 1)), np.append(offsets, rest[3])
    return slopes, offsets, odds


def run_nearest(config: Nearest) -> tuple[Rows, dict[str, np.ndarray]]:
    """The nearest β-VQ of each family.

    Table `nearest`, a row for each family: `family`; `distance`, the largest difference over the real line; `beta`;
    `slopes` and `offsets` of its lines, as text; `agreeing`: how many of the starts came within 1e-4 of the distance.
    """
    rng, target = np.random.default_rng(config.seed), TARGETS[config.target](GRID)

    def distance(free: np.ndarray) -> float:
        return float(np.abs(beta_vq(GRID, *lines_of(free)) - target).max())

    rows = []
    best_free = np.zeros(0)
    for family, more in FAMILIES.items():
        ends = []
        for start in range(config.starts):
            free = rng.normal(size=1 + more) * 0.5
            if start == 0:
                free[: len(best_free)] = best_free  # one start where the smaller family ended
            for _ in range(4):  # the search is begun anew where it stopped: the largest difference is not smooth
                free = minimize(distance, free, method="Nelder-Mead", options=_HOW).x
            ends.append((distance(free), free))
        best, best_free = min(ends, key=lambda end: end[0])
        slopes, offsets, odds = lines_of(best_free)
        rows.append({
            "family": family, "distance": best, "beta": odds / (1 + odds),
            "slopes": _text(slopes), "offsets": _text(offsets),
            "agreeing": sum(end[0] < best + 1e-4 for end in ends),
        })  # fmt: skip
    return {"nearest": rows}, {}


_HOW: dict[str, Any] = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 600}


def _text(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
