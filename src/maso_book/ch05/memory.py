"""Gap, memory and sign pattern against the controls that tell them from chance (claims 05.3 to 05.6).

The *gap* of an image x with label y is cos(A_y[x], x) less the mean of cos(A_y[x], x') over the other images x' of that
label, all images less the mean training image.  With images and templates at length 1,

    gap = ⟨a, u − ū⟩,  a = A_y[x]/‖A_y[x]‖,  u = x/‖x‖,  ū the mean of the other u',

is linear in the template.  The template is a sum over the last hidden units, A_y = Σ_k W_yk ∇h_k: those with W_yk > 0
speak for the class, those with W_yk < 0 against it, and the gap is the sum of their two parts.

*Memory* is the gap on training images less that on test images.  Where the labels of the training images are permuted,
so are those of the test images: the other images of a label are then of all classes in both splits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from maso.affine import affine_map
from maso.matched import by_truth
from maso.memorization import compare, sign_pattern
from maso_book.experiment import Rows
from maso_book.shared import twins
from maso_book.shared.untrained import calibrated
from maso_book.trained import Data, Trained, TrainedCell, data, trained
from maso_book.training import scaled

STATES = ("untrained", "calibrated", "trained")
"""Before training, the same with BatchNorm statistics of the training images, and after some epochs."""
SPLITS = ("train", "test")
NAMED_BY = ("label", "answer")
"""Whose class an image has: its label, or the network's answer."""
ORIGINS = ("given", "centred")
"""Images as they are, in [0, 1], or less the mean training image."""
_CHUNK = 250  # images whose templates are computed at a time


@dataclass(frozen=True)
class Memory(TrainedCell):
    """One network.

    Attributes:
        seed: of its weights, the order of the samples and the permutations.
        labels, dataset, network, width, samples, keep: as in `Recipe`.
        epochs, lr, schedule: as in `Training`.
        points: images measured of each split, the first ones.
    """

    seed: int
    labels: twins.Labels
    network: str = "small_cnn"
    dataset: str = "cifar10"
    width: int | None = None
    samples: int | None = twins.SAMPLES
    epochs: int = twins.EPOCHS
    lr: float = twins.RATES["small_cnn"]
    schedule: Literal["constant", "one-cycle"] = "one-cycle"
    keep: tuple[int, ...] = twins.KEEP
    points: int = 500


@dataclass(frozen=True, eq=False)
class Images:
    """Of one split, on the default device: x (N, *shape) in [0, 1], and the labels y (N,)."""

    x: Tensor
    y: Tensor


