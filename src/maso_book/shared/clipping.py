"""An independent partition: recursive clipping of convex polygons, choice by choice.

Every number of a tensor is, on the current polygon, an affine function of the two coordinates: a tensor is an array
(n, 3) of their coefficients.  A network is taken apart into its own modules; affine modules multiply that array by a
matrix written out here, a gate clips the polygon unit by unit, a maximum entry by entry.  Nothing of `maso.partition`
is used.  `number=float` computes in float64, `number=Fraction` in rationals: floats are rationals, so that the answer
is the exact one for the given weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Polygon = list[tuple[Any, Any]]
Code = tuple[int, ...]
Cell = tuple[Polygon, Code, np.ndarray, tuple[int, ...]]  # polygon, code, tensor (n, 3), its shape
PADDING = -1
"""Stands in a window for a place outside the input."""


class Abs(nn.Module):
    """|x| of every number."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class SignWhere(nn.Module):
    """`where` on a sign: 2 x above 0.25, x + 0.25 below."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0.25, 2 * x, x + 0.25)


class Residual(nn.Module):
    """The sum of a body and a skip connection."""

    def __init__(self, body: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class Concat(nn.Module):
    """Branches one after the other along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([b(x) for b in self.branches], 1)


class Maxout(nn.Module):
    """Largest of k consecutive units (smallest for sign −1)."""

    def __init__(self, k: int, sign: int = 1) -> None:
        super().__init__()
        self.k, self.sign = k, sign

    def forward(self, x: Tensor) -> Tensor:
        windows = x.view(x.shape[0], -1, self.k)
        return windows.amax(2) if self.sign > 0 else windows.amin(2)


class Larger(nn.Module):
    """torch.maximum of two branches (minimum for sign −1)."""

    def __init__(self, a: nn.Module, b: nn.Module, sign: int = 1) -> None:
        super().__init__()
        self.a, self.b, self.sign = a, b, sign

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(self.a(x), self.b(x)) if self.sign > 0 else torch.minimum(self.a(x), self.b(x))


class Loop(nn.Module):
    """A ReLU RNN cell in a loop: the two inputs are the two steps."""

    def __init__(self, hidden: int, steps: int) -> None:
        super().__init__()
        self.cell, self.hidden, self.steps = nn.RNNCell(1, hidden, nonlinearity="relu"), hidden, steps

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], self.hidden, dtype=x.dtype)
        for t in range(self.steps):
            h = self.cell(x[:, t % 2 : t % 2 + 1], h)
        return h


def partition(
    model: nn.Module, origin: Tensor, u: Tensor, v: Tensor, bounds: Any, number: Callable = float
) -> list[tuple[Polygon, Code, np.ndarray]]:
    """All cells of a network in the window `bounds` of the plane origin + s u + t v.

    Args:
        model: a composition of the modules of this file and of PyTorch's, in eval mode.
        origin, u, v: in the shape of one input.
        bounds: (s_min, s_max, t_min, t_max).
        number: `float`, or `Fraction` for the exact answer.

    Returns:
        For every cell its polygon, its code (the pieces of gates and the places of winners in their windows, in the
        order of evaluation) and the output as coefficients of (s, t, 1): (K, 3).
    """
    s0, s1, t0, t1 = (number(b) for b in bounds)
    start = np.stack([_numbers(a.double().flatten().numpy(), number) for a in (u, v, origin)], 1)
    box = [(s0, t0), (s1, t0), (s1, t1), (s0, t1)]
    cells = _apply(model, (box, (), start, tuple(origin.shape)), number)
    return [(polygon, code, tensor) for polygon, code, tensor, _ in cells]


def area(polygon: Polygon) -> Any:
    """Area of a polygon whose corners run counter-clockwise."""
    following = polygon[1:] + polygon[:1]
    return sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, following, strict=True)) / 2


def _numbers(a: Any, number: Callable) -> np.ndarray:
    if number is float:
        return np.asarray(a, float)
    return np.vectorize(lambda x: number(float(x)), otypes=[object])(np.asarray(a))


