"""Each supported layer beside its MASO, written down by hand: the proof side of chapter 01.

Nothing here reads a traced graph or a gradient.  A `Kind` pairs PyTorch layers with the row of the table

    operator                                        R          parameters A, B
    FC, convolution, mean pooling, BatchNorm        1          rows of the matrix, offsets
    ReLU / leaky ReLU / absolute value              2          s e_k and e_k with s = 0 / ν / −1; B = 0
    max pooling, channel max, maxout                #R_k       e_i (or the rows W_i), i in the window R_k
    affine, then ReLU / leaky ReLU / absolute value 2          s W_k and W_k; s b_k and b_k
    affine, then max pooling                        #R_k       rows W_i, i ∈ R_k
    max pooling over ReLU units                     #R_k + 1   0 and the rows W_i
    skip σ(W z + b) + W_s z + b_s                   2          s_r W_k + (W_s)_k; s_r b_k + (b_s)_k
    concatenation                                   per branch the branches one below the other, R filled by repetition
    RNN cell σ(W x + W_r h + b)                     2          on the joint input [x; h]

built from the layer's weights with loops over indices.  Numbers are rationals (`fractions.Fraction`): weights and
inputs are small dyadic numbers k/8, so PyTorch's own float64 forward pass is exact on them too.

Source: Balestriero & Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning", §3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso_book.shared.layers import Absolute, ChannelMax, Concat, Maxout, RnnCell, Skip, statistics

Row = tuple[dict[int, Fraction], Fraction]
"""One affine function: the coefficients that are not zero, by input, and the offset."""
Formula = list[list[Row]]
"""A MASO: for every output the list of its pieces."""


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Args:
        name: what the row is about.
        pieces: R, as the table writes it.
        layers: makes the PyTorch layers that stand for it, each with the shape of its input.
        formula: layer and input shape → its MASO by hand.
    """

    name: str
    pieces: str
    layers: Callable[[], list[tuple[nn.Module, tuple[int, ...]]]]
    formula: Callable[[nn.Module, tuple[int, ...]], Formula]


# Formulas: affine parts, R = 1 --------------------------------------------------------------------------------------


def _exact(tensor: Tensor | None, count: int) -> list[Fraction]:
    return [Fraction(0)] * count if tensor is None else [Fraction(v) for v in tensor.detach().flatten().tolist()]


