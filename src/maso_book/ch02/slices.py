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
from maso_book.networks import small_cnn, small_resnet
from maso_book.shared.geometry import confirmed, met_by_grid
from maso_book.training import Training, accuracy, fit

GRIDS = (50, 100, 200, 400, 800)
TESTED = 2000
"""Test images, the first ones, that measure the accuracy."""
CHECKED = 1000
"""Cells of a window whose centres are sent through the network, to compare codes."""
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


def run_slices(config: Slices) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train, choose three images and the windows, and cut; arrays: weights, images and windows.

    Raises:
        MasoError: the trained network gives fewer than three different answers.
    """
    data = datasets.load(config.dataset)
    x, x_test = (torch.from_numpy(np.ascontiguousarray(a.transpose(0, 3, 1, 2))) for a in (data.x_train, data.x_test))
    y, y_test = torch.from_numpy(data.y_train).long(), torch.from_numpy(data.y_test).long()
    x, y = x[: config.samples], y[: config.samples]
    torch.manual_seed(config.seed)
    trained = network(config.network)
    fit(trained, x, y, Training(config.epochs, config.batch, 3e-3, schedule="one-cycle", seed=config.seed))
    weights = halves(trained)
    model = restored(config.network, weights)
    chosen = _three_answers(model, x_test[:500])
    images = data.x_test[chosen]
    plane = plane_through(images)
    windows = [plane] if config.half is None else _windows(model, plane, images, config.half)
    rows = [
        _cut(model, window, name) for window, name in zip(windows, ("around an image", "on the boundary"), strict=False)
    ]
    if config.half is None:
        rows[0]["window"] = "whole"
    guess = estimate_regions(model, plane)
    metrics = {
        "accuracy": accuracy(model, x_test[:TESTED].double() / 255, y_test[:TESTED]),
        "units": units(model),
        "images": [{"index": int(i), "class": data.classes[int(y_test[i])]} for i in chosen],
        "windows": rows,
        "whole plane": {"regions": guess.regions, "low": guess.low, "high": guess.high},
    }
    bounds = np.array([window.bounds for window in windows])
    return metrics, {"weights": weights, "images": images, "bounds": bounds}


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


def _cut(model: nn.Module, window: Plane, name: str) -> dict[str, Any]:
    began = time.process_time()
    p = partition(model, window)
    seconds = time.process_time() - began
    sample = np.random.default_rng(0).permutation(len(p))[:CHECKED]
    return {
        "window": name,
        "regions": len(p),
        "confirmed": confirmed(p, sample),
        "cpu_seconds": seconds,
        "classes": len(np.unique(answers(p))),
        "grid": [{"side": side, "met": met_by_grid(p, side)} for side in GRIDS],
    }


def answers(p: Partition) -> np.ndarray:
    """The class that the network answers at the centre of every cell, (F,)."""
    A, b = p.affine()
    return (np.einsum("fkd,fd->fk", A, p.centres) + b).argmax(1)
