"""Forwarding points: keys, codes and tangents, independent of the cell complex."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso.graph import Forward, Graph, Node, Operator, Reading, entries, flat
from maso.operators import Gate, Selection
from maso.partition.bits import Array, gate_tokens, pack, sum_tokens, winner_tokens
from maso.partition.constants import DIRECTIONS, FORWARDED, SURE
from maso.partition.convolution import apply
from maso.partition.noise import DRAWS
from maso.partition.threads import threads_for


class Snapshot:
    """Parameters and buffers of a network as they are now, in float64: what a partition is a partition of."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = {n: _double(p) for n, p in model.named_parameters(remove_duplicate=False)}
        self.buffers = {n: _double(b) for n, b in model.named_buffers(remove_duplicate=False)}
        self.device = next((p.device for p in self.parameters.values()), torch.device("cpu"))

    def named_parameters(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """As of a module."""
        return iter(self.parameters.items())

    def named_buffers(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """As of a module."""
        return iter(self.buffers.items())


def _double(value: Tensor) -> Tensor:
    value = value.detach().clone()
    return value.double() if value.is_floating_point() else value


@dataclass
class Forwarded:
    """What forwarding says of points.

    Attributes:
        output: (N, K) float64.
        key: (N,) key of the region of each point.
        layer_keys: by layer path, (N,) that layer's part of the key.
        codes: by layer path, (N, units) pieces of gates or positions of winners; empty unless asked for.
        judge: what rounding may have done to some of the points, given whether exact ties are sure, see `judge`.
    """

    output: Array
    key: Array
    layer_keys: dict[str, Array]
    codes: dict[str, Array]
    judge: Callable[[Array, bool], tuple[Array, Array]]

    @cached_property
    def sure(self) -> Array:
        """Whether every choice is sure, exact ties in float64 among them: (N,); three times the time of forwarding."""
        return self.judge(np.arange(len(self.key)), True)[0]

    @classmethod
    def concatenate(cls, batches: list[Forwarded], judge: Callable[[Array, bool], tuple[Array, Array]]) -> Forwarded:
        """Several batches as one."""

        def join(name: str) -> Array:
            return np.concatenate([getattr(b, name) for b in batches])

        def join_each(name: str) -> dict[str, Array]:
            parts = [getattr(b, name) for b in batches]
            return {path: np.concatenate([p[path] for p in parts]) for path in parts[0]}

        return cls(join("output"), join("key"), join_each("layer_keys"), join_each("codes"), judge)


def batch(graph: Graph) -> int:
    """Number of points to forward at a time."""
    return max(16, FORWARDED // max(math.prod(n.shape) for n in [graph.input, *graph.nodes]))


def forward(graph: Graph, model: Snapshot, x: Tensor, *, codes: bool = False) -> Forwarded:
    """Send points (N, *input_shape) through a network."""
    x = x.to(model.device)
    reading = _Keys(graph, len(x), codes)
    with torch.no_grad(), threads_for(len(x) * max(math.prod(n.shape) for n in graph.nodes)):
        y = flat(graph.read(model, x, reading)).cpu().numpy()  # type: ignore[arg-type]
    return Forwarded(
        y, reading.key, reading.layer_keys, reading.codes, lambda some, ties: judge(graph, model, x[some], ties=ties)
    )


class _Keys(Forward):
    def __init__(self, graph: Graph, points: int, codes: bool) -> None:
        self.graph, self.keep = graph, codes
        self.number = {node: i for i, node in enumerate(graph.kinks.values())}
        self.key = np.ones(points, np.int64)
        self.layer_keys: dict[str, Array] = {}
        self.codes: dict[str, Array] = {}

    def note(self, node: Node, key: Array) -> None:
        self.layer_keys[self.graph.paths[node]] = key
        with np.errstate(over="ignore"):
            self.key += key

    def affine(self, operator: Operator) -> Any:
        return apply(operator, *operator.values)

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        z = flat(value).cpu().numpy()
        key = np.zeros(len(z), np.int64)
        for i, threshold in enumerate(gate.thresholds):
            at = threshold.cpu().expand(node.shape).flatten().numpy() if isinstance(threshold, Tensor) else threshold
            with np.errstate(over="ignore"):
                key += sum_tokens(pack(z > at), gate_tokens(self.number[node], i, z.shape[1]))
        self.note(node, key)
        piece = gate.piece(value)
        if self.keep:
            self.codes[self.graph.paths[node]] = flat(piece).cpu().numpy().astype(np.uint8)
        return gate.apply(value, piece)

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        z = entries(values)
        winner = selection.winner(z)
        index = selection.index.to(z.device)
        chosen = index.expand(len(z), -1, -1).gather(2, winner[..., None])[..., 0].cpu().numpy()
        key = winner_tokens(self.number[node], np.arange(len(index)), chosen).sum(1)
        self.note(node, key)
        if self.keep:
            self.codes[self.graph.paths[node]] = winner.cpu().numpy().astype(np.int32)
        return selection.apply(z, winner).reshape(-1, *node.shape)


def judge(graph: Graph, model: Snapshot, x: Tensor, *, ties: bool) -> tuple[Array, Array]:
    """What rounding may have done to points (N, *input_shape).

    Noise as large as the numbers that meet goes along with each point, see `noise`; a choice is sure if it is further
    from a tie than `SURE` times these, or if it depends on nothing but constants that are equal.

    Args:
        ties: whether a tie that is exact in float64 is sure, whatever met in it: the first of equal entries wins, and
            a number on a threshold is below it. That may be said of a network, not of the smallest of its regions, in
            which what is left of a difference may have been lost.

    Returns:
        Whether every choice is sure, (N,), and the size of the numbers that met in each output, (N, K).
    """
    sure, sizes = [np.zeros(0, bool)], [np.zeros((0, math.prod(graph.output.shape)))]
    step = max(4, batch(graph) // (1 + DRAWS))
    for part in x.to(model.device).split(step) if len(x) else ():
        reading = _Noise(len(part), ties)
        begin = [part, *(d * part.abs() for d in reading.draws(flat(part)).reshape(DRAWS, *part.shape))]
        with torch.no_grad():
            y = flat(graph.read(model, torch.cat(begin), reading))  # type: ignore[arg-type]
        sure.append(reading.sure.cpu().numpy())
        sizes.append((y[: len(part)].abs() + reading.size(y)).cpu().numpy())
    return np.concatenate(sure), np.concatenate(sizes)


def boundary_distance(graph: Graph, model: Snapshot, x: Tensor) -> Array:
    """Distance of every point (N, *input_shape) to the boundary of its cell: (N,)."""
    with torch.no_grad():
        directions = torch.eye(x[0].numel(), dtype=torch.float64, device=x.device).reshape(-1, *x.shape[1:])
        steps: list[list[tuple[Tensor, Tensor]]] = []
        for chunk in torch.split(directions, DIRECTIONS):
            reading = _Margins(len(x))
            stacked = torch.cat([x, *(d.expand(len(x), *d.shape) for d in chunk)]).to(model.device)
            graph.read(model, stacked, reading)  # type: ignore[arg-type]
            steps.append(reading.margins)
        nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=model.device)
        for kink in zip(*steps, strict=True):
            distance = kink[0][0] / torch.stack([square for _, square in kink]).sum(0).sqrt()
            distance = torch.where(distance.isnan(), torch.inf, distance)  # constant and at the threshold: no boundary
            nearest = torch.minimum(nearest, flat(distance).amin(1))
    return nearest.cpu().numpy()


def tangents(graph: Graph, model: Snapshot, x: Tensor, directions: Tensor) -> tuple[Array, Array]:
    """Values and derivatives along directions, with the pieces of every kink fixed by x.

    Args:
        x: (N, *input_shape).
        directions: (R, *input_shape), the same for every point.

    Returns:
        Output (N, K) and its derivatives (N, K, R).
    """
    r, n = len(directions), len(x)
    stacked = torch.cat([x, *(d.expand(n, *d.shape) for d in directions)]).to(model.device)
    with torch.no_grad():
        y = flat(graph.read(model, stacked, _Tangents(n))).cpu().numpy()  # type: ignore[arg-type]
    return y[:n], np.moveaxis(y[n:].reshape(r, n, -1), 0, 2)


class _Tangents(Reading[Tensor]):
    """Values are a batch of N points followed by R batches of N tangents."""

    def __init__(self, n: int) -> None:
        self.n = n

    def affine(self, operator: Operator) -> Any:
        node, n = operator.node, self.n
        operands = list(zip(operator.values, node.inputs, strict=True))
        value = operator(*[narrow(v, of.axis, 0, n) for v, of in operands])
        moved = operator(*[narrow(v, of.axis, n, None) for v, of in operands], linear=True)
        if isinstance(value, Tensor):
            return torch.cat([value, moved], node.axis)
        return type(value)(torch.cat([a, b], node.axis) for a, b in zip(value, moved, strict=True))

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        z, dz = value[: self.n], value[self.n :]
        piece = gate.piece(z)
        repeated = piece.repeat(len(dz) // self.n, *[1] * (z.ndim - 1))
        return torch.cat([gate.apply(z, piece), gate.apply(dz, repeated) - gate.apply(torch.zeros_like(dz), repeated)])

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        z = self.entries(values)
        winner = selection.winner(z[: self.n]).repeat(len(z) // self.n, 1)
        return selection.apply(z, winner).reshape(-1, *node.shape)

    def entries(self, values: list[Tensor]) -> Tensor:
        """The entries of a selection; a constant operand has tangent zero."""
        total, n = max(map(len, values)), self.n

        def fill(v: Tensor) -> Tensor:
            shape = v.shape[1:]
            return v if len(v) == total else torch.cat([v.expand(n, *shape), v.new_zeros(total - n, *shape)])

        return entries([fill(v) for v in values])

    def windows(self, selection: Selection, values: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The windows of a selection, with the choice of each point for its tangents.

        Returns:
            The windows (N + R N, outputs, k); of each the entry chosen, (N + R N, outputs, 1); and what cannot be
            chosen in its place, the entry itself and padding, (N, outputs, k) bool.
        """
        z = self.entries(values)
        index = selection.index.to(z.device)
        windows = z[:, index.clamp(min=0)]
        winner = selection.winner(z[: self.n])[..., None]
        chosen = windows.gather(2, winner.repeat(len(z) // self.n, 1, 1))
        return windows, chosen, (index < 0).expand(self.n, -1, -1).scatter(2, winner, True)


class _Noise(_Tangents):
    """Tangents are noise: what rounding errors of the point's numbers are relative to, see `noise`.

    Attributes:
        sure: (N,) whether no choice so far was within rounding of a tie.
    """

    def __init__(self, n: int, ties: bool) -> None:
        super().__init__(n)
        self.ties = ties
        self.generator, self.sure = torch.Generator("cpu").manual_seed(0), torch.ones(n, dtype=torch.bool, device="cpu")

    def draws(self, like: Tensor) -> Tensor:
        """Random numbers of variance one, different for every number of each point: (N, …) → (DRAWS, N, …)."""
        numbers = torch.rand((DRAWS, *like.shape), generator=self.generator, dtype=torch.float64, device="cpu")
        return ((numbers - 0.5) * 12**0.5).to(like.device)

    def size(self, value: Tensor) -> Tensor:
        """Of the noise of a value of points and tangents, at the points."""
        return value[self.n :].reshape(DRAWS, self.n, *value.shape[1:]).abs().sum(0)

    def judge(self, distance: Tensor, noise: Tensor, size: Tensor) -> None:
        far = distance > SURE * (size + noise)
        tied = distance == 0 if self.ties else (distance == 0) & (noise == 0)
        certain = far | tied | distance.isinf()
        self.sure = self.sure.to(certain.device) & flat(certain).all(1)

    def add(self, value: Tensor, size: Tensor) -> Tensor:
        """A value with noise of a size (N, …) added."""
        draws = self.draws(size) * size.nan_to_num(posinf=0.0)
        return torch.cat([value[: self.n], value[self.n :] + draws.reshape(-1, *size.shape[1:])])

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        z = value[: self.n]
        for threshold in gate.thresholds:
            at = torch.as_tensor(threshold, dtype=z.dtype, device=z.device)
            self.judge((z - at).abs(), self.size(value), z.abs() + at.abs())
        piece = gate.piece(z)
        size = (gate.apply(z.abs(), piece) - gate.apply(torch.zeros_like(z), piece)).abs()
        return self.add(super().gate(node, gate, value), size)

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        windows, best, idle = self.windows(selection, values)
        behind = best - windows
        behind[: self.n].masked_fill_(windows[: self.n] == best[: self.n], 0.0)  # where both are infinite
        distance = behind[: self.n].abs().masked_fill(idle, torch.inf)
        self.judge(distance, self.size(behind), windows[: self.n].abs() + best[: self.n].abs())
        out = super().selection(node, selection, values)
        return self.add(out, out[: self.n].abs())


class _Margins(_Tangents):
    """Also keeps, for every kink, how far each choice is from being another, and the squared slope of that margin."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.margins: list[tuple[Tensor, Tensor]] = []

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        z = value[: self.n]
        margin = torch.stack([(z - t).abs() for t in gate.thresholds]).amin(0)
        self.margins.append((margin, self.squares(value[self.n :])))
        return super().gate(node, gate, value)

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        windows, best, idle = self.windows(selection, values)
        behind = best - windows
        margin = behind[: self.n].abs().masked_fill(idle, torch.inf)
        self.margins.append((margin, self.squares(behind[self.n :])))
        return super().selection(node, selection, values)

    def squares(self, tangent: Tensor) -> Tensor:
        return (tangent.reshape(-1, self.n, *tangent.shape[1:]) ** 2).sum(0)


def narrow(value: Any, axis: int, start: int, stop: int | None) -> Any:
    """Some samples of a value, a tensor or several."""
    if isinstance(value, Tensor):
        return value.movedim(axis, 0)[start:stop].movedim(0, axis)
    return type(value)(narrow(v, axis, start, stop) for v in value)
