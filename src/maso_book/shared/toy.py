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
from maso_book.experiment import Rows
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
LAYERS = {"layer 1": (FIRST,), "layer 2": (SECOND,), "joint": (FIRST, SECOND)}
"""The partitions that are looked at: of each ReLU layer alone, pulled back to the input, and of both."""


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


NEW_SEEDS = range(100, 120)
"""Seeds of the networks that claim 02.5 is judged on, trained after its criterion was fixed."""


@dataclass(frozen=True)
class Toy:
    """One toy network: initial biases, points, and the epochs after which its cells are measured (the last one ends).

    `biases` is "zero" (the talk's) or "uniform" (PyTorch's).
    """

    seed: int
    biases: Literal["zero", "uniform"]
    samples: int = 20_000
    epochs: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 40, 80, 120)


def run_toy(config: Toy) -> tuple[Rows, dict[str, np.ndarray]]:
    """Train the net and measure its cells.

    Returns:
        Tables `epochs` (rows of `measured`), `convexity` (rows of `convexity`, of the trained net) and `windows`, one
        row: `confirmed_share` of the trained net's cells whose code the network confirms, and the areas `near_area`
        and `elsewhere_area` of the two zones that densities are counted in. Arrays: `parameters` (2, P) at the first
        and the last epoch.
    """
    x, y, x_test, y_test = split(config.samples, config.seed)
    zones = Zones(x.numpy(), RADIUS)
    rows: list[dict[str, Any]] = []
    parameters: list[np.ndarray] = []
    cells: list[Partition] = []

    def measure(epoch: int, model: nn.Module) -> None:
        if epoch in config.epochs:
            cells[:] = [partition(model, window())]
            right = accuracy(model, x_test, y_test)
            rows.append({"epoch": epoch, "accuracy": right, **measured(model, cells[0], zones)})
            parameters.append(flat(model))

    model = initial(config.seed, config.biases)
    fit(model, x, y, Training(config.epochs[-1], 1000, LEARNING_RATE, seed=config.seed), on_epoch=measure)

    (p,) = cells
    once = {
        "confirmed_share": confirmed(p, np.arange(len(p))),
        "near_area": zones.near_area,
        "elsewhere_area": zones.rest_area,
    }
    tables = {"epochs": rows, "convexity": convexity(p), "windows": [once]}
    return tables, {"parameters": np.stack([parameters[0], parameters[-1]])}


def initial(seed: int, biases: str) -> nn.Sequential:
    """The toy network before training, with "zero" or "uniform" biases."""
    torch.manual_seed(seed)
    model = network()
    if biases == "zero":
        without_biases(model)
    return model


def measured(model: nn.Module, p: Partition, zones: Zones) -> dict[str, Any]:
    """What is measured at an epoch.

    Returns:
        `regions`; `linear_regions`, neighbours with the same affine map counted as one; `touching_share` of the cells
        that touch the origin; `offset`, the median distance |b| / ‖w‖ of the first layer's lines from the origin;
        `density_near` and `density_elsewhere`, cells per unit area in the two zones.
    """
    near, elsewhere = zones.densities(p.centres)
    weight, bias = list(model.parameters())[:2]
    offsets = (bias.abs() / weight.norm(dim=1)).detach().cpu().numpy()  # (45,)
    return {
        "regions": len(p),
        "linear_regions": int(p.linear_regions.max()) + 1,
        "touching_share": float((distance(p) <= TOUCH).mean()),
        "offset": float(np.median(offsets)),
        "density_near": near,
        "density_elsewhere": elsewhere,
    }


def convexity(p: Partition) -> list[dict[str, Any]]:
    """The shape of the cells of layer 1, of layer 2 pulled back, and of both jointly: one row each.

    Returns:
        Rows of `cells_of` ("layer 1", "layer 2", "joint"), `codes`, `parts` (connected), `not_convex`, how many codes
        have a set that is not convex, and `largest_defect`, the largest share of a convex hull that its set leaves
        empty.
    """
    rows = []
    for cells_of, paths in LAYERS.items():
        pulled = p.pullback(*paths)
        defect = defects(p, pulled.label)
        rows.append(
            {
                "cells_of": cells_of,
                "codes": pulled.sets,
                "parts": pulled.components,
                "not_convex": int((defect > 0).sum()),
                "largest_defect": float(defect.max()),
            }
        )
    return rows


@dataclass(frozen=True)
class Film:
    """The net of `Toy(seed, "zero")`, kept after each of these epochs to be shown as an animation."""

    seed: int
    samples: int = 20_000
    epochs: tuple[int, ...] = (*range(11), *range(12, 21, 2), *range(24, 41, 4), *range(48, 121, 8))


def run_film(config: Film) -> tuple[Rows, dict[str, np.ndarray]]:
    """Train the net and keep it.

    Returns:
        The table `epochs` with rows of `epoch` and test `accuracy`. Arrays: `parameters` (epochs, P).
    """
    x, y, x_test, y_test = split(config.samples, config.seed)
    rows: list[dict[str, Any]] = []
    parameters: list[np.ndarray] = []

    def keep(epoch: int, model: nn.Module) -> None:
        if epoch in config.epochs:
            rows.append({"epoch": epoch, "accuracy": accuracy(model, x_test, y_test)})
            parameters.append(flat(model))

    model = initial(config.seed, "zero")
    fit(model, x, y, Training(config.epochs[-1], 1000, LEARNING_RATE, seed=config.seed), on_epoch=keep)
    return {"epochs": rows}, {"parameters": np.stack(parameters)}
