"""Layers of chapter 01's table that PyTorch has no module for, and their random dyadic weights and inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class ChannelMax(nn.Module):
    """Largest channel at every position."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1)


class Maxout(nn.Module):
    """Units that are the largest of `pieces` dense outputs each."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.dense, self.shape = nn.Linear(inputs, units * pieces), (units, pieces)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x).unflatten(1, self.shape).amax(2)


class Absolute(nn.Module):
    """|x|."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class Skip(nn.Module):
    """σ(W z + b) + W_s z + b_s."""

    def __init__(self, inner: nn.Module, kink: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.inner, self.kink, self.skip = inner, kink, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.kink(self.inner(x)) + self.skip(x)


class Concat(nn.Module):
    """Branches on the same input, their channels side by side (an inception block)."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class RnnCell(nn.Module):
    """A recurrent cell on the joint input [x_t; h_{t−1}]."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.inputs, self.cell = inputs, nn.RNNCell(inputs, units, nonlinearity="relu")

    def forward(self, z: Tensor) -> Tensor:
        return self.cell(z[:, : self.inputs], z[:, self.inputs :])


def draw(layer: nn.Module, flavour: str, rng: np.random.Generator) -> None:
    """Give a layer new weights k/8, |k| ≤ 16, in place: its graph stays the same.

    Args:
        layer: any layer of this module's kinds, in float64.
        flavour: "generic", "zero weights", "zero bias", or "duplicate rows".
        rng: source of the numbers.
    """

    def numbers(shape: Sequence[int]) -> Tensor:
        return torch.from_numpy(rng.integers(-16, 17, tuple(shape)) / 8)

    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(numbers(parameter.shape))
            if flavour == "zero weights" and "bias" not in name:
                parameter.zero_()
            if flavour == "zero bias" and "bias" in name:
                parameter.zero_()
            if flavour == "duplicate rows":
                parameter.copy_(parameter[:1].expand_as(parameter))
        for module in layer.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                mean, variance = statistics(module)
                mean.copy_(numbers(mean.shape))
                root = torch.from_numpy(2.0 ** rng.integers(-1, 2, module.num_features))
                variance.copy_(root**2 - module.eps)  # so that √(variance + ε) is 1/2, 1 or 2
            if isinstance(module, nn.PReLU):
                module.weight.clamp_(max=1)  # a larger slope is not convex


def statistics(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def draw_input(shape: tuple[int, ...], flavour: str, rng: np.random.Generator) -> np.ndarray:
    """An input k/8, |k| ≤ 32: (*shape) float64; "few values" has only −1, 0, 1 and "constant" one number everywhere."""
    if flavour == "few values":
        return rng.integers(-1, 2, shape).astype(float)
    if flavour == "constant":
        return np.full(shape, rng.integers(-1, 2) / 2)
    return rng.integers(-32, 33, shape) / 8
