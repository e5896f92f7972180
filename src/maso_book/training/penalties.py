"""Penalties that a training adds to its loss, by the name by which `Training.penalty` asks for them.

A penalty is a function (model, inputs, outputs, targets) → scalar.  The model is in training mode, the inputs are
float32 and require a gradient, autocast is off.  On a GPU it is part of a CUDA graph: fixed shapes, no branch on the
value of a tensor, random numbers of the default generator on the device.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from maso import penalties

Penalty = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


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
}