def _apply(m: nn.Module, cell: Cell, number: Callable) -> Iterator[Cell]:
    polygon, code, x, shape = cell
    if isinstance(m, nn.Sequential):
        cells: Iterator[Cell] = iter([cell])
        for child in m:
            cells = itertools.chain.from_iterable([_apply(child, c, number) for c in cells])
        yield from cells
    elif isinstance(m, Residual):
        for p, c, y, out in _apply(m.body, cell, number):
            for q, d, z, _ in _apply(m.skip, (p, c, x, shape), number):
                yield q, d, y + z, out
    elif isinstance(m, Concat):
        parts: list[tuple[Polygon, Code, list]] = [(polygon, code, [])]
        for branch in m.branches:
            parts = [
                (q, d, [*ys, (y, s)]) for p, c, ys in parts for q, d, y, s in _apply(branch, (p, c, x, shape), number)
            ]
        for p, c, ys in parts:
            channels = sum(s[0] for _, s in ys)
            yield p, c, np.concatenate([y for y, _ in ys]), (channels, *ys[0][1][1:])
    elif isinstance(m, Larger):
        for p, c, y, out in _apply(m.a, cell, number):
            for q, d, z, _ in _apply(m.b, (p, c, x, shape), number):
                n = len(y)
                windows = [[i, n + i] for i in range(n)]
                for r, e, w in _maximum(q, d, np.concatenate([y, z]), windows, m.sign, number):
                    yield r, e, w, out
    elif isinstance(m, Maxout):
        windows = np.arange(len(x)).reshape(-1, m.k).tolist()
        for p, c, y in _maximum(polygon, code, x, windows, m.sign, number):
            yield p, c, y, (len(y),)
    elif isinstance(m, nn.MaxPool2d):
        windows, out = _windows(m, shape)
        for p, c, y in _maximum(polygon, code, x, windows, 1, number):
            yield p, c, y, out
    elif isinstance(m, Loop):
        yield from _loop(m, cell, number)
    elif isinstance(m, (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.ReLU6, Abs, SignWhere)):
        for p, c, y in _gate(polygon, code, x, *_pieces(m, shape), number):
            yield p, c, y, shape
    else:
        matrix, offset, out = _matrix(m, shape)
        y = np.stack([_numbers(row[row != 0], number) @ x[row != 0] for row in matrix]) + x[:1] * number(0)
        y[:, 2] = y[:, 2] + _numbers(offset, number)
        yield polygon, code, y, out


def _matrix(m: nn.Module, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """An affine module as y = M x + c, from its own parameters."""
    n = int(np.prod(shape))
    units = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
    if isinstance(m, nn.Linear):
        bias = torch.zeros(m.out_features) if m.bias is None else m.bias
        return m.weight.detach().double().numpy(), bias.detach().double().numpy(), (m.out_features,)
    if isinstance(m, nn.Conv2d):
        y = F.conv2d(units, m.weight.detach().double(), None, m.stride, m.padding, m.dilation, m.groups)
        bias = torch.zeros(m.out_channels) if m.bias is None else m.bias.detach().double()
        offset = bias[:, None, None].expand(y.shape[1:]).flatten()
    elif isinstance(m, nn.BatchNorm2d):
        assert m.running_mean is not None
        assert m.running_var is not None
        scale = (m.weight / torch.sqrt(m.running_var + m.eps)).detach().double()
        y = units * scale[:, None, None]
        offset = (m.bias - m.running_mean * scale).detach()[:, None, None].expand(shape).flatten()
    elif isinstance(m, (nn.AvgPool2d, nn.Flatten, nn.Identity, nn.Dropout)):
        y = m.eval()(units)
        offset = torch.zeros(y[0].numel())
    else:
        raise TypeError(f"the reference does not know {type(m).__name__}")
    return y.flatten(1).T.numpy(), offset.double().numpy(), tuple(y.shape[1:])


def _pieces(m: nn.Module, shape: tuple[int, ...]) -> tuple[list, Callable]:
    """Thresholds, and (unit → slope and offset of every piece)."""
    if isinstance(m, nn.PReLU):
        weight = m.weight.detach().double().expand(shape[0]).repeat_interleave(int(np.prod(shape[1:])))
        return [0.0], lambda j: [(float(weight[j]), 0.0), (1.0, 0.0)]
    table = {
        nn.ReLU: ([0.0], [(0.0, 0.0), (1.0, 0.0)]),
        nn.ReLU6: ([0.0, 6.0], [(0.0, 0.0), (1.0, 0.0), (0.0, 6.0)]),
        nn.LeakyReLU: ([0.0], [(getattr(m, "negative_slope", 0.0), 0.0), (1.0, 0.0)]),
        Abs: ([0.0], [(-1.0, 0.0), (1.0, 0.0)]),
        SignWhere: ([0.25], [(1.0, 0.25), (2.0, 0.0)]),
    }
    if type(m) is nn.Hardtanh:
        low, high = float(m.min_val), float(m.max_val)
        return [low, high], lambda j: [(0.0, low), (1.0, 0.0), (0.0, high)]
    thresholds, pieces = table[type(m)]
    return thresholds, lambda j: pieces


def _clip(polygon: Polygon, f: Any, zero: Any) -> tuple[Polygon, Polygon]:
    """The parts of a convex polygon on which an affine function (3,) is ≤ 0 and > 0; empty where they have no area."""
    values = [f[0] * p[0] + f[1] * p[1] + f[2] for p in polygon]
    if zero == 0.0 and isinstance(zero, float):
        tiny = 1e-13 * max(abs(f[0]), abs(f[1]), abs(f[2]), 1e-300)
        values = [0.0 if abs(a) <= tiny else a for a in values]
    if max(values) <= zero:
        return polygon, []
    if min(values) >= zero:
        return [], polygon
    below, above = [], []
    for i, p in enumerate(polygon):
        q, a, b = polygon[(i + 1) % len(polygon)], values[i], values[(i + 1) % len(polygon)]
        if a <= zero:
            below.append(p)
        if a >= zero:
            above.append(p)
        if a < zero < b or b < zero < a:
            t = a / (a - b)
            cut = (p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1]))
            below.append(cut)
            above.append(cut)
    return below, above


