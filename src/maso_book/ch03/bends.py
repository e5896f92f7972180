"""How a cut bends at the cuts of earlier units (03-bends), and how much a decision boundary turns (03-turning).

The cut of unit k of layer l is the line z_k^(l) = 0, a polyline.  It is straight in every cell of the layers before and
bends where it crosses the cut of one of their units j, in layer m: with v the slope of z_k^(l) on either side,

    cos θ = ⟨v, v'⟩ / (‖v‖ ‖v'‖),    v' − v = ± (1 − ν) c_j ∇z_j^(m),

c_j the sum, over all paths from unit j to unit k, of the product of the weights along the path and the slopes of the
gates between the two (w_j for a layer-1 unit and l = 2, where ∇z_j = W_j).  So sin θ ≤ ‖v' − v‖ / max(‖v‖, ‖v'‖)
where this is below 1.  Near θ = 0 the arc cosine loses half of the digits; angles are taken from the sine and the
cosine together.

Measured angles come from the corners of the exact polylines alone, closed-form angles from the weights multiplied out
on both sides.

Source: The Geometry of Deep Networks: Power Diagram Subdivision, §4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maso import affine_map
from maso.partition import Plane, partition
from maso.power import bends
from maso_book.ch03.hand import Dense, Upstream, dense_layers, illustration, upstream
from maso_book.experiment import Rows
from maso_book.shared import toy
from maso_book.training import Training, accuracy, fit

LABELS = ("true", "permuted")
"""What the networks of 03-turning and 03-distance learn."""
OUTPUT = 5
"""Number of the output of the illustration network, counted as a layer."""


def turns(vectors: np.ndarray) -> np.ndarray:
    """Signed angle from each vector to the next one, (N, 2) → (N − 1,)."""
    a, b = vectors[:-1], vectors[1:]
    return np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(1))


def corners(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the segments of a polyline (M, 2), and its angles: the (M − 1,) corners at which it bends.

    A closed polyline also bends where it began: its first segment is repeated.
    """
    if len(line) > 3 and np.array_equal(line[0], line[-1]):
        line = np.concatenate([line, line[1:2]])
    return (line[1:] + line[:-1]) / 2, turns(np.diff(line, axis=0))


# 03-bends -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bends:
    """The illustration network of this seed."""

    seed: int
    slope: float = 0.1


def run_bends(config: Bends) -> tuple[Rows, dict[str, np.ndarray]]:
    """Every bend of every cut and of the line f = 0, measured, in closed form, and bounded; angles in radians.

    Table, one network a row: the number of `bends`; `largest_error_rad`, of measured less closed-form angles;
    `largest_jump_error`, of the slope's jump in closed form, over the longer slope; `above_bound` and
    `above_weights_bound`, the bends that exceed a bound; `at_several_cuts`, those where more than one cut is crossed;
    `largest_package_difference_rad`, of all angles to those of `maso.power.bends`.

    Arrays, one entry a bend: `layer` of the unit (5 for the output), `across` (layer of the unit whose cut is crossed,
    0 for several), `angle` (in closed form), `bound` (from the jump of the slope), `weights_bound` (from weights alone)
    and `error` (measured minus closed form).
    """
    model = illustration(config.seed, config.slope)
    layers = [*dense_layers(model), _last(model)]
    plane = Plane.square(-7, 7)

    lines = []
    for depth in range(2, len(layers) + 1):
        p = partition(model[: 2 * depth - 1], plane)  # outputs: the pre-activations of this layer
        for unit in range(p.values.shape[1]):
            lines += [_bends(line, layers[:depth], unit) for line in p.decision_boundary(unit)]
    arrays = {name: np.concatenate([line[name] for line in lines]) for name in lines[0]}

    row = {
        "bends": len(arrays["angle"]),
        "largest_error_rad": float(np.abs(arrays["error"]).max()),
        "largest_jump_error": float(arrays["jump_error"].max()),
        "above_bound": int((arrays["angle"] > arrays["bound"] + 1e-9).sum()),
        "above_weights_bound": int((arrays["angle"] > arrays["weights_bound"] + 1e-9).sum()),
        "at_several_cuts": int((arrays["across"] == 0).sum()),
        "largest_package_difference_rad": _package_difference(model, plane, arrays),
    }
    small = {name: arrays[name].astype(np.float32) for name in ("angle", "bound", "weights_bound", "error")}
    return {"networks": [row]}, small | {name: arrays[name].astype(np.uint8) for name in ("layer", "across")}


