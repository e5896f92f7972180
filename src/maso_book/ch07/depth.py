"""Label agreement by layer against controls that are not handicapped (07-twins, 07-all-images; claims 07.1 and 07.2).

As in `maso_book.ch07.agreement`, with three things more.

*The calibrated network.*  Before training BatchNorm has mean 0 and variance 1, which no layer's values have, so many
units are on or off for all images.  The untrained network is measured a second time with the BatchNorm statistics of
its training images (`maso_book.shared.untrained`).

*Empty windows.*  A max pool after a ReLU whose window is all zero notes its first entry, by convention: a code without
meaning, in which images agree that have nothing in common.  With empty windows masked the code of an image is the set
S of its winners, positions with the largest value of a window and above 0, and the distance is Jaccard's,
1 − |S ∩ S'| / |S ∪ S'|, a metric as well.  Where no window is empty it sorts images like the share of windows that
differ.

*Hubs.*  In many dimensions a few points are among the nearest neighbours of very many others.  N(y) is the number of
queries that have the image y among their k nearest; its maximum and its skewness say how far that goes.

Source: Radovanović, Nanopoulos and Ivanović, Hubs in Space, §3 (skewness of N).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso.codes import BLOCK, Signatures, product
from maso.codes import neighbours as neighbours_by_code
from maso_book.ch07.agreement import EUCLID, KS, last_layer, layer_names
from maso_book.experiment import Rows
from maso_book.shared import twins
from maso_book.shared.untrained import calibrated
from maso_book.trained import Augmented, TrainedCell, data, trained
from maso_book.training import accuracy, scaled

ARMS = ("untrained", "calibrated", "trained")
K = 5
"""The number of neighbours that the criteria ask for; the others of `KS` are reported."""
RELU, MASKED = "ReLU", "masked pool"
"""The kinds that the criteria ask for, MASKED being that of a max pool whose empty windows do not count."""
DIVERGED = {"diverged": True, "training_accuracy": None, "test_accuracy": None}
_BATCH = 500  # images: what one forward pass holds


@dataclass(frozen=True)
class Depth(TrainedCell):
    """One network, and which pictures are compared.

    Attributes:
        seed, dataset, network, labels, samples, keep: as in `Recipe`.
        epochs, lr, schedule: as in `Training`.
        queries: the first that many test images.
        images: their neighbours are searched among the first that many training images, which also calibrate.
    """

    seed: int
    labels: twins.Labels = "true"
    network: str = "small_cnn"
    dataset: str = "cifar10"
    samples: int | None = twins.SAMPLES
    epochs: int = twins.EPOCHS
    lr: float = twins.RATES["small_cnn"]
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    keep: tuple[int, ...] = twins.KEEP
    queries: int = 1000
    images: int = 10_000


@dataclass(frozen=True)
class AugmentedDepth(Augmented, Depth):
    """The same of a network that was trained on images flipped and moved."""


def run_depth(config: Depth) -> tuple[Rows, dict[str, np.ndarray]]:
    """Agreement of one network by layer: untrained, calibrated and trained.

    Tables:
        networks: one row.  `diverged`: whether training did; the rest is then null, and the other table is empty.
            `training_accuracy` after the last epoch; `test_accuracy` on all test images.
        agreement: a row for each arm (one of `ARMS`), distance and k.  `kind`: "ReLU", "pool" or `MASKED`, or "Euclid".
            `distance`: the layer's name among those of its kind ("ReLU 1"), or what is compared by Euclid ("pixels").
            `label_agreement`: the share of the k nearest images that have the query's label.
        hubs: a row for each arm and distance, of k = `K`.  `most_frequent`: the share of the queries that have the
            image found most often among their k nearest.  `skewness`: of the numbers N(y).
        windows: a row for each arm and pool.  `empty`: the share of windows that are, over the queries.

    Arrays:
        right (arms, distances, queries) uint8: how many of the `K` nearest have the query's label; of the distances
            that `decisive` names, in their order.
    """
    network = trained(config.recipe)
    if network.history.diverged:
        return {"networks": [DIVERGED], "agreement": [], "hubs": [], "windows": []}, {}

    drawn = data(replace(config.recipe, labels="true", samples=config.images))
    device = torch.get_default_device()
    x, y = (scaled(part).to(device) for part in (drawn.x_test[: config.queries], drawn.x))
    of_x, of_y = drawn.y_test[: config.queries].to(device), drawn.y.to(device)

    before = network.epochs[0]
    models = dict(zip(ARMS, (before, calibrated(before, drawn.x), network.model), strict=True))
    agreement: list[dict[str, Any]] = []
    hubs: list[dict[str, Any]] = []
    windows: list[dict[str, Any]] = []
    right = []
    for arm, model in models.items():
        found = {}
        for kind, distance, order in nearest(model, x, y):
            about = {"arm": arm, "kind": kind, "distance": distance}
            same = of_y[order] == of_x[:, None]
            shares = {k: round(float(same[:, :k].double().mean()), 5) for k in KS}
            agreement += [about | {"k": k, "label_agreement": share} for k, share in shares.items()]
            hubs.append(about | hubness(order[:, :K], len(y)))
            found[kind, distance] = same[:, :K].sum(1).cpu().numpy()
        right.append([found[key] for key in decisive(found)])
        windows += [{"arm": arm, "distance": name, "empty": round(share, 5)} for name, share in empty(model, x).items()]

    networks = {
        "diverged": False,
        "training_accuracy": round(float(network.history.accuracy[-1]), 6),
        "test_accuracy": round(accuracy(network.model, drawn.x_test, drawn.y_test), 6),
    }
    tables = {"networks": [networks], "agreement": agreement, "hubs": hubs, "windows": windows}
    return tables, {"right": np.array(right, np.uint8)}


def decisive(distances: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of the distances (kind, name), in the order of the layers, those that the criteria compare.

    The first and the last of the ReLU layers and of the pools without empty windows, and pixels and outputs.
    """
    of_kind: dict[str, list[str]] = {}
    for kind, name in distances:
        of_kind.setdefault(kind, []).append(name)
    ends = [(kind, of_kind[kind][place]) for kind in (RELU, MASKED) if kind in of_kind for place in (0, -1)]
    return [*ends, ("Euclid", "pixels"), ("Euclid", "outputs")]


