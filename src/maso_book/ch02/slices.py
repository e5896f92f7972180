"""Cells of image classifiers on the plane through three test images.

The plane meets some hundred thousand cells in a small convolutional network, and far more in the papers' smallCNN or
ResNet: these are cut in two small windows, around an image and around a point of the decision boundary.
The weights are rounded to half precision before anything is measured, so that a record can hold them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.partition import Partition, Plane, estimate_regions, partition
from maso_book import datasets
from maso_book.experiment import Rows
from maso_book.networks import small_cnn, small_resnet
from maso_book.records import Record
from maso_book.shared.geometry import confirmed, met_by_grid
from maso_book.tidy import as_table
from maso_book.training import Training, accuracy, fit

GRIDS = (50, 100, 200, 400, 800)
TESTED = 2000
"""Test images, the first ones, that measure the accuracy."""
CHECKED = 1000
"""Cells of a window whose centres are sent through the network, to compare codes."""
WHOLE, WINDOWS = "whole", ("around an image", "on the boundary")
"""Names of the windows: of a network that is cut on the whole plane, and of one that is not."""
Name = Literal["small conv net", "smallCNN", "ResNet"]


@dataclass(frozen=True)
class Slices:
    """One network, its training, and half the side of its two windows (None: the whole plane, one window).

    `samples` is the number of training images, the first ones of the data set.
    """

    seed: int
    network: Name
    half: float | None
    dataset: str = "cifar10"
    samples: int = 50_000
    epochs: int = 1
    batch: int = 128


def network(name: Name) -> nn.Sequential:
    """One of the three image classifiers, 3×32×32 → 10, in single precision."""
    if name == "smallCNN":
        return small_cnn()
    if name == "ResNet":
        return small_resnet()
    convolutions = [nn.Conv2d(3, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10))


def units(model: nn.Module) -> int:
    """Number of ReLU units the model has for one image."""
    count = 0

    def add(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal count
        count += output.numel()

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, nn.ReLU)]
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32, dtype=next(model.parameters()).dtype))
    for hook in hooks:
        hook.remove()
    return count


def halves(model: nn.Module) -> np.ndarray:
    """All floating-point parameters and buffers in half precision, in one array (P,) float16."""
    values = [v.flatten() for v in model.state_dict().values() if v.is_floating_point()]
    return torch.cat(values).to(torch.float16).cpu().numpy()


def restored(name: Name, weights: np.ndarray) -> nn.Sequential:
    """The network with these weights, as `halves` gives them, in double precision and eval mode."""
    model = network(name).double()
    values, at = torch.from_numpy(weights.astype(np.float64)), 0
    with torch.no_grad():
        for entry in model.state_dict().values():
            if entry.is_floating_point():
                entry.copy_(values[at : at + entry.numel()].view_as(entry))
                at += entry.numel()
    return model.eval()


def plane_through(images: np.ndarray) -> Plane:
    """The plane through three images (3, height, width, channels) uint8; the window holds all three."""
    return Plane.through(*datasets.to_tensor(images, dtype=torch.float64))


def model_and_windows(record: Record) -> tuple[nn.Sequential, dict[str, Plane]]:
    """The network of a record of "02-slices", and the windows that were cut, by name."""
    plane, windows = plane_through(record.arrays["images"]), as_table([record], "windows").set_index("window")
    bounds = windows[["s_min", "s_max", "t_min", "t_max"]].itertuples(name=None)
    planes = {window: plane.window(*sides) for window, *sides in bounds}
    return restored(record.config["network"], record.arrays["weights"]), planes


def run_slices(config: Slices) -> tuple[Rows, dict[str, np.ndarray]]:
    """Train, choose three images and the windows, and cut.

    Returns:
        Tables: `networks`, one row: test `accuracy`, `units` (ReLU), and `plane_regions` with its 95 % interval
        `plane_low`, `plane_high`, the estimate for the whole plane; `images` with rows of `place` (1 to 3),
        `test_index` and `class_name`; `windows` and `grids` with rows of `_cut`. Arrays: `weights` (P,) and `images`
        (3, height, width, channels).

    Raises:
        MasoError: the trained network gives fewer than three different answers.
    """
    data = datasets.load(config.dataset)
    x, x_test = (torch.from_numpy(np.ascontiguousarray(a.transpose(0, 3, 1, 2))) for a in (data.x_train, data.x_test))
    y, y_test = torch.from_numpy(data.y_train).long(), torch.from_numpy(data.y_test).long()
    weights = _trained_weights(config, x[: config.samples], y[: config.samples])
    model = restored(config.network, weights)

    chosen = _three_answers(model, x_test[:500])
    images = data.x_test[chosen]
    plane = plane_through(images)
    if config.half is None:
        windows = {WHOLE: plane}
    else:
        windows = dict(zip(WINDOWS, _windows(model, plane, images, config.half), strict=True))
    cut = [_cut(model, window, name) for name, window in windows.items()]

    estimate = estimate_regions(model, plane)
    network_row = {
        "accuracy": accuracy(model, x_test[:TESTED].double() / 255, y_test[:TESTED]),
        "units": units(model),
        "plane_regions": estimate.regions,
        "plane_low": estimate.low,
        "plane_high": estimate.high,
    }
    tables: dict[str, list[dict[str, Any]]] = {
        "networks": [network_row],
        "images": [
            {"place": place, "test_index": index, "class_name": data.classes[int(y_test[index])]}
            for place, index in enumerate(chosen, 1)
        ],
        "windows": [row for row, _ in cut],
        "grids": [row for _, grids in cut for row in grids],
    }
    return tables, {"weights": weights, "images": images}


def _trained_weights(config: Slices, x: Tensor, y: Tensor) -> np.ndarray:
    """The weights after training, in half precision."""
    torch.manual_seed(config.seed)
    model = network(config.network)
    fit(model, x, y, Training(config.epochs, config.batch, 3e-3, schedule="one-cycle", seed=config.seed))
    return halves(model)


def _three_answers(model: nn.Module, x: Tensor) -> list[int]:
    """Places of the first three images (N, C, H, W) uint8 to which the model gives three different answers."""
    with torch.no_grad():
        answers = model(x.double() / 255).argmax(1).tolist()
    first = {answer: place for place, answer in reversed(list(enumerate(answers)))}
    if len(first) < 3:
        raise MasoError(f"The network gives {len(first)} different answers, three are needed: train it longer.")
    return sorted(first.values())[:3]


def _windows(model: nn.Module, plane: Plane, images: np.ndarray, half: float) -> list[Plane]:
    """A window around the first image, and one where the way from it to the second leaves its class."""
    one, two = plane.coordinates(datasets.to_tensor(images[:2], dtype=torch.float64))
    inside, outside = 0.0, 1.0
    with torch.no_grad():
        answer = int(model(plane.points(one[None])).argmax())
        for _ in range(40):
            middle = (inside + outside) / 2
            same = int(model(plane.points((one + middle * (two - one))[None])).argmax()) == answer
            inside, outside = (middle, outside) if same else (inside, middle)
    centres = (one, one + inside * (two - one))
    return [plane.window(s - half, s + half, t - half, t + half) for s, t in (c.tolist() for c in centres)]


def _cut(model: nn.Module, window: Plane, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Cut a window and look at its cells.

    Returns:
        A row: `window` (its name), its bounds `s_min`, `s_max`, `t_min`, `t_max`, `regions`, `confirmed_share` of a
        sample of cells whose code the network confirms, `cpu_seconds` and `classes`, how many answers occur. And a row
        for each grid: `window`, `points_per_side`, and `regions_met`, how many cells hold a point of it.
    """
    began = time.process_time()
    p = partition(model, window)
    seconds = time.process_time() - began

    sample = np.random.default_rng(0).permutation(len(p))[:CHECKED]
    row = {
        "window": name,
        **dict(zip(("s_min", "s_max", "t_min", "t_max"), window.bounds, strict=True)),
        "regions": len(p),
        "confirmed_share": confirmed(p, sample),
        "cpu_seconds": seconds,
        "classes": len(np.unique(answers(p))),
    }
    return row, [{"window": name, "points_per_side": n, "regions_met": met_by_grid(p, n)} for n in GRIDS]


def answers(p: Partition) -> np.ndarray:
    """The class that the network answers at the centre of every cell, (F,)."""
    A, b = p.affine()
    return (np.einsum("fkd,fd->fk", A, p.centres) + b).argmax(1)
