"""Small random networks with the habits of real ones, and an independent partition of them.

Habits: dead and duplicate units, units and their negatives, equal weights, BatchNorm of dead channels, huge and tiny
constants, masks and padding by numbers that mean −∞, values that lie exactly on thresholds.  One architecture is drawn
with many weights: a network is traced once, and its parameters are looked up in the live model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from maso import MasoError
from maso.partition import Partition, Plane, partition
from maso_book.shared import clipping
from maso_book.shared.clipping import Abs, Cell, Concat, Larger, Maxout, Residual, SignWhere
from maso_book.shared.comparison import Comparison, compare

Rng = np.random.Generator
LOWEST = [-1e15, -1e30, float(torch.finfo(torch.float32).min), float(torch.finfo(torch.float64).min), -np.inf]
"""Numbers that mean −∞."""
DRAWS = 10
"""Weights drawn for each architecture."""
RATIONAL = 24
"""Networks with small dyadic weights and at most so many regions are compared in rationals."""


class Mask(nn.Module):
    """x + mask."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.zeros(shape, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mask

    def by_hand(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        return np.eye(int(np.prod(shape))), np.maximum(self.mask.expand(shape).flatten().numpy(), -1e30), shape


class Frame(nn.Module):
    """A border of one pixel around every map, with a value that is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(1, 1, 1, 1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        column = torch.zeros_like(x[..., :1]) + self.value
        x = torch.cat([column, x, column], 3)
        row = torch.zeros_like(x[..., :1, :]) + self.value
        return torch.cat([row, x, row], 2)

    def by_hand(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        channels, height, width = shape
        old = np.arange(int(np.prod(shape))).reshape(shape)
        old = np.pad(old, ((0, 0), (1, 1), (1, 1)), constant_values=-1).ravel()
        matrix = (old[:, None] == np.arange(int(np.prod(shape)))).astype(float)
        offset = np.where(old < 0, max(float(self.value), -1e30), 0.0)
        return matrix, offset, (channels, height + 2, width + 2)


class Clamp(nn.Module):
    """clamp(−∞, 0.25)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(-torch.inf, 0.25)


# ---------------------------------------------------------------- architectures
def _act(rng: Rng) -> nn.Module:
    acts = [nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.LeakyReLU(0.25), nn.Hardtanh(-0.5, 0.5), nn.ReLU6(), Abs(), SignWhere()]
    return [*acts, Clamp()][rng.integers(9)]


def _dense(rng: Rng) -> nn.Module:
    width, layers = 2, []
    for _ in range(rng.integers(1, 3)):
        n = int(rng.integers(3, 6))
        kind = rng.integers(7)
        if kind < 2:
            layers += [nn.Linear(width, n), _act(rng)]
        elif kind == 2:
            layers += [nn.Linear(width, n), nn.ReLU(), nn.BatchNorm1d(n), *([_act(rng)] if rng.random() < 0.5 else [])]
        elif kind == 3:
            layers += [nn.Linear(width, 2 * n), Mask(2 * n), Maxout(2)]
        elif kind == 4:
            layers += [nn.Linear(width, 6), nn.ReLU(), nn.BatchNorm1d(6), Maxout(3, int(rng.choice([1, 1, -1])))]
            n = 2
        elif kind == 5:
            body = nn.Sequential(nn.Linear(width, n), Mask(n), nn.ReLU(), nn.Linear(n, width))
            layers += [Residual(body, nn.Identity()), _act(rng)]
            n = width
        else:
            layers.append(Larger(nn.Linear(width, n), nn.Sequential(nn.Linear(width, n), nn.ReLU())))
        width = n
    return nn.Sequential(*layers, nn.Linear(width, int(rng.integers(1, 3))))


def _conv(rng: Rng) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, 2, 2)]  # 4 × 4 → 3 × 3
    if rng.random() < 0.5:
        layers += [nn.ReLU(), nn.BatchNorm2d(2)]
    elif rng.random() < 0.5:
        layers += [nn.BatchNorm2d(2), nn.ReLU()]
    if rng.random() < 0.6:
        layers += [Frame(), nn.MaxPool2d(3, 2)]  # 5 × 5 → 2 × 2
    else:
        layers += [nn.MaxPool2d(3, 2, 1)] if rng.random() < 0.5 else [nn.MaxPool2d(2, 1)]
    if rng.random() < 0.3:
        layers.append(Concat(nn.Conv2d(2, 1, 1), nn.Sequential(nn.Conv2d(2, 1, 1), nn.ReLU())))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 2), _act(rng), nn.Linear(2, 1))


