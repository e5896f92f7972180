"""The shift that softmax ignores, on frames and on random weights (claim 06.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from maso.penalties import gauge_minimum, orthogonality
from maso_book.experiment import Rows


@dataclass(frozen=True)
class Frames:
    """Simplex frames, and random weights.

    Attributes:
        seed: of all that is drawn.
        classes: numbers C of rows of the simplex frames.
        problems: how many random weights; each has 2 to 12 rows in 1 to 24 dimensions.
        starts: how often the general-purpose minimiser starts on each.
    """

    seed: int
    classes: tuple[int, ...] = (3, 4, 5, 10, 20, 50, 100)
    problems: int = 200
    starts: int = 6


def simplex_frame(C: int, D: int, norm: float, generator: torch.Generator) -> Tensor:
    """C rows of equal norm in D ≥ C dimensions, turned at random, all cosines −1/(C−1), (C, D) float64."""
    turn, _ = torch.linalg.qr(torch.randn(D, C, generator=generator, dtype=torch.float64))
    frame = (torch.eye(C, dtype=torch.float64) - 1 / C) @ turn.T
    return norm * frame / frame.norm(dim=1, keepdim=True)


def run_frames(config: Frames) -> tuple[Rows, dict[str, np.ndarray]]:
    """The penalty before and after the shift, the probabilities, and what a minimiser finds.

    Returns:
        Table `frames`, one row a simplex frame: `n_classes`, `row_norm`; `value_error`, of the penalty against
        Cρ⁴/(C−1), and `penalty_at_minimum`, both over Cρ⁴; `norm_error`, of ‖v‖² against ρ²/(C−1), over ρ²;
        `probability_error`, the largest change of a probability on 100 random features.

        Table `weights`, one row a random weight: `n_classes`, `n_features`, `penalty`, `at_minimum` (ours) and
        `found` (the minimiser's best).
    """
    generator = torch.Generator().manual_seed(config.seed)
    frames: list[dict[str, Any]] = []
    for C in config.classes:
        norm = float(torch.rand((), generator=generator, dtype=torch.float64)) + 0.5
        W = simplex_frame(C, C + 28, norm, generator)
        v = gauge_minimum(W)
        features = torch.randn(100, C + 28, generator=generator, dtype=torch.float64)
        before, after = ((features @ rows.T).softmax(1) for rows in (W, W + v))
        frames.append({
            "n_classes": C, "row_norm": norm,
            "value_error": abs(float(orthogonality(W)) - C * norm**4 / (C - 1)) / (C * norm**4),
            "penalty_at_minimum": float(orthogonality(W + v)) / (C * norm**4),
            "norm_error": abs(float(v @ v) - norm**2 / (C - 1)) / norm**2,
            "probability_error": float((before - after).abs().max()),
        })  # fmt: skip
    rng = np.random.default_rng(config.seed)
    weights = []
    for _ in range(config.problems):
        W = torch.from_numpy(rng.standard_normal((int(rng.integers(2, 13)), int(rng.integers(1, 25)))))
        weights.append({
            "n_classes": W.shape[0], "n_features": W.shape[1], "penalty": float(orthogonality(W)),
            "at_minimum": float(orthogonality(W + gauge_minimum(W))),
            "found": best_found(W.numpy(), config.starts, rng),
        })  # fmt: skip
    return {"frames": frames, "weights": weights}, {}


def best_found(W: np.ndarray, starts: int, rng: np.random.Generator) -> float:
    """The smallest penalty over shifts that BFGS finds, with a gradient of its own."""

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        moved = W + v
        inner = moved @ moved.T
        np.fill_diagonal(inner, 0.0)
        return float((inner**2).sum()), 4 * (inner @ moved).sum(0)

    runs = [minimize(value, rng.standard_normal(W.shape[1]), jac=True, method="BFGS") for _ in range(starts)]
    return float(min(run.fun for run in runs))
