"""Vector-quantisation codes: which piece every kink uses at an input.

The code of an input is the list, over all gates and selections, of the piece each of its units uses.  Inputs with
equal codes lie in one cell and share one affine map.  The VQ distance of two inputs at a layer is the share of its
units whose pieces differ (a normalised Hamming distance); it is a metric on codes.

Two codes are compared by an inner product.  A unit with P pieces becomes a short vector of small integers, piece p the
vector v_p with ⟨v_p, v_p'⟩ the same for all p' ≠ p: ±1 for two pieces.  The product of two such matrices, whole
numbers, counts the differing units of all pairs exactly.

Source: Mad Max, §4.2 (partition distance).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Forward, Graph, Node, entries, flat
from maso.operators import Gate, Selection
from maso.tracing import trace

_CHUNK = 128  # samples at a time: a window of nine entries needs nine times the memory of its layer
_COLUMNS = 2**13  # of a product in float32 at a time: a copy of all of them would be four times as large
BLOCK = 2048  # samples of the longer side at a time in a search for neighbours


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest of M samples for each of N: `distance` (N, k) float32 ascending, `index` (N, k) int64."""

    distance: Tensor
    index: Tensor


class Recorder(Forward):
    """A forward pass that keeps the code of every kink in `codes`, and how many pieces its units have in `pieces`."""

    def __init__(self) -> None:
        self.codes: dict[Node, Tensor] = {}
        self.pieces: dict[Node, int] = {}

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        self.codes[node] = piece = gate.piece(value)
        self.pieces[node] = len(gate.slopes)
        return gate.apply(value, piece)

    def selection(self, node: Node, selection: Selection, values: list[Any]) -> Tensor:
        z = entries(values)
        self.codes[node] = winner = selection.winner(z)
        self.pieces[node] = selection.index.shape[1]
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
    graph = trace(model, x)
    parts = [recorder.codes for recorder in _read(graph, model, x)]
    return {path: torch.cat([p[node] for p in parts]).reshape(-1, *node.shape) for path, node in graph.kinks.items()}


@torch.no_grad()
def _read(graph: Graph, model: nn.Module, x: Tensor) -> Iterator[Recorder]:
    """What the forward passes of some samples at a time leave behind."""
    for part in x.split(_CHUNK):
        recorder = Recorder()
        graph.read(model, part, recorder)
        yield recorder


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
    _check_shapes("vq_distance", x, y)
    of_x, of_y = _signatures(model, x), _signatures(model, y)
    return {path: a.differences(of_y[path]) / a.units for path, a in of_x.items()}


