"""The trained networks that chapters share: a recipe names one, `trained` gives it, from its file if it has one.

A recipe says all that the weights depend on, so two chapters that ask for the same network train it once.  The files
are `_build/networks/<hash>.npz`, out of git; deleting them costs time, not results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

import maso.tree
from maso import networks
from maso.datasets import CLASSES, Dataset, load
from maso.training import History, Training, fit


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    Attributes:
        dataset: one of `maso.datasets.CLASSES`.
        network: a function of `maso.networks` that takes (input_shape, classes, *, bn, bias).
        training: how; its seed also draws the initial weights, the order of the samples and permuted labels.
        bn, bias: as in `maso.networks`.
        width: of the hidden layers, for the networks that have one (`mlp`); their own default where None.
        labels: "true", or "permuted" among the training samples.
        grey: one channel, the mean of the colours.
        samples: train on that many of the training images (all but the validation images where None).
        shares: of each class, the share of its images that is kept: a skewed prior; all of them where empty.
        keep: epochs after which the weights are kept, besides the last (0: before training).
    """

    dataset: str
    network: str
    training: Training
    bn: bool = True
    bias: bool = True
    labels: Literal["true", "permuted"] = "true"
    grey: bool = False
    samples: int | None = None
    shares: tuple[float, ...] = ()
    keep: tuple[int, ...] = ()
    width: int | None = None


@dataclass(frozen=True, eq=False)
class Data:
    """What a recipe trains and tests on: images (N, channels, height, width) uint8, labels (N,) int64.

    The last tenth of the training images is the validation set, whatever the recipe; the test set is the data set's.
    """

    x: Tensor
    y: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network: `model` in eval mode, float32, and its weights after the epochs of `recipe.keep`."""

    recipe: Recipe
    model: nn.Module
    history: History
    epochs: dict[int, nn.Module]


def network(recipe: Recipe) -> nn.Module:
    """The network of a recipe with its initial weights, on the CPU, in training mode."""
    d = data(recipe)
    with torch.random.fork_rng([]), torch.device("cpu"):
        torch.manual_seed(recipe.training.seed)
        make = getattr(networks, recipe.network)
        width = {} if recipe.width is None else {"width": recipe.width}
        return make(tuple(d.x.shape[1:]), len(CLASSES[recipe.dataset]), bn=recipe.bn, bias=recipe.bias, **width)


def data(recipe: Recipe) -> Data:
    """What a recipe trains and tests on, on the CPU."""
    whole = _dataset(recipe.dataset)
    rng = np.random.default_rng(recipe.training.seed)
    held_out = len(whole.x_train) - len(whole.x_train) // 10
    y = whole.y_train.astype(np.int64)
    chosen = np.arange(held_out)
    if recipe.shares:
        chosen = chosen[rng.random(held_out) < np.asarray(recipe.shares)[y[chosen]]]
    chosen = chosen[: recipe.samples]
    labels = rng.permutation(y[chosen]) if recipe.labels == "permuted" else y[chosen]
    images = [_images(part, recipe.grey) for part in (whole.x_train, whole.x_test)]
    return Data(
        images[0][torch.from_numpy(chosen)],
        torch.from_numpy(labels),
        images[0][held_out:],
        torch.from_numpy(y[held_out:]),
        images[1],
        torch.from_numpy(whole.y_test.astype(np.int64)),
    )


def trained(recipe: Recipe, *, folder: Path | None = None) -> Trained:
    """The network of a recipe, read from its file or trained now, on the default device.

    Args:
        recipe: which network.
        folder: where the files are, by default `_build/networks` of the working tree.

    Raises:
        MasoError: the data set is not here, or a setting does not fit.
    """
    device = torch.get_default_device()
    path = (folder or maso.tree.root() / "_build" / "networks") / f"{_name(recipe, device)}.npz"
    if not path.is_file():
        _train(recipe, device, path)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    models = {}
    for epoch in sorted({*recipe.keep, recipe.training.epochs}):
        model = network(recipe)
        prefix = f"{epoch}/"
        state = {n.removeprefix(prefix): torch.from_numpy(v) for n, v in arrays.items() if n.startswith(prefix)}
        model.load_state_dict(state)
        models[epoch] = model.to(device).eval()
    history = History(**{n: arrays[f"history/{n}"] for n in ("loss", "accuracy", "validation_accuracy", "seconds")},
                      diverged=bool(arrays["history/diverged"]))  # fmt: skip
    return Trained(recipe, models[recipe.training.epochs], history, models)


def _train(recipe: Recipe, device: torch.device, path: Path) -> None:
    model, d, arrays = network(recipe).to(device), data(recipe), {}

    def keep(epoch: int, current: nn.Module) -> None:
        if epoch in recipe.keep or epoch == recipe.training.epochs:
            arrays.update({f"{epoch}/{n}": v.detach().cpu().numpy().copy() for n, v in current.state_dict().items()})

    validation = (d.x_validation, d.y_validation)
    history = fit(model, d.x, d.y, recipe.training, validation=validation, on_epoch=keep)
    arrays.update({f"history/{n}": np.asarray(v) for n, v in dataclasses.asdict(history).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    with aside.open("wb") as stream:
        np.savez(stream, **arrays)
    os.replace(aside, path)


def _name(recipe: Recipe, device: torch.device) -> str:
    made_of = {"recipe": dataclasses.asdict(recipe), "device": device.type, "code": _code()}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _dataset(name: str) -> Dataset:
    """The data set read last stays in memory: one experiment asks for it several times."""
    return load(name)


@cache
def _code() -> str:
    return maso.tree.code_digest([__name__])


def _images(images: np.ndarray, grey: bool) -> Tensor:
    """(N, channels, height, width) uint8."""
    if grey and images.shape[3] > 1:
        images = np.rint(images.mean(3, keepdims=True)).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