def run_memory(config: Memory) -> tuple[Rows, dict[str, np.ndarray]]:
    """Gaps of one network while it is trained; its sign patterns before and after.

    Returns:
        The tables of a network whose training diverged are empty.

        Table `gaps`, one row an epoch, a state (one of `STATES`), a split and a way to name the class:

        - `epoch`: after which the network is measured; 0 is before training;
        - `split`, `named_by`: the images, one of `SPLITS`, and one of `NAMED_BY`;
        - `accuracy`: share of the images whose answer is the label;
        - `cosine_own`, `cosine_others`, `gap`: means over the images;
        - `gap_for`, `gap_against`: the parts of the last hidden units that speak for and against the class.

        Table `patterns`, one row a state (after the last epoch), a split and a reading (one of `ORIGINS`):

        - `pattern`: share of the images with ⟨A_y, x⟩ > 0 > ⟨A_c, x⟩ for all c ≠ y;
        - `independent`: the same if the signs were independent, for each pair of label and class as often positive as
          they are;
        - `pattern_others`: the same with the templates A[x'] of the other images of the label;
        - `pattern_outputs`: the same of the outputs, bias included;
        - `true_class_positive`, `false_classes_negative`: shares of ⟨A_y, x⟩ > 0 and of ⟨A_c, x⟩ < 0, c ≠ y;
        - `inner_product_std`, `bias_std`: standard deviation over the classes;
        - `alignment`: cosine between all templates A[x] and the optimum of claim 05.1.

        Table `training`, one row an epoch after which the weights are kept: `epoch`, and `loss` and `training_accuracy`
        over the samples as they were seen.

        Arrays (N images of each split, C classes):

        - `gaps`: after the last epoch, (splits, ways to name the class, N) float32;
        - `negatives`: share of the images with 0, 1, … C − 1 negative inner products of false classes, and the same if
          the signs were independent, (states, splits, readings, 2, C) float32.
    """
    images, network = data(config.recipe), trained(config.recipe)
    if network.history.diverged:
        return {"gaps": [], "patterns": [], "training": []}, {}

    mean = (images.x.float().mean(0) / 255).to(torch.get_default_device())
    splits = measured(images, config)
    rows: list[dict[str, Any]] = []
    per_image = np.zeros((len(SPLITS), len(NAMED_BY), config.points), np.float16)
    patterns: list[dict[str, Any]] = []
    negatives = []
    for state, epoch, model in _states(network, images):
        last = epoch in (0, config.epochs)
        for place, (split, part) in enumerate(splits.items()):
            about = {"epoch": epoch, "state": state, "split": split}
            for way, (named_by, row, gap) in enumerate(gaps(model, part, mean)):
                rows.append({**about, "named_by": named_by, **row})
                per_image[place, way, : len(gap)] = gap.cpu().numpy()  # those after the last epoch stay
            if last:
                for reading, row, counts in sign_patterns(model, part, mean):
                    patterns.append({**about, "reading": reading, **row})
                    negatives.append(counts)

    classes = negatives[0].shape[1]
    kept = [epoch for epoch in network.epochs if epoch]
    tables = {
        "gaps": rows,
        "patterns": patterns,
        "training": [
            {
                "epoch": epoch,
                "loss": _short(network.history.loss[epoch - 1]),
                "training_accuracy": _short(network.history.accuracy[epoch - 1]),
            }
            for epoch in kept
        ],
    }
    shape = (len(STATES), len(SPLITS), len(ORIGINS), 2, classes)
    return tables, {"gaps": per_image, "negatives": np.reshape(negatives, shape).astype(np.float32)}


def measured(images: Data, config: Memory) -> dict[str, Images]:
    """Split → its first images; the labels of test images are permuted where those of training images are."""
    y_test = images.y_test[: config.points]
    if config.labels == "permuted":
        y_test = y_test[torch.from_numpy(np.random.default_rng((config.seed, 1)).permutation(len(y_test)))]
    device = torch.get_default_device()
    pairs = zip(SPLITS, (images.x, images.x_test), (images.y[: config.points], y_test), strict=True)
    return {split: Images(scaled(x[: config.points]).to(device), y.to(device)) for split, x, y in pairs}


def _states(network: Trained, images: Data) -> Iterator[tuple[str, int, nn.Module]]:
    """State, epoch and model of everything that is measured, in the order of `STATES`."""
    before, *later = sorted(network.epochs)
    yield STATES[0], before, network.epochs[before]
    yield STATES[1], before, calibrated(network.epochs[before], images.x)
    for epoch in later:
        yield STATES[2], epoch, network.epochs[epoch]


# Gaps -----------------------------------------------------------------------------------------------------------------


