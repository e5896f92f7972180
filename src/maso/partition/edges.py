"""The first half of a cut: signs of the units at the vertices, cuts of the edges, and keys of the pieces.

Everything here is found once and never changed again: `Units` → `EdgeCuts`, `Corners` → `EdgePieces`.  In shapes, V, E
and H are the vertices, edges and half-edges of the complex as it was, n the units, C the cuts of edges, and P = E + C
the pieces of edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maso.partition.bits import Array, bit, entry, order_along, pack, runs, set_bits, span, sum_tokens
from maso.partition.complex import OUTSIDE, Complex, Degenerate
from maso.partition.constants import DOUBTFUL, EDGES, ROWS
from maso.partition.segments import Pieces, between, check_apart, insert, sum_along
from maso.partition.split import Points
from maso.partition.threads import over_blocks

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Units:
    """The units by which a complex is cut, at its vertices.

    Attributes:
        z: (V, n) their values, zero where they are within the tolerance.
        tokens: (n,) int64.
        tolerance: (n,) what counted as zero.
        positive: (V, ⌈n/64⌉) packed bits of the values above zero.
        negative: the same of those below zero; None where no value is zero, so that these are all the others.
    """

    z: Array
    tokens: Array
    tolerance: Array
    positive: Array
    negative: Array | None

    def crossed(self, start: Array, end: Array) -> Array:
        """Packed bits of the units that have opposite strict signs at two vertices: (N,), (N,) → (N, words)."""
        positive_start, positive_end = self.positive.take(start, 0), self.positive.take(end, 0)
        crossed: Array
        if self.negative is None:
            crossed = positive_start ^ positive_end
        else:
            falls = positive_start & self.negative.take(end, 0)
            crossed = falls | (self.negative.take(start, 0) & positive_end)
        return crossed

    def sign(self, vertex: Array, unit: Array) -> Array:
        """Signs −1, 0, 1 of single units at single vertices: (N,) int8."""
        above = bit(self.positive, vertex, unit)
        return 2 * above - 1 if self.negative is None else above - bit(self.negative, vertex, unit)

    def value(self, a: Array, b: Array, t: Array, unit: Array) -> Array:
        """Values of single units at parameters t from vertex a to vertex b: (N,)."""
        start, end = entry(self.z, a, unit), entry(self.z, b, unit)
        value: Array = start + t * (end - start)
        return value


def signs(z: Array, tokens: Array, tolerance: Array, limits: tuple[Array, Array] | None) -> Units:
    """Strict signs of the values (V, n), of which those within the tolerance (n,) become zero, in place.

    Values that are zero in exact arithmetic come out at less than a hundredth of the tolerance, and others seldom
    anywhere near it. So a value close to the tolerance itself is of neither kind: numbers of other parts of the window
    are much larger than those that meet here. There the window must be cut up.

    Args:
        limits: (low, high), each (n,), to be filled with the ranges of the values.

    Raises:
        Degenerate: a value is neither clearly zero nor clearly not.
    """
    vertices, n = z.shape
    inner, outer = DOUBTFUL[0] * tolerance, DOUBTFUL[1] * tolerance
    positive = np.empty((vertices, (n + 63) // 64), np.uint64)
    touched: list[slice] = []
    ranges: list[tuple[Array, Array]] = []

    def block(at: slice) -> None:
        part = z[at]
        size = np.abs(part)
        near = size <= outer
        if near.any():
            small = size <= tolerance
            if (near & (size > inner)).any():
                raise Degenerate("float64 does not say whether the line of a unit runs through a vertex")
            part[small] = 0.0
            touched.append(at)
        positive[at] = pack(part > 0)
        if limits is not None:
            ranges.append(span(part))

    over_blocks(block, vertices, ROWS)
    if limits is not None:
        low, high = zip(*ranges, strict=True)
        limits[0][:], limits[1][:] = np.min(low, 0), np.max(high, 0)

    negative = None
    if touched:
        negative = np.concatenate([pack(z[i : i + ROWS] < 0) for i in range(0, vertices, ROWS)])
    return Units(z, tokens, tolerance, positive, negative)


@dataclass(frozen=True, eq=False)
class EdgeCuts:
    """Where the units cut the edges; sorted by edge, then along each edge.

    Attributes:
        edge, unit: (C,) which unit cuts which edge.
        t: (C,) parameter 0 < t < 1 from the edge's start to its end.
        bend: (C,) |change of the unit along the whole edge|.
        falls: (C,) whether the unit is positive at the start.
        x: (C, 2) the points.
        count: (E,) cuts of every edge.
    """

    edge: Array
    unit: Array
    t: Array
    bend: Array
    falls: Array
    x: Array
    count: Array


def cut_edges(cells: Complex, units: Units) -> EdgeCuts:
    """An edge is cut by a unit iff its ends have opposite strict signs.

    Raises:
        Degenerate: two cuts of an edge coincide.
    """
    portions: dict[int, tuple[Array, ...]] = {}

    def block(at: slice) -> None:
        start, end = cells.start[at], cells.end[at]
        edge, unit = set_bits(units.crossed(start, end))
        z0, z1 = entry(units.z, start[edge], unit), entry(units.z, end[edge], unit)
        t = z0 / (z0 - z1)

        count = np.bincount(edge, minlength=len(start))
        several = np.flatnonzero(count[edge] > 1)  # the others are sorted as they are
        if len(several):
            order = several[order_along(edge[several], t[several])]
            for column in (edge, unit, t, z0, z1):
                column[several] = column[order]
            slope = np.abs(z0[several] - z1[several])
            check_apart(edge[several], t[several], units.tolerance[unit[several]] / slope)

        x = between(cells.x, start[edge], end[edge], t)
        portions[at.start] = edge + at.start, unit, t, np.abs(z1 - z0), z0 > 0, x, count

    over_blocks(block, len(cells.start), EDGES)
    columns = zip(*(portions[i] for i in sorted(portions)), strict=True)
    return EdgeCuts(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True, eq=False)
class Corners:
    """Corners of regions at which a chord ends, since its unit is zero there; and units zero all along an edge.

    Attributes:
        half, edge, region, vertex, ahead, unit: (N,) of every such corner the half-edge that starts there with the
            region on its left, that half-edge's edge, the region's key, the corner, the vertex at the half-edge's end,
            and the unit.
        rises: (N,) whether the unit is positive at `ahead`.
        snapped: vertices that a unit's line was taken to run through.
        along: (H,) sum of the tokens of the units that are zero all along a half-edge and positive in the region on
            its left; None where no value is zero.
    """

    half: Array
    edge: Array
    region: Array
    vertex: Array
    ahead: Array
    unit: Array
    rises: Array
    snapped: Array
    along: Array | None


def find_corners(cells: Complex, units: Units) -> Corners:
    """A corner ends a chord iff the unit is zero there and has both strict signs in the region."""
    positive, negative = units.positive, units.negative
    if negative is None:
        return Corners(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, _NONE.astype(bool), _NONE, None)
    key, start, end, edge = cells.half_edges()
    order, sorted_key = cells.by_region()
    first, sides = runs(sorted_key)
    region = np.empty(len(key), np.int64)
    region[order] = np.repeat(np.arange(len(first)), sides)
    some_positive = np.bitwise_or.reduceat(positive.take(start[order], 0), first, axis=0)
    some_negative = np.bitwise_or.reduceat(negative.take(start[order], 0), first, axis=0)

    strict = positive | negative
    zero_along = ~(strict.take(cells.start, 0) | strict.take(cells.end, 0))[edge] & some_positive[region]
    touching = np.flatnonzero(zero_along.any(1))
    along = np.zeros(len(edge), np.int64)
    along[touching] = sum_tokens(zero_along[touching], units.tokens)

    half, unit = set_bits((some_positive & some_negative)[region] & ~strict[start])
    return Corners(
        half=half,
        edge=edge[half],
        region=key[half],
        vertex=start[half],
        ahead=end[half],
        unit=unit,
        rises=bit(positive, end[half], unit) > 0,
        snapped=np.concatenate([start[touching], start[half]]),
        along=along,
    )


@dataclass(frozen=True, eq=False)
class EdgePieces:
    """The edges, cut, and what lies beside their pieces.

    Attributes:
        pieces: of the edges.
        token: (P,) sum of the tokens of the units that are positive on a piece; not of those zero all along its edge.
        cut_token: (C,) the same at a cut, its own unit excluded.
        left, right: (P,) keys of the regions on the two sides.
        along_left, along_right: (E,) sums as in `Corners.along` on the two sides of every edge.
    """

    pieces: Pieces
    token: Array
    cut_token: Array
    left: Array
    right: Array
    along_left: Array
    along_right: Array


def key_pieces(cells: Complex, units: Units, cuts: EdgeCuts, corners: Corners) -> EdgePieces:
    """Keys along the edges: sums of tokens that change at every cut by that of its unit."""
    vertices, edges = len(units.z), len(cells.start)
    pieces = insert(cells.start, cells.end, cuts.count, cuts.edge, vertices + np.arange(len(cuts.edge)))

    begin = sum_tokens(units.positive, units.tokens)[cells.start]  # units positive just after the start of an edge
    if units.negative is not None:  # such that are zero at the start itself
        starting = units.positive.take(cells.end, 0) & ~(units.positive | units.negative).take(cells.start, 0)
        rows = np.flatnonzero(starting.any(1))
        begin[rows] += sum_tokens(starting[rows], units.tokens)

    own = units.tokens[cuts.unit]
    gained = np.where(cuts.falls, 0, own)
    token = sum_along(pieces, cuts.count, begin, 2 * gained - own)
    cut_token = token[pieces.before] + gained - own

    edge = np.repeat(np.arange(edges), cuts.count + 1)
    left, right = cells.left[edge] + token, cells.right[edge] + token
    along_left = along_right = _NONE
    if corners.along is not None:
        inner = np.flatnonzero(cells.right != OUTSIDE)  # the half-edges after the first E are these, reversed
        along_left, along_right = corners.along[:edges], np.zeros(edges, np.int64)
        along_right[inner] = corners.along[edges:]
        left, right = left + along_left[edge], right + along_right[edge]
    right = np.where(cells.right[edge] == OUTSIDE, OUTSIDE, right)
    return EdgePieces(pieces, token, cut_token, left, right, along_left, along_right)


def points_on_edges(cells: Complex, units: Units, cuts: EdgeCuts) -> Points:
    """The cuts as points inserted into the edges, all of them new vertices."""
    return Points(
        a=cells.start,
        b=cells.end,
        count=cuts.count,
        t=cuts.t,
        unit=cuts.unit,
        bend=cuts.bend,
        first=len(units.z),
        wanted=np.arange(len(cuts.edge)),
    )
