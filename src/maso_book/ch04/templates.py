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
from maso_book.ch04.networks import Looked, Network, by_hand, class_means, looked_at, origins, untrained
from maso_book.experiment import Rows
from maso_book.statistics import auc, dip
from maso_book.trained import Augmented, trained

ORIGINS = ("black", "mean image", "grey")
COMPARED = {  # name of the images in `Match` -> what they are (`target`) and whose (`source`)
    IMAGE: ("image", "own"),
    "same class": ("image", "same class"),
    "elsewhere": ("image", "another class"),
    "class mean": ("class mean", "own"),
    "mean elsewhere": ("class mean", "another class"),
}


KEPT = 500
"""The inner products of that many images are kept for histograms."""
EXACT_ON = {"large_cnn": 200}
"""Images on which exactness is tested, where it is not all of them."""


@dataclass(frozen=True)
class Templates(Network):
    """A network, looked at after the epochs of `keep` and after the last; it is *followed* if `keep` begins with 0."""


@dataclass(frozen=True)
class AugmentedTemplates(Augmented, Templates):
    """The same of a network that was trained on images flipped and moved."""


def run_templates(config: Templates) -> tuple[Rows, dict[str, np.ndarray]]:
    """Exactness, what decides, and of a network that is followed likeness and separation before training and after it.

    Table `networks`, one row: `diverged`, then the other tables are empty; `validation_accuracy`; `exact_images`, on
    how many test images `sum_error`, `inner_error` and `bias_error` are, see `exactness`.

    Table `evaluation`: `epoch`; `state`, "trained", before training "untrained" and "calibrated" (with BatchNorm
    statistics of training images); `split`, "test" or "train", of the images; `accuracy`; `largest_bias`, the largest
    |b[x]_c|; `auc`, `dip` and `dip_p`, see `separation`.

    Of the trained network and test images:

    - `deciding`: `scores`, what takes the place of the outputs; `accuracy` and `agreement`, see there.
    - `margin`: `origin` from which pixels are counted; `margin`, `match`, `share` and `favours`, see `margins`.

    Table `likeness`, of a network that is followed, test images, with `epoch` and `state`: `templates` of the "true
    class" or the "other classes"; `target`, what they are compared with, an "image" or a "class mean"; `source`, whose
    it is, the "own" of the templates, another of the "same class" or one of "another class"; `measure`, the
    "correlation" over pixels, the "cosine", or the "relative correlation" of the templates less their mean over the
    classes; `similarity`.

    Arrays of a network that is followed, the first test images before training (calibrated) and after it, float16:
    `true_before`, `false_before`, `true_after`, `false_after`, the inner products with the true class and with one
    false class per image.
    """
    net, means = trained(config.recipe), class_means(config)
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("networks", "evaluation", "deciding", "margin", "likeness")
    }
    errors: dict[str, float | None] = dict.fromkeys(("exact_images", "sum_error", "inner_error", "bias_error"))
    arrays: dict[str, np.ndarray] = {}
    if net.history.diverged:
        tables["networks"].append({"diverged": True, "validation_accuracy": None} | errors)
        return tables, arrays

    splits, last = looked_at(config), config.epochs
    states = [("trained" if epoch else "untrained", epoch, model) for epoch, model in net.epochs.items()]
    if followed := 0 in net.epochs:
        states.insert(0, ("calibrated", 0, untrained(config)))
    for state, epoch, model in states:
        for split, images in splits.items():
            found = match(model, images.x, compared(images, means))
            when = {"epoch": epoch, "state": state}
            tables["evaluation"].append(when | {"split": split} | evaluation(found, images.y))
            if split == "train":
                continue
            if followed and epoch in (0, last):
                tables["likeness"] += [when | row for row in likeness(found, images.y)]
            if epoch == last:
                tables["deciding"] += deciding(found, images.y)
                tables["margin"] += margins(found)
            if followed and (state == "calibrated" or epoch == last):
                name = "after" if epoch else "before"
                true, false = (part[:KEPT] for part in true_and_false(found.inner[IMAGE], images.y))
                arrays |= {f"true_{name}": true.astype(np.float16), f"false_{name}": false.astype(np.float16)}

    test = splits["test"]
    if followed:
        relative = match(without_common_part(net.model, len(means)), test.x).correlation[IMAGE]
        when = {"epoch": last, "state": "trained"}
        tables["likeness"] += [when | row for row in _similarities(relative, test.y, IMAGE, "relative correlation")]
    accuracy, exact = float(net.history.validation_accuracy[-1]), test.x[: EXACT_ON.get(config.network)]
    tables["networks"].append(
        {"diverged": False, "validation_accuracy": accuracy, "exact_images": len(exact)} | exactness(net.model, exact)
    )
    return tables, arrays


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def compared(images: Looked, means: Tensor) -> dict[str, Tensor]:
    """What the templates at each image are compared with, besides the image."""
    elsewhere = partner(images.y, same=False)
    return {
        "elsewhere": images.x[elsewhere],
        "same class": images.x[partner(images.y, same=True)],
        "class mean": means[images.y],
        "mean elsewhere": means[images.y[elsewhere]],
    } | origins(means)


