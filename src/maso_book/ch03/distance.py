"""Exact distances of data to the boundary of their cell while a network learns (03-distance, 03-distance-images).

The cell of x is cut out by one line for every unit, so its boundary is at the distance

    min_{l,k} |z_k^(l)(x)| / ‖∇_x z_k^(l)(x)‖.

Cells shrink and grow everywhere while a network learns; what is special about data shows against places without data:
points drawn uniformly in the window, or midpoints of two test images.  The mean is taken of logarithms, since distances
spread over orders of magnitude.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso.partition import Partition, partition
from maso.power import boundary_distance
from maso_book.ch03.bends import both_labels
from maso_book.ch03.hand import Dense, dense_layers, upstream
from maso_book.datasets import load, to_tensor
from maso_book.experiment import Rows
from maso_book.shared import toy
from maso_book.training import Training, accuracy, fit

PLACES = ("train", "test", "elsewhere")
_POINTS = 64  # points at a time: a layer's slopes have units × inputs numbers each
_TINY = 1e-300  # in place of 0, of which there is no logarithm and by which nothing is divided


def distances(layers: list[Dense], x: np.ndarray) -> np.ndarray:
    """Distance of points (N, D) to the boundary of their joint cell, from the weights multiplied out: (N,)."""
    nearest = []
    for points in (x[i : i + _POINTS] for i in range(0, len(x), _POINTS)):
        to_cuts = [
            np.abs(np.einsum("nkd,nd->nk", up.G, points) + up.g) / np.linalg.norm(up.G, axis=2).clip(min=_TINY)
            for up in upstream(layers, points)
        ]
        nearest.append(np.concatenate(to_cuts, 1).min(1))
    return np.concatenate(nearest)


def to_polygons(p: Partition, x: np.ndarray) -> np.ndarray:
    """Distance of points to the border of the polygon they lie in, from its corners alone, (N, 2) → (N,)."""
    nearest = []
    for point, region in zip(x, p.locate(x), strict=True):
        a = p.polygon(int(region))
        along = np.roll(a, -1, axis=0) - a
        away = along[:, 0] * (point - a)[:, 1] - along[:, 1] * (point - a)[:, 0]
        nearest.append((np.abs(away) / np.linalg.norm(along, axis=1)).min())
    return np.array(nearest)


@dataclass(frozen=True)
class Distance:
    """A network 2-32-32-4 on the toy problem, the distances of `points` points of each kind after these epochs."""

    seed: int
    points: int
    epochs: tuple[int, ...]
    samples: int = 2000
    widths: tuple[int, ...] = (32, 32)


def run_distance(config: Distance) -> tuple[Rows, dict[str, np.ndarray]]:
    """Distances to the boundary of the cell over the epochs, with true and permuted labels.

    Tables:
        networks: one network. What `labels` it learned, its `train_accuracy`, and the largest difference of its
            distances to those from the exact polygons, `largest_polygon_difference`, and to those of
            `maso.power.boundary_distance`, `largest_package_difference`.
        distances: one epoch of a network at one place. `place` is one of `PLACES`; `mean_log_distance`, natural.
    """
    rng = np.random.default_rng(config.seed)
    x, y, x_test, _ = toy.split(config.samples, config.seed)
    elsewhere = rng.uniform(*toy.WINDOW, (config.points, 2))
    places = [x[: config.points].numpy(), x_test[: config.points].numpy(), elsewhere]
    torch.manual_seed(config.seed)
    initial = toy.network(config.widths)

    rows, watched = [], []
    for labels, target in both_labels(y, config.seed).items():
        model = copy.deepcopy(initial)
        logs = _watch(model, x, target, config.epochs, places, toy.LEARNING_RATE)
        watched += [{"labels": labels} | row for row in logs]
        rows.append({"labels": labels, "train_accuracy": accuracy(model, x, target)} | _check(model, places))
    return {"networks": rows, "distances": watched}, {}


def _watch(
    model: nn.Sequential, x: Tensor, y: Tensor, epochs: tuple[int, ...], places: list[np.ndarray], lr: float
) -> list[dict[str, Any]]:
    """Train on x (N, D) and y (N,); the mean log distance after each of the epochs at each of the places (n, D)."""
    rows: list[dict[str, Any]] = []

    def measure(epoch: int, _: nn.Module) -> None:
        if epoch in epochs:
            layers = dense_layers(model)
            for place, points in zip(PLACES, places, strict=True):
                mean = float(np.log(distances(layers, points).clip(min=_TINY)).mean())
                rows.append({"epoch": epoch, "place": place, "mean_log_distance": mean})

    fit(model, x, y, Training(epochs=epochs[-1], batch=100, lr=lr), on_epoch=measure)
    return rows


def _check(model: nn.Sequential, places: list[np.ndarray]) -> dict[str, float]:
    """Largest difference of the distances to those from the exact polygons and to the package's.

    Points nearer to the window's edge than to another cell are left out of the first: a polygon ends there.
    """
    x = np.concatenate(places)
    low, high = toy.WINDOW
    ours = distances(dense_layers(model), x)
    inside = np.flatnonzero(np.minimum(x - low, high - x).min(1) > ours)
    by_polygons = to_polygons(partition(model, toy.window()), x[inside])
    by_package = boundary_distance(model, torch.from_numpy(x)).numpy()
    return {
        "largest_polygon_difference": float(np.abs(by_polygons - ours[inside]).max()),
        "largest_package_difference": float(np.abs(by_package - ours).max()),
    }


@dataclass(frozen=True)
class ImageDistance:
    """A fully connected network on images, the distances of `points` images of each kind after these epochs."""

    seed: int
    points: int
    epochs: tuple[int, ...]
    dataset: str = "mnist"
    samples: int = 2000
    widths: tuple[int, ...] = (64, 64)


def run_images(config: ImageDistance) -> tuple[Rows, dict[str, np.ndarray]]:
    """As `run_distance`, with images and without the differences; pixel values from 0 to 1, Euclidean distances."""
    data, n = load(config.dataset), config.points
    rng = np.random.default_rng(config.seed)
    train = rng.permutation(len(data.x_train))[: config.samples]
    test = rng.permutation(len(data.x_test))[: 2 * n]
    x, x_test = (
        to_tensor(images, dtype=torch.float64).flatten(1) for images in (data.x_train[train], data.x_test[test])
    )
    y = torch.from_numpy(data.y_train[train].astype(np.int64))
    midpoints = (x_test[:n] + x_test[n : 2 * n]) / 2
    places = [x[:n].numpy(), x_test[:n].numpy(), midpoints.numpy()]

    torch.manual_seed(config.seed)
    sizes = (x.shape[1], *config.widths)
    hidden = [m for i, o in itertools.pairwise(sizes) for m in (nn.Linear(i, o), nn.ReLU())]
    initial = nn.Sequential(*hidden, nn.Linear(sizes[-1], len(data.classes))).double()

    rows, watched = [], []
    for labels, target in both_labels(y, config.seed).items():
        model = copy.deepcopy(initial)
        logs = _watch(model, x, target, config.epochs, places, lr=1e-3)
        watched += [{"labels": labels} | row for row in logs]
        rows.append({"labels": labels, "train_accuracy": accuracy(model, x, target)})
    return {"networks": rows, "distances": watched}, {}
