"""Copies of one network as one network: the channels of M copies side by side, (N, M C, height, width) or (N, M K).

A convolution becomes one with M times as many groups, a BatchNorm one over M C channels, a dense layer M products at
once; what acts unit by unit, pools or flattens stays as it is.  All parameters that learn stand in one matrix, a row
for each copy, so that AdamW is a few operations, with a learning rate and a weight decay for each row.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso_book.training.checkpoint import Arrays


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
    """Copies of one network, and the state of AdamW.

    Args:
        models: the copies, on one device; their weights are copied.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.copies, self.base = len(models), _widened(models[0], len(models))
        states = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
        learning = [name for name, p in models[0].named_parameters() if p.requires_grad]
        self.shapes = {name: states[0][name].shape for name in learning}
        rows = [torch.cat([state[name].detach().flatten() for name in learning]) for state in states]
        self.flat = torch.stack(rows).requires_grad_()
        self.first, self.second, self.steps = torch.zeros_like(self.flat), torch.zeros_like(self.flat), 0
        self.fixed = {
            name: torch.cat([state[name].detach() for state in states]) if value.ndim else value.detach().clone()
            for name, value in states[0].items()
            if name not in self.shapes
        }

    def _state(self) -> dict[str, Tensor]:
        """Parameters and buffers of the wide network by name, the copies one after the other in the first dimension."""
        parts = self.flat.split([shape.numel() for shape in self.shapes.values()], 1)
        learning = {
            name: part.unflatten(1, shape).flatten(0, 1)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        return learning | self.fixed

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs of all copies, (M, N, *shape) → (M, N, classes); in training mode running statistics move on."""
        side_by_side = x.transpose(0, 1).flatten(1, 2)
        if side_by_side.ndim == 4:
            side_by_side = side_by_side.contiguous(memory_format=torch.channels_last)
        y = torch.func.functional_call(self.base, self._state(), (side_by_side,))
        return y.unflatten(1, (self.copies, -1)).transpose(0, 1)

    @torch.no_grad()
    def check(self, models: Sequence[nn.Module], x: Tensor) -> None:
        """Refuse a network whose copies, side by side, do not compute what each computes alone.

        Args:
            models: the copies, in eval mode.
            x: some inputs, (N, *shape).

        Raises:
            MasoError: it has a layer, or an operation of its own, that mixes the copies or does not know their shape.
        """
        alone = torch.stack([model(x) for model in models])
        self.base.eval()
        try:
            together = self(x.expand(self.copies, *x.shape))
            agree = torch.allclose(together, alone, rtol=0.0, atol=1e-2 * float(alone.abs().max()))
        except RuntimeError:
            agree = False
        self.base.train()
        if not agree:
            raise MasoError("fit_many: this network cannot be stacked; train its copies one by one, with `fit`.")

    @torch.no_grad()
    def step(self, rate: Tensor, decay: Tensor) -> None:
        """One step of AdamW after `backward`, with the rate (M, 1) and the weight decay (M, 1) of each copy."""
        gradient = self.flat.grad
        assert gradient is not None
        beta, gamma, epsilon = 0.9, 0.999, 1e-8
        self.steps += 1
        self.first.lerp_(gradient, 1 - beta)
        self.second.mul_(gamma).addcmul_(gradient, gradient, value=1 - gamma)
        scale = (self.second.sqrt() / math.sqrt(1 - gamma**self.steps)).add_(epsilon)
        self.flat.mul_(1 - rate * decay).sub_(rate / (1 - beta**self.steps) * self.first / scale)
        self.flat.grad = None

    @torch.no_grad()
    def hand_back(self, models: Sequence[nn.Module], which: Sequence[int]) -> None:
        """Put the weights and buffers of these copies into their models."""
        state = self._state()
        for m in which:
            for name, value in [*models[m].named_parameters(), *models[m].named_buffers()]:
                value.copy_(state[name].unflatten(0, (self.copies, -1))[m] if value.ndim else state[name])

    @torch.no_grad()
    def blank(self, which: Sequence[int]) -> None:
        """Make copies that diverged zero, so that no kernel can carry their NaN to the others."""
        for tensor in (self.flat, self.first, self.second):
            tensor[list(which)] = 0
        for value in self.fixed.values():
            if value.ndim:
                value.unflatten(0, (self.copies, -1))[list(which)] = 0

    def moments(self) -> Arrays:
        """The state of AdamW for a checkpoint."""
        return {"first": self.first.cpu().numpy(), "second": self.second.cpu().numpy(), "steps": np.array(self.steps)}

    def load_moments(self, saved: Arrays) -> None:
        """Put back what `moments` gave."""
        self.steps = int(saved["steps"])
        self.first, self.second = (torch.from_numpy(saved[name]).to(self.flat.device) for name in ("first", "second"))


def _widened(model: nn.Module, copies: int) -> nn.Module:
    """The network with the channels of all copies, in training mode; its own weights are not to be used."""
    wide = copy.deepcopy(model).train()
    for name, layer in list(wide.named_modules()):
        if isinstance(layer, nn.Conv2d):
            layer.groups *= copies
        elif isinstance(layer, nn.Linear):
            if not name:
                return Linears(layer, copies)
            wide.set_submodule(name, Linears(layer, copies))
    return wide
