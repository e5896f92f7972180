"""The closed form of a convolutional network, every factor written down by hand.

z = A_L ⋯ A_1 x + b with C (a convolution's matrix), BN (a diagonal one), A_σ = diag(1 where the unit is positive, else
0), A_ρ (a row for each pooling window, with one 1 at the largest entry), W (a dense layer).  A residual block is
A_σ (C₂ A_σ' C₁ + C_skip), each C with its BatchNorm.

Source: Balestriero & Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning", §3, eqs. (12) and (14).
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from maso_book.ch01.formulas import matrix, windows
from maso_book.networks import Block

HandFactor = tuple[str, np.ndarray, np.ndarray]
"""Name, matrix (outputs, inputs) and offset (outputs,)."""


def hand_factors(model: nn.Sequential, x: Tensor) -> list[HandFactor]:
    """The factors (name, matrix, offset) that x chooses, first layer first.

    Args:
        model: convolutions, BatchNorm, ReLU, 2-D max pooling, residual blocks, flatten, dense layers, square images;
            float64, eval mode.
        x: one sample, (1, channels, height, width).
    """
    return _chain(list(model), x.numpy().ravel(), tuple(x.shape[1:]))[0]


def block_factors(
    block: Block, z: np.ndarray, shape: tuple[int, ...]
) -> tuple[list[HandFactor], list[HandFactor], HandFactor, tuple[int, ...]]:
    """The factors inside a residual block, first layer first: body, skip connection, last A_σ; and its output's shape.

    Args:
        block: the block, float64, eval mode.
        z: its input, flattened.
        shape: (channels, height, width) of its input.
    """
    body, out = _chain(list(block.body), z, shape)
    skip, _ = _chain(list(block.skip) if isinstance(block.skip, nn.Sequential) else [], z, shape)
    (A, b), (S, s) = product(body, len(z)), product(skip, len(z))
    last, _ = _chain([block.relu], (A + S) @ z + b + s, out)
    return body, skip, last[0], out


def product(factors: list[HandFactor], inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (outputs, inputs) and offset (outputs,) of the product, the identity where there are no factors."""
    A, b = np.eye(inputs), np.zeros(inputs)
    for _, matrix_, offset in factors:
        A, b = matrix_ @ A, matrix_ @ b + offset
    return A, b


def _chain(layers: list[nn.Module], z: np.ndarray, shape: tuple[int, ...]) -> tuple[list[HandFactor], tuple[int, ...]]:
    """The factors of layers one after the other on the cell of their input z, and the shape of the output."""
    factors: list[HandFactor] = []
    for layer in layers:
        if isinstance(layer, nn.Flatten):
            continue
        name, A, b, shape = _factor(layer, z, shape)
        z = A @ z + b
        factors.append((name, A, b))
    return factors, shape


def _factor(
    layer: nn.Module, z: np.ndarray, shape: tuple[int, ...]
) -> tuple[str, np.ndarray, np.ndarray, tuple[int, ...]]:
    """Name, matrix, offset and shape of the output of one layer on the cell of its input z."""
    if isinstance(layer, nn.ReLU):
        return "A_σ", np.diag((z > 0).astype(float)), np.zeros(len(z)), shape
    if isinstance(layer, nn.MaxPool2d):
        places = windows(layer, shape)
        A = np.zeros((len(places), len(z)))
        for k, window in enumerate(places):
            A[k, max(window, key=lambda d: z[d])] = 1
        return "A_ρ", A, np.zeros(len(A)), _square(shape[0], len(A))
    if isinstance(layer, Block):
        body, skip, (_, gate, _), out = block_factors(layer, z, shape)
        (A, b), (S, s) = product(body, len(z)), product(skip, len(z))
        return "block", gate @ (A + S), gate @ (b + s), out
    A, b = matrix(layer, shape)
    if isinstance(layer, nn.Conv2d):
        return "C", A, b, _square(layer.out_channels, len(b))
    return ("W", A, b, (len(b),)) if isinstance(layer, nn.Linear) else ("BN", A, b, shape)


def _square(channels: int, entries: int) -> tuple[int, ...]:
    side = math.isqrt(entries // channels)
    return channels, side, side