def _package_difference(model: nn.Sequential, plane: Plane, arrays: dict[str, np.ndarray]) -> float:
    """Largest difference of all angles to those of `maso.power.bends`; infinite if it finds another number of them."""
    theirs = [bends(model, plane, str(2 * depth - 1)).angle for depth in range(2, len(model) // 2 + 1)]
    ours = [arrays["angle"][arrays["layer"] == depth] for depth in range(2, len(model) // 2 + 1)]
    if [len(a) for a in ours] != [len(a) for a in theirs]:
        return math.inf
    return max(float(np.abs(np.sort(a) - np.sort(b)).max(initial=0)) for a, b in zip(ours, theirs, strict=True))


def _last(model: nn.Sequential) -> Dense:
    linear = model[-1]
    assert isinstance(linear, nn.Linear)
    return Dense(linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy(), 1.0)


def _bends(line: np.ndarray, layers: list[Dense], unit: int) -> dict[str, np.ndarray]:
    """The bends of one polyline (M, 2), of the cut of a unit of the last layer: arrays with one entry a bend."""
    middle, measured = corners(line)
    before = upstream(layers, middle)
    slopes = before[-1].G[:, unit]
    jump, lengths = np.diff(slopes, axis=0), np.linalg.norm(slopes, axis=1)
    angle, longest = np.abs(turns(slopes)), np.maximum(lengths[1:], lengths[:-1])

    across, closed, most = _closed_forms(layers, before, unit)
    sign = np.sign((closed * jump).sum(1))[:, None]
    return {
        "layer": np.full(len(angle), len(layers)),
        "across": across,
        "angle": angle,
        "bound": largest_angle(np.linalg.norm(closed, axis=1), longest),
        "weights_bound": largest_angle(most, longest),
        "error": np.abs(measured) - angle,
        "jump_error": np.linalg.norm(sign * closed - jump, axis=1) / longest,
    }


def largest_angle(jump: np.ndarray, longest: np.ndarray) -> np.ndarray:
    """The largest angle between two vectors, the longer one of length `longest`, whose difference has length `jump`."""
    return np.where(jump < longest, np.arcsin(np.minimum(jump / longest, 1)), np.pi)


def _closed_forms(layers: list[Dense], before: list[Upstream], unit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bend: layer of the unit that is crossed (0: several), (1 − ν) c_j ∇z_j, and a bound from weights."""
    bends = len(before[0].code) - 1
    changed = [up.code[1:] != up.code[:-1] for up in before[:-1]]
    count = sum(c.sum(1) for c in changed)
    across, closed, most = np.zeros(bends, int), np.zeros((bends, 2)), np.full(bends, np.inf)
    reach = np.linalg.norm(layers[0].W, axis=1)  # ‖∇z_j‖ is at most that
    for m, change in enumerate(changed):
        i, j = np.nonzero(change & (count == 1)[:, None])
        across[i] = m + 1
        way, farthest = layers[m + 1].W[:, j].T, np.abs(layers[m + 1].W[:, j].T)
        for layer, up in zip(layers[m + 2 :], before[m + 1 : -1], strict=True):
            way = (np.where(up.code[i], 1.0, layers[m + 1].slope) * way) @ layer.W.T
            farthest = farthest @ np.abs(layer.W).T
        kink = 1 - layers[m].slope
        closed[i] = kink * way[:, unit, None] * before[m].G[i, j]
        most[i] = kink * farthest[:, unit] * reach[j]
        reach = np.abs(layers[m + 1].W) @ reach
    return across, closed, most


# 03-turning -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turning:
    """Networks 2-w-w-4 on `samples` points of the toy problem with their labels, and with the labels permuted."""

    seed: int
    widths: tuple[int, ...]
    samples: int
    epochs: int


def run_turning(config: Turning) -> tuple[Rows, dict[str, np.ndarray]]:
    """Train, take the exact decision boundary and add up its angles.

    Table, one boundary a row: the network's `width` and what `labels` it learned, with its `train_accuracy`; `length`
    of the boundary, its number of `bends`, `turning_rad`, the sum of their angles, and `largest_error_rad`, the largest
    deviation of an angle from the formula.

    Arrays, of the widest networks: the corners of all polylines, `<labels>_points` (N, 2), and how many each polyline
    has, `<labels>_lengths`.
    """
    x, y, _, _ = toy.split(config.samples, config.seed)
    rows, arrays = [], {}
    for width in config.widths:
        for labels, target in both_labels(y, config.seed).items():
            torch.manual_seed(config.seed)
            model = toy.network((width, width))
            fit(model, x, target, Training(epochs=config.epochs, batch=100, lr=toy.LEARNING_RATE, seed=config.seed))

            lines = partition(model, toy.window()).decision_boundary()
            row = {"width": width, "labels": labels, "train_accuracy": accuracy(model, x, target)}
            rows.append(row | total_turning(model, lines))
            if width == config.widths[-1]:
                arrays[f"{labels}_points"] = np.concatenate(lines or [np.zeros((0, 2))]).astype(np.float32)
                arrays[f"{labels}_lengths"] = np.array([len(line) for line in lines], np.int32)
    return {"boundaries": rows}, arrays


def both_labels(y: Tensor, seed: int) -> dict[str, Tensor]:
    """The labels, and the same permuted among the points."""
    generator = torch.Generator().manual_seed(seed)
    return dict(zip(LABELS, (y, y[torch.randperm(len(y), generator=generator)]), strict=True))


def total_turning(model: nn.Module, lines: Sequence[np.ndarray]) -> dict[str, float]:
    """Length, bends and total angle of decision boundaries (M, 2), and the largest deviation from the formula."""
    length, angles, errors = 0.0, [np.zeros(0)], [np.zeros(0)]
    for line in lines:
        length += float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
        middle, measured = corners(line)
        angles.append(np.abs(measured))
        errors.append(np.abs(angles[-1] - np.abs(turns(_slopes(model, torch.from_numpy(middle)).numpy()))))
    angle, error = np.concatenate(angles), np.concatenate(errors)
    return {
        "length": length,
        "bends": len(angle),
        "turning_rad": float(angle.sum()),
        "largest_error_rad": float(error.max(initial=0)),
    }


def _slopes(model: nn.Module, x: Tensor) -> Tensor:
    """Slope of the difference of the two largest outputs, (N, 2) → (N, 2)."""
    with torch.no_grad():
        pair = model(x).topk(2, 1).indices.sort(1).values
    A = affine_map(model, x, outputs=pair).A
    return A[:, 0] - A[:, 1]
