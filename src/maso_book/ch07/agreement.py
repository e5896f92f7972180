"""Do the nearest pictures by VQ distance share a label? (07-agreement, 07-labels)

Test images are the queries; the k nearest of a fixed set of training images are found in every layer of a network, by
VQ distance, before and after training.  The label agreement is the share of these k that have the query's true label.
Three Euclidean distances stand beside it: of the pixels, of the features that enter the last dense layer and of the
network's outputs.  Nothing is chosen by these numbers, so the test set is used once.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso.codes import codes, neighbours, vq_distance
from maso_book.statistics import auc
from maso_book.trained import Data, Trained, TrainedCell, data, trained
from maso_book.training import accuracy, scaled

KS = (1, 5, 15)
EUCLID = ("pixels", "features", "outputs")
LABELS: tuple[Literal["true", "permuted"], ...] = ("true", "permuted")
BINS = np.linspace(0, 1, 101)
"""Edges of the histograms of VQ distances."""
DIVERGED = {"diverged": True, "training_accuracy": None, "test_accuracy": None}
_BATCH = 500  # images: what one forward pass, or one table of Euclidean distances, holds

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Agreement(TrainedCell):
    """One network, and which pictures are compared.

    Attributes:
        seed, dataset, network, labels, samples, grey, keep: as in `Recipe`.
        epochs, lr, schedule: as in `Training`.
        queries: the first that many test images.
        images: their neighbours are searched among the first that many training images.
        pairs: the distances of the first that many queries and images are kept as histograms.
        shown: of the first that many queries the neighbours are kept as pictures.
    """

    seed: int
    dataset: str = "cifar10"
    labels: Literal["true", "permuted"] = "true"
    network: str = "small_cnn"
    samples: int | None = 20_000
    grey: bool = False
    keep: tuple[int, ...] = (0, 1, 2, 4)
    epochs: int = 8
    lr: float = 5e-3
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    queries: int = 1000
    images: int = 10_000
    pairs: tuple[int, int] = (200, 2000)
    shown: int = 0


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is compared: `queries` (N, …) with `images` (M, …), float, and their true labels (N,) and (M,)."""

    queries: Tensor
    images: Tensor
    of_queries: Tensor
    of_images: Tensor

    def same(self, n: int, m: int) -> np.ndarray:
        """Which of the first n queries and m images have one label, (n, m) bool."""
        return (self.of_queries[:n, None] == self.of_images[None, :m]).cpu().numpy()


def run_agreement(config: Agreement) -> tuple[dict[str, Rows], dict[str, np.ndarray]]:
    """Agreement before and after training, by layer; pictures and histograms of distances.

    Tables:
        networks: one row.  `diverged`: whether training did; the rest is then null, and the other tables are empty.
            `training_accuracy` after the last epoch; `test_accuracy` on the queries.
        agreement: a row for each epoch, distance and k.  `epoch`: 0 is before training.  `kind`: "ReLU" or "pool" for
            the VQ distance in a layer, or "Euclid".  `distance`: the layer's name among those of its kind ("ReLU 1"),
            or what is compared by Euclid ("pixels").  `label_agreement`: a share.
        layers: a row for each epoch and layer, of the VQ distance.  `path`: the layer's place in the model; `units`:
            how many it has; `mean_within`, `mean_between`: mean distance of the pairs of one class and of two;
            `separation`: the chance that a pair of two classes is further apart than a pair of one.

    Arrays:
        histograms (epochs, layers, 2, bins): numbers of pairs by distance, of one class and of two.
        pictures (P, C, H, W) and picture_labels (P,): where pictures are kept, first the queries that are shown.
        neighbours (epochs, distances, shown, 15): numbers of pictures, nearest first.
    """
    network = trained(config.recipe)
    if network.history.diverged:
        return {"networks": [DIVERGED], "agreement": [], "layers": []}, {}

    drawn = data(dataclasses.replace(config.recipe, labels="true", samples=config.images))
    pictures = _pictures(drawn, config.queries)

    agreement: Rows = []
    layers: Rows = []
    histograms, index = [], []
    for epoch in (0, config.epochs):
        model = network.epochs[epoch]
        names = layer_names(model, pictures.queries[:2])
        nearest = _nearest(model, pictures, names)
        agreement += [{"epoch": epoch} | row for row in _agreement(nearest, pictures)]
        rows, counts = _distances(model, pictures, names, config.pairs)
        layers += [{"epoch": epoch} | row for row in rows]
        histograms.append(counts)
        index.append(np.stack([order[: config.shown].cpu().numpy() for order in nearest.values()]))

    tables = {"networks": [_network(network, drawn, config.queries)], "agreement": agreement, "layers": layers}
    arrays = {"histograms": np.stack(histograms).astype(np.int32)}
    if config.shown:
        arrays |= _kept(np.stack(index), drawn)
    return tables, arrays


