"""Vector-quantisation codes: which piece every kink uses at an input.

The code of an input is the list, over all gates and selections, of the piece each of its units uses.  Inputs with
equal codes lie in one cell and share one affine map.  The VQ distance of two inputs at a layer is the share of its
units whose pieces differ (a normalised Hamming distance); it is a metric on codes.

Source: Mad Max, §4.2 (partition distance).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Forward, Node, entries, flat
from maso.operators import Gate, Selection
from maso.tracing import trace

_CHUNK = 128  # samples at a time: a window of nine entries needs nine times the memory of its layer


class Recorder(Forward):
    """A forward pass that keeps the code of every kink in `codes`."""

    def __init__(self) -> None:
        self.codes: dict[Node, Tensor] = {}

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        self.codes[node] = piece = gate.piece(value)
        return gate.apply(value, piece)

    def selection(self, node: Node, selection: Selection, values: list[Any]) -> Tensor:
        z = entries(values)
        self.codes[node] = winner = selection.winner(z)
        return selection.apply(z, winner).reshape(-1, *node.shape)


def codes(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The code of every kink, by layer path, in the order of evaluation.

    Args:
        model: a piecewise-affine network.
        x: (N, *input_shape).

    Returns:
        For a gate the piece of each unit, (N, *shape): bool where it has two pieces (ReLU: active or not), uint8 where
        it has more.  For a selection (max pool, maxout) the position of the winner in its window, (N, *shape) int64,
        the first of equal entries.  A module used twice appears twice: "relu", "relu_1".

    Raises:
        NotPiecewiseAffine: the model has an operator that is not piecewise affine.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
        >>> {path: tuple(code.shape) for path, code in codes(net, torch.zeros(5, 1)).items()}
        {'1': (5, 2)}
    """
    graph, parts = trace(model, x), []
    with torch.no_grad():
        for part in x.split(_CHUNK):
            recorder = Recorder()
            graph.read(model, part, recorder)
            parts.append(recorder.codes)
    return {path: torch.cat([p[node] for p in parts]).reshape(-1, *node.shape) for path, node in graph.kinks.items()}


def vq_distance(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Share of the units of each layer whose pieces differ between two inputs.

    Args:
        model: a piecewise-affine network.
        x: (N, *input_shape).
        y: (M, *input_shape).

    Returns:
        Layer path → distances (N, M) in [0, 1], float32.

    Source:
        Mad Max, §4.2.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU())
        >>> x = torch.randn(3, 2)
        >>> vq_distance(net, x, x)["1"].diagonal().tolist()
        [0.0, 0.0, 0.0]
    """
    if x.shape[1:] != y.shape[1:]:
        raise MasoError(f"vq_distance: x holds samples of shape {tuple(x.shape[1:])} and y {tuple(y.shape[1:])}.")
    of_x, of_y = codes(model, x), codes(model, y)
    return {path: _hamming(flat(of_x[path]), flat(of_y[path])) for path in of_x}


def _hamming(a: Tensor, b: Tensor) -> Tensor:
    """Share of differing entries, (N, U) × (M, U) → (N, M): agreements are counted by one matrix product a piece."""
    equal = torch.zeros((len(a), len(b)), device=a.device)
    for piece in range(int(torch.minimum(a.max(), b.max())) + 1):  # a larger one on one side agrees with none
        equal += (a == piece).float() @ (b == piece).float().T
    return 1 - equal / a.shape[1]
