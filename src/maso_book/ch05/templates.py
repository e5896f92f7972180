"""Templates of trained networks against the pictures they were trained on (claims 05.3 and 05.4).

One cell trains one network and measures it before training and after some epochs, on the first training images and on
the first test images.  The label of an image is the one it was trained with; test images keep their own, so under
permuted labels the test images show what an arbitrary class does without having been learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso.affine import AffineMap, affine_map
from maso.matched import by_truth
from maso.memorization import Comparison, balanced, compare, sign_pattern
from maso_book.trained import Recipe, data, trained
from maso_book.training import Training, scaled

PLACES = ("train", "test")
READINGS = ("given", "centred", "balanced")
"""Images as they are, in [0, 1]; less the mean training image; less that, with templates that sum to zero."""


@dataclass(frozen=True)
class Templates:
    """One network.

    Attributes:
        seed: of its weights, the order of the samples and the permutation.
        labels, dataset, network, samples, keep, width: as in `Recipe`.
        epochs, lr, schedule: as in `Training`.
        points: images measured at each place.
        pictures: how many training images have the template of their class kept as a picture, after every epoch kept;
            where there are some, the inner products (centred) before and after training are kept too.
    """

    seed: int
    labels: Literal["true", "permuted"]
    dataset: str = "cifar10"
    network: str = "small_cnn"
    width: int | None = None
    samples: int | None = 5000
    epochs: int = 40
    lr: float = 5e-3
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    keep: tuple[int, ...] = (0, 5, 10, 20)
    points: int = 500
    pictures: int = 4


def recipe(config: Templates) -> Recipe:
    """The network of a cell."""
    training = Training(config.epochs, 256, config.lr, schedule=config.schedule, seed=config.seed)
    return Recipe(
        config.dataset,
        config.network,
        training,
        labels=config.labels,
        samples=config.samples,
        keep=config.keep,
        width=config.width,
    )


def run_templates(config: Templates) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Sign patterns and cosines by epoch, place and reading; the templates of some training images as pictures."""
    asked = recipe(config)
    d, found = data(asked), trained(asked)
    if found.history.diverged:
        return {"diverged": True}, {}
    device = torch.get_default_device()
    mean = (d.x.float().mean(0) / 255).to(device)
    places = {
        place: (scaled(x[: config.points]).to(device), y[: config.points].to(device))
        for place, x, y in (("train", d.x, d.y), ("test", d.x_test, d.y_test))
    }
    rows, own, inner = [], [], []
    for epoch, model in found.epochs.items():
        for place, (x, y) in places.items():
            templates = affine_map(model, x)
            rows += [{"epoch": epoch, "place": place, **row} for row in readings(templates, x, y, mean)]
            if place == "train":
                own.append(templates.A[torch.arange(len(y)), y][: config.pictures].cpu())
                inner.append(compare(templates, x, y, origin=mean).inner.cpu().numpy())
    arrays = {}
    if config.pictures:
        images = (places["train"][0][: config.pictures] - mean).cpu()
        arrays = {
            "images": d.x[: config.pictures].numpy(),
            "labels": d.y[: config.pictures].numpy(),
            "templates": np.stack([_as_picture(A.numpy()) for A in own], 1),
            "inner": np.stack([inner[0], inner[-1]]),
            "measured labels": places["train"][1].cpu().numpy(),
            "cosines": np.stack([nn.functional.cosine_similarity(A.flatten(1), images.flatten(1)) for A in own], 1),
        }
    course = {"loss": found.history.loss.tolist(), "training accuracy": found.history.accuracy.tolist()}
    return {"diverged": False, "rows": rows, **course}, arrays


def readings(templates: AffineMap, x: Tensor, y: Tensor, mean: Tensor) -> list[dict[str, Any]]:
    """What `compare` finds, as means over the images, for each of `READINGS`."""
    origin = {"given": torch.zeros_like(mean), "centred": mean, "balanced": mean}
    return [
        {"reading": name, **_means(compare(balanced(templates) if name == "balanced" else templates, x, y,
                                           origin=origin[name]), y)}
        for name in READINGS
    ]  # fmt: skip


def _means(found: Comparison, y: Tensor) -> dict[str, float]:
    outputs = found.inner + found.bias
    true, false = by_truth(found.inner, y)
    return {
        "pattern": float(found.pattern.float().mean()),
        "pattern of others": float(found.pattern_others.nanmean()),
        "pattern of the outputs": float(sign_pattern(outputs, y).float().mean()),
        "true class positive": float((true > 0).float().mean()),
        "false classes negative": float((false < 0).float().mean()),
        "spread of the inner products": float(found.inner.std(1).mean()),
        "spread of the biases": float(found.bias.std(1).mean()),
        "classes without bias": float((found.inner.argmax(1) == outputs.argmax(1)).float().mean()),
        "accuracy": float((outputs.argmax(1) == y).float().mean()),
        "cosine": float(found.cosine.mean()),
        "cosine to others": float(found.cosine_others.nanmean()),
        "alignment": float(found.alignment.mean()),
    }


def _as_picture(templates: np.ndarray) -> np.ndarray:
    """Zero is mid grey; the 99th percentile of the sizes within a template reaches black and white: uint8."""
    size = np.quantile(np.abs(templates), 0.99, axis=(1, 2, 3), keepdims=True).clip(min=1e-12)
    return np.rint(255 * (0.5 + 0.5 * templates / size).clip(0, 1)).astype(np.uint8)