def _gate(
    polygon: Polygon, code: Code, x: np.ndarray, thresholds: list, pieces: Callable, number: Callable
) -> Iterator[tuple[Polygon, Code, np.ndarray]]:
    zero = number(0)
    parts: list[tuple[Polygon, Code]] = [(polygon, ())]
    for j in range(len(x)):
        following = []
        for p, choices in parts:
            rest, piece = p, 0
            for threshold in thresholds:
                f = x[j].copy()
                f[2] = f[2] - number(threshold)
                below, above = _clip(rest, f, zero)
                if below:
                    following.append((below, (*choices, piece)))
                rest, piece = above, piece + 1
                if not rest:
                    break
            if rest:
                following.append((rest, (*choices, piece)))
        parts = following
    for p, choices in parts:
        y = x.copy()
        for j, piece in enumerate(choices):
            slope, offset = pieces(j)[piece]
            y[j] = y[j] * number(slope)
            y[j, 2] = y[j, 2] + number(offset)
        yield p, code + choices, y


def _maximum(
    polygon: Polygon, code: Code, x: np.ndarray, windows: list, sign: int, number: Callable
) -> Iterator[tuple[Polygon, Code, np.ndarray]]:
    zero = number(0)
    parts: list[tuple[Polygon, Code]] = [(polygon, ())]
    for window in windows:
        inside = [(place, entry) for place, entry in enumerate(window) if entry != PADDING]
        following = []
        for p, winners in parts:
            for place, entry in inside:
                rest = p
                for other_place, other in inside:
                    if other == entry or not rest:
                        continue
                    f = (x[entry] - x[other]) * sign
                    # it must beat earlier entries strictly, and later ones at least equal
                    rest = _clip(rest, f, zero)[1] if other_place < place else _clip(rest, -f, zero)[0]
                if rest:
                    following.append((rest, (*winners, place)))
        parts = following
    for p, winners in parts:
        chosen = [window[place] for window, place in zip(windows, winners, strict=True)]
        yield p, code + winners, x[chosen].copy()


def _windows(m: nn.MaxPool2d, shape: tuple[int, ...]) -> tuple[list, tuple[int, ...]]:
    def two(v: Any) -> tuple[int, int]:
        return v if isinstance(v, tuple) else (v, v)

    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(two, (m.kernel_size, m.stride, m.padding, m.dilation))
    _, height, width = shape
    out = F.max_pool2d(torch.zeros(1, *shape), m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode).shape[1:]
    windows = []
    for c, i, j in itertools.product(*map(range, out)):
        places = [(i * sh - ph + a * dh, j * sw - pw + b * dw) for a in range(kh) for b in range(kw)]
        inside = [0 <= y < height and 0 <= x < width for y, x in places]
        entries = [(c * height + y) * width + x for y, x in places]
        windows.append([entry if kept else PADDING for entry, kept in zip(entries, inside, strict=True)])
    return windows, tuple(out)


def _loop(m: Loop, cell: Cell, number: Callable) -> Iterator[Cell]:
    polygon, code, x, _ = cell
    w, r = (_numbers(a.detach().double().numpy(), number) for a in (m.cell.weight_ih, m.cell.weight_hh))
    b = _numbers((m.cell.bias_ih.detach().double()).numpy(), number) + _numbers(
        m.cell.bias_hh.detach().double().numpy(), number
    )
    cells = [(polygon, code, _numbers(np.zeros((m.hidden, 3)), number))]
    for t in range(m.steps):
        following = []
        for p, c, h in cells:
            z = w @ x[t % 2 : t % 2 + 1] + r @ h
            z[:, 2] = z[:, 2] + b
            following += list(_gate(p, c, z, [0.0], lambda j: [(0.0, 0.0), (1.0, 0.0)], number))
        cells = following
    for p, c, h in cells:
        yield p, c, h, (m.hidden,)
