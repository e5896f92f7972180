"""The set-up of the talk: images of 28×28 pixels in one arm and of 32×32 in the other, with no augmentation in either.

What differs between the two is the size of the input alone: the confound of the talk's comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from maso import tangents
from maso.rugosity import rugosity
from maso_book import networks
from maso_book.ch08.arms import exact_float32, outputs, summary
from maso_book.datasets import CLASSES
from maso_book.experiment import Rows
from maso_book.trained import Recipe, data
from maso_book.training import Training, fit, scaled


@dataclass(frozen=True)
class Crop:
    """One network.

    Attributes:
        seed: of its weights and the order of the samples.
        size: pixels a side of the centre that it is given.
        dataset, network, samples, epochs, lr: as in `maso_book.ch08.arms.Arm`.
        points, eps, projections: as there.
    """

    seed: int
    size: int
    dataset: str = "cifar100"
    network: str = "small_cnn"
    samples: int | None = None
    epochs: int = 20
    lr: float = 5e-3
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    points: int = 256
    eps: float = 0.5
    projections: int | None = 8


def run_crop(config: Crop) -> tuple[Rows, dict[str, np.ndarray]]:
    """Rugosity along translations after training on the centres of the images.

    Table `rugosity`, one row: `test_accuracy`, and the columns of `maso_book.ch08.arms.summary`, test images.
    """
    device = torch.get_default_device()
    training = Training(config.epochs, lr=config.lr, schedule=config.schedule, seed=config.seed)
    images = data(Recipe(config.dataset, config.network, training, samples=config.samples))
    edge = (images.x.shape[2] - config.size) // 2
    centre = (..., slice(edge, edge + config.size), slice(edge, edge + config.size))
    x, x_test = images.x[centre].contiguous(), images.x_test[centre].contiguous()

    torch.manual_seed(config.seed)
    with torch.device("cpu"):
        model = getattr(networks, config.network)(tuple(x.shape[1:]), len(CLASSES[config.dataset]), bn=True, bias=True)
    model = model.to(device)
    if fit(model, x, images.y, training).diverged:
        return {"rugosity": []}, {}

    generator = torch.Generator(device).manual_seed(config.seed)
    with exact_float32():
        found = rugosity(
            model, scaled(x_test[: config.points].to(device)), tangents=tangents.translations, eps=config.eps,
            projections=config.projections, generator=generator,
        )  # fmt: skip
        right = (outputs(model, x_test).argmax(1) == images.y_test.to(device)).double().mean()
    return {"rugosity": [{"test_accuracy": float(right), **summary(found, config.eps)}]}, {}