def _pair(value: Any, axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else list(value)


def _flat(index: Sequence[int], shape: Sequence[int]) -> int | None:
    """Position of an index in the flattened array, None outside (in the padding)."""
    if any(not 0 <= i < n for i, n in zip(index, shape, strict=True)):
        return None
    position = 0
    for i, n in zip(index, shape, strict=True):
        position = position * n + i
    return position


def _dense(layer: nn.Linear, shape: tuple[int, ...]) -> list[Row]:
    weight, bias = layer.weight.detach().tolist(), _exact(layer.bias, layer.out_features)
    return [({d: Fraction(w) for d, w in enumerate(row) if w}, b) for row, b in zip(weight, bias, strict=True)]


def _convolution(layer: nn.Conv1d | nn.Conv2d, shape: tuple[int, ...]) -> list[Row]:
    """Row (o, p): entry (c, q) of the input has the weight (o, c, t) where q = stride·p − padding + dilation·t."""
    axes, sizes = len(shape) - 1, shape[1:]
    stride, padding, dilation = (_pair(v, axes) for v in (layer.stride, layer.padding, layer.dilation))
    kernel, weight = _pair(layer.kernel_size, axes), layer.weight.detach().numpy()
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(sizes, padding, dilation, kernel, stride, strict=True)
    ]
    bias, group_in, group_out = (
        _exact(layer.bias, layer.out_channels),
        shape[0] // layer.groups,
        layer.out_channels // layer.groups,
    )
    rows: list[Row] = []
    for o in range(layer.out_channels):
        for place in itertools.product(*map(range, out)):
            row: dict[int, Fraction] = {}
            for c in range(group_in):
                for tap in itertools.product(*map(range, kernel)):
                    source = [
                        p * s - q + t * d for p, s, q, t, d in zip(place, stride, padding, tap, dilation, strict=True)
                    ]
                    at = _flat([o // group_out * group_in + c, *source], shape)
                    if at is not None and weight[(o, c, *tap)]:
                        row[at] = Fraction(float(weight[(o, c, *tap)]))
            rows.append((row, bias[o]))
    return rows


def _transposed(layer: nn.ConvTranspose2d, shape: tuple[int, ...]) -> list[Row]:
    """Entry (c, p) of the input adds weight (c, o, t) at output q = stride·p − padding + dilation·t."""
    weight, bias = layer.weight.detach().numpy(), _exact(layer.bias, layer.out_channels)
    stride, padding, dilation, extra = (
        _pair(v, 2) for v in (layer.stride, layer.padding, layer.dilation, layer.output_padding)
    )
    kernel = _pair(layer.kernel_size, 2)
    out = (
        layer.out_channels,
        *(
            (shape[1 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1
            for i in (0, 1)
        ),
    )
    rows: list[Row] = [({}, bias[o]) for o in range(out[0]) for _ in range(out[1] * out[2])]
    for c, i, j in itertools.product(*map(range, shape)):
        for o, u, v in itertools.product(range(out[0]), *map(range, kernel)):
            target = _flat(
                [
                    o,
                    i * stride[0] - padding[0] + u * dilation[0],
                    j * stride[1] - padding[1] + v * dilation[1],
                ],
                out,
            )
            if target is not None and weight[c, o, u, v]:
                row, at = rows[target][0], _flat((c, i, j), shape)
                assert at is not None
                row[at] = row.get(at, Fraction(0)) + Fraction(float(weight[c, o, u, v]))
    return rows


def windows(layer: nn.MaxPool2d | nn.AvgPool2d, shape: tuple[int, ...]) -> list[list[int]]:
    """The entries R_k that each output of a pooling layer sees; padding is not among them."""
    dilation = _pair(getattr(layer, "dilation", 1), 2)
    kernel, stride, padding = (_pair(v, 2) for v in (layer.kernel_size, layer.stride, layer.padding))
    out = []
    for n, k, s, p, d in zip(shape[1:], kernel, stride, padding, dilation, strict=True):
        span = n + 2 * p - d * (k - 1) - 1
        count = (math.ceil(span / s) if layer.ceil_mode else span // s) + 1
        out.append(count - 1 if (count - 1) * s >= n + p else count)  # no window may begin beyond the padded image
    windows = []
    for c, i, j in itertools.product(range(shape[0]), *map(range, out)):
        places = [
            _flat(
                [
                    c,
                    i * stride[0] - padding[0] + u * dilation[0],
                    j * stride[1] - padding[1] + v * dilation[1],
                ],
                shape,
            )
            for u, v in itertools.product(*map(range, kernel))
        ]
        windows.append([at for at in places if at is not None])
    return windows


def _mean(layer: nn.Module, shape: tuple[int, ...]) -> list[Row]:
    if isinstance(layer, nn.AdaptiveAvgPool2d):  # one output per channel
        size = shape[1] * shape[2]
        return [({c * size + i: Fraction(1, size) for i in range(size)}, Fraction(0)) for c in range(shape[0])]
    assert isinstance(layer, nn.AvgPool2d)
    size = math.prod(_pair(layer.kernel_size, 2))  # padding counts, as zeros
    return [({at: Fraction(1, size) for at in window}, Fraction(0)) for window in windows(layer, shape)]


def _batchnorm(layer: nn.Module, shape: tuple[int, ...]) -> list[Row]:
    """γ (x − μ) / √(σ² + ε) + β with the running μ and σ²; the root is exact by `draw`."""
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    channels, size = shape[0], math.prod(shape[1:])
    gamma, beta = _exact(layer.weight, channels), _exact(layer.bias, channels)
    mean, variance = (_exact(v, channels) for v in statistics(layer))
    rows: list[Row] = []
    for c in range(channels):
        square = variance[c] + Fraction(layer.eps)
        root = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
        assert root**2 == square
        rows += [
            ({c * size + i: gamma[c] / root} if gamma[c] else {}, beta[c] - mean[c] * gamma[c] / root)
            for i in range(size)
        ]
    return rows


def _identity(shape: tuple[int, ...]) -> list[Row]:
    return [({k: Fraction(1)}, Fraction(0)) for k in range(math.prod(shape))]


def _affine(layer: nn.Module, shape: tuple[int, ...]) -> list[Row]:
    if isinstance(layer, nn.Linear):
        return _dense(layer, shape)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return _convolution(layer, shape)
    if isinstance(layer, nn.ConvTranspose2d):
        return _transposed(layer, shape)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return _batchnorm(layer, shape)
    if isinstance(layer, nn.Identity):
        return _identity(shape)
    return _mean(layer, shape)


def _single(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    return [[row] for row in _affine(layer, shape)]


# Formulas: kinks ----------------------------------------------------------------------------------------------------


def _times(slope: Fraction, row: Row) -> Row:
    return ({d: slope * w for d, w in row[0].items()} if slope else {}, slope * row[1])


def _plus(row: Row, other: Row) -> Row:
    keys = row[0].keys() | other[0].keys()
    return ({d: row[0].get(d, Fraction(0)) + other[0].get(d, Fraction(0)) for d in keys}, row[1] + other[1])


def _slopes(kink: nn.Module, units: int, shape: Sequence[int]) -> list[Fraction]:
    """The slope left of zero of every unit."""
    if isinstance(kink, nn.ReLU):
        return [Fraction(0)] * units
    if isinstance(kink, nn.LeakyReLU):
        return [Fraction(kink.negative_slope)] * units
    if isinstance(kink, nn.PReLU):
        slopes = _exact(kink.weight, kink.num_parameters)
        return [slopes[k * len(slopes) // units] for k in range(units)]  # one per channel
    assert isinstance(kink, Absolute)
    return [Fraction(-1)] * units


def _kink(kink: nn.Module, shape: tuple[int, ...]) -> Formula:
    rows = _identity(shape)
    return [[_times(s, row), row] for s, row in zip(_slopes(kink, len(rows), shape), rows, strict=True)]


def _affine_kink(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    assert isinstance(layer, nn.Sequential)
    rows = _affine(layer[0], shape)
    return [[_times(s, row), row] for s, row in zip(_slopes(layer[1], len(rows), shape), rows, strict=True)]


def _max_pool(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    assert isinstance(layer, nn.MaxPool2d)
    return [[({at: Fraction(1)}, Fraction(0)) for at in window] for window in windows(layer, shape)]


def _channel_max(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    size = math.prod(shape[1:])
    return [[({c * size + i: Fraction(1)}, Fraction(0)) for c in range(shape[0])] for i in range(size)]


def _maxout(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    assert isinstance(layer, Maxout)
    rows, (units, pieces) = _dense(layer.dense, shape), layer.shape
    return [rows[k * pieces : (k + 1) * pieces] for k in range(units)]


def _affine_pool(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    assert isinstance(layer, nn.Sequential)
    rows = _affine(layer[0], shape)
    return [[rows[at] for at in window] for window in _pooled(layer, shape)]


def _relu_pool(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    assert isinstance(layer, nn.Sequential)
    rows = _affine(layer[0], shape)
    zero: Row = ({}, Fraction(0))
    return [[zero, *(rows[at] for at in window)] for window in _pooled(layer, shape)]


def _pooled(layer: nn.Sequential, shape: tuple[int, ...]) -> list[list[int]]:
    """Windows of the pooling at the end of `layer`, over the outputs of the affine part at its start."""
    affine, pool = layer[0], layer[-1]
    assert isinstance(pool, nn.MaxPool2d)
    if isinstance(affine, nn.Conv2d):
        sizes = zip(shape[1:], *(_pair(v, 2) for v in (affine.padding, affine.kernel_size, affine.stride)), strict=True)
        return windows(pool, (affine.out_channels, *((n + 2 * p - k) // s + 1 for n, p, k, s in sizes)))
    return windows(pool, shape)


def _skip(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    assert isinstance(layer, Skip)
    inner, skip = _affine(layer.inner, shape), _affine(layer.skip, shape)
    slopes = _slopes(layer.kink, len(inner), shape)
    return [
        [_plus(_times(s, row), other), _plus(row, other)] for s, row, other in zip(slopes, inner, skip, strict=True)
    ]


def _concat(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    assert isinstance(layer, Concat)
    parts = [
        _max_pool(branch, shape)
        if isinstance(branch, nn.MaxPool2d)
        else _affine_kink(branch, shape)
        if isinstance(branch, nn.Sequential)
        else _single(branch, shape)
        for branch in layer.branches
    ]
    return [unit for part in parts for unit in part]


def _rnn(layer: nn.Module, shape: tuple[int, ...]) -> Formula:
    """Row k on [x; h]: W_k then (W_r)_k, offset b_k + (b_r)_k."""
    assert isinstance(layer, RnnCell)
    cell = layer.cell
    joint = torch.cat([cell.weight_ih, cell.weight_hh], 1).detach().tolist()
    offsets = (cell.bias_ih + cell.bias_hh).detach().tolist()
    rows: list[Row] = [
        ({d: Fraction(w) for d, w in enumerate(row) if w}, Fraction(b)) for row, b in zip(joint, offsets, strict=True)
    ]
    return [[({}, Fraction(0)), row] for row in rows]


# The table ----------------------------------------------------------------------------------------------------------


def _kinks() -> list[nn.Module]:
    return [nn.ReLU(), nn.LeakyReLU(0.25), nn.LeakyReLU(-0.5), Absolute()]


KINDS: list[Kind] = [
    Kind("dense", "1", lambda: [(nn.Linear(5, 3), (5,)), (nn.Linear(1, 4, bias=False), (1,))], _single),
    Kind(
        "convolution",
        "1",
        lambda: [
            (nn.Conv2d(2, 2, 3, padding=1), (2, 4, 4)),
            (nn.Conv2d(2, 4, (2, 3), stride=2, padding=(1, 2), groups=2), (2, 4, 5)),
            (nn.Conv2d(1, 2, 2, dilation=2, bias=False), (1, 5, 5)),
            (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 7)),
        ],
        _single,
    ),
    Kind(
        "transposed convolution",
        "1",
        lambda: [
            (nn.ConvTranspose2d(2, 2, 2, stride=2), (2, 2, 3)),
            (nn.ConvTranspose2d(1, 2, 3, stride=2, padding=1, output_padding=1), (1, 3, 3)),
        ],
        _single,
    ),
    Kind(
        "mean pooling",
        "1",
        lambda: [
            (nn.AvgPool2d(2), (2, 4, 4)),
            (nn.AvgPool2d(2, stride=1, padding=1), (1, 3, 3)),
            (nn.AdaptiveAvgPool2d(1), (3, 2, 4)),
        ],
        _single,
    ),
    Kind(
        "BatchNorm, inference",
        "1",
        lambda: [
            (nn.BatchNorm2d(3, eps=2.0**-10), (3, 2, 2)),
            (nn.BatchNorm1d(4, eps=2.0**-10), (4,)),
        ],
        _single,
    ),
    Kind("ReLU", "2", lambda: [(nn.ReLU(), (6,)), (nn.ReLU(), (2, 2, 2))], _kink),
    Kind(
        "leaky ReLU, PReLU",
        "2",
        lambda: [
            *((nn.LeakyReLU(slope), (6,)) for slope in (0.25, 0.0, 1.0, -0.5)),
            (nn.PReLU(2), (2, 3)),
        ],
        _kink,
    ),
    Kind("absolute value", "2", lambda: [(Absolute(), (6,))], _kink),
    Kind(
        "max pooling",
        "#R_k",
        lambda: [
            (nn.MaxPool2d(2), (2, 4, 4)),
            (nn.MaxPool2d(3, stride=2, padding=1), (1, 5, 5)),
            (nn.MaxPool2d(2, stride=2, ceil_mode=True), (1, 5, 3)),
            (nn.MaxPool2d(2, stride=1, dilation=2), (1, 4, 4)),
        ],
        _max_pool,
    ),
    Kind("channel max pooling", "#R_k", lambda: [(ChannelMax(), (3, 2, 3))], _channel_max),
    Kind("maxout", "#R_k", lambda: [(Maxout(4, 3, 3), (4,)), (Maxout(2, 2, 4), (2,))], _maxout),
    Kind(
        "affine, then ReLU, leaky ReLU, absolute value",
        "2",
        lambda: [
            *((nn.Sequential(nn.Linear(4, 3), kink), (4,)) for kink in _kinks()),
            *((nn.Sequential(nn.Conv2d(1, 2, 2), kink), (1, 3, 3)) for kink in _kinks()),
        ],
        _affine_kink,
    ),
    Kind(
        "affine, then max pooling",
        "#R_k",
        lambda: [
            (nn.Sequential(nn.Conv2d(1, 2, 2), nn.MaxPool2d(2, stride=1)), (1, 4, 4)),
            (nn.Sequential(nn.BatchNorm2d(2, eps=2.0**-10), nn.MaxPool2d(2)), (2, 4, 4)),
        ],
        _affine_pool,
    ),
    Kind(
        "max pooling over ReLU units",
        "#R_k + 1",
        lambda: [(nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2, stride=1)), (1, 4, 4))],
        _relu_pool,
    ),
    Kind(
        "skip connection",
        "2",
        lambda: [
            *((Skip(nn.Linear(3, 3), kink, nn.Identity()), (3,)) for kink in _kinks()),
            (Skip(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 2, 1)), (1, 3, 3)),
        ],
        _skip,
    ),
    Kind(
        "concatenation (inception)",
        "per branch",
        lambda: [
            (
                Concat(
                    nn.Conv2d(1, 1, 1),
                    nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()),
                    nn.MaxPool2d(3, stride=1, padding=1),
                ),
                (1, 3, 3),
            )
        ],
        _concat,
    ),
    Kind("RNN cell", "2", lambda: [(RnnCell(2, 3), (5,))], _rnn),
]


def value(formula: Formula, x: np.ndarray) -> tuple[list[Fraction], bool]:
    """The MASO at one point, over rationals: max_r ⟨A[k, r], x⟩ + B[k, r].

    Args:
        formula: the MASO.
        x: one input, any shape, numbers with an exact binary form.

    Returns:
        All outputs, and whether some output reaches its largest value on more than one piece (a tie).
    """
    numbers = [Fraction(v) for v in x.ravel().tolist()]
    values, tie = [], False
    for pieces in formula:
        candidates = [sum((w * numbers[d] for d, w in row.items()), offset) for row, offset in pieces]
        largest = max(candidates)
        tie |= candidates.count(largest) > 1
        values.append(largest)
    return values, tie


def arrays(formula: Formula, inputs: int) -> tuple[Tensor, Tensor]:
    """The same MASO as tensors A (K, R, D) and B (K, R), float64; units with fewer pieces repeat their first."""
    most = max(map(len, formula))
    A, B = torch.zeros(len(formula), most, inputs, dtype=torch.float64), torch.zeros(len(formula), most).double()
    for k, pieces in enumerate(formula):
        for r in range(most):
            row, offset = pieces[r if r < len(pieces) else 0]
            for d, w in row.items():
                A[k, r, d] = float(w)
            B[k, r] = float(offset)
    return A, B


def matrix(layer: nn.Module, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (outputs, inputs) and offset (outputs,) of an affine layer in float64, any BatchNorm included."""
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        mean, variance = (v.detach().double().numpy() for v in statistics(layer))
        scale = layer.weight.detach().numpy() / np.sqrt(variance + layer.eps)
        size = math.prod(shape[1:])
        return np.diag(scale.repeat(size)), (layer.bias.detach().numpy() - mean * scale).repeat(size)
    A, B = arrays([[row] for row in _affine(layer, shape)], math.prod(shape))
    return A[:, 0].numpy(), B[:, 0].numpy()
