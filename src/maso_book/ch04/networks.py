"""The networks of chapter 04, and one of them written out by hand with its gates frozen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso_book.datasets import CLASSES
from maso_book.shared.untrained import calibrated
from maso_book.trained import Recipe, TrainedCell, data, network
from maso_book.training import scaled


@dataclass(frozen=True)
class Network(TrainedCell):
    """Which network, and on how many images of each part it is looked at.

    Attributes:
        seed: of the initial weights and of the order of the samples.
        dataset, network, bn, bias, grey, samples, keep: as in `maso_book.trained.Recipe`.
        epochs, lr: of a one-cycle schedule with batches of 256.
        images: the first that many of the test images (and of the training images).
    """

    seed: int
    dataset: str
    samples: int | None
    epochs: int
    keep: tuple[int, ...] = (0,)
    bn: bool = True
    bias: bool = True
    grey: bool = False
    network: str = "small_cnn"
    lr: float = 5e-3
    images: int = 1000

    @property
    def recipes(self) -> list[Recipe]:
        """All networks that its experiment looks at."""
        return [self.recipe]


CALIBRATED_ON = 10_000
"""The first that many training images give the statistics of BatchNorm to an untrained network."""
GREY = 0.5


def origins(means: Tensor) -> dict[str, Tensor]:
    """The points, besides black, from which pixels are counted: the mean of the class means (C, *shape), and grey."""
    return {"mean image": means.mean(0), "grey": torch.full_like(means[0], GREY)}


def untrained(config: Network) -> nn.Module:
    """The network before training with BatchNorm calibrated on training images, on the default device."""
    model = network(config.recipe).to(torch.get_default_device())
    return calibrated(model, data(config.recipe).x[:CALIBRATED_ON])


@dataclass(frozen=True, eq=False)
class Looked:
    """The images a network is looked at with, in [0, 1], on its device: x (N, C, H, W), y (N,)."""

    x: Tensor
    y: Tensor


def looked_at(config: Network) -> dict[str, Looked]:
    """The first images of each split, "test" and "train"."""
    d, device = data(config.recipe), torch.get_default_device()
    splits = {"test": (d.x_test, d.y_test), "train": (d.x, d.y)}
    return {
        split: Looked(scaled(x[: config.images]).to(device), y[: config.images].to(device))
        for split, (x, y) in splits.items()
    }


def class_means(config: Network) -> Tensor:
    """The mean training image of each class, (C, channels, height, width), in [0, 1], on the default device."""
    d = data(config.recipe)
    means = [scaled(d.x[d.y == c]).mean(0) for c in range(int(d.y.max()) + 1)]
    return torch.stack(means).to(torch.get_default_device())


def by_hand(model: nn.Module, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """A[x] u and b[x] of a sequential network, layer by layer: every gate and winner is that of x.

    Args:
        model: an `nn.Sequential` of convolutions, BatchNorm, ReLU, max pools, flattening and dense layers.
        x: inputs, (N, *input_shape).
        u: the points at which the linear part is wanted, (N, *input_shape).

    Returns:
        A[x] u and b[x], (N, C) each.

    Raises:
        MasoError: the network has another kind of layer.
    """
    z, Au, b = x, u, torch.zeros_like(x)
    with torch.no_grad():
        for layer in model.children():
            if isinstance(layer, nn.Conv2d):
                Au = nn.functional.conv2d(Au, layer.weight, None, layer.stride, layer.padding)
                z, b = layer(z), layer(b)
            elif isinstance(layer, nn.Linear):
                Au = Au @ layer.weight.T
                z, b = layer(z), layer(b)
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.running_var is not None
                Au = Au * (layer.weight / (layer.running_var + layer.eps).sqrt())[:, None, None]
                z, b = layer(z), layer(b)
            elif isinstance(layer, nn.ReLU):
                z, Au, b = ((z > 0) * v for v in (z, Au, b))
            elif isinstance(layer, nn.MaxPool2d):
                pooled, winner = nn.functional.max_pool2d(
                    z, layer.kernel_size, layer.stride, layer.padding, return_indices=True
                )
                Au, b = (v.flatten(2).gather(2, winner.flatten(2)).reshape(pooled.shape) for v in (Au, b))
                z = pooled
            elif isinstance(layer, nn.Flatten):
                z, Au, b = (v.flatten(1) for v in (z, Au, b))
            else:
                raise MasoError(f"by_hand: there is no formula for a {type(layer).__name__}; use a plain CNN.")
    return Au, b


def skewed(recipe: Recipe, smallest: float) -> Recipe:
    """The same with class shares in a geometric row from 1 to `smallest`.

    Seed s begins it at class 2 s, every second five of seeds one class later, so ten seeds begin at ten classes.
    """
    classes, seed = len(CLASSES[recipe.dataset]), recipe.training.seed
    first = 2 * seed + seed % 10 // 5
    shares = tuple(smallest ** (((c - first) % classes) / (classes - 1)) for c in range(classes))
    return dataclasses.replace(recipe, shares=shares)
