"""Rugosity of a network as it is trained one way or another (claims 08.1, 08.2, 08.4, 08.6 to 08.8).

One cell trains one network: without augmentation, with it, with noise, or with an explicit penalty.  After each epoch
kept it is measured on the first training and test images; after the last one from more sides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso import tangents
from maso.rugosity import Rugosity, Tangents, power_mean, rugosity
from maso_book.ch08 import paths, taylor
from maso_book.experiment import Rows
from maso_book.trained import Data, TrainedCell, data, trained
from maso_book.training import scaled
from maso_book.training.objective import LOSSES

SPLITS = ("train", "test")
EPS_SCAN = (0.001, 0.01, 0.1, 0.25, 1.0, 2.0)
"""Bandwidths besides that of the cell."""
CLEAN = 5000
"""Training images, not augmented, on which the training loss of every arm is compared."""


@dataclass(frozen=True)
class Arm(TrainedCell):
    """One network.

    Attributes:
        seed: of its weights, the order of the samples and what is drawn.
        arm: what the way of training is called.
        dataset, network, samples, keep: as in `Recipe`.
        epochs, lr, augment, noise, loss, penalty, strength: as in `Training`.
        points: images of each split at which slopes are compared.
        eps: ε, the bandwidth, pixels in [0, 1].
        projections: random projections in place of all rows of A.
        images: test images whose translations are followed.
        pictures: of these, how many are kept with the outputs along the path.
    """

    seed: int
    arm: str = "none"
    dataset: str = "cifar10"
    network: str = "small_cnn"
    samples: int | None = None
    epochs: int = 20
    keep: tuple[int, ...] = (0, 1, 2, 4, 7, 10, 13, 16)
    lr: float = 5e-3
    augment: bool = False
    noise: float = 0.0
    loss: Literal["cross-entropy", "squared"] = "cross-entropy"
    penalty: str = ""
    strength: float = 0.0
    points: int = 256
    eps: float = 0.5
    projections: int | None = None
    images: int = 16
    pictures: int = 0


def run_arm(config: Arm) -> tuple[Rows, dict[str, np.ndarray]]:
    """Rugosity over training, then everything else after the last epoch.

    Returns:
        The tables of a network whose training diverged are empty.

        Table `epochs`, one row an epoch kept: `epoch`, and `train_loss` and `train_accuracy` on the first 5,000
        training images as they are (the loss is the one of the training).

        Table `rugosity`, one row an epoch, split, direction and bandwidth:

        - `epoch`, `split`;
        - `direction`: "translation" (down and to the right), and after the last epoch, for test images, also
          "rotation", "scaling", "neighbours" (two directions of a local PCA of 16 training images), "ambient" (even
          in all directions) and "shuffled" (translations with their pixels in another order);
        - `bandwidth`: ε; others than that of the cell after the last epoch, for test images;
        - `plain_1`, `plain_2`, `free_1`, `free_2`: rugosity and scale-free rugosity, p = 1 and 2; of `free_2` also
          `free_2_error`, its standard error over the points;
        - `slope`: root mean square of ‖A[x]‖_F;
        - `moved`: share of the points x + εu in another cell than x;
        - `projection_error`: standard error of plain_2 by the random projections, as a share of it.

        Table `final`, one row: `validation_accuracy`, `test_accuracy`, `test_loss` (cross-entropy of the whole test
        set, or squared error where that was trained), `weight_norm` (root of the sum of squares of all matrices and
        filters), and of `paths.follow`, means over images: `bends`, `variation`.

        Table `taylor`, one row a shift in pixels: as `taylor.terms`.

        Arrays (N points, C classes):

        - `relative`: ρ/‖A[x]‖ of the test points along the two translations, (N, 2) float16;
        - `correct`, `of_class`: right answers and images of each class in the test set, (C,) uint16;
        - with pictures (P of them): `pictures`, (P, channels, height, width) uint8; `outputs` (P, T, C) float16,
          `bent` (P, T − 1) uint16 and `label` (P,) as in `paths.follow`.
    """
    images, network = data(config.recipe), trained(config.recipe)
    if network.history.diverged:
        return {"epochs": [], "rugosity": [], "final": [], "taylor": []}, {}
    states = {epoch: {k: v.clone() for k, v in m.state_dict().items()} for epoch, m in network.epochs.items()}
    model, device = network.model, torch.get_default_device()
    generator = torch.Generator(device).manual_seed(config.seed)
    points = {split: _scaled(x[: config.points]) for split, x in (("train", images.x), ("test", images.x_test))}
    loss = LOSSES[config.loss]

    epochs, rows = [], []
    with exact_float32():
        for epoch, state in states.items():
            model.load_state_dict(state)  # one model for all epochs: it is traced once
            z, y = outputs(model, images.x[:CLEAN]), images.y[:CLEAN].to(device)
            epochs.append({"epoch": epoch, "train_loss": float(loss(z, y)), "train_accuracy": _share(z, y)})
            for split, x in points.items():
                found = _measure(model, x, tangents.translations, config.eps, config, generator)
                rows.append({"epoch": epoch, "split": split, "direction": "translation", **summary(found, config.eps)})

        last, x = config.epochs, points["test"]
        relative = found.relative  # of the last epoch's test points
        for direction, u in _directions(x, images, generator).items():
            found = _measure(model, x, u, config.eps, config, generator)
            rows.append({"epoch": last, "split": "test", "direction": direction, **summary(found, config.eps)})
        for eps in EPS_SCAN:
            found = _measure(model, x, tangents.translations, eps, config, generator)
            rows.append({"epoch": last, "split": "test", "direction": "translation", **summary(found, eps)})

        labels = images.y_test[: config.points].to(device)
        series = taylor.terms(model, x, labels, loss)
        followed = paths.follow(model, _scaled(images.x_test[: config.images]), steps_a_pixel=8)
        z, y = outputs(model, images.x_test), images.y_test.to(device)
        arrays = {"relative": relative.half().cpu().numpy(), **_by_class(z, y)}
        if config.pictures:
            arrays |= _pictures(model, images, config.pictures)

    final = {
        "validation_accuracy": float(network.history.validation_accuracy[-1]),
        "test_accuracy": _share(z, y),
        "test_loss": float(loss(z, y)),
        "weight_norm": weight_norm(model),
        "bends": float(followed.bends.double().mean()),
        "variation": float(followed.variation.double().mean()),
    }
    return {"epochs": epochs, "rugosity": rows, "final": [final], "taylor": series}, arrays


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Convolutions in float32 proper: differences of slopes are lost in the ten bits of TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor, *, batch: int = 1000) -> Tensor:
    """Outputs of images (N, …) uint8, on the default device: (N, C)."""
    return torch.cat([model(_scaled(part)) for part in x.split(batch)])


def summary(found: Rugosity, eps: float) -> dict[str, float]:
    """The columns of the table `rugosity` from `bandwidth` on."""
    row: dict[str, float] = {"bandwidth": eps}
    for p in (1, 2):
        for name, values in (("plain", found.change), ("free", found.relative)):
            row[f"{name}_{p}"] = power_mean(values, p).value
    row["free_2_error"] = found.scale_free.error
    squares = float(found.change.double().square().mean())
    error = float(found.variance.double().mean() / found.variance.numel()) ** 0.5
    return row | {
        "slope": float(found.size.double().square().mean()) ** 0.5,
        "moved": float(found.moved.double().mean()),
        "projection_error": error / (2 * squares) if squares else 0.0,
    }


def weight_norm(model: nn.Module) -> float:
    """Root of the sum of squares of all matrices and filters, biases and BatchNorm left out."""
    return float(sum(p.detach().double().square().sum() for p in model.parameters() if p.ndim > 1)) ** 0.5


def _measure(model: nn.Module, x: Tensor, u: Tangents, eps: float, config: Arm, generator: torch.Generator) -> Rugosity:
    return rugosity(model, x, tangents=u, eps=eps, projections=config.projections, generator=generator)


def _directions(x: Tensor, images: Data, generator: torch.Generator) -> Mapping[str, Tensor]:
    return {
        "rotation": tangents.rotation(x),
        "scaling": tangents.scaling(x),
        "neighbours": tangents.local_pca(x, _scaled(images.x[:10_000])),
        "ambient": tangents.ambient(x, count=2, generator=generator),
        "shuffled": tangents.shuffled(tangents.translations(x), generator=generator),
    }


def _scaled(x: Tensor) -> Tensor:
    """Images (N, channels, height, width) uint8 in [0, 1], on the default device."""
    return scaled(x.to(torch.get_default_device()))


def _share(z: Tensor, y: Tensor) -> float:
    return float((z.argmax(1) == y).double().mean())


def _by_class(z: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    right = y[z.argmax(1) == y]
    counts = {"correct": right.bincount(minlength=z.shape[1]), "of_class": y.bincount(minlength=z.shape[1])}
    return {name: value.cpu().numpy().astype(np.uint16) for name, value in counts.items()}


def _pictures(model: nn.Module, images: Data, count: int) -> dict[str, Any]:
    followed = paths.follow(model, _scaled(images.x_test[:count]), steps_a_pixel=32)
    return {
        "pictures": images.x_test[:count].numpy(),
        "outputs": followed.outputs.half().cpu().numpy(),
        "bent": followed.bent.cpu().numpy().astype(np.uint16),
        "label": images.y_test[:count].numpy().astype(np.uint8),
    }