# ---------------------------------------------------------------- weights
def _draw(model: nn.Module, rng: Rng) -> bool:
    """New weights with habits; whether they are small dyadic numbers."""
    dyadic = bool(rng.random() < 0.5)

    def numbers(shape: torch.Size) -> Tensor:
        if dyadic:
            return torch.as_tensor(rng.integers(-4, 5, tuple(shape)) / 2, dtype=torch.float64)
        return torch.as_tensor(rng.normal(size=tuple(shape)), dtype=torch.float64)

    flat = [m for m in model.modules() if not isinstance(m, (nn.Sequential, Concat, Residual))]
    following = dict(itertools.pairwise(flat))
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, (nn.Linear, nn.Conv2d)):
                m.weight.copy_(numbers(m.weight.shape) / (1.0 if dyadic else m.weight[0].numel() ** 0.5))
                m.bias.copy_(numbers(m.bias.shape) / 2)
                hides = isinstance(following.get(m), (nn.ReLU, nn.ReLU6, nn.Hardtanh))
                _give_habits(m.weight.view(len(m.weight), -1), m.bias, rng, hides=hides)
            elif isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
                _norm(m, rng, dyadic=dyadic)
            elif isinstance(m, Mask):
                m.mask.zero_()
                low, at = LOWEST[rng.integers(len(LOWEST))], rng.integers(0, 2, len(m.mask) // 2)
                hidden = 2 * np.arange(len(at)) + at  # one of every two
                m.mask[torch.from_numpy(hidden[rng.random(len(at)) < 0.6])] = low
            elif isinstance(m, Frame):
                m.value.fill_([0.0, -0.5, *LOWEST][rng.integers(7)])
    return dyadic


def _give_habits(weight: Tensor, bias: Tensor, rng: Rng, *, hides: bool) -> None:
    """Rows (units, inputs) and biases (units,): what one unit in six is, and some layers as a whole.

    Args:
        hides: whether nothing of a dead unit is left after the layer, however far below zero it is.
    """
    if rng.random() < 0.1:
        bias.zero_()
    if rng.random() < 0.05:
        weight.fill_(weight[0, 0])
    for i in range(len(weight)):
        other = int(rng.integers(len(weight)))
        habit = rng.integers(40)
        if habit == 0:
            bias[i] = float(rng.choice([-50.0, -1e8, -1e15, -1e18])) if hides else -50.0
        elif habit == 1:
            bias[i] = 64.0
        elif habit == 2:
            weight[i], bias[i] = weight[other], bias[other]
        elif habit == 3:
            weight[i], bias[i] = -weight[other], -bias[other]
        elif habit == 4:
            weight[i], bias[i] = 2 * weight[other], 2 * bias[other]
        elif habit == 5:
            weight[i], bias[i] = 0.0, float(rng.choice([0.0, 0.25, 0.5, -0.5, 6.0]))  # on a threshold, some
        elif habit == 6:
            scale = 2.0 ** float(rng.choice([-20, -10, 10, 20]))
            weight[i] *= scale
            bias[i] *= scale


def _norm(m: nn.BatchNorm1d | nn.BatchNorm2d, rng: Rng, *, dyadic: bool) -> None:
    """Statistics of some dead channels, and the same affine map in several channels."""
    n = m.num_features
    m.eval()
    if dyadic:
        m.running_mean.copy_(torch.as_tensor(rng.integers(-1, 2, n) / 2))
        m.running_var.fill_(0.25)
        m.weight.fill_(float(rng.choice([0.5, 1.0])))
        m.bias.fill_(float(rng.choice([0.0, 0.5])))
        m.eps = 0.0
        return
    m.eps = 1e-5
    m.running_mean.copy_(torch.as_tensor(rng.uniform(0, 1, n)))
    m.running_var.copy_(torch.as_tensor(rng.uniform(0.1, 1, n)))
    m.weight.copy_(torch.as_tensor(rng.normal(size=n)))
    m.bias.copy_(torch.as_tensor(rng.normal(size=n)))
    if rng.random() < 0.5:
        for p in (m.running_mean, m.running_var, m.weight, m.bias):
            p.fill_(float(p[0]))
    if rng.random() < 0.4:
        m.running_mean[0], m.running_var[0] = 0.0, 0.0


def networks(architecture: int) -> Iterator[tuple[int, nn.Module, Plane, bool]]:
    """One architecture with `DRAWS` weights, one after the other: (seed, network, window, small dyadic weights)."""
    torch.manual_seed(architecture)
    rng = np.random.default_rng(architecture)
    dense = bool(rng.random() < 0.75)
    model = (_dense(rng) if dense else _conv(rng)).double().eval().requires_grad_(False)
    for i in range(DRAWS):
        seed = DRAWS * architecture + i
        rng = np.random.default_rng([seed, 1])
        dyadic = _draw(model, rng)
        if dense:
            plane = Plane.square(-1, 1).window(*[(-1, 1, -1, 1), (-1, 1, -0.5, 0.75), (0, 1, 0, 1)][rng.integers(3)])
        elif dyadic:
            x = torch.as_tensor(rng.integers(-2, 3, (3, 1, 4, 4)) / 2, dtype=torch.float64)
            plane = Plane(x[0], x[1], x[2] + 3 * torch.eye(4, dtype=torch.float64)).window(-0.5, 0.5, -0.5, 0.5)
        else:
            plane = Plane.through(*torch.as_tensor(rng.normal(size=(3, 1, 4, 4)))).window(-0.7, 0.7, -0.7, 0.5)
        yield seed, model, plane, dyadic


# ---------------------------------------------------------------- the comparison
def cells(model: nn.Module, plane: Plane, number: type) -> list:
    """All cells, by clipping, as `clipping.partition` gives them; it knows the modules of this file."""
    s0, s1, t0, t1 = (number(b) for b in plane.bounds)
    start = [clipping._numbers(a.flatten().numpy(), number) for a in (plane.u, plane.v, plane.origin)]
    box = [(s0, t0), (s1, t0), (s1, t1), (s0, t1)]
    found = _apply(model, (box, (), np.stack(start, 1), plane.shape), number)
    return [(polygon, code, tensor) for polygon, code, tensor, _ in found]


def _apply(m: nn.Module, cell: Cell, number: type) -> Iterator[Cell]:
    polygon, code, x, shape = cell
    if isinstance(m, nn.Sequential):
        found = [cell]
        for child in m:
            found = [new for old in found for new in _apply(child, old, number)]
        yield from found
    elif isinstance(m, Residual):
        for p, c, y, out in _apply(m.body, cell, number):
            yield p, c, y + x, out
    elif isinstance(m, (Mask, Frame)):
        matrix, offset, out = m.by_hand(shape)
        y = np.stack([clipping._numbers(row[row != 0], number) @ x[row != 0] for row in matrix]) + x[:1] * number(0)
        y[:, 2] = y[:, 2] + clipping._numbers(offset, number)
        yield polygon, code, y, out
    elif isinstance(m, nn.BatchNorm1d):
        scale = m.weight / torch.sqrt(m.running_var + m.eps)
        y = x * clipping._numbers(scale.numpy(), number)[:, None]
        y[:, 2] = y[:, 2] + clipping._numbers((m.bias - m.running_mean * scale).numpy(), number)
        yield polygon, code, y, shape
    elif isinstance(m, Clamp):
        pieces = [(1.0, 0.0), (0.0, 0.25)]
        for p, c, y in clipping._gate(polygon, code, x, [0.25], lambda j: pieces, number):
            yield p, c, y, shape
    else:
        yield from clipping._apply(m, cell, number)


@dataclass
class Tally:
    """What came of some networks.

    Attributes:
        tried, regions, rational: networks, their regions, and networks compared in rationals.
        unsure: regions whose code at the centre is within rounding of another.
        refused, wrong: (seed, message) of networks that were refused, and of those that differ from the reference.
    """

    tried: int = 0
    regions: int = 0
    rational: int = 0
    unsure: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    wrong: list[tuple[int, str]] = field(default_factory=list)


def tally(architectures: range) -> Tally:
    """Partition all networks of some architectures and compare them with clipping: in rationals where the weights are
    small dyadic numbers and the regions few, and wherever float64 differs, since that does not say which is wrong."""
    out = Tally()
    for architecture in architectures:
        for seed, model, plane, dyadic in networks(architecture):
            out.tried += 1
            try:
                p = partition(model, plane)
            except MasoError as error:
                out.refused.append((seed, str(error)))
                continue
            rational = dyadic and len(p) <= RATIONAL
            comparison = _compare(p, model, Fraction if rational else float, seed)
            if comparison.wrong and not rational:
                rational, comparison = True, _compare(p, model, Fraction, seed)
            out.regions += len(p)
            out.rational += rational
            out.unsure += comparison.unsure
            if comparison.wrong:
                out.wrong.append((seed, "; ".join(comparison.wrong)))
    return out


def _compare(p: Partition, model: nn.Module, number: type, seed: int) -> Comparison:
    """As `compare`; affine maps need not agree to more than the rounding of the numbers that meet in the outputs."""
    with np.errstate(all="ignore"):
        found = compare(p, model, cells(model, p.plane, number), np.random.default_rng(seed))
    size = max(1.0, np.abs(p.values).max())
    rounding = 1e-12 * p.scale.max() / size
    excused = {name for name in ("map_error", "output_error") if found.errors.get(name, 0.0) < rounding}
    wrong = [line for line in found.wrong if line.split()[0] not in excused]
    return Comparison(wrong, found.errors, found.unsure)