def _network(network: Trained, drawn: Data, queries: int) -> dict[str, Any]:
    """The row on how well a network has learned."""
    return {
        "diverged": False,
        "training_accuracy": float(network.history.accuracy[-1]),
        "test_accuracy": accuracy(network.model, drawn.x_test[:queries], drawn.y_test[:queries]),
    }


def _pictures(drawn: Data, queries: int) -> Pictures:
    """The first test images and all training images of some data, on the default device."""
    device = torch.get_default_device()
    x, y = (scaled(part).to(device) for part in (drawn.x_test[:queries], drawn.x))
    return Pictures(x, y, drawn.y_test[:queries].to(device), drawn.y.to(device))


def layer_names(model: nn.Module, x: Tensor) -> dict[str, str]:
    """Path of a layer with a code → its name, "ReLU 1" or "pool 2".

    Args:
        model: a network.
        x: inputs, (N, …).
    """
    count: Counter[str] = Counter()
    names = {}
    for path, code in codes(model, x).items():
        kind = "pool" if code.dtype == torch.int64 else "ReLU"  # a gate is a truth value, a pool's winner a number
        count[kind] += 1
        names[path] = f"{kind} {count[kind]}"
    return names


def _nearest(model: nn.Module, pictures: Pictures, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Distance → numbers of the nearest images of each query, (N, 15), nearest first."""
    searched = neighbours(model, pictures.queries, pictures.images, KS[-1])
    nearest = {names[path]: result.index for path, result in searched.items()}

    vectors = [(part.flatten(1), *last_layer(model, part)) for part in (pictures.queries, pictures.images)]
    for name, a, b in zip(EUCLID, *vectors, strict=True):
        parts = [torch.cdist(part, b).topk(KS[-1], largest=False).indices for part in a.split(_BATCH)]
        nearest[name] = torch.cat(parts)
    return nearest


@torch.no_grad()
def last_layer(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What enters the last dense layer, (N, features), and what leaves the network, (N, C)."""
    entered: list[Tensor] = []
    dense = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    handle = dense.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    outputs = torch.cat([model(part) for part in x.split(_BATCH)])
    handle.remove()
    return torch.cat(entered), outputs


def _agreement(nearest: Mapping[str, Tensor], pictures: Pictures) -> Rows:
    """The rows of one epoch: the share of the k nearest that have the query's label."""
    rows = []
    for distance, order in nearest.items():
        same = pictures.of_images[order] == pictures.of_queries[:, None]
        kind = "Euclid" if distance in EUCLID else distance.split()[0]
        rows += [
            {"kind": kind, "distance": distance, "k": k, "label_agreement": float(same[:, :k].double().mean())}
            for k in KS
        ]
    return rows


def _distances(
    model: nn.Module, pictures: Pictures, names: Mapping[str, str], pairs: tuple[int, int]
) -> tuple[Rows, np.ndarray]:
    """The rows of one epoch on distances within and between classes, and their histograms (layers, 2, bins)."""
    n, m = pairs
    same = pictures.same(n, m)
    units = {path: code[0].numel() for path, code in codes(model, pictures.queries[:2]).items()}

    rows, histograms = [], []
    for path, distance in vq_distance(model, pictures.queries[:n], pictures.images[:m]).items():
        d = distance.cpu().numpy()
        within, between = d[same], d[~same]
        rows.append(
            {
                "kind": names[path].split()[0],
                "distance": names[path],
                "path": path,
                "units": units[path],
                "mean_within": float(within.mean()),
                "mean_between": float(between.mean()),
                "separation": auc(between, within),
            }
        )
        histograms.append([np.histogram(part, BINS)[0] for part in (within, between)])
    return rows, np.array(histograms)


def _kept(index: np.ndarray, drawn: Data) -> dict[str, np.ndarray]:
    """The queries that are shown and the images near them, once each, and the neighbours by number among these.

    Args:
        index: numbers of training images, (epochs, distances, shown, 15).
        drawn: the data they are of.
    """
    shown = index.shape[2]
    used, where = np.unique(index, return_inverse=True)
    return {
        "pictures": torch.cat([drawn.x_test[:shown], drawn.x[used]]).numpy(),
        "picture_labels": torch.cat([drawn.y_test[:shown], drawn.y[used]]).numpy(),
        "neighbours": (where.reshape(index.shape) + shown).astype(np.int32),
    }
