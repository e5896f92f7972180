"""What the templates of a trained network have in common with the picture and its class (04-templates).

Every number is a mean over images of one network.  "Elsewhere" pairs the templates at one image with the next image of
another class, so what all images share does not count as likeness.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso.matched import IMAGE, Match, by_truth, match
from maso_book.ch04.networks import Looked, Network, by_hand, class_means, looked_at
from maso_book.statistics import auc, dip
from maso_book.trained import trained

Result = tuple[dict[str, Any], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Templates(Network):
    """A network, looked at after the epochs of `keep` and after the last."""


def run_templates(config: Templates) -> Result:
    """Exactness, and for each kept epoch and part of the data: accuracies, correlations and separation.

    Arrays, test images before training and after it: `true 0`, `false 0`, `true last`, `false last`, the inner products
    with the true class and with one false class per image.
    """
    net, means = trained(config.recipe), class_means(config)
    if net.history.diverged:
        return {"diverged": True}, {}
    parts = looked_at(config)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for epoch, model in net.epochs.items():
        for part, images in parts.items():
            found = match(model, images.x, _others(images, means))
            true, false = true_and_false(found.inner[IMAGE], images.y)
            if part == "test" and epoch in (0, config.epochs):
                name = "last" if epoch == config.epochs else "0"
                arrays |= {f"true {name}": true, f"false {name}": false}
            rows.append(
                {"epoch": epoch, "part": part}
                | deciding(found, images.y)
                | likeness(found, images.y)
                | separation(found.inner[IMAGE], images.y)
            )
    relative = match(without_common_part(net.model, len(means)), parts["test"].x)
    own, others = by_truth(relative.correlation[IMAGE], parts["test"].y)
    metrics = {
        "diverged": False,
        "validation accuracy": float(net.history.validation_accuracy[-1]),
        "rows": rows,
        "without the common part": {"own": _mean(own), "others": _mean(others)},
    } | exactness(net.model, parts["test"].x)
    return metrics, {name: values.astype(np.float32) for name, values in arrays.items()}


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _others(images: Looked, means: Tensor) -> dict[str, Tensor]:
    """What the templates at each image are compared with, besides the image."""
    elsewhere = partner(images.y, same=False)
    return {
        "elsewhere": images.x[elsewhere],
        "same class": images.x[partner(images.y, same=True)],
        "class mean": means[images.y],
        "mean elsewhere": means[images.y[elsewhere]],
        "mean image": means.mean(0).expand(images.x.shape),
    }


def partner(y: Tensor, *, same: bool) -> Tensor:
    """For each sample the next one, round and round, of the same class or of another; itself where there is none."""
    labels = y.cpu().numpy()
    here = np.arange(len(labels))
    found = here.copy()
    for step in range(1, len(labels)):
        there = (here + step) % len(labels)
        new = (found == here) & ((labels[there] == labels) == same)
        found[new] = there[new]
        if (found != here).all():
            break
    return torch.from_numpy(found).to(y.device)


def deciding(found: Match, y: Tensor) -> dict[str, float]:
    """Accuracy of the whole output, of inner products and of biases alone; how often they agree with the whole.

    "centred": the inner products with x less the mean image, and the bias that goes with them.
    """
    inner, bias = found.inner[IMAGE], found.bias
    shift = found.inner["mean image"]
    whole = (inner + bias).argmax(1)
    alone = {"inner": inner, "bias": bias, "centred inner": inner - shift, "centred bias": bias + shift}
    row = {"accuracy": _mean(whole == y), "largest bias": float(bias.abs().max())}
    for name, values in alone.items():
        choice = values.argmax(1)
        row |= {f"accuracy, {name}": _mean(choice == y), f"agreement, {name}": _mean(choice == whole)}
    return row


def likeness(found: Match, y: Tensor) -> dict[str, float]:
    """Correlation of the templates of the true class ("own") and of the others with each kind of image."""
    row: dict[str, float] = {}
    for name, values in found.correlation.items():
        if name != "mean image":
            own, others = by_truth(values, y)
            row |= {f"own, {name}": _mean(own), f"others, {name}": _mean(others)}
    own, others = by_truth(found.cosine[IMAGE], y)
    return row | {"own, cosine": _mean(own), "others, cosine": _mean(others)}


def true_and_false(inner: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Inner products with the true class, and with one false class per image, each false class in turn, (N,) each."""
    own, others = by_truth(inner.double(), y)
    turn = torch.arange(len(y), device=y.device) % others.shape[1]
    return own.cpu().numpy(), others.gather(1, turn[:, None])[:, 0].cpu().numpy()


def separation(inner: Tensor, y: Tensor) -> dict[str, float]:
    """Area under the ROC curve of true against all false classes, and the dip of `true_and_false` together."""
    own, others = by_truth(inner.double(), y)
    height, p = dip(np.concatenate(true_and_false(inner, y)))
    return {"auc": auc(own.cpu().numpy(), others.flatten().cpu().numpy()), "dip": height, "dip p": p}


def without_common_part(model: nn.Module, classes: int) -> nn.Module:
    """The network whose outputs have lost their mean over the classes, which softmax does not see."""
    like = next(model.parameters())
    last = nn.Linear(classes, classes, bias=False).to(like)
    with torch.no_grad():
        last.weight.copy_(torch.eye(classes) - 1 / classes)
    return nn.Sequential(model, last).eval()


def exactness(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Largest errors in double precision, relative to the image's largest output.

    "sum": ⟨A[x]_c, x⟩ + b[x]_c against the output, A from `maso.affine_map`, b by hand; "inner" and "bias": the two
    parts against those by hand.
    """
    model, x = copy.deepcopy(model).double(), x.double()
    found = match(model, x)
    inner, bias = by_hand(model, x, x)
    with torch.no_grad():
        z = model(x)
    scale = z.abs().amax(1, keepdim=True)
    errors = {
        "error, sum": found.inner[IMAGE] + bias - z,
        "error, inner": found.inner[IMAGE] - inner,
        "error, bias": found.bias - bias,
    }
    return {name: float((error.abs() / scale).max()) for name, error in errors.items()}
