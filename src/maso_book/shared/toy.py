"""The authors' toy problem: two moons and two circles, learned by a network 2-45-3-4, cell by cell over the epochs.

Data: `make_moons(10000, noise=.035)` (classes 0 and 1) and `make_circles(10000, noise=.02)` moved up by 2 (classes 2
and 3), centred, divided by the largest value of each feature, 70 % for training.  Adam, batches of 1000.  The learning
rate and He's initial weights are this book's choice: the authors' are not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso.partition import Partition, Plane, partition
from maso_book.shared.geometry import Zones, confirmed, defects, distance
from maso_book.training import Training, accuracy, fit

WINDOW = (-1.25, 1.25)
RADIUS = 0.02
"""How near a point of the plane is to be to a training point to count as near the data."""
TOUCH = 1e-9
"""A cell at most this far from the origin touches it; what is measured is rounding."""
LEARNING_RATE = 0.01
FIRST, SECOND = "1", "3"
"""Paths of the two ReLU layers."""


def moons_and_circles(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The toy data, n/4 points of each of the four classes in random order: points (n, 2) and labels (n,)."""
    quarter = n // 4
    half, turn = np.linspace(0, np.pi, quarter), np.linspace(0, 2 * np.pi, quarter, endpoint=False)
    outer = np.stack([np.cos(turn), np.sin(turn)], 1)
    moon = np.stack([np.cos(half), np.sin(half)], 1)
    points = np.concatenate([moon, (1, 0.5) - moon, outer, 0.8 * outer])
    noise = np.repeat([0.035, 0.02], 2 * quarter)[:, None]
    points += noise * generator.normal(size=points.shape)
    points[2 * quarter :, 1] += 2
    points -= points.mean(0)
    points /= points.max(0)
    order = generator.permutation(len(points))
    return points[order], np.repeat(np.arange(4), quarter)[order]


def split(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training points and labels (70 %), test points and labels (30 %)."""
    points, labels = moons_and_circles(n, np.random.default_rng(seed))
    x, y = torch.from_numpy(points), torch.from_numpy(labels)
    train = 7 * len(x) // 10
    return x[:train], y[:train], x[train:], y[train:]


def network(widths: tuple[int, ...] = (45, 3), classes: int = 4) -> nn.Sequential:
    """Fully connected ReLU network on the plane with He's initial weights and PyTorch's uniform biases.

    In double precision, because rounding must not lead training elsewhere on another machine.
    """
    sizes = (2, *widths)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, (*widths, classes), strict=True):
        layers += [nn.Linear(inputs, outputs).double(), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")  # type: ignore[arg-type]
    return nn.Sequential(*layers[:-1])


def without_biases(model: nn.Module) -> None:
    """Set every bias of the network to zero."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.zero_()


def flat(model: nn.Module) -> np.ndarray:
    """All parameters in one array, (P,)."""
    return torch.cat([value.detach().flatten() for value in model.parameters()]).cpu().numpy()


def restored(parameters: np.ndarray) -> nn.Sequential:
    """The toy network with these parameters, as `flat` gives them."""
    model = network()
    torch.nn.utils.vector_to_parameters(torch.tensor(parameters), model.parameters())
    return model.eval()


def window() -> Plane:
    """The window of the toy plane that holds all data."""
    return Plane.square(*WINDOW)


@dataclass(frozen=True)
class Toy:
    """One toy network: initial biases, points, and the epochs after which its cells are measured (the last one ends).

    `biases` is "zero" (the talk's) or "uniform" (PyTorch's).
    """

    seed: int
    biases: Literal["zero", "uniform"]
    samples: int = 20_000
    epochs: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 40, 80, 120)


def run_toy(config: Toy) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train the net and measure its cells; arrays: its parameters at the first and the last epoch."""
    x, y, x_test, y_test = split(config.samples, config.seed)
    zones = Zones(x.numpy(), RADIUS)
    model = _initial(config.seed, config.biases)
    rows: list[dict[str, Any]] = []
    parameters: list[np.ndarray] = []
    last: list[Partition] = []

    def measure(epoch: int, model: nn.Module) -> None:
        if epoch not in config.epochs:
            return
        p = partition(model, window())
        near, rest = zones.densities(p.centres)
        apart = distance(p)
        rows.append(
            {
                "epoch": epoch,
                "accuracy": accuracy(model, x_test, y_test),
                "regions": len(p),
                "linear regions": int(p.linear_regions.max()) + 1,
                "touching": float((apart <= TOUCH).mean()),
                "offset": float(np.median(_offsets(model))),
                "density near": near,
                "density elsewhere": rest,
            }
        )
        parameters.append(flat(model))
        last[:] = [p]

    fit(model, x, y, Training(config.epochs[-1], 1000, LEARNING_RATE, seed=config.seed), on_epoch=measure)
    (p,) = last
    metrics = {
        "epochs": rows,
        "convexity": convexity(p),
        "confirmed": confirmed(p, np.arange(len(p))),
        "near area": zones.near_area,
        "rest area": zones.rest_area,
    }
    return metrics, {"parameters": np.stack([parameters[0], parameters[-1]])}


def _initial(seed: int, biases: str) -> nn.Sequential:
    torch.manual_seed(seed)
    model = network()
    if biases == "zero":
        without_biases(model)
    return model


def _offsets(model: nn.Module) -> np.ndarray:
    """Distance of the line of every unit of the first layer from the origin, |b| / ‖w‖: (45,)."""
    weight, bias = list(model.parameters())[:2]
    return (bias.abs() / weight.norm(dim=1)).detach().cpu().numpy()


def convexity(p: Partition) -> list[dict[str, Any]]:
    """Sets, connected parts, sets that are not convex, and the largest defect, of each ReLU layer and of both."""
    rows = []
    for name, layers in {"layer 1": [FIRST], "layer 2": [SECOND], "joint": [FIRST, SECOND]}.items():
        pulled = p.pullback(*layers)
        defect = defects(p, pulled.label)
        rows.append(
            {
                "cells of": name,
                "sets": pulled.sets,
                "parts": pulled.components,
                "not convex": int((defect > 0).sum()),
                "largest defect": float(defect.max()),
            }
        )
    return rows


@dataclass(frozen=True)
class Film:
    """The net of `Toy(seed, "zero")`, kept after each of these epochs to be shown as an animation."""

    seed: int
    samples: int = 20_000
    epochs: tuple[int, ...] = (*range(11), *range(12, 21, 2), *range(24, 41, 4), *range(48, 121, 8))


def run_film(config: Film) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train the net; arrays: its parameters after each of the epochs, (epochs, P)."""
    x, y, x_test, y_test = split(config.samples, config.seed)
    model = _initial(config.seed, "zero")
    kept: list[np.ndarray] = []
    right: list[float] = []

    def keep(epoch: int, model: nn.Module) -> None:
        if epoch in config.epochs:
            kept.append(flat(model))
            right.append(accuracy(model, x_test, y_test))

    fit(model, x, y, Training(config.epochs[-1], 1000, LEARNING_RATE, seed=config.seed), on_epoch=keep)
    return {"accuracy": right}, {"parameters": np.stack(kept)}