def neighbours(model: nn.Module, x: Tensor, y: Tensor, k: int) -> dict[str, Neighbours]:
    """The k nearest of y for each of x by VQ distance, in every layer; of equally near ones those of lower index.

    No more of the N × M distances is in memory than those to 2,048 of y; of x there is a byte or a few for each unit of
    each sample (57 to 76 kB a 32 × 32 image in smallCNN).

    Args:
        model: a piecewise-affine network.
        x: (N, *input_shape).
        y: (M, *input_shape).
        k: how many, 1 ≤ k ≤ M.

    Returns:
        Layer path → `Neighbours`, nearest first.

    Raises:
        MasoError: samples of different shapes, or a k that does not fit.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU()).requires_grad_(False)
        >>> _ = net[0].weight.fill_(1), net[0].bias.fill_(0)
        >>> neighbours(net, torch.tensor([[2.0]]), torch.tensor([[-1.0], [1.0], [3.0]]), 2)["1"].index
        tensor([[1, 2]])
    """
    _check_shapes("neighbours", x, y)
    if not 1 <= k <= len(y):
        raise MasoError(f"neighbours: k = {k}, expected 1 ≤ k ≤ {len(y)}, the number of samples in y.")
    of_x, keys = _signatures(model, x), dict[str, Tensor]()
    for start in range(0, len(y), BLOCK):
        for path, of_y in _signatures(model, y[start : start + BLOCK]).items():
            keys[path] = nearest(of_x[path], of_y, k, start=start, total=len(y), before=keys.get(path))
    return {path: Neighbours((key // len(y)) / of_x[path].units, key % len(y)) for path, key in keys.items()}


def _check_shapes(name: str, x: Tensor, y: Tensor) -> None:
    if x.shape[1:] != y.shape[1:]:
        raise MasoError(f"{name}: x holds samples of shape {tuple(x.shape[1:])} and y {tuple(y.shape[1:])}.")


@dataclass(frozen=True, eq=False)
class Signatures:
    """Codes of one layer as vectors: (samples, units × columns) int8, padded with zeros for the product."""

    vectors: Tensor
    samples: int
    units: int
    pieces: int

    @classmethod
    def of(cls, parts: list[Tensor], units: int, pieces: int) -> Signatures:
        """Of some samples, given what `signs` made of their codes."""
        vectors = torch.cat(parts)
        rows, columns = -len(vectors) % 32, -vectors.shape[1] % 8  # cuBLAS: over 16 rows, columns by eights
        return cls(nn.functional.pad(vectors, (0, columns, 0, rows)), len(vectors), units, pieces)

    def differences(self, other: Signatures) -> Tensor:
        """Number of units whose pieces differ, of all pairs: (N, M) int32."""
        equal = product(self.vectors, other.vectors)[: self.samples, : other.samples]
        if _is_power(self.pieces):
            return ((self.pieces - 1) * self.units - equal) // self.pieces
        return self.units - equal


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product a bᵀ of the numbers −1, 0 and 1, exact: (N, D), (M, D) int8 → (N, M) int32.

    In integers where the processor has instructions for it, which takes an eighth of the time of float32.  Elsewhere
    PyTorch's product of integers is a plain loop, 25 times as slow as float32.
    """
    if a.is_cuda or "AVX512" in torch.backends.cpu.get_cpu_capability():
        return torch._int_mm(a, b.T)
    total = torch.zeros(len(a), len(b), dtype=torch.int32, device=a.device)
    for columns in zip(a.split(_COLUMNS, 1), b.split(_COLUMNS, 1), strict=True):
        total += (columns[0].float() @ columns[1].float().T).int()
    return total


def nearest(x: Signatures, y: Signatures, k: int, *, start: int, total: int, before: Tensor | None) -> Tensor:
    """The k nearest so far, as numbers that sort by distance, then by index: differences × total + index.

    Args:
        x: of N samples.
        y: of samples start, start + 1, … of `total`.
        k: how many.
        start, total: which samples those of y are.
        before: what this function found in the samples before, (N, ≤ k) int64.

    Returns:
        (N, k) int64, ascending; fewer columns while fewer samples were seen.
    """
    index = torch.arange(start, start + y.samples, device=x.vectors.device)
    key = x.differences(y).long() * total + index
    if before is not None:
        key = torch.cat([before, key], 1)
    return key.topk(min(k, key.shape[1]), largest=False).values


def _signatures(model: nn.Module, x: Tensor) -> dict[str, Signatures]:
    graph = trace(model, x)
    kinks = graph.kinks
    parts: dict[str, list[Tensor]] = {path: [] for path in kinks}
    for recorder in _read(graph, model, x):
        for path, node in kinks.items():
            parts[path].append(signs(flat(recorder.codes[node]), recorder.pieces[node]))
    return {path: Signatures.of(parts[path], math.prod(n.shape), recorder.pieces[n]) for path, n in kinks.items()}


def signs(code: Tensor, pieces: int) -> Tensor:
    """Codes (N, units) as rows of small integers (N, units × columns) int8.

    P = 2, 4, 8, … pieces become the P − 1 Walsh functions that are not constant: ⟨v_p, v_p⟩ = P − 1, ⟨v_p, v_q⟩ = −1.
    Other numbers of pieces become the P unit vectors.
    """
    if not _is_power(pieces):
        return torch.cat([code == p for p in range(pieces)], 1).to(torch.int8)
    columns: list[Tensor] = []
    for bit in range(pieces.bit_length() - 1):
        digit = code if pieces == 2 else (code >> bit) & 1
        sign = digit.to(torch.int8).mul_(-2).add_(1)
        columns += [sign, *(sign * column for column in columns)]
    return torch.cat(columns, 1) if len(columns) > 1 else columns[0]


def _is_power(pieces: int) -> bool:
    return pieces > 1 and pieces & (pieces - 1) == 0