def hubness(order: Tensor, images: int) -> dict[str, float]:
    """How unevenly the images are found, as in the table `hubs`.

    Args:
        order: numbers of the k nearest images of each query, (N, k).
        images: how many there are.
    """
    count = torch.bincount(order.flatten(), minlength=images).double()
    spread = count - count.mean()
    skewness = spread.pow(3).mean() / spread.square().mean().pow(1.5)
    return {"most_frequent": round(float(count.max()) / len(order), 4), "skewness": round(float(skewness), 3)}


def nearest(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[tuple[str, str, Tensor]]:
    """Kind, name and the 15 nearest of y (M, …) for each of x (N, …), (N, 15), of every distance."""
    names = layer_names(model, x[:2])
    for path, found in neighbours_by_code(model, x, y, KS[-1]).items():
        yield names[path].split()[0], names[path], found.index
    for name, order in nearest_by_winners(model, x, y, KS[-1]).items():
        yield MASKED, name, order

    vectors = [(part.flatten(1), *last_layer(model, part)) for part in (x, y)]
    for name, a, b in zip(EUCLID, *vectors, strict=True):
        yield "Euclid", name, torch.cat([torch.cdist(part, b).argsort(1)[:, : KS[-1]] for part in a.split(_BATCH)])


# Pools without their empty windows ------------------------------------------------------------------------------------


def nearest_by_winners(model: nn.Module, x: Tensor, y: Tensor, k: int) -> dict[str, Tensor]:
    """The k nearest of y for each of x by Jaccard distance of winners, for every max pool: (N, k) int64.

    Args:
        model: a network whose max pools have windows that do not overlap.
        x: (N, *input_shape).
        y: (M, *input_shape).
        k: how many; of equally near ones those of lower index.
    """
    of_x, parts = winners(model, x), dict[str, list[Tensor]]()
    for block in y.split(BLOCK):
        for name, of_y in winners(model, block).items():
            parts.setdefault(name, []).append(jaccard(of_x[name], of_y))
    return {name: torch.cat(d, 1).sort(dim=1, stable=True).indices[:, :k] for name, d in parts.items()}


def jaccard(a: Tensor, b: Tensor) -> Tensor:
    """1 − |S ∩ S'| / |S ∪ S'| of all pairs of sets, given as 0 and 1: (N, D), (M, D) int8 → (N, M) float32."""
    rows, columns = (Signatures.of([part], part.shape[1], 2) for part in (a, b))
    both = product(rows.vectors, columns.vectors)[: len(a), : len(b)]
    either = a.sum(1, dtype=torch.int32)[:, None] + b.sum(1, dtype=torch.int32) - both
    return 1 - both / either.clamp_min(1)


@torch.no_grad()
def winners(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Pool → the positions of its input that win a window with a value above 0, as 0 and 1: (N, positions) int8."""
    parts: dict[str, list[Tensor]] = {}
    for part in x.split(_BATCH):
        for number, (pool, inputs) in enumerate(_pooled(model, part), 1):
            values, index = nn.functional.max_pool2d(
                inputs, pool.kernel_size, pool.stride, pool.padding, return_indices=True
            )
            marks = torch.zeros_like(inputs, dtype=torch.int8).flatten(2)
            marks.scatter_(2, index.flatten(2), (values > 0).to(torch.int8).flatten(2))
            parts.setdefault(f"pool {number}", []).append(marks.flatten(1))
    return {name: torch.cat(marks) for name, marks in parts.items()}


@torch.no_grad()
def empty(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Pool → the share of its windows whose largest value is not above 0."""
    counted: dict[str, float] = {}
    for part in x.split(_BATCH):
        for number, (pool, inputs) in enumerate(_pooled(model, part), 1):
            share = float((pool(inputs) <= 0).float().mean())
            counted[f"pool {number}"] = counted.get(f"pool {number}", 0.0) + share * len(part) / len(x)
    return counted


def _pooled(model: nn.Module, x: Tensor) -> list[tuple[nn.MaxPool2d, Tensor]]:
    """The max pools of a network and what enters them, (N, channels, height, width), in the order of evaluation."""
    entered: list[tuple[nn.MaxPool2d, Tensor]] = []
    pools = [module for module in model.modules() if isinstance(module, nn.MaxPool2d)]
    handles = [pool.register_forward_pre_hook(lambda m, inputs: entered.append((m, inputs[0]))) for pool in pools]
    model(x)
    for handle in handles:
        handle.remove()
    return entered
