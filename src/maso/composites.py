"""Operators that the tracer keeps whole but that are made of rows of the table: recurrent layers, sorting.

The tracer replaces each by the function given here, and reads what that calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

RANDOM = "dropout is active: call model.eval()"
_SORTED = 64  # entries: a sort is as many rounds of maxima and minima


def _rnn_cell(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Tensor:
    return torch.relu(torch.nn.functional.linear(x, w, b) + torch.nn.functional.linear(h, u, c))


def _rnn(
    x: Tensor, h0: Tensor, weights: Sequence[Tensor], biases: bool, layers: int, dropout: float, train: bool,
    bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if not batch_first:
        raise NotImplementedError("an RNN with batch_first=False puts time before the batch: use batch_first=True")
    if train and dropout:
        raise NotImplementedError(RANDOM)
    per_cell, directions, last = 4 if biases else 2, 2 if bidirectional else 1, []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            i = layer * directions + direction
            h, steps = h0[i], []
            times = range(x.shape[1])
            for t in reversed(times) if direction else times:
                h = _rnn_cell(x[:, t], h, *weights[i * per_cell : (i + 1) * per_cell])
                steps.append(h)
            outputs.append(torch.stack(steps[::-1] if direction else steps, 1))
            last.append(h)
        x = torch.cat(outputs, 2)
    return x, torch.stack(last)


def _in_order(x: Tensor, dim: int, *, descending: bool) -> Tensor:
    """The entries along an axis in order: rounds of maxima and minima of neighbours; equal ones keep their order."""
    n = x.shape[dim]
    if dim % x.ndim == 0:
        raise NotImplementedError("operator 'sort' acts along axis 0, that of the samples: samples must not mix")
    if n > _SORTED:
        raise NotImplementedError(
            f"operator 'sort' (or 'topk') orders {n} entries, and a sort is read as rounds of maxima and minima of at "
            f"most {_SORTED}: where only the largest is used, use amax"
        )
    x = x.movedim(dim, -1)
    for i in range(n):
        start, stop = i % 2, n - (n - i) % 2
        first, second = x[..., start:stop:2], x[..., start + 1 : stop : 2]
        pair = torch.maximum(first, second), torch.minimum(second, first)
        if not descending:
            pair = torch.minimum(first, second), torch.maximum(second, first)
        alone = [x[..., j : j + 1] for j in range(n) if not start <= j < stop]
        x = torch.cat([*alone[:start], torch.stack(pair, -1).flatten(-2), *alone[start:]], -1)
    return x.movedim(-1, dim)


def _sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> tuple[Tensor, Tensor]:
    return _in_order(x, dim, descending=descending), torch.argsort(x, dim=dim, descending=descending)


def _topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    where = torch.argsort(x, dim=dim, descending=largest).narrow(dim, 0, k)
    if k == 1 and dim % x.ndim:
        return (x.amax if largest else x.amin)(dim, keepdim=True), where
    return _in_order(x, dim, descending=largest).narrow(dim, 0, k), where


COMPOSITES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.rnn_relu_cell.default: _rnn_cell,
    torch.ops.aten.rnn_relu.input: _rnn,
    torch.ops.aten.sort.default: _sort,
    torch.ops.aten.sort.stable: _sort,
    torch.ops.aten.topk.default: _topk,
}
