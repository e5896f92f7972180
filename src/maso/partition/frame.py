"""The reading of a network's graph on a cell complex.

Every tensor of the graph is, at vertex v of the complex, an affine combination

    row_0 + Σ_k coefficient[v, k] (row_k − row_0)

of r + 1 *rows*, with one coefficient matrix, the *frame*, for all tensors.  Rows are inputs and activations like any
others, so affine operators, skips and concatenations act on them unchanged, on the model's device; a few rows of
*noise* ride along that say how far rounding errors reach (`noise`).  The frame starts
as the window (r = 2); a kink cuts the complex and adds one row and one coefficient for each unit that bends inside the
window, and bounds from the range of every coefficient find these few.  Where the tensors alive have no more numbers
than there are rows, the frame becomes the identity: the values at the vertices themselves.  There an affine operator
that follows a gate is multiplied out only at the vertices from before the gate's cuts; along a segment it is piecewise
linear and bends by a known multiple of one row at each cut, from which the new vertices follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maso.graph import Graph, Node, Operator, Reading
from maso.operators import Gate, Selection
from maso.partition import noise
from maso.partition.bits import GAMMA, Array, span, winner_tokens
from maso.partition.blocks import Block
from maso.partition.complex import Complex, Faces
from maso.partition.constants import AT_ONCE, CALL, COLUMNS, CUT, HUGE, KINK, MULTIPLICATION, NEAR, NUMBER, ROWS, SIGN
from maso.partition.convolution import apply
from maso.partition.cost import Cost
from maso.partition.cut import cut
from maso.partition.forward import narrow
from maso.partition.gates import Inputs, Meetings, Pieces, meetings, outlook
from maso.partition.huge import MOVES, tame
from maso.partition.noise import HEAD
from maso.partition.plane import Plane
from maso.partition.split import Split
from maso.partition.threads import over_blocks, threads_for
from maso.partition.tournament import Tournament, prune


@dataclass(frozen=True, eq=False)
class Pending:
    """A gate whose cuts the coefficients do not follow: it bends all that comes next along the segments cut.

    Attributes:
        split: the cuts.
        row: (n,) the row of every unit that cuts, counted from row 1.
        jump: (n,) by how much its slope grows at its threshold.
    """

    split: Split
    row: Array
    jump: Array


class FrameReading(Reading[Node]):
    """Values are the nodes themselves; `rows` holds the rows of those still needed.

    Args:
        graph: the network.
        row_costs: of its affine operators, see `cost`.
        plane: the window.
        device: where rows live.
        most: regions that a cut may make; beyond, it raises `TooMany`.
        watch: called after each kink, and within selections, with (this reading, coefficients, bytes held); it may
            raise to stop the run.
    """

    def __init__(
        self,
        graph: Graph,
        row_costs: dict[Node, float],
        plane: Plane,
        device: torch.device,
        most: int,
        watch: Callable[[FrameReading, int, int], None],
    ) -> None:
        self.cells, self.device = Complex(plane.bounds), device
        self.most, self.watch, self.row_costs, self.cost = most, watch, row_costs, Cost()
        self.number = {node: i for i, node in enumerate(graph.kinks.values())}
        self.dying = dict(zip(graph.nodes, graph.dying, strict=True))
        self.next_size = _sizes_at_next_kink(graph)

        middle = self.cells.x.mean(0)
        centre = plane.points(middle)  # row 0, so that coefficients are small
        self.blocks = [Block(self.cells.x - middle)]
        corners = plane.points(self.cells.x)
        reach = (corners - centre).abs().amax(0)
        head = noise.begin(centre, torch.maximum(corners.abs().amax(0), centre[0].abs()), reach)
        self.rows: dict[Node, Any] = {graph.input: torch.cat([head, centre + plane.u, centre + plane.v]).to(device)}
        self.pending: Pending | None = None
        self.settled = False  # whether the frame is not much smaller than the identity would be
        self.first = True  # whether the first kink is the last one read
        self.graph = graph
        self.at = graph.input  # the kink that is being read
        self.moment = 0  # how often noise was added

    # ------------------------------------------------------------------ the frame
    @property
    def rank(self) -> int:
        """Number of rows after row 0."""
        return sum(b.width for b in self.blocks)

    def bounds(self, rows: Tensor) -> tuple[Array, Array, Array]:
        """(low, high, rounding scale) of every number of a flat tensor over all vertices: (HEAD + r, n) → (n,) each."""
        low, high = (
            torch.from_numpy(np.concatenate(side)).to(rows)
            for side in zip(*(b.limits for b in self.blocks), strict=True)
        )
        centre, reach = (low + high) / 2, torch.stack([(high - low) / 2, self._scales(rows)])
        middle, sizes = rows[0].clone(), rows.new_empty(2, rows.shape[1])

        def block(at: slice) -> None:
            direction = rows[HEAD:, at] - rows[0, at]
            middle[at] += centre @ direction
            sizes[:, at] = reach @ direction.abs_()

        over_blocks(block, rows.shape[1], COLUMNS)
        scale = rows[0].abs() + sizes[1] + noise.absolute(rows)
        return (middle - sizes[0]).cpu().numpy(), (middle + sizes[0]).cpu().numpy(), scale.cpu().numpy()

    def scale(self, rows: Tensor) -> Array:
        """What rounding errors of a flat tensor are relative to: (HEAD + r, n) → (n,).

        |row_0| + Σ max|coefficient| |row_k − row_0|, and the noise: the size of the numbers that have met in each one,
        from which it may be left over by cancellation; never the size of numbers that have not.
        """
        scale = rows[0].abs() + self._scales(rows) @ (rows[HEAD:] - rows[0]).abs_() + noise.absolute(rows)
        found: Array = scale.cpu().numpy()
        return found

    def _scales(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate([b.scale for b in self.blocks])).to(rows)

    def values(self, rows: Tensor, columns: Array | None = None, *, room: int = 0) -> Array:
        """A flat tensor at all vertices that the coefficients know.

        Args:
            rows: (HEAD + r, n).
            columns: (m,) only these.
            room: rows of the result that are left empty.

        Returns:
            (V + room, n or m).
        """
        if columns is not None:
            rows = rows[:, torch.from_numpy(columns).to(rows.device)]
        direction, origin = (rows[HEAD:] - rows[0]).cpu(), rows[0].cpu()
        vertices = len(self.blocks[0].values)
        out = np.empty((vertices + room, rows.shape[1]))
        whole = torch.from_numpy(out)

        def block(at: slice) -> None:
            parts = [b.part(at) for b in self.blocks]
            coefficients = torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts, 1))
            torch.addmm(origin, coefficients, direction, out=whole[at])

        over_blocks(block, vertices, ROWS)
        self.cost.vertices += vertices * rows.shape[1] * (MULTIPLICATION * len(direction) + NUMBER)
        return out

    def at_vertices(self, tensors: list[Tensor]) -> list[Array]:
        """Flat tensors at all vertices, (HEAD + r, n) → (V, n); where a gate was pending, they are all that is left.

        At the vertices from before its cuts they are multiplied out; at the new ones they follow from the ends and
        bends of the segments cut.
        """
        if self.pending is None:
            return [self.values(rows) for rows in tensors]
        split, rank = self.pending.split, self.rank
        # below the vertices: the rows by which values bend, then room for points that are evaluated before the others
        directions, spare = slice(split.after, split.after + rank), split.after + rank
        room = spare + max(split.edges.ahead, split.chords.ahead) - split.before
        steps = [
            combination
            for points in (split.edges, split.chords)
            for combination in points.bent(split.after + self.pending.row, self.pending.jump, spare)
        ]

        outs = [self.values(rows, room=room) for rows in tensors]
        self.pending, self.blocks = None, []  # before the room is written to, or half as much memory again is held
        for rows, out in zip(tensors, outs, strict=True):
            out[directions] = (rows[HEAD:] - rows[0]).cpu().numpy()
            for combination in steps:
                combination.apply(out)
            self.cost.vertices += NUMBER * sum(len(step.weight) for step in steps) * out.shape[1]
        return [out[: split.after] for out in outs]

    def finish(self, rows: Tensor, area: float) -> tuple[Array, Array, Faces]:
        """A flat tensor at all vertices, (HEAD + r, K) → (V, K); what its rounding errors are relative to, (K,); and
        the certified faces of a window of this area."""
        scale = self.scale(rows)
        (values,) = self.at_vertices([rows])
        return values, scale, self.cells.faces(area)

    def cut(
        self, z: Array, tokens: Array, tolerance: Array, *, limits: tuple[Array, Array] | None = None
    ) -> list[Split]:
        """Cut the complex by units, see `cut.cut`; the coefficients do not follow yet."""
        splits = cut(self.cells, z, tokens, tolerance, self.most, limits=limits)
        self.cost.vertices += SIGN * z.size + sum(KINK + CUT * (split.after - split.before) for split in splits)
        return splits

    def follow(self, splits: list[Split]) -> None:
        """Extend all coefficients to the vertices of new cuts."""
        for split in splits:
            self.blocks = [b.moved(split.extend(b.values)) for b in self.blocks]
            self.cost.vertices += NUMBER * split.after * self.rank

    def keep(self, vertices: Array) -> None:
        """Leave the coefficients of all but these vertices."""
        self.blocks = [b.moved(b.values.take(vertices, 0)) for b in self.blocks]

    def alive(self) -> dict[Node, list[Tensor]]:
        """The tensors still needed, samples first."""
        return {n: [t.movedim(n.axis, 0) for t in _tensors(v)] for n, v in self.rows.items()}

    def replace(self, node: Node, tensors: list[Tensor]) -> None:
        """Put back what `alive` gave for a node."""
        moved = [t.movedim(0, node.axis) for t in tensors]
        self.rows[node] = moved[0] if isinstance(self.rows[node], Tensor) else type(self.rows[node])(moved)

    def tame(self, node: Node) -> None:
        """Keep what is huge in a result within what float64 can hold, see `huge`."""
        tensors = tame(self.graph, node, [t.movedim(node.axis, 0) for t in _tensors(self.rows[node])])
        if tensors is not None:
            self.replace(node, tensors)

    def remember(self, node: Node) -> None:
        """Add to a result's noise where a constant larger than all else has met in it, see `noise.remember`."""
        whole, replaced = [], False
        for t in _tensors(self.rows[node]):
            samples = t.movedim(node.axis, 0)
            whole.append(samples)
            head = noise.remember(samples[:HEAD].reshape(HEAD, -1), seed=self.moment)
            if head is None:
                continue
            head, self.moment = head.reshape(HEAD, *samples.shape[1:]), self.moment + 1
            if t._is_view():  # perhaps of another node's
                whole[-1], replaced = torch.cat([head, samples[HEAD:]]), True
            else:
                samples[:HEAD] = head
        if replaced:
            self.replace(node, whole)

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
        flat = [t.reshape(len(t), -1) for tensors in alive.values() for t in tensors]
        scales = [self.scale(t) for t in flat]
        values = self.at_vertices(flat)
        self.blocks = [Block(value, scale=scale) for value, scale in zip(values, scales, strict=True)]

        at = 0
        for node, tensors in alive.items():
            identity = []
            for t in tensors:
                k = t[0].numel()
                rows = torch.zeros((HEAD + size, k), dtype=t.dtype, device=t.device)
                rows[1:HEAD] = t[1:HEAD].reshape(HEAD - 1, k) - t[0].reshape(k)
                rows[HEAD + at : HEAD + at + k].fill_diagonal_(1.0)
                identity.append(rows.reshape(HEAD + size, *t.shape[1:]))
                at += k
            self.replace(node, identity)
        return True

    def emit(
        self,
        node: Node,
        base: Callable[[Tensor], object],
        columns: Array,
        new: Block,
        fresh: tuple[Array, Array],
        *,
        drop: bool = False,
    ) -> None:
        """The result of a kink: base rows, but their column columns[i] takes the values of new[:, i] at the vertices.

        Args:
            base: writes the first rows into a tensor (rows, numbers).
            columns: (k,) numbers of the result.
            new: k rows.
            fresh: (numbers,) and (numbers,), the noise and the variation that the kink adds, see `noise`.
            drop: no tensor needs the last block any more.
        """
        for n in self.dying[node]:
            self.rows.pop(n, None)
        if drop:
            self.blocks.pop()
        k, kept = len(columns), HEAD + self.rank
        out = torch.empty((kept + k, math.prod(node.shape)), dtype=torch.float64, device=self.device)
        where = torch.from_numpy(columns).to(out.device)
        base(out[:kept])
        out[:kept, where] = 0.0
        out[kept:] = out[0]
        size, reach = (torch.from_numpy(part).to(out.device) for part in fresh)
        noise.add(out, size, reach, seed=self.moment)
        self.moment += 1
        out[kept + torch.arange(k, device=out.device), where] = 1.0
        self.cost.affine += NUMBER * out.numel() + CALL
        self.cost.operators += 1

        if k or drop:
            for n, tensors in self.alive().items():
                self.replace(n, [torch.cat([t[:kept], t[:1].expand(k, *t.shape[1:])]) for t in tensors])
        self.rows[node] = out.reshape(-1, *node.shape)
        if k:
            self.blocks.append(new)
        self.tame(node)
        self.settled = self.next_size[node] <= NEAR * self.rank
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
        operands = [self.rows[n] for n in node.inputs]
        numbers = sum(t.numel() for value in operands for t in _tensors(value))
        few = HEAD + self.rank
        if any(not n.dynamic for n in node.operands):
            few = max(16, AT_ONCE * few // numbers)
        parts = [
            [narrow(v, n.axis, i, i + few) for v, n in zip(operands, node.inputs, strict=True)]
            for i in range(0, HEAD + self.rank, few)
        ]
        with threads_for(numbers):
            results = [apply(operator, *part) for part in parts]
        self.rows[node] = torch.cat(results, node.axis) if len(results) > 1 else results[0]

        self.tame(node)
        if node.op not in MOVES:
            self.remember(node)
        self.cost.affine += self.row_costs[node] * (self.rank + 1) + CALL
        self.cost.operators += 1
        for n in self.dying[node]:
            self.rows.pop(n, None)
        return node

    def gate(self, node: Node, gate: Gate, source: Node) -> Node:
        """Cut by the units that meet a threshold inside the window; their outputs become rows of their own."""
        self.at = node
        pieces, dies = Pieces.of(gate, node.shape), source in self.dying[node]
        settled = self.settle(source)
        rows = self.rows[source].reshape(len(self.rows[source]), -1)
        inputs = self._settled_inputs(pieces, dies=dies) if settled else self._bounded_inputs(pieces, rows)

        met = meetings(pieces, inputs, self.number[node])
        self.cells.shift(met.constant)

        replaces = settled and dies  # the outputs of all units take the place of the last block, their inputs
        cutting = inputs.columns if replaces else np.unique(met.unit)
        z = inputs.z
        if len(cutting) < len(inputs.columns):
            z = z.take(np.searchsorted(inputs.columns, cutting), 1)
        at = np.searchsorted(cutting, met.unit)
        splits = self._cut_gate(z, at, met, (inputs.low, inputs.high) if inputs.everywhere else None)

        look = outlook(pieces, inputs, noise.variation(rows), cutting)
        bend = pieces.bend(cutting)
        limits = bend.image(inputs.low[cutting], inputs.high[cutting])
        kept = self.rank - (inputs.z.shape[1] if replaces else 0)
        # if the frame will be the identity at the next kink, what the gate's outputs are multiplied by can bend instead
        defers = len(pieces.thresholds) == 1 and self.next_size[node] <= kept + len(cutting) and len(splits) == 1
        if defers:
            self.pending = Pending(splits[0], kept + at, (pieces.slopes[1] - pieces.slopes[0])[met.unit])
            block = Block(z, limits=limits, bend=bend)
        else:
            self.follow(splits)
            for split in splits:
                z = split.extend(z)
                z[split.zero_vertex, at[split.zero_unit]] = met.threshold[split.zero_unit]
            block = Block(self._bent(z, bend), limits=limits)
        self.emit(node, _base(pieces, met.piece, rows), cutting, block, look, drop=replaces)
        return node

    def _settled_inputs(self, pieces: Pieces, *, dies: bool) -> Inputs:
        """Of a gate on the last block of an identity: the coefficients are the values, a copy if these live on.

        Where the threshold is zero and nothing else needs the block, all units cut: that takes no longer than to find
        those that do, and finds their ranges on the way.
        """
        block, everywhere = self.blocks[-1], dies and pieces.at_zero
        low, high = (block.scale, block.scale) if everywhere else block.limits
        return Inputs(
            columns=np.arange(block.width),
            z=block.values if dies else block.values.copy(),
            low=low.copy(),
            high=high.copy(),
            scale=block.scale,
            everywhere=everywhere,
        )

    def _bounded_inputs(self, pieces: Pieces, rows: Tensor) -> Inputs:
        """Of a gate on any tensor: values only of the units whose bounds meet a threshold."""
        low, high, scale = self.bounds(rows)
        slack = GAMMA * (scale + np.abs(pieces.thresholds))
        near = ((low <= pieces.thresholds + slack) & (high >= pieces.thresholds - slack)).any(0)
        columns = np.flatnonzero(near)
        z = self.values(rows, columns)
        if len(columns):
            low[columns], high[columns] = span(z)
        return Inputs(columns, z, low, high, scale, everywhere=False)

    def _cut_gate(self, z: Array, at: Array, met: Meetings, limits: tuple[Array, Array] | None) -> list[Split]:
        """Cut by pairs of a column of z (V, k) and a threshold; by z as it is where every column is cut at zero."""
        if len(at) == z.shape[1] and (at == np.arange(len(at))).all() and not met.threshold.any():
            return self.cut(z, met.token, met.tolerance, limits=limits)
        return self.cut(z.take(at, 1) - met.threshold, met.token, met.tolerance, limits=limits)

    def _bent(self, z: Array, bend: Callable[[Array], Array]) -> Array:
        """Outputs of a gate for inputs z (V, k), in their place."""

        def block(at: slice) -> None:
            z[at] = bend(z[at])

        over_blocks(block, len(z), ROWS)
        return z

    def selection(self, node: Node, selection: Selection, values: list[Any]) -> Node:
        """Cut by comparisons between candidates of every window; only the cuts between different winners stay."""
        self.at = node
        self.settle(next(v for v in values if isinstance(v, Node)))
        operands = [self.rows[v] if isinstance(v, Node) else v.to(torch.float64).clamp(-HUGE, HUGE) for v in values]
        entries = torch.broadcast_tensors(*operands)
        flat = [v.reshape(len(v), -1) for v in entries]
        rows = flat[0] if len(flat) == 1 else torch.cat(flat, 1)
        if selection.sign < 0:
            rows = -rows
        index, kink = selection.index.numpy(), self.number[node]
        varies = noise.variation(rows)
        winner, open_windows, candidates, ranges = prune(rows, index, varies, self.bounds)
        low, high, scale = ranges

        columns = np.unique(candidates[candidates >= 0])
        game = Tournament(self, self.values(rows, columns), scale[columns], varies[columns], kink)
        final = game.play(np.where(candidates >= 0, np.searchsorted(columns, candidates), -1))
        value = game.same[final]
        new, several = value >= len(columns), final >= len(columns)
        winner[open_windows[~new]] = columns[value[~new]]

        fixed = np.setdiff1d(np.arange(len(index)), open_windows[several])
        self.cells.shift(winner_tokens(kink, fixed, winner[fixed]).sum())
        if game.rounds:
            game.merge(columns, open_windows[several], final[several])

        chosen = np.maximum(winner, 0)
        entry = torch.from_numpy(chosen).to(rows.device)
        size, reach = np.maximum(-low, high)[chosen], (high / 2 - low / 2)[chosen]
        there = candidates >= 0  # what has met in any of the candidates has met in their maximum
        size[open_windows] = np.where(there, scale[candidates], 0.0).max(1, initial=0.0)
        reach[open_windows] += np.where(there, varies[candidates], 0.0).max(1, initial=0.0)

        def base(out: Tensor) -> None:
            torch.index_select(rows[: len(out)], 1, entry, out=out)
            if selection.sign < 0:
                out.neg_()

        self.emit(node, base, open_windows[new], Block(game.values.take(value[new], 1) * selection.sign), (size, reach))
        return node


def _tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _base(pieces: Pieces, piece: Array, rows: Tensor) -> Callable[[Tensor], object]:
    """The rows (r + 1, size) of a gate's units, each on its one piece (size,); see `FrameReading.emit`."""
    units = np.arange(len(piece))
    slope = torch.from_numpy(pieces.slopes[piece, units]).to(rows)
    intercept = torch.from_numpy(pieces.intercepts[piece, units]).to(rows)
    return lambda out: torch.addcmul(intercept, rows[: len(out)], slope, out=out)


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
