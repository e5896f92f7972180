"""The reading of a network's graph on a cell complex.

Every tensor of the graph is, at vertex v of the complex, an affine combination

    row_0 + Σ_k coefficient[v, k] (row_k − row_0)

of r + 1 *rows*, with one coefficient matrix, the *frame*, for all tensors.  Rows are inputs and activations like any
others, so affine operators, skips and concatenations act on them unchanged, on the model's device.  The frame starts
as the window (r = 2); a kink cuts the complex and adds one row and one coefficient for each unit that bends inside the
window, and bounds from the range of every coefficient find these few.  Where the tensors alive have no more numbers
than there are rows, the frame becomes the identity: the values at the vertices themselves.  There an affine operator
that follows a gate is multiplied out only at the vertices from before the gate's cuts, while these are made; along a
segment it is piecewise linear and bends by a known multiple of one row at each cut, from which the new vertices follow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maso.graph import Graph, Node, Operator, Reading
from maso.operators import Gate, Selection
from maso.partition.bits import GAMMA, Array, gate_tokens, span, winner_tokens
from maso.partition.complex import Complex, Faces
from maso.partition.convolution import apply
from maso.partition.cut import begin_cut
from maso.partition.forward import narrow
from maso.partition.plane import Plane
from maso.partition.split import Split
from maso.partition.threads import in_parallel, later, over_blocks, threads_for
from maso.partition.tournament import Tournament

_ROWS = 1024
_COLUMNS = 1 << 12
_AT_ONCE = 1 << 20  # numbers of an operator with parameters
_PEAK = 0.02
_NEAR = 8
_ROOM = 3.5  # vertices that a cut is expected to add, relative to those there are: room costs nothing until it is used


class Block:
    """Coefficients of some rows: values (V, k), and what their rounding errors are relative to, scale (k,).

    `range` is the smallest and the largest value of each: interpolation never leaves it, so it is found once. Where
    `bend` is given, the coefficients are the outputs of a gate whose inputs are `values`.
    """

    def __init__(
        self,
        values: Array,
        limits: tuple[Array, Array] | None = None,
        scale: Array | None = None,
        bend: _Bend | None = None,
    ) -> None:
        self.values, self._range, self.bend = values, limits, bend
        self.scale = np.maximum(-self.range[0], self.range[1]) if scale is None else scale

    @property
    def range(self) -> tuple[Array, Array]:
        """(low, high), each (k,)."""
        if self._range is None:
            self._range = span(self.values)
        return self._range

    def part(self, at: slice) -> Array:
        """The coefficients at some vertices."""
        return self.values[at] if self.bend is None else self.bend(self.values[at])


@dataclass
class _Pending:
    """A gate whose cuts the frame has not followed yet: waits for them; and the row and slope jump of each unit.

    `after` makes the gate's outputs at all vertices, as coefficients, from those at the vertices from before the cuts.
    """

    splits: Callable[[], list[Split]]
    row: Array
    jump: Array
    after: Callable[[list[Split]], Array]


class FrameReading(Reading[Node]):
    """Values are the nodes themselves; `rows` holds the rows of those still needed.

    Args:
        graph: the network.
        plane: the window.
        device: where rows live.
        most: regions that a cut may make; beyond, it raises `TooMany`.
        watch: called after each kink, and within selections, with (this reading, coefficients, bytes held); it may
            raise to stop the run.
    """

    def __init__(
        self,
        graph: Graph,
        plane: Plane,
        device: torch.device,
        most: int,
        watch: Callable[[FrameReading, int, int], None],
    ) -> None:
        self.cells, self.device = Complex(plane.bounds), device
        self.most, self.watch = most, watch
        self.number = {node: i for i, node in enumerate(graph.kinks.values())}
        self.dying = dict(zip(graph.nodes, graph.dying, strict=True))
        self.next_size = _sizes_at_next_kink(graph)
        middle = self.cells.x.mean(0)
        centre = plane.points(middle)  # row 0, so that coefficients are small
        self.rows: dict[Node, Any] = {graph.input: torch.cat([centre, centre + plane.u, centre + plane.v]).to(device)}
        self.blocks = [Block(self.cells.x - middle)]
        self.pending: _Pending | None = None
        self.settled = False  # whether the frame is not much smaller than the identity would be
        self.first = True  # whether the first kink is the last one read
        self.affine_seconds = 0.0
        self.peak = float(centre.abs().max())  # largest number of row 0 so far

    # ------------------------------------------------------------------ the frame
    @property
    def rank(self) -> int:
        """Number of rows after row 0."""
        return sum(b.values.shape[1] for b in self.blocks)

    def bounds(self, rows: Tensor) -> tuple[Array, Array, Array]:
        """(low, high, rounding scale) of every number of a flat tensor over all vertices."""
        low, high = (
            torch.from_numpy(np.concatenate(side)).to(rows)
            for side in zip(*(b.range for b in self.blocks), strict=True)
        )
        centre, reach = (low + high) / 2, torch.stack([(high - low) / 2, self._scales(rows)])
        middle, sizes = rows[0].clone(), rows.new_empty(2, rows.shape[1])

        def block(at: slice) -> None:
            direction = rows[1:, at] - rows[0, at]
            middle[at] += centre @ direction
            sizes[:, at] = reach @ direction.abs_()

        over_blocks(block, rows.shape[1], _COLUMNS)
        scale = rows[0].abs() + sizes[1] + _PEAK * self.peak
        return (middle - sizes[0]).cpu().numpy(), (middle + sizes[0]).cpu().numpy(), scale.cpu().numpy()

    def scale(self, rows: Tensor) -> Array:
        """What rounding errors of a flat tensor are relative to: |row_0| + Σ max|coefficient| |row_k − row_0|, and a
        little of the largest number met so far, from which row_0 may be left over by cancellation."""
        scale = rows[0].abs() + self._scales(rows) @ (rows[1:] - rows[0]).abs_() + _PEAK * self.peak
        return scale.cpu().numpy()

    def _scales(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate([b.scale for b in self.blocks])).to(rows)

    def values(self, rows: Tensor, columns: Array | None = None, room: int = 0) -> Array:
        """(Some columns of) a flat tensor at all vertices, as the first rows of an array with room for more."""
        if columns is not None:
            rows = rows[:, torch.from_numpy(columns).to(rows.device)]
        direction, origin = (rows[1:] - rows[0]).cpu(), rows[0].cpu()
        n = len(self.blocks[0].values)
        out = np.empty((n + room, rows.shape[1]))
        whole = torch.from_numpy(out)

        def block(at: slice) -> None:
            parts = [b.part(at) for b in self.blocks]
            coefficients = torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts, 1))
            torch.addmm(origin, coefficients, direction, out=whole[at])

        over_blocks(block, n, _ROWS)
        return out

    def at_vertices(self, tensors: list[Tensor]) -> list[Callable[[], Array]]:
        """Functions that give flat tensors at all vertices; where a cut was pending, they are all that is left.

        At the vertices from before a pending cut the tensors are multiplied out while it is made; at its own they
        follow from the ends and bends of the segments cut.
        """
        if self.pending is None:
            return [partial(self.values, rows) for rows in tensors]
        begun = [self.values(rows, room=int(_ROOM * len(self.blocks[0].values))) for rows in tensors]
        split = self.arrive()
        if split is None:
            return [partial(self.values, rows) for rows in tensors]
        row, jump, rank = self.pending.row, self.pending.jump, self.rank
        self.pending, self.blocks = None, []

        def rest(rows: Tensor, out: Array) -> Array:
            spare = split.after + rank  # below the vertices, the rows by which values bend, then spare ones
            needed = spare + max(split.edges.ahead, split.chords.ahead)
            if needed > len(out):
                out = np.concatenate([out[: split.before], np.empty((needed - split.before, out.shape[1]))])
            out[split.after : spare] = (rows[1:] - rows[0]).cpu().numpy()
            both = (split.edges, split.chords)
            bends = [partial(points.bent, split.after + row, jump, spare) for points in both]
            for combination in chain(*in_parallel(*bends, numbers=16 * sum(len(points.t) for points in both))):
                combination.apply(out)
            return out[: split.after]

        return [partial(rest, *both) for both in zip(tensors, begun, strict=True)]

    def arrive(self) -> Split | None:
        """Wait for the pending cut. Where it had to be made in several, the frame follows them, and none is pending."""
        assert self.pending is not None
        splits = self.pending.splits()
        if len(splits) == 1:
            return splits[0]
        last = self.blocks.pop()
        self.follow(splits)
        self.blocks.append(Block(self.pending.after(splits), last.range))
        self.pending = None
        return None

    def finish(self, rows: Tensor, area: float) -> tuple[Array, Faces]:
        """A flat tensor at all vertices, and the certified faces of a window of this area."""
        (values,) = self.at_vertices([rows])
        wait = later(values, 16 * len(self.cells.start))
        faces = self.cells.faces(area)
        return wait(), faces

    def follow(self, splits: list[Split]) -> None:
        """Extend all coefficients to the vertices of new cuts."""
        for split in splits:
            for b in self.blocks:
                b.values = split.extend(b.values)

    def keep(self, vertices: Array) -> None:
        """Leave the coefficients of all but these vertices."""
        for b in self.blocks:
            b.values = b.values.take(vertices, 0)

    def alive(self) -> dict[Node, list[Tensor]]:
        """The tensors still needed, samples first."""
        return {n: [t.movedim(n.axis, 0) for t in _tensors(v)] for n, v in self.rows.items()}

    def replace(self, node: Node, tensors: list[Tensor]) -> None:
        """Put back what `alive` gave for a node."""
        moved = [t.movedim(0, node.axis) for t in tensors]
        self.rows[node] = moved[0] if isinstance(self.rows[node], Tensor) else type(self.rows[node])(moved)

    def settle(self, source: Node) -> bool:
        """Before a kink: make the frame the identity on the tensors alive if it is no bigger, `source` its last block.

        Returns:
            Whether it did.
        """
        alive = self.alive()
        alive[source] = alive.pop(source)
        size = sum(t[0].numel() for tensors in alive.values() for t in tensors)
        if size > self.rank and self.pending is None:
            return False
        every = [t.reshape(len(t), -1) for tensors in alive.values() for t in tensors]
        scales = [self.scale(t) for t in every]
        self.blocks = [Block(make(), scale=scale) for make, scale in zip(self.at_vertices(every), scales, strict=True)]
        at = 0
        for node, tensors in alive.items():
            identity = []
            for t in tensors:
                k = t[0].numel()
                rows = torch.zeros((size + 1, k), dtype=t.dtype, device=t.device)
                rows[1 + at : 1 + at + k].fill_diagonal_(1.0)
                identity.append(rows.reshape(size + 1, *t.shape[1:]))
                at += k
            self.replace(node, identity)
        return True

    def emit(
        self, node: Node, base: Callable[[Tensor], object], columns: Array, new: Block, *, drop: bool = False
    ) -> None:
        """The result of a kink: base rows, but their column columns[i] takes the values of new[:, i] at the vertices.

        Args:
            base: writes the first rows into a tensor (rows, numbers).
            drop: no tensor needs the last block any more.
        """
        for n in self.dying[node]:
            self.rows.pop(n, None)
        if drop:
            self.blocks.pop()
        k, kept = len(columns), self.rank + 1
        out = torch.empty((kept + k, math.prod(node.shape)), dtype=torch.float64, device=self.device)
        where = torch.from_numpy(columns).to(out.device)
        base(out[:kept])
        out[:kept, where] = 0.0
        out[kept:] = out[0]
        out[kept + torch.arange(k, device=out.device), where] = 1.0
        if k or drop:
            for n, tensors in self.alive().items():
                self.replace(n, [torch.cat([t[:kept], t[:1].expand(k, *t.shape[1:])]) for t in tensors])
        self.rows[node] = out.reshape(-1, *node.shape)
        if k:
            self.blocks.append(new)
        self.settled = self.next_size[node] <= _NEAR * self.rank
        self.report()
        self.first = False

    def report(self, more: int = 0) -> None:
        """Say how much is held: `more` numbers besides the coefficients and the rows."""
        coefficients = sum(b.values.size for b in self.blocks) + more
        numbers = sum(t.numel() for v in self.rows.values() for t in _tensors(v))
        self.watch(self, coefficients, 8 * (coefficients + numbers))

    # ------------------------------------------------------------------ operators
    def affine(self, operator: Operator) -> Node:
        """The operator on the rows; one with parameters on some at a time, since convolutions unfold all they get."""
        node = operator.node
        began = time.perf_counter()
        operands = [self.rows[n] for n in node.inputs]
        numbers = sum(t.numel() for value in operands for t in _tensors(value))
        few = self.rank + 1
        if any(not n.dynamic for n in node.operands):
            few = max(16, _AT_ONCE * few // numbers)
        parts = [
            [narrow(v, n.axis, i, i + few) for v, n in zip(operands, node.inputs, strict=True)]
            for i in range(0, self.rank + 1, few)
        ]
        with threads_for(numbers):
            results = [apply(operator, *part) for part in parts]
        self.rows[node] = torch.cat(results, node.axis) if len(results) > 1 else results[0]
        for t in _tensors(self.rows[node]):
            self.peak = max(self.peak, float(t.select(node.axis, 0).abs().max()))
        self.affine_seconds += time.perf_counter() - began
        for n in self.dying[node]:
            self.rows.pop(n, None)
        return node

    def gate(self, node: Node, gate: Gate, source: Node) -> Node:
        """Cut by the units that meet a threshold inside the window; their outputs become rows of their own."""
        size, count = math.prod(node.shape), len(gate.thresholds)
        thresholds, slopes, intercepts = (
            np.stack([_spread(v, node.shape) for v in values])
            for values in (gate.thresholds, gate.slopes, gate.intercepts)
        )
        dies = source in self.dying[node]
        settled = self.settle(source)
        whole = settled and dies and count == 1 and not thresholds.any()  # cut by all columns
        rows = self.rows[source].reshape(len(self.rows[source]), -1)
        if settled:
            block = self.blocks[-1]
            columns, z = np.arange(size), block.values if dies else block.values.copy()
            scale = block.scale
            low, high = (scale.copy(), scale.copy()) if whole else (a.copy() for a in block.range)
        else:
            low, high, scale = self.bounds(rows)
            slack = GAMMA * (scale + np.abs(thresholds))
            columns = np.flatnonzero(((low <= thresholds + slack) & (high >= thresholds - slack)).any(0))
            z = self.values(rows, columns)
            if len(columns):
                low[columns], high[columns] = span(z)
        # units that are not on one side of a threshold; only touching it counts (zero on a whole cell)
        piece, units, level, tokens, tolerance = np.zeros(size, np.int64), [], [], [], []
        for i, threshold in enumerate(thresholds):
            slack = GAMMA * (scale + np.abs(threshold))
            above = high - threshold > slack
            both = np.ones(size, bool) if whole else above & (low - threshold <= slack)
            token = gate_tokens(self.number[node], i, size)
            self.cells.shift(token[above & ~both].sum())
            piece += above
            units.append(np.flatnonzero(both))
            level.append(threshold[both])
            tokens.append(token[both])
            tolerance.append(slack[both])
        unit, threshold = np.concatenate(units), np.concatenate(level)
        cutting = columns if settled and dies else np.unique(unit)
        at = np.searchsorted(cutting, unit)
        if len(cutting) < len(columns):
            z = z.take(np.searchsorted(columns, cutting), 1)
        as_it_is = count == 1 and len(at) == z.shape[1] and not threshold.any()
        shifted = z if as_it_is else z.take(at, 1) - threshold
        kept = self.rank - (size if settled and dies else 0)
        pends = count == 1 and len(unit) > 0 and self.next_size[node] <= kept + len(cutting)
        splits = begin_cut(
            self.cells,
            shifted,
            np.concatenate(tokens),
            np.concatenate(tolerance),
            self.most,
            limits=(low, high) if whole else None,
            bends=pends,
        )
        bend = _Bend(thresholds[:, cutting], slopes[:, cutting], intercepts[:, cutting])

        def after(splits: list[Split]) -> Array:
            at_all = z
            for split in splits:
                at_all = split.extend(at_all)
                at_all[split.zero_vertex, at[split.zero_unit]] = threshold[split.zero_unit]
            over_blocks(lambda rows: bend.apply(at_all[rows]), len(at_all), _ROWS)
            return at_all

        limits = bend.image(low[cutting], high[cutting])
        if pends:
            self.pending = _Pending(splits, kept + at, (slopes[1] - slopes[0])[unit], after)
            block = Block(z, limits, bend=bend)
        else:
            done = splits()
            self.follow(done)
            block = Block(after(done), limits)
        constant = np.arange(size)
        slope = torch.from_numpy(slopes[piece, constant]).to(rows)
        intercept = torch.from_numpy(intercepts[piece, constant]).to(rows)

        def base(out: Tensor) -> None:
            torch.addcmul(intercept, rows[: len(out)], slope, out=out)

        self.emit(node, base, cutting, block, drop=settled and dies)
        return node

    def selection(self, node: Node, selection: Selection, values: list[Any]) -> Node:
        """Cut by comparisons between candidates of every window; only the cuts between different winners stay."""
        self.settle(next(v for v in values if isinstance(v, Node)))
        operands = [self.rows[v] if isinstance(v, Node) else v.to(torch.float64) for v in values]
        rows = torch.cat([v.reshape(len(v), -1) for v in torch.broadcast_tensors(*operands)], 1) * selection.sign
        index = selection.index.numpy()
        winner, open_windows, candidates, scale = self.prune(rows, index)
        columns = np.unique(candidates[candidates >= 0])
        game = Tournament(self, self.values(rows, columns), scale[columns], self.number[node])
        final = game.play(np.where(candidates >= 0, np.searchsorted(columns, candidates), -1))
        value = game.same[final]
        new, several = value >= len(columns), final >= len(columns)
        winner[open_windows[~new]] = columns[value[~new]]
        fixed = np.setdiff1d(np.arange(len(index)), open_windows[several])
        self.cells.shift(winner_tokens(self.number[node], fixed, winner[fixed]).sum())
        if game.played:
            game.merge(columns, open_windows[several], final[several])
        entry = torch.from_numpy(np.maximum(winner, 0)).to(rows.device)

        def base(out: Tensor) -> None:
            torch.index_select(rows[: len(out)], 1, entry, out=out).mul_(selection.sign)

        self.emit(node, base, open_windows[new], Block(game.values.take(value[new], 1) * selection.sign))
        return node

    def prune(self, rows: Tensor, index: Array) -> tuple[Array, Array, Array, Array]:
        """What bounds alone decide: the winner of every window, the windows still open, their candidates (−1: none),
        and the rounding scale of every entry."""
        low, high, scale = self.bounds(rows)
        padding = index < 0
        top, bottom = np.where(padding, -np.inf, high[index]), np.where(padding, -np.inf, low[index])
        slack = GAMMA * np.where(padding, 0, scale[index]).max(1)
        candidate = ~padding & (top >= (bottom.max(1) - slack)[:, None])
        equal = np.where(candidate, top == bottom, True).all(1)  # constants that are equal: the first wins
        still = np.flatnonzero((candidate.sum(1) > 1) & ~equal)
        ids = np.where(candidate[still], index[still], -1)
        winner = _first(index, candidate)
        if len(still):  # out: an entry never above the likely winner, by the bounds of the difference
            lead = np.where(ids >= 0, ((low + high) / 2)[ids], -np.inf).argmax(1)
            window, place = np.nonzero((ids >= 0) & (np.arange(ids.shape[1]) != lead[:, None]))
            pick = [torch.from_numpy(i).to(rows.device) for i in (ids[window, lead[window]], ids[window, place])]
            over = self.bounds(rows[:, pick[0]] - rows[:, pick[1]])[0]
            out = np.where(lead[window] < place, over >= 0, over > 0)  # an earlier entry loses only if strictly below
            ids[window[out], place[out]] = -1
            winner[still] = _first(ids, ids >= 0)
        more = (ids >= 0).sum(1) > 1
        return winner, still[more], ids[more], scale


def _tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _first(ids: Array, mask: Array) -> Array:
    return ids[np.arange(len(ids)), mask.argmax(1)]


def _spread(value: float | Tensor, shape: tuple[int, ...]) -> Array:
    if not isinstance(value, Tensor):
        return np.full(math.prod(shape), float(value))
    value = value.detach().to(torch.float64).cpu().numpy()
    return np.broadcast_to(value[0] if value.ndim > len(shape) else value, shape).flatten()


class _Bend:
    """The outputs of a gate: thresholds (T, n), slopes and intercepts (T + 1, n)."""

    def __init__(self, thresholds: Array, slopes: Array, intercepts: Array) -> None:
        self.thresholds, self.slopes, self.intercepts = thresholds, slopes, intercepts
        relu = len(thresholds) == 1 and (slopes[0] == 0).all() and (slopes[1] == 1).all()
        self.relu = relu and not (thresholds.any() or intercepts.any())

    def __call__(self, z: Array) -> Array:
        """Of inputs (V, n)."""
        if self.relu:
            return np.maximum(z, 0.0)
        out = z * self.slopes[0] + self.intercepts[0]
        for threshold, slope, intercept in zip(self.thresholds, self.slopes[1:], self.intercepts[1:], strict=True):
            out = np.where(z > threshold, z * slope + intercept, out)
        return out

    def apply(self, z: Array) -> None:
        """In place."""
        z[:] = self(z)

    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Smallest and largest outputs for all inputs between low and high, each (n,)."""
        if self.relu:
            return self(low), self(high)
        ends = np.concatenate([low[None], np.clip(self.thresholds, low, high), high[None]])
        from_, to = ends[:-1], ends[1:]
        used = from_ < to
        at = np.stack([from_ * self.slopes + self.intercepts, to * self.slopes + self.intercepts])
        smallest, largest = np.where(used, at.min(0), np.inf).min(0), np.where(used, at.max(0), -np.inf).max(0)
        constant, point = self(low[None])[0], low == high
        return np.where(point, constant, smallest), np.where(point, constant, largest)


def _sizes_at_next_kink(graph: Graph) -> dict[Node, float]:
    """For every kink: how many numbers the tensors have that are alive just before the next kink (or the output)."""
    alive, sizes, waiting = {graph.input}, {}, None
    for node, dying in zip(graph.nodes, graph.dying, strict=True):
        if not node.dynamic:
            continue
        if node.kind != "affine":
            if waiting is not None:
                sizes[waiting] = float(sum(math.prod(n.shape) for n in alive))
            waiting = node
        alive.add(node)
        alive -= set(dying)
    if waiting is not None:
        sizes[waiting] = float(math.prod(graph.output.shape))
    return sizes
