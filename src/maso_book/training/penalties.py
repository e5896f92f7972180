"""Penalties that a training adds to its loss, by the name by which `Training.penalty` asks for them.

A penalty is a function (model, inputs, outputs, targets) → scalar.  The model is in training mode, the inputs are
float32 and require a gradient, autocast is off.  On a GPU it is part of a CUDA graph: fixed shapes, no branch on the
value of a tensor, random numbers of the default generator on the device.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from maso import penalties
from maso.rugosity import relative_rugosity_penalty, rugosity_penalty, tangent_prop_penalty
from maso.tangents import random_translation

Penalty = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]

BANDWIDTH = 0.5
"""ε of the penalty "rugosity", pixels in [0, 1]: about an eighth of what a shift by one pixel moves a CIFAR image."""


def rugosity(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Change of slope along a random translation of each image, on an eighth of the batch."""
    some = _eighth(inputs)
    return rugosity_penalty(model, some, tangents=random_translation(some), eps=BANDWIDTH)


def relative_rugosity(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The same relative to the size of the slopes."""
    some = _eighth(inputs)
    return relative_rugosity_penalty(model, some, tangents=random_translation(some), eps=BANDWIDTH)


def tangent_prop(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared change of the outputs along a random translation of each image by a pixel, on an eighth of the batch."""
    some = _eighth(inputs)
    return tangent_prop_penalty(model, some, tangents=random_translation(some))


def _eighth(inputs: Tensor) -> Tensor:
    """The first of the inputs, whose order is random."""
    return inputs[: max(1, len(inputs) // 8)].detach()


def orthogonality(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Of the rows of the last dense layer."""
    return penalties.orthogonality(last_rows(model))


def quartic_norm(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Of the rows of the last dense layer, over C - 1: at a simplex frame as large as their `orthogonality`."""
    return penalties.quartic_norm(last_rows(model)) / (outputs.shape[1] - 1)


def published(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """The authors' form of `orthogonality`."""
    return penalties.published(last_rows(model))


def templates(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
    """Of the templates, estimated on a quarter of the batch; over C², as the authors take the mean of all entries."""
    return penalties.templates(model, inputs) / outputs.shape[1] ** 2


def last_rows(model: nn.Module) -> Tensor:
    """The weight of the last dense layer, (C, D)."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1].weight


PENALTIES: dict[str, Penalty] = {
    "orthogonality": orthogonality,
    "quartic norm": quartic_norm,
    "published": published,
    "templates": templates,
    "rugosity": rugosity,
    "relative_rugosity": relative_rugosity,
    "tangent_prop": tangent_prop,
}
