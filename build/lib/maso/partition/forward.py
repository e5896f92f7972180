"""Forwarding points: keys, codes and tangents, independent of the cell complex."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso.graph import Forward, Graph, Node, Operator, Reading, entries, flat
from maso.operators import Gate, Selection
from maso.partition.bits import Array, gate_tokens, pack, sum_tokens, winner_tokens
from maso.partition.constants import DIRECTIONS, FORWARDED, SURE
from maso.partition.convolution import apply
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
        sure: (N,) whether no choice was within rounding of a tie.
        scale: (N,) largest magnitude met on the way.
        layer_keys: by layer path, (N,) that layer's part of the key.
        codes: by layer path, (N, units) pieces of gates or positions of winners; empty unless asked for.
    """

    output: Array
    key: Array
    sure: Array
    scale: Array
    layer_keys: dict[str, Array]
    codes: dict[str, Array]

    @classmethod
    def concatenate(cls, batches: list[Forwarded]) -> Forwarded:
        """Several batches as one."""

        def join(name: str) -> Array:
            return np.concatenate([getattr(b, name) for b in batches])

        def join_each(name: str) -> dict[str, Array]:
            parts = [getattr(b, name) for b in batches]
            return {path: np.concatenate([p[path] for p in parts]) for path in parts[0]}

        return cls(
            join("output"), join("key"), join("sure"), join("scale"), join_each("layer_keys"), join_each("codes")
        )


def batch(graph: Graph) -> int:
    """Number of points to forward at a time."""
    return max(16, FORWARDED // max(math.prod(n.shape) for n in [graph.input, *graph.nodes]))


def forward(graph: Graph, model: Snapshot, x: Tensor, *, codes: bool = False) -> Forwarded:
    """Send points (N, *input_shape) through a network."""
    x = x.to(model.device)
    reading = _Keys(graph, flat(x).abs().amax(1).cpu().numpy(), codes)
    with torch.no_grad(), threads_for(len(x) * max(math.prod(n.shape) for n in graph.nodes)):
        y = flat(graph.read(model, x, reading)).cpu().numpy()  # type: ignore[arg-type]
    scale = np.maximum(reading.scale, np.abs(y).max(1, initial=0.0))
    return Forwarded(y, reading.key, reading.sure, scale, reading.layer_keys, reading.codes)


class _Keys(Forward):
    def __init__(self, graph: Graph, scale: Array, codes: bool) -> None:
        self.graph, self.scale, self.keep = graph, scale, codes
        self.number = {node: i for i, node in enumerate(graph.kinks.values())}
        self.key, self.sure = np.ones(len(scale), np.int64), np.ones(len(scale), bool)
        self.layer_keys: dict[str, Array] = {}
        self.codes: dict[str, Array] = {}

    def note(self, node: Node, key: Array) -> None:
        self.layer_keys[self.graph.paths[node]] = key
        with np.errstate(over="ignore"):
            self.key += key

    def grow(self, value: Tensor) -> None:
        """Note the largest magnitude of each sample."""
        self.scale = np.maximum(self.scale, flat(value).abs().amax(1).cpu().numpy())

    def affine(self, operator: Operator) -> Any:
        out = apply(operator, *operator.values)
        for value in [out] if isinstance(out, Tensor) else out:
            self.grow(value.movedim(operator.node.axis, 0))
        return out

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        z = flat(value).cpu().numpy()
        key = np.zeros(len(z), np.int64)
        for i, threshold in enumerate(gate.thresholds):
            at = threshold.cpu().expand(node.shape).flatten().numpy() if isinstance(threshold, Tensor) else threshold
            with np.errstate(over="ignore"):
                key += sum_tokens(pack(z > at), gate_tokens(self.number[node], i, z.shape[1]))
            distance = np.abs(z - at)
            self.sure &= ((distance == 0) | (distance > SURE * self.scale[:, None])).all(1)
        self.note(node, key)
        piece = gate.piece(value)
        if self.keep:
            self.codes[self.graph.paths[node]] = flat(piece).cpu().numpy().astype(np.uint8)
        out = gate.apply(value, piece)
        self.grow(out)
        return out

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        z = entries(values)
        winner = selection.winner(z)
        out = selection.apply(z, winner)
        index = selection.index.to(z.device)
        self.grow(z)
        slack = SURE * torch.from_numpy(self.scale).to(z)[:, None, None]
        windows = torch.where(index < 0, -torch.inf, selection.sign * z[:, index.clamp(min=0)])
        distance = (selection.sign * out)[..., None] - windows
        self.sure &= ((distance == 0) | (distance > slack)).all(2).all(1).cpu().numpy()
        chosen = index.expand(len(z), -1, -1).gather(2, winner[..., None])[..., 0].cpu().numpy()
        key = winner_tokens(self.number[node], np.arange(len(index)), chosen).sum(1)
        self.note(node, key)
        if self.keep:
            self.codes[self.graph.paths[node]] = winner.cpu().numpy().astype(np.int32)
        return out.reshape(-1, *node.shape)


def boundary_distance(graph: Graph, model: Snapshot, x: Tensor) -> Array:
    """Distance of every point (N, *input_shape) to the boundary of its cell: (N,)."""
    with torch.no_grad():
        directions = torch.eye(x[0].numel(), dtype=torch.float64).reshape(-1, *x.shape[1:])
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
        z = self.entries(values)
        index = selection.index.to(z.device)
        windows = z[:, index.clamp(min=0)]
        winner = selection.winner(z[: self.n])[..., None]
        best = windows.gather(2, winner.repeat(len(z) // self.n, 1, 1))
        behind = best - windows
        margin = torch.where(index < 0, torch.inf, behind[: self.n].abs()).scatter(2, winner, torch.inf)
        self.margins.append((margin, self.squares(behind[self.n :])))
        return super().selection(node, selection, values)

    def squares(self, tangent: Tensor) -> Tensor:
        return (tangent.reshape(-1, self.n, *tangent.shape[1:]) ** 2).sum(0)


def narrow(value: Any, axis: int, start: int, stop: int | None) -> Any:
    """Some samples of a value, a tensor or several."""
    if isinstance(value, Tensor):
        return value.movedim(axis, 0)[start:stop].movedim(0, axis)
    return type(value)(narrow(v, axis, start, stop) for v in value)
