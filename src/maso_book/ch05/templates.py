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
from maso_book.experiment import Rows
from maso_book.trained import Data, TrainedCell, data, trained
from maso_book.training import scaled

LABELS: tuple[Literal["true", "permuted"], ...] = ("true", "permuted")
SPLITS = ("train", "test")
READINGS = ("given", "centred", "balanced")
"""Images as they are, in [0, 1]; less the mean training image; less that, with templates that sum to zero."""


@dataclass(frozen=True)
class Templates(TrainedCell):
    """One network.

    Attributes:
        seed: of its weights, the order of the samples and the permutation.
        labels, dataset, network, samples, keep, width: as in `Recipe`.
        epochs, lr, schedule: as in `Training`.
        points: images measured of each split.
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


def run_templates(config: Templates) -> tuple[Rows, dict[str, np.ndarray]]:
    """Sign patterns and cosines of the templates of one network, as it is trained.

    Returns:
        The tables of a network whose training diverged are empty.

        Table `templates`, one row an epoch, a split and a reading:

        - `epoch`: after which the network is measured; 0 is before training;
        - `split`, `reading`: the images, one of `SPLITS`, and one of `READINGS`;
        - the columns of `means`.

        Table `training`, one row an epoch: `epoch`, and `loss` and `training_accuracy` over the samples as they were
        seen.

        Table `pictures`, one row an epoch and a training image that is kept as a picture: `epoch`, `picture` (its
        number) and `cosine`, that of A_y[x] with the image less the mean training image.

        Arrays, where `config.pictures` is not 0 (P pictures, N points, E epochs, C classes):

        - `images`: the first training images, (P, channels, height, width) uint8;
        - `templates`: A_y[x] of each after each epoch as a picture, (P, E, channels, height, width) uint8;
        - `labels`: those that the measured training images are trained with, (N,); the first P are of the pictures;
        - `inner_products`: ⟨A_c[x], x − mean⟩ of these, before and after training, (2, N, C).
    """
    images, network = data(config.recipe), trained(config.recipe)
    if network.history.diverged:
        return {"templates": [], "training": [], "pictures": []}, {}

    mean = (images.x.float().mean(0) / 255).to(torch.get_default_device())
    measured = _first(images, config.points)
    rows, own, products = [], [], []
    for epoch, model in network.epochs.items():
        for split, (x, y) in measured.items():
            templates = affine_map(model, x)
            rows += [{"epoch": epoch, "split": split, **row} for row in readings(templates, x, y, mean)]

            if split == "train":
                own.append(templates.A[torch.arange(len(y)), y][: config.pictures].cpu())
                products.append(compare(templates, x, y, origin=mean).inner.cpu().numpy())

    tables: dict[str, list[dict[str, Any]]] = {
        "templates": rows,
        "training": [
            {"epoch": epoch, "loss": float(loss), "training_accuracy": float(accuracy)}
            for epoch, (loss, accuracy) in enumerate(
                zip(network.history.loss, network.history.accuracy, strict=True), start=1
            )
        ],
        "pictures": [],
    }
    if not config.pictures:
        return tables, {}

    x, y = measured["train"]
    tables["pictures"] = _cosines(list(network.epochs), own, (x[: config.pictures] - mean).cpu())
    return tables, {
        "images": images.x[: config.pictures].numpy(),
        "templates": np.stack([_as_picture(A.numpy()) for A in own], 1),
        "labels": y.cpu().numpy(),
        "inner_products": np.stack([products[0], products[-1]]),
    }


def _first(images: Data, points: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Split → its first images, (N, channels, height, width) in [0, 1], and their labels, (N,), on the device."""
    device = torch.get_default_device()
    splits = {"train": (images.x, images.y), "test": (images.x_test, images.y_test)}
    return {split: (scaled(x[:points]).to(device), y[:points].to(device)) for split, (x, y) in splits.items()}


def readings(templates: AffineMap, x: Tensor, y: Tensor, mean: Tensor) -> list[dict[str, Any]]:
    """What `compare` finds for each of `READINGS`, as a row of `means`.

    Args:
        templates: `affine_map(model, x)`.
        x, y: images, (N, *input_shape), and their labels, (N,).
        mean: image, (*input_shape).
    """
    given = compare(templates, x, y, origin=torch.zeros_like(mean))
    centred = compare(templates, x, y, origin=mean)
    sum_to_zero = compare(balanced(templates), x, y, origin=mean)
    compared = dict(zip(READINGS, (given, centred, sum_to_zero), strict=True))
    return [{"reading": reading, **means(comparison, y)} for reading, comparison in compared.items()]


def means(comparison: Comparison, y: Tensor) -> dict[str, float]:
    """A row of the table `templates`: means over images x − o (o: 0 or the mean image) with labels y, (N,).

    Returns:
        - `pattern`: share of the images with the sign pattern ⟨A_y, x⟩ > 0 > ⟨A_c, x⟩ for all c ≠ y;
        - `pattern_others`: the same with the templates A[x'] of the other images of the class;
        - `pattern_outputs`: the same of the outputs, bias included;
        - `true_class_positive`, `false_classes_negative`: the shares of ⟨A_y, x⟩ > 0 and of ⟨A_c, x⟩ < 0, c ≠ y;
        - `inner_product_std`, `bias_std`: standard deviation over the classes;
        - `same_class_without_bias`: share of the images whose largest inner product is that of the largest output;
        - `accuracy`: share of the images whose largest output is that of their label;
        - `cosine_own`, `cosine_others`: cos(A_y[x], x), and cos(A_y[x], x') with other images of the class;
        - `alignment`: cosine between all templates A[x] and the optimum of claim 05.1.
    """
    outputs = comparison.inner + comparison.bias
    true, false = by_truth(comparison.inner, y)
    return {
        "pattern": float(comparison.pattern.float().mean()),
        "pattern_others": float(comparison.pattern_others.nanmean()),
        "pattern_outputs": float(sign_pattern(outputs, y).float().mean()),
        "true_class_positive": float((true > 0).float().mean()),
        "false_classes_negative": float((false < 0).float().mean()),
        "inner_product_std": float(comparison.inner.std(1).mean()),
        "bias_std": float(comparison.bias.std(1).mean()),
        "same_class_without_bias": float((comparison.inner.argmax(1) == outputs.argmax(1)).float().mean()),
        "accuracy": float((outputs.argmax(1) == y).float().mean()),
        "cosine_own": float(comparison.cosine.mean()),
        "cosine_others": float(comparison.cosine_others.nanmean()),
        "alignment": float(comparison.alignment.mean()),
    }


def _cosines(epochs: list[int], own: list[Tensor], x: Tensor) -> list[dict[str, Any]]:
    """The rows of `pictures`: templates after each epoch and images less their mean, (P, *input_shape) each."""
    cosines = [nn.functional.cosine_similarity(A.flatten(1), x.flatten(1)) for A in own]
    return [
        {"epoch": epoch, "picture": picture, "cosine": cosine}
        for epoch, values in zip(epochs, cosines, strict=True)
        for picture, cosine in enumerate(values.tolist())
    ]


def _as_picture(templates: np.ndarray) -> np.ndarray:
    """Templates (P, channels, height, width) as uint8: zero is mid grey.

    The 99th percentile of the sizes within a template reaches black and white: a single pixel does not set the scale.
    """
    size = np.quantile(np.abs(templates), 0.99, axis=(1, 2, 3), keepdims=True).clip(min=1e-12)
    return np.rint(255 * (0.5 + 0.5 * templates / size).clip(0, 1)).astype(np.uint8)
