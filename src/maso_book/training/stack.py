"""Copies of one network as one network: the channels of M copies side by side, (N, M C, height, width) or (N, M K).

A convolution becomes one with M times as many groups, a BatchNorm one over M C channels, a dense layer M products at
once; what acts unit by unit, pools or flattens stays as it is.  All that a copy learns stands in one row of P
numbers, so that AdamW has one parameter a copy, with a learning rate and a weight decay of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maso.errors import MasoError


class Linears(nn.Module):
    """M dense layers side by side: (N, M I) → (N, M O)."""

    def __init__(self, layer: nn.Linear, copies: int) -> None:
        super().__init__()
        self.weight, self.bias, self.copies = layer.weight, layer.bias, copies

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.unflatten(0, (self.copies, -1))  # (M, O, I)
        y = torch.bmm(x.unflatten(1, (self.copies, -1)).transpose(0, 1), weight.mT)  # (M, N, O)
        y = y.transpose(0, 1).flatten(1)
        return y if self.bias is None else y + self.bias


class Stack:
    """Copies of one network, on one device, as the loop's learners; their weights are copied."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.copies, self.base = len(models), _widened(models[0], len(models))
        states = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
        self.shapes = {name: p.shape for name, p in models[0].named_parameters() if p.requires_grad}
        self.rows = [
            torch.cat([state[name].detach().flatten() for name in self.shapes]).requires_grad_() for state in states
        ]  # M of them, (P,)
        self.parameters: list[list[Tensor]] = [[row] for row in self.rows]
        fixed = {name: [state[name].detach() for state in states] for name in states[0] if name not in self.shapes}
        self.fixed = {  # of counters the highest: that of a copy which diverged has stopped
            name: torch.cat(values) if values[0].ndim else torch.stack(values).amax(0) for name, values in fixed.items()
        }

    def train(self, alive: Sequence[int]) -> None:
        """Go into training mode; the other copies become zero, so that no kernel can carry their NaN to these."""
        self.base.train()
        for m in set(range(self.copies)).difference(alive):
            self.rows[m].requires_grad_(False).zero_()  # AdamW passes over what has no gradient
            for value in self.fixed.values():
                if value.ndim:
                    value.unflatten(0, (self.copies, -1))[m] = 0

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (M, B, K), mean losses (M,) and their sum; in training mode running statistics move on."""
        side_by_side = inputs.unflatten(0, (self.copies, -1)).transpose(0, 1).flatten(1, 2)
        if side_by_side.ndim == 4:
            side_by_side = side_by_side.contiguous(memory_format=torch.channels_last)
        outputs = torch.func.functional_call(self.base, self._state(), (side_by_side,))
        outputs = outputs.unflatten(1, (self.copies, -1)).transpose(0, 1)
        losses = nn.functional.cross_entropy(outputs.movedim(2, 1), targets, reduction="none").mean(1)
        return outputs, losses, losses.sum()  # no copy sees another one: each has the gradient of its own loss

    def _state(self) -> dict[str, Tensor]:
        """Parameters and buffers of the wide network by name, the copies one after the other in the first dimension."""
        parts = torch.stack(self.rows).split([shape.numel() for shape in self.shapes.values()], 1)
        learning = {
            name: part.unflatten(1, shape).flatten(0, 1)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        return learning | self.fixed

    @torch.no_grad()
    def hand_back(self, models: Sequence[nn.Module], which: Sequence[int]) -> None:
        """Put the weights and buffers of these copies into their models."""
        state = self._state()
        for m in which:
            for name, value in [*models[m].named_parameters(), *models[m].named_buffers()]:
                value.copy_(state[name].unflatten(0, (self.copies, -1))[m] if value.ndim else state[name])


@torch.no_grad()
def check_stackable(models: Sequence[nn.Module], x: Tensor) -> None:
    """Refuse a network whose copies, side by side, do not compute what each computes alone.

    Args:
        models: the copies; they are in eval mode afterwards.
        x: some inputs, (N, *shape).

    Raises:
        MasoError: it has a layer, or an operation of its own, that mixes the copies or does not know their shape.
    """
    x = x.to(next(models[0].parameters()).device)
    alone = torch.stack([model.eval()(x) for model in models])
    stack, no_labels = Stack(models), torch.zeros(alone.shape[:2], dtype=torch.int64, device=x.device)
    try:
        together, *_ = stack(torch.cat([x] * len(models)), no_labels)
        agree = torch.allclose(together, alone, rtol=0.0, atol=1e-2 * float(alone.abs().max()))
    except RuntimeError:
        agree = False
    if not agree:
        raise MasoError("fit_many: this network cannot be stacked; train its copies one by one, with `fit`.")


def _widened(model: nn.Module, copies: int) -> nn.Module:
    """The network with the channels of all copies; its own weights are not to be used."""
    wide = copy.deepcopy(model)
    for name, layer in list(wide.named_modules()):
        if isinstance(layer, nn.Conv2d):
            layer.groups *= copies
        elif isinstance(layer, nn.Linear):
            if not name:
                return Linears(layer, copies)
            wide.set_submodule(name, Linears(layer, copies))
    return wide
