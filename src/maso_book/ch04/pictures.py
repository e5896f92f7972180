"""The pictures of chapter 04 (04-pictures): all templates at the first test image of each class, and classical filters.

The classical matched filters see all images alike: the class mean (with ‖m_c‖²/2 as bias the nearest mean) and linear
discriminant analysis, Σ⁻¹ m_c with the covariance within classes, shrunk towards a multiple of the identity by the
amount that is best on validation images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maso import affine_map
from maso.matched import by_truth
from maso_book.ch04.networks import Looked, Network, class_means, looked_at
from maso_book.experiment import Rows
from maso_book.statistics import auc
from maso_book.trained import Augmented, Recipe, data, trained
from maso_book.training import scaled

SHRINK = (0.001, 0.01, 0.1, 0.5)


SHOWN = (0, 7)
"""The classes whose first test images are shown, chosen before looking."""


@dataclass(frozen=True)
class Pictures(Network):
    """A network whose templates are shown."""


@dataclass(frozen=True)
class AugmentedPictures(Augmented, Pictures):
    """The same of a network that was trained on images flipped and moved."""


def run_pictures(config: Pictures) -> tuple[Rows, dict[str, np.ndarray]]:
    """Templates as int8, each over its largest value, inner products and biases; and how classical filters do.

    Table `classical`, a row each: `filter` "mean" or "lda"; `accuracy`; `true_correlation` and `other_correlation` of
    the filters of the true and of the other classes, less their mean over the classes, with the picture; `auc` of the
    inner products. All on test images.

    Arrays: `images` uint8 and `labels` of the S images shown, `templates` (S, C, channels, height, width), `inner` and
    `bias` (S, C) with one row per image; `mean` and `lda`, the classical filters less their mean over the classes.
    """
    first = first_of_each_class(config.recipe)
    shown = Looked(first.x[list(SHOWN)], first.y[list(SHOWN)])
    found = affine_map(trained(config.recipe).model, shown.x)
    filters = classical(config)
    test = looked_at(config)["test"]
    arrays = {
        "images": (shown.x.cpu().numpy() * 255).round().astype(np.uint8),
        "labels": shown.y.cpu().numpy(),
        "templates": int8(found.A.cpu().numpy()),
        "inner": (found(shown.x) - found.b).cpu().numpy(),
        "bias": found.b.cpu().numpy(),
    }
    rows = []
    for name, (W, b) in filters.items():
        arrays[name] = int8((W - W.mean(0)).reshape(len(W), *shown.x.shape[1:]).cpu().numpy())
        rows.append({"filter": name} | _quality(W, b, test))
    return {"classical": rows}, arrays


def first_of_each_class(recipe: Recipe) -> Looked:
    """The first test image of each class, chosen before looking; on the default device."""
    d, device = data(recipe), torch.get_default_device()
    labels = d.y_test.numpy()
    first = torch.tensor([int(np.argmax(labels == c)) for c in np.unique(labels)], device="cpu")
    return Looked(scaled(d.x_test[first]).to(device), d.y_test[first].to(device))


def int8(pictures: np.ndarray) -> np.ndarray:
    """Pictures (…, channels, height, width), each scaled so that its largest absolute value is 127."""
    largest = np.abs(pictures).max((-3, -2, -1), keepdims=True)
    return np.rint(127 * pictures / np.where(largest > 0, largest, 1)).astype(np.int8)


def classical(config: Network) -> dict[str, tuple[Tensor, Tensor]]:
    """Filters (C, D) and biases (C,) of the nearest class mean ("mean") and of discriminant analysis ("lda")."""
    d, device = data(config.recipe), torch.get_default_device()
    x, y = scaled(d.x).flatten(1).to(device), d.y.to(device)
    means = class_means(config).flatten(1)
    within = x - means[y]
    covariance = (within.T @ within / len(x)).double()
    values, vectors = torch.linalg.eigh(covariance)
    rotated = means.double() @ vectors
    best: tuple[float, Tensor, Tensor] | None = None
    for amount in SHRINK:
        shrunk = (1 - amount) * values.clamp_min(0) + amount * values.mean()
        W = ((rotated / shrunk) @ vectors.T).float()
        b = -0.5 * (W * means).sum(1)
        validation = _accuracy(W, b, scaled(d.x_validation).to(device), d.y_validation.to(device))
        if best is None or validation > best[0]:
            best = (validation, W, b)
    assert best is not None
    return {"mean": (means, -0.5 * (means**2).sum(1)), "lda": best[1:]}


def _accuracy(W: Tensor, b: Tensor, x: Tensor, y: Tensor) -> float:
    return float(((x.flatten(1) @ W.T + b).argmax(1) == y).double().mean())


def _quality(W: Tensor, b: Tensor, test: Looked) -> dict[str, float]:
    """Accuracy, correlation of the filters (less their mean) with the images, and separation of the inner products."""
    x, relative = test.x.flatten(1), W - W.mean(0)
    centred_x, centred_W = (v - v.mean(1, keepdim=True) for v in (x, relative))
    cosine = (centred_x @ centred_W.T) / (centred_x.norm(dim=1)[:, None] * centred_W.norm(dim=1))
    own, others = by_truth(cosine, test.y)
    own_inner, other_inner = by_truth(x @ W.T, test.y)
    return {
        "accuracy": _accuracy(W, b, test.x, test.y),
        "true_correlation": float(own.double().mean()),
        "other_correlation": float(others.double().mean()),
        "auc": auc(own_inner.cpu().numpy(), other_inner.flatten().cpu().numpy()),
    }
