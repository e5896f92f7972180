"""Do the nearest pictures by VQ distance share a label? (07-agreement, 07-labels)

Test images are the queries; the k nearest of a fixed set of training images are found in every layer of a network, by
VQ distance, before and after training.  The label agreement is the share of these k that have the query's true label.
Three Euclidean distances stand beside it: of the pixels, of the features that enter the last dense layer and of the
network's outputs.  Nothing is chosen by these numbers, so the test set is used once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from maso.codes import codes, neighbours, vq_distance
from maso_book.statistics import auc
from maso_book.trained import Recipe, data, trained
from maso_book.training import Training, accuracy, scaled

KS = (1, 5, 15)
EUCLID = ("pixels", "features", "outputs")
BINS = np.linspace(0, 1, 101)
"""Edges of the histograms of VQ distances."""
_BATCH = 500


@dataclass(frozen=True)
class Agreement:
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


def recipe(config: Agreement) -> Recipe:
    """The network of a cell."""
    return Recipe(
        config.dataset,
        config.network,
        Training(config.epochs, 256, config.lr, schedule=config.schedule, seed=config.seed),
        labels=config.labels,
        samples=config.samples,
        grey=config.grey,
        keep=config.keep,
    )


def run_agreement(config: Agreement) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Agreement by epoch (before and after training) and layer; pictures and histograms of distances.

    Metrics: `rows`, one for each epoch and layer, the Euclidean distances among them.  Arrays: `histograms` (epochs,
    layers, 2, bins), distances within and between classes; where pictures are kept `images` and `labels` (P, …), of
    which the first `shown` are the queries, and `neighbours` (epochs, rows, shown, 15), numbers of pictures.
    """
    asked = recipe(config)
    found = trained(asked)
    if found.history.diverged:
        return {"diverged": True}, {}
    true = data(dataclasses.replace(asked, labels="true", samples=config.images))
    device = torch.get_default_device()
    x, y = (scaled(part).to(device) for part in (true.x_test[: config.queries], true.x))
    of_x, of_y = (labels.to(device) for labels in (true.y_test[: config.queries], true.y))
    rows: list[dict[str, Any]] = []
    histograms, index = [], []
    for epoch in (0, config.epochs):
        model = found.epochs[epoch]
        nearest = _nearest(model, x, y)
        spread = _spread(model, x, y, of_x, of_y, config.pairs)
        kinds = {path: "pool" if code.dtype == torch.int64 else "ReLU" for path, code in codes(model, x[:2]).items()}
        units = {path: code[0].numel() for path, code in codes(model, x[:2]).items()}
        for layer, order in nearest.items():
            row = {"epoch": epoch, "layer": layer, "kind": kinds.get(layer, "Euclid"), "units": units.get(layer, 0)}
            row |= {f"k = {k}": float((of_y[order[:, :k]] == of_x[:, None]).double().mean()) for k in KS}
            rows.append(row | spread[layer][0] if layer in spread else row)
        histograms.append(np.stack([counts for _, counts in spread.values()]))
        index.append(np.stack([order[: config.shown].cpu().numpy() for order in nearest.values()]))
    arrays = {"histograms": np.stack(histograms).astype(np.int32)}
    if config.shown:
        arrays |= _pictures(np.stack(index), true.x_test, true.y_test, true.x, true.y)
    metrics = {
        "diverged": False,
        "rows": rows,
        "test accuracy": accuracy(found.model, true.x_test[: config.queries], true.y_test[: config.queries]),
        "training accuracy": float(found.history.accuracy[-1]),
    }
    return metrics, arrays


def _nearest(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Layer or Euclidean distance → numbers of the nearest of y, (N, 15)."""
    found = {path: n.index for path, n in neighbours(model, x, y, KS[-1]).items()}
    values = [(part.flatten(1), *last_layer(model, part)) for part in (x, y)]
    for name, a, b in zip(EUCLID, *values, strict=True):
        found[name] = torch.cat([torch.cdist(p, b).topk(KS[-1], largest=False).indices for p in a.split(_BATCH)])
    return found


@torch.no_grad()
def last_layer(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What enters the last dense layer, (N, features), and what leaves the network, (N, C)."""
    entered: list[Tensor] = []
    dense = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    handle = dense.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    outputs = torch.cat([model(part) for part in x.split(_BATCH)])
    handle.remove()
    return torch.cat(entered), outputs


def _spread(
    model: nn.Module, x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, pairs: tuple[int, int]
) -> dict[str, tuple[dict[str, float], np.ndarray]]:
    """Layer → mean distances within and between classes with the AUC that separates them, and both histograms."""
    n, m = pairs
    same = (of_x[:n, None] == of_y[None, :m]).cpu().numpy()
    found = {}
    for path, distance in vq_distance(model, x[:n], y[:m]).items():
        d = distance.cpu().numpy()
        within, between = d[same], d[~same]
        numbers = {
            "within": float(within.mean()),
            "between": float(between.mean()),
            "separation": auc(between, within),
        }
        found[path] = numbers, np.stack([np.histogram(part, BINS)[0] for part in (within, between)])
    return found


def _pictures(index: np.ndarray, queries: Tensor, of_queries: Tensor, images: Tensor, of_images: Tensor) -> Mapping:
    """The queries and those training images that are neighbours of them, and the neighbours by number among these."""
    shown = index.shape[2]
    used, where = np.unique(index, return_inverse=True)
    return {
        "images": torch.cat([queries[:shown], images[used]]).numpy(),
        "labels": torch.cat([of_queries[:shown], of_images[used]]).numpy(),
        "neighbours": (where.reshape(index.shape) + shown).astype(np.int32),
    }
