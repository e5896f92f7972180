"""The front page's network: the talk's toy net (2-D input, ReLU layers of 45 and 3 units, four classes), trained.

Its record holds the weights as they were learned, so that the picture on the front page, which can be touched, and the
one in README.md are drawn from a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso_book.experiment import Experiment, Rows
from maso_book.shared.toy import moons_and_circles

EPOCHS = (0, 1, 2, 4, 8, 16, 32)
"""Whose weights are kept beside those of the last epoch."""


@dataclass(frozen=True)
class Toy:
    """How the network is trained: Adam, batches of 250 of `samples` points."""

    seed: int = 0
    samples: int = 4000
    epochs: int = 60

    @property
    def kept(self) -> list[int]:
        """The epochs whose weights are kept, ascending."""
        return [*(epoch for epoch in EPOCHS if epoch < self.epochs), self.epochs]


def network() -> nn.Sequential:
    """The toy net, 2-45-3-4."""
    layers = [nn.Linear(2, 45), nn.ReLU(), nn.Linear(45, 3), nn.ReLU(), nn.Linear(3, 4)]
    return nn.Sequential(*layers).double()  # double: rounding must not lead training elsewhere on another machine


def side_by_side(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The toy data (n, 2) as the picture has them: the moons in its left half, the circles in its right half."""
    placed = np.empty_like(points)
    for classes, centre in (((0, 1), -1.25), ((2, 3), 1.25)):
        pair = np.isin(labels, classes)
        low, high = points[pair].min(0), points[pair].max(0)
        placed[pair] = (points[pair] - (low + high) / 2) / (high - low) * (2.0, 1.7) + (centre, 0.0)
    return placed


def run(config: Toy) -> tuple[Rows, dict[str, np.ndarray]]:
    """Trains the net; the arrays are its parameters, `"60.0.weight"` after epoch 60.

    Table `networks`, a row for each epoch kept: `epoch` and `accuracy`, the share of training points that are right.
    """
    points, labels = moons_and_circles(config.samples, np.random.default_rng(config.seed))
    x, y = torch.tensor(side_by_side(points, labels)), torch.tensor(labels)
    torch.manual_seed(config.seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for epoch in range(config.epochs + 1):
        if epoch:
            _train(model, optimizer, x, y)
        if epoch in config.kept:
            rows.append({"epoch": epoch, "accuracy": (model(x).argmax(1) == y).double().mean().item()})
            arrays |= {f"{epoch}.{name}": p.detach().cpu().numpy().copy() for name, p in model.named_parameters()}
    return {"networks": rows}, arrays


def _train(model: nn.Sequential, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """One epoch."""
    for batch in torch.randperm(len(x)).split(250):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()


def grid(profile: str) -> list[Toy]:
    """One network; with the quick profile a few steps of it."""
    return [Toy(samples=500, epochs=2)] if profile == "quick" else [Toy()]


EXPERIMENTS = [Experiment("00-front", run, grid)]
