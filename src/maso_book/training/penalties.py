"""Penalties that a training adds to its loss, by the name by which `Training.penalty` asks for them.

A penalty is a function (model, inputs, outputs, targets) → scalar.  The model is in training mode, the inputs are
float32 and require a gradient, autocast is off.  On a GPU it is part of a CUDA graph: fixed shapes, no branch on the
value of a tensor, random numbers of the default generator on the device.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Penalty = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]

PENALTIES: dict[str, Penalty] = {}