def gaps(model: nn.Module, images: Images, mean: Tensor) -> Iterator[tuple[str, dict[str, float], Tensor]]:
    """For each of `NAMED_BY`: its name, a row of the table `gaps`, and the gap of each image, (N,).

    Args:
        model: a network whose last dense layer gives the outputs.
        images: of one split.
        mean: image, (*shape).
    """
    x, y = images.x, images.y
    with torch.no_grad():
        answers = torch.cat([model(part) for part in x.split(_CHUNK)]).argmax(1)
    classes = torch.stack([y, answers], 1)
    all_units, units_for = (affine_map(m, x, outputs=classes, chunk=_CHUNK).A for m in (model, speaking_for(model)))
    for way, named_by in enumerate(NAMED_BY):
        A, part = all_units[:, way].flatten(1), units_for[:, way].flatten(1)
        length = A.norm(dim=1, keepdim=True).clamp_min(torch.finfo(A.dtype).tiny)
        u, others = neighbours(x - mean, classes[:, way])
        own, other = ((A / length * v).sum(1) for v in (u, others))
        gap, gap_for = own - other, (part / length * (u - others)).sum(1)
        means = {
            "cosine_own": own[~gap.isnan()],
            "cosine_others": other,
            "gap": gap,
            "gap_for": gap_for,
            "gap_against": gap - gap_for,
        }
        row = {"accuracy": _short((answers == y).float().mean())}
        yield named_by, row | {name: _short(values.nanmean()) for name, values in means.items()}, gap


def speaking_for(model: nn.Module) -> nn.Module:
    """A copy whose last dense layer has lost its negative weights: only units that speak for a class are heard."""
    heard = copy.deepcopy(model)
    last = [module for module in heard.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.clamp_(min=0)
    return heard


def neighbours(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images at length 1, and the mean of the others of their class: (N, *shape), (N,) → (N, D), (N, D).

    NaN where an image is the only one of its class.
    """
    u = normalize(x.flatten(1), dim=1)
    count = torch.bincount(y)
    sums = u.new_zeros(len(count), u.shape[1]).index_add_(0, y, u)
    return u, (sums[y] - u) / torch.where(count > 1, count - 1, torch.nan)[y, None]


# Sign patterns --------------------------------------------------------------------------------------------------------


def sign_patterns(model: nn.Module, images: Images, mean: Tensor) -> Iterator[tuple[str, dict[str, float], np.ndarray]]:
    """For each of `ORIGINS`: its name, a row of the table `patterns`, and numbers of negative false classes, (2, C)."""
    templates = affine_map(model, images.x, chunk=_CHUNK)
    for reading, origin in zip(ORIGINS, (torch.zeros_like(mean), mean), strict=True):
        found = compare(templates, images.x, images.y, origin=origin)
        outputs = found.inner + found.bias
        true, false = by_truth(found.inner, images.y)
        expected, counts = independent_signs(found.inner, images.y)
        row = {
            "pattern": found.pattern.float().mean(),
            "independent": expected,
            "pattern_others": found.pattern_others.nanmean(),
            "pattern_outputs": sign_pattern(outputs, images.y).float().mean(),
            "true_class_positive": (true > 0).float().mean(),
            "false_classes_negative": (false < 0).float().mean(),
            "inner_product_std": found.inner.std(1).mean(),
            "bias_std": found.bias.std(1).mean(),
            "alignment": found.alignment.mean(),
        }
        observed = torch.bincount((false < 0).sum(1), minlength=found.inner.shape[1]) / len(false)
        both = np.stack([observed.cpu().numpy(), counts])
        yield reading, {name: _short(value) for name, value in row.items()}, both


def independent_signs(inner: Tensor, y: Tensor) -> tuple[float, np.ndarray]:
    """What independent signs would give that are, for each pair of label and class, as often positive or negative.

    Args:
        inner: inner products, (N, C).
        y: labels, (N,).

    Returns:
        The share of the full pattern, and the shares of images with 0, …, C − 1 negative false classes, (C,).
    """
    classes, pattern, counts = inner.shape[1], 0.0, np.zeros(inner.shape[1])
    for label in y.unique().tolist():
        own = inner[y == label].cpu()
        share = len(own) / len(y)
        negative = (own < 0).double().mean(0).numpy()
        false = np.delete(negative, label)
        distribution = np.ones(1)
        for chance in false:
            distribution = np.convolve(distribution, (1 - chance, chance))
        counts += share * distribution[:classes]
        pattern += share * float((own[:, label] > 0).double().mean()) * float(false.prod())
    return pattern, counts


def _short(value: Any) -> float:
    """To six decimals: a record need not keep more of a mean over some hundred images."""
    return round(float(value), 6)
