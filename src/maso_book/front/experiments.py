"""The front page's network: the talk's toy net (2-D input, ReLU layers of 45 and 3 units, four classes), trained.

Its record holds the trained weights, so that the pictures on the front page and in README.md are drawn from a record.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from maso_book.experiment import Experiment, Rows


@dataclass(frozen=True)
class Toy:
    """How the network is trained: Adam, batches of 250 of `samples` points."""

    seed: int = 0
    samples: int = 4000
    epochs: int = 60


def network() -> nn.Sequential:
    """The toy net, 2-45-3-4."""
    layers = [nn.Linear(2, 45), nn.ReLU(), nn.Linear(45, 3), nn.ReLU(), nn.Linear(3, 4)]
    return nn.Sequential(*layers).double()  # double: rounding must not lead training elsewhere on another machine


def moons_and_circles(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaved half circles (classes 0 and 1) beside two concentric circles (2 and 3).

    Args:
        n: number of points.
        generator: the source of chance.

    Returns:
        points (n, 2) and labels (n,).
    """
    labels = np.arange(n) % 4
    angle = generator.uniform(0, np.pi, n) * np.where(labels < 2, 1, 2)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    shapes = [
        0.75 * circle + (-1.5, -0.2),
        -0.75 * circle + (-0.75, 0.2),
        0.80 * circle + (1.35, 0.0),
        0.38 * circle + (1.35, 0.0),
    ]
    return np.choose(labels[:, None], shapes) + generator.normal(0, 0.03, (n, 2)), labels


def run(config: Toy) -> tuple[Rows, dict[str, np.ndarray]]:
    """Trains the net; the arrays are its parameters by name.

    Table `networks`: `accuracy`, the share of training points that it gets right.
    """
    points, labels = moons_and_circles(config.samples, np.random.default_rng(config.seed))
    x, y = torch.tensor(points), torch.tensor(labels)
    torch.manual_seed(config.seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(config.epochs):
        for batch in torch.randperm(len(x)).split(250):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    accuracy = (model(x).argmax(1) == y).double().mean().item()
    return {"networks": [{"accuracy": accuracy}]}, {
        name: p.detach().cpu().numpy() for name, p in model.named_parameters()
    }


def grid(profile: str) -> list[Toy]:
    """One network; with the quick profile a few steps of it."""
    return [Toy(samples=500, epochs=2)] if profile == "quick" else [Toy()]


EXPERIMENTS = [Experiment("00-front", run, grid)]