def partner(y: Tensor, *, same: bool) -> Tensor:
    """For each sample the next one, round and round, of the same class or of another; itself where there is none."""
    labels = y.cpu().numpy()
    own = np.arange(len(labels))
    partners = own.copy()
    for step in range(1, len(labels)):
        candidates = (own + step) % len(labels)
        new = (partners == own) & ((labels[candidates] == labels) == same)
        partners[new] = candidates[new]
        if (partners != own).all():
            break
    return torch.from_numpy(partners).to(y.device)


def evaluation(found: Match, y: Tensor) -> dict[str, float]:
    """Accuracy, largest bias, and how inner products separate true and false classes."""
    outputs = found.inner[IMAGE] + found.bias
    return {
        "accuracy": _mean(outputs.argmax(1) == y),
        "largest_bias": float(found.bias.abs().max()),
    } | separation(found.inner[IMAGE], y)


def deciding(found: Match, y: Tensor) -> list[dict[str, Any]]:
    """`accuracy` of inner products and of biases alone; `agreement`, how often they choose the class of the outputs.

    "centred" `scores`: the inner products with x less the mean image, and the bias that goes with them.
    """
    inner, bias = found.inner[IMAGE], found.bias
    shift = found.inner["mean image"]
    outputs = (inner + bias).argmax(1)
    alone = {"inner": inner, "bias": bias, "centred inner": inner - shift, "centred bias": bias + shift}
    choices = {scores: values.argmax(1) for scores, values in alone.items()}
    return [
        {"scores": scores, "accuracy": _mean(choice == y), "agreement": _mean(choice == outputs)}
        for scores, choice in choices.items()
    ]


def margins(found: Match) -> list[dict[str, Any]]:
    """The margin of the class that wins over the next one, z_1 − z_2, divided into match and bias for three origins.

    `margin` and `match`, the inner products' part of it with pixels counted from `origin`, are means over the images,
    `share` is their ratio; `favours`, how often the match alone puts the winner before the next one.
    """
    inner, bias = found.inner[IMAGE].double(), found.bias.double()
    leading = (inner + bias).topk(2, dim=1).indices

    def gap(values: Tensor) -> Tensor:
        first, second = values.gather(1, leading).unbind(1)
        return first - second

    margin, rows = _mean(gap(inner + bias)), []
    for origin in ORIGINS:
        part = gap(inner - found.inner[origin].double() if origin in found.inner else inner)
        rows.append({
            "origin": origin, "margin": margin, "match": _mean(part), "share": _mean(part) / margin,
            "favours": _mean(part > 0),
        })  # fmt: skip
    return rows


def likeness(found: Match, y: Tensor) -> list[dict[str, Any]]:
    """Correlation of the templates with each kind of image, and their cosine with the image itself."""
    correlations = [row for name in COMPARED for row in _similarities(found.correlation[name], y, name, "correlation")]
    return correlations + _similarities(found.cosine[IMAGE], y, IMAGE, "cosine")


def _similarities(values: Tensor, y: Tensor, name: str, measure: str) -> list[dict[str, Any]]:
    """The rows of one measure, values (N, C), with one kind of image."""
    target, source = COMPARED[name]
    return [
        {"templates": templates, "target": target, "source": source, "measure": measure, "similarity": _mean(of)}
        for templates, of in zip(("true class", "other classes"), by_truth(values, y), strict=True)
    ]


def true_and_false(inner: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Inner products with the true class, and with one false class per image, each false class in turn, (N,) each."""
    own, others = by_truth(inner.double(), y)
    turn = torch.arange(len(y), device=y.device) % others.shape[1]
    return own.cpu().numpy(), others.gather(1, turn[:, None])[:, 0].cpu().numpy()


def separation(inner: Tensor, y: Tensor) -> dict[str, float]:
    """Area under the ROC curve of true against all false classes, and the dip of `true_and_false` together."""
    own, others = by_truth(inner.double(), y)
    height, p = dip(np.concatenate(true_and_false(inner, y)))
    return {"auc": auc(own.cpu().numpy(), others.flatten().cpu().numpy()), "dip": height, "dip_p": p}


def without_common_part(model: nn.Module, classes: int) -> nn.Module:
    """The network whose outputs have lost their mean over the classes, which softmax does not see."""
    like = next(model.parameters())
    last = nn.Linear(classes, classes, bias=False).to(like)
    with torch.no_grad():
        last.weight.copy_(torch.eye(classes) - 1 / classes)
    return nn.Sequential(model, last).eval()


def exactness(model: nn.Module, x: Tensor) -> dict[str, float | None]:
    """Largest errors in double precision, relative to the image's largest output.

    `sum_error`: ⟨A[x]_c, x⟩ + b[x]_c against the output, A from `maso.affine_map`, b by hand; `inner_error` and
    `bias_error`: the two parts against those by hand.
    """
    model, x = copy.deepcopy(model).double(), x.double()
    found = match(model, x)
    inner, bias = by_hand(model, x, x)
    with torch.no_grad():
        z = model(x)
    scale = z.abs().amax(1, keepdim=True)
    errors = {
        "sum_error": found.inner[IMAGE] + bias - z,
        "inner_error": found.inner[IMAGE] - inner,
        "bias_error": found.bias - bias,
    }
    return {name: float((error.abs() / scale).max()) for name, error in errors.items()}
