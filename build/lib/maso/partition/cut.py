"""Cutting a complex by many units at once.

A unit is a function that is affine on every region; it is given by its values at the vertices.  Signs are three-valued:
|z| ≤ tolerance counts as zero.  Then

1. a region is cut by a unit iff it has corners of both strict signs; an edge is cut iff its ends have opposite signs;
2. in a convex region the cut is one *chord*, between two points of the border: each a cut of an edge, or a corner where
   the unit is zero; going round, the unit falls at one and rises at the other;
3. two chords of a region cross iff each one's unit takes opposite signs at the ends of the other.  That is decided from
   the signs at the vertices and the order of cuts along an edge, never from new floating-point numbers;
4. keys along an edge or a chord follow by prefix sums of the tokens of the units crossed.

Certificates, always checked: every (region, unit) has exactly two ends, one falling and one rising; the key summed
along a chord is the key at its far end; there are as many keys as Euler's formula has faces.  Where one fails (several
units through one point, one line twice), the units are cut one half after the other; with one unit at a time this is
polygon clipping.  No Python loop runs over cells, units or edges.

Source: batched edge subdivision, after Berzins, "Polyhedral complex extraction from ReLU networks using edge
subdivision" (ICML 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maso.partition.bits import Array, bit, entry, mix, order_along, order_of, pack, runs, set_bits, sum_tokens
from maso.partition.complex import OUTSIDE, Complex, Degenerate
from maso.partition.split import Points, Split
from maso.partition.threads import later, over_blocks

_ROWS = 1024  # vertices whose values stay in cache
_EDGES = 1 << 14  # edges whose cuts are found together
_PAIRS = 1 << 20  # pairs of chords looked at together
_NONE = np.zeros(0, np.int64)


class TooMany(Exception):
    """More regions than allowed."""


def cut(cells: Complex, z: Array, tokens: Array, tolerance: Array, most: int) -> list[Split]:
    """Cut all regions by all units; keys grow by the token of every unit that is positive in the region.

    Args:
        cells: cut in place.
        z: (V, n) values at the vertices; values within the tolerance become zero, in place.
        tokens: (n,) int64.
        tolerance: (n,) what counts as zero.
        most: regions allowed.

    Returns:
        The cuts made, one after the other (one, unless the arrangement is degenerate).

    Raises:
        Degenerate: a single unit cannot be cut.
        TooMany: there would be more than `most` regions.
    """
    return begin_cut(cells, z, tokens, tolerance, most)()


def begin_cut(
    cells: Complex,
    z: Array,
    tokens: Array,
    tolerance: Array,
    most: int,
    *,
    limits: tuple[Array, Array] | None = None,
    bends: bool = False,
) -> Callable[[], list[Split]]:
    """As `cut`, on another thread: the function returned waits for it, and till then nothing may touch `cells`.

    Args:
        limits: (low, high), each (n,), to be filled with the ranges of the values.
        bends: prepare what `Points.bent` needs.
    """
    if z.shape[1] == 0:
        return list
    step = _Cut(cells, z, tokens, tolerance, most, bends)
    step.signs(limits)
    whole = later(step.apply, z.size)

    def wait() -> list[Split]:
        try:
            return [whole()]
        except Degenerate:
            if z.shape[1] == 1:
                raise
            return _by_halves(cells, z, tokens, tolerance, most)

    return wait


def _by_halves(cells: Complex, z: Array, tokens: Array, tolerance: Array, most: int) -> list[Split]:
    half = z.shape[1] // 2
    first = cut(cells, np.ascontiguousarray(z[:, :half]), tokens[:half], tolerance[:half], most)
    rest = np.ascontiguousarray(z[:, half:])
    for split in first:
        rest = split.extend(rest)
    second = cut(cells, rest, tokens[half:], tolerance[half:], most)
    for split in second:
        split.zero_unit = split.zero_unit + half
        for points in (split.edges, split.chords):
            points.unit = points.unit + half
    return first + second


class _Cut:
    """One cut by all units at once, step by step; the values are changed by `signs` alone."""

    def __init__(self, cells: Complex, z: Array, tokens: Array, tolerance: Array, most: int, bends: bool) -> None:
        self.cells, self.z, self.tokens, self.tolerance, self.most = cells, z, tokens, tolerance, most
        self.vertices, self.units = z.shape
        self.bends = bends

    def apply(self) -> Split:
        self.cut_edges()
        self.find_corners()
        keyed = later(self.key_pieces, self.z.size)
        self.find_ends()
        self.pair_ends()
        self.cross_chords()
        keyed()
        self.key_ends()
        return self.assemble()

    # ------------------------------------------------------------------ signs
    def signs(self, limits: tuple[Array, Array] | None) -> None:
        """Strict signs at the vertices, packed: `pos`, and `neg` where some value is zero; ranges where asked for."""
        z, tolerance = self.z, self.tolerance
        self.pos = np.empty((self.vertices, (self.units + 63) // 64), np.uint64)
        touched, ranges = [], []

        def block(at: slice) -> None:
            part = z[at]
            small = np.abs(part) <= tolerance
            if small.any():
                part[small] = 0.0
                touched.append(at)
            self.pos[at] = pack(part > 0)
            if limits is not None:
                ranges.append((part.min(0), part.max(0)))

        over_blocks(block, self.vertices, _ROWS)
        if limits is not None:
            low, high = zip(*ranges, strict=True)
            limits[0][:], limits[1][:] = np.min(low, 0), np.max(high, 0)
        self.zero = bool(touched)
        if self.zero:
            self.neg = np.concatenate([pack(z[i : i + _ROWS] < 0) for i in range(0, self.vertices, _ROWS)])

    # ------------------------------------------------------------------ edges
    def crossed(self, start: Array, end: Array) -> Array:
        """Packed bits of the units whose signs at the ends are opposite."""
        p0, p1 = self.pos.take(start, 0), self.pos.take(end, 0)
        if not self.zero:
            return p0 ^ p1
        return (p0 & self.neg.take(end, 0)) | (self.neg.take(start, 0) & p1)

    def cut_edges(self) -> None:
        """Cuts of the edges, sorted along each edge."""
        c, z = self.cells, self.z
        parts = {}

        def block(at: slice) -> None:
            start, end = c.start[at], c.end[at]
            crossed = self.crossed(start, end)
            edge, unit = set_bits(crossed)
            z0, z1 = entry(z, start[edge], unit), entry(z, end[edge], unit)
            t = z0 / (z0 - z1)
            count = np.bincount(edge, minlength=len(start))
            several = np.flatnonzero(count[edge] > 1)
            if len(several):
                order = several[order_along(edge[several], t[several])]
                for a in (edge, unit, t, z0, z1):
                    a[several] = a[order]
                _resolved(edge[several], t[several], self.tolerance[unit[several]] / np.abs(z0[several] - z1[several]))
            cut_x = between(c.x, start[edge], end[edge], t)
            parts[at.start] = edge + at.start, unit, t, np.abs(z1 - z0), z0 > 0, cut_x, count  # falls from start to end

        over_blocks(block, len(c.start), _EDGES)
        columns = zip(*(parts[i] for i in sorted(parts)), strict=True)
        joined = [np.concatenate(column) for column in columns]
        self.edge, self.unit, self.t, self.bend, self.falls, self.cut_x, self.edge_count = joined
        self.cuts = len(self.edge)

    def find_corners(self) -> None:
        """Corners of regions where a chord ends, and units that are zero all along an edge.

        `line` is the sum of the tokens of those that are positive in the region on the left of a half-edge.
        """
        self.corner_half = self.corner_region = self.corner_at = self.corner_ahead = _NONE
        self.corner_edge = self.corner_unit = self.snapped = _NONE
        if not self.zero:
            return
        c = self.cells
        key, start, end, back = c.half_edges()
        order, found = order_of(key)
        first, sides = runs(found)
        region = np.empty(len(key), np.int64)
        region[order] = np.repeat(np.arange(len(first)), sides)
        some_pos = np.bitwise_or.reduceat(self.pos.take(start[order], 0), first, axis=0)
        some_neg = np.bitwise_or.reduceat(self.neg.take(start[order], 0), first, axis=0)
        strict = self.pos | self.neg
        along = ~(strict.take(c.start, 0) | strict.take(c.end, 0))[back] & some_pos[region]
        rows = np.flatnonzero(along.any(1))
        self.line = np.zeros(len(back), np.int64)
        self.line[rows] = sum_tokens(along[rows], self.tokens)
        self.left_line, self.right_line = self.line[: len(c.start)], np.zeros(len(c.start), np.int64)
        self.right_line[back[len(c.start) :]] = self.line[len(c.start) :]
        half, self.corner_unit = set_bits((some_pos & some_neg)[region] & ~strict[start])
        self.corner_half, self.corner_edge, self.corner_region = half, back[half], key[half]
        self.corner_at, self.corner_ahead = start[half], end[half]
        self.snapped = np.concatenate([start[rows], self.corner_at])

    def key_pieces(self) -> None:
        """The pieces of the edges with their keys, and the tokens of the units positive at a cut, its own excluded."""
        c, tokens, count = self.cells, self.tokens, self.edge_count
        begin = sum_tokens(self.pos, tokens)[c.start]  # units positive just after the start of an edge
        if self.zero:
            late = self.pos.take(c.end, 0) & ~(self.pos | self.neg).take(c.start, 0)  # zero at the start itself
            rows = np.flatnonzero(late.any(1))
            begin[rows] += sum_tokens(late[rows], tokens)
        cuts = np.arange(self.cuts)
        self.pieces = _insert(c.start, c.end, count, self.edge, self.vertices + cuts)
        rises = np.where(self.falls, 0, tokens[self.unit])
        self.piece_token = _prefix(self.pieces, count, begin, 2 * rises - tokens[self.unit])
        self.cut_token = self.piece_token[self.pieces.at] + rises - tokens[self.unit]
        edge = np.repeat(np.arange(len(c.start)), count + 1)
        left, right = c.left[edge] + self.piece_token, c.right[edge] + self.piece_token
        if self.zero:
            left, right = left + self.left_line[edge], right + self.right_line[edge]
        self.piece_left, self.piece_right = left, np.where(c.right[edge] == OUTSIDE, OUTSIDE, right)
        self.on_edges = Points(c.start, c.end, count, self.t, self.unit, self.bend, self.vertices, cuts)
        if self.bends:
            self.on_edges.prepare()

    # ------------------------------------------------------------------ ends of chords
    def find_ends(self) -> None:
        """Ends of chords: every cut of an edge seen from the left, from the right, then corners where a unit is zero.

        An end lies at parameter end_t between the vertices end_a and end_b.
        """
        c, at, ahead, unit = self.cells, self.corner_at, self.corner_ahead, self.corner_unit
        self.inner = np.flatnonzero(c.right[self.edge] != OUTSIDE)
        seen = np.concatenate([np.arange(self.cuts), self.inner])
        edge, none = self.edge[seen], np.full(len(at), -1)
        self.corner_rises = bit(self.pos, ahead, unit) > 0
        self.end_region = np.concatenate([c.left[self.edge], c.right[self.edge[self.inner]], self.corner_region])
        self.end_unit = np.concatenate([self.unit[seen], unit])
        self.end_rises = np.concatenate([~self.falls, self.falls[self.inner], self.corner_rises])
        self.end_edge, self.end_cut = np.concatenate([edge, none]), np.concatenate([seen, none])
        self.end_vertex = np.concatenate([self.vertices + seen, at])
        self.end_a, self.end_b = np.concatenate([c.start[edge], at]), np.concatenate([c.end[edge], at])
        self.end_ahead = np.concatenate([np.full(len(seen), -1), ahead])
        self.end_t = np.concatenate([self.t[seen], np.zeros(len(at))])
        self.end_x = np.concatenate([self.cut_x.take(seen, 0), c.x.take(at, 0)])
        self.end_turn = np.zeros(len(seen) + len(at), np.int64)

    def key_ends(self) -> None:
        """Sum of the tokens of the units positive at each end, its own excluded, seen in the direction of its chord."""
        edge, half, pieces = self.corner_edge, self.corner_half, self.pieces
        piece = np.where(half >= len(self.cells.start), pieces.last[edge], pieces.first[edge])
        corner = self.piece_token[piece] - np.where(self.corner_rises, self.tokens[self.corner_unit], 0)
        self.end_token = np.concatenate([self.cut_token, self.cut_token[self.inner], corner]) + self.end_turn
        if self.zero:
            beside = [self.left_line[self.edge], self.right_line[self.edge[self.inner]], self.line[half]]
            self.end_token += np.concatenate(beside)

    # ------------------------------------------------------------------ chords
    def pair_ends(self) -> None:
        """Chords p → q of every (region, unit), with the positive side on the left; sorted by region."""
        order, key = order_of(self.end_region + mix(np.arange(self.units) + 7919).take(self.end_unit))
        if len(key) % 2 or (key[0::2] != key[1::2]).any() or (key[1:-1:2] == key[2::2]).any():
            raise Degenerate("a unit does not cut a region in two points")
        p, q = order[0::2], order[1::2]
        rises = self.end_rises.take(p)
        p, q = np.where(rises, q, p), np.where(rises, p, q)
        if self.end_rises.take(p).any() or not self.end_rises.take(q).all():
            raise Degenerate("a unit rises twice round a region")
        order, self.chord_region = order_of(self.end_region.take(p))
        self.p, self.q = p.take(order), q.take(order)
        self.chord_unit = self.end_unit.take(self.p)
        self.chord_edges = [self.end_edge.take(end) for end in (self.p, self.q)]
        self.chord_cuts = [self.end_cut.take(end) for end in (self.p, self.q)]

    def sign_at(self, end: Array, chord: Array, other: Array) -> Array:
        """Sign (−1, 0, 1) of the unit of `other` at one end, `self.p` or `self.q`, of a chord of its region; from
        stored signs and the order of cuts alone."""
        unit, here = self.chord_unit.take(other), end.take(chord)
        a, edge, place = self.end_a.take(here), self.end_edge.take(here), self.end_cut.take(here)
        if self.zero:
            sign = bit(self.pos, a, unit) - bit(self.neg, a, unit)
            zero = np.flatnonzero(sign == 0)
            b, unit = self.end_b[here[zero]], unit[zero]
            sign[zero] = bit(self.pos, b, unit) - bit(self.neg, b, unit)
        else:
            sign = 2 * bit(self.pos, a, unit) - 1
        for edges, cuts in zip(self.chord_edges, self.chord_cuts, strict=True):
            passed = (edges.take(other) == edge) & (cuts.take(other) < place)
            sign = np.where(passed, -sign, sign)
        return sign

    def cross_chords(self) -> None:
        """Crossings (A, B) of two chords of a region; `side`: sign of B's unit at the start of A."""
        chords, (first, in_region) = len(self.p), runs(self.chord_region)
        following = np.repeat(first + in_region, in_region) - 1 - np.arange(chords)  # chords of the region yet to come
        total = np.cumsum(following)
        A, B, side, TA, TB = [_NONE], [_NONE], [np.zeros(0, np.int8)], [_NONE], [_NONE]
        i, regions = 0, self.cells.count() + chords  # every chord adds a region, and so does every crossing
        while i < chords:
            j = max(int(np.searchsorted(total, (total[i - 1] if i else 0) + _PAIRS, "right")), i + 1)
            count = following[i:j]
            a = np.repeat(np.arange(i, j), count)
            b = np.arange(len(a)) + np.repeat(np.arange(i + 1, j + 1) + count - np.cumsum(count), count)
            at_p, at_q = self.sign_at(self.p, a, b), self.sign_at(self.q, a, b)
            hit = np.flatnonzero(at_p * at_q < 0)
            regions += len(hit)
            if regions > self.most:
                raise TooMany
            A.append(a[hit])
            B.append(b[hit])
            side.append(at_p[hit])
            if self.zero:
                touch = np.flatnonzero((at_p == 0) | (at_q == 0))
                TA.append(a[touch])
                TB.append(b[touch])
            i = j
        self.A, self.B, self.side = np.concatenate(A), np.concatenate(B), np.concatenate(side)
        self.turn_shared_ends(np.concatenate([*TA, *TB]), np.concatenate([*TB, *TA]))

    def turn_shared_ends(self, chord: Array, other: Array) -> None:
        """Chords that share an end: the token there turns from the edge's direction to the chord's."""
        if not len(chord):
            return
        p, q = self.p[chord], self.q[chord]
        at_p, at_q = self.sign_at(self.p, chord, other), self.sign_at(self.q, chord, other)
        if ((at_p == 0) & (at_q == 0)).any():
            raise Degenerate("two chords coincide")
        for end, here, there in ((p, at_p, at_q), (q, at_q, at_p)):
            touch = np.flatnonzero(here == 0)
            unit = self.chord_unit[other[touch]]
            change = (there[touch] > 0).astype(np.int64) - bit(self.pos, self.end_ahead[end[touch]], unit)
            np.add.at(self.end_turn, end[touch], self.tokens[unit] * change)

    def value(self, end: Array, unit: Array) -> Array:
        """Value of a unit at an end of a chord."""
        a, b = entry(self.z, self.end_a[end], unit), entry(self.z, self.end_b[end], unit)
        return a + self.end_t[end] * (b - a)

    # ------------------------------------------------------------------ the new complex
    def assemble(self) -> Split:
        """Put the crossings into the chords, check the certificates, and replace the complex."""
        c, V, C, A, B, p, q = self.cells, self.vertices, self.cuts, self.A, self.B, self.p, self.q
        tokens, crossings, chords = self.tokens, len(self.A), len(self.p)
        unit_a, unit_b = self.chord_unit[A], self.chord_unit[B]
        za0, za1 = self.value(p[A], unit_b), self.value(q[A], unit_b)
        zb0, zb1 = self.value(p[B], unit_a), self.value(q[B], unit_a)
        with np.errstate(all="ignore"):
            u, w = za0 / (za0 - za1), zb0 / (zb0 - zb1)
            if not ((u > 0) & (u < 1) & (w > 0) & (w < 1)).all():
                raise Degenerate("a crossing is not inside its chords")
        x = between(self.end_x, p[A], q[A], u)
        chord, t = np.concatenate([A, B]), np.concatenate([u, w])
        unit = np.concatenate([unit_b, unit_a])
        positive = np.concatenate([self.side, self.sign_at(p, B, A)]) > 0
        step = np.where(positive, -tokens[unit], tokens[unit])
        bend = np.abs(np.concatenate([za1 - za0, zb1 - zb0]))
        order = order_along(chord, t)
        chord, t, unit, step, bend = chord[order], t[order], unit[order], step[order], bend[order]
        _resolved(chord, t, self.tolerance[unit] / bend)
        vertex = V + C + order - crossings * (order >= crossings)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        count = np.bincount(chord, minlength=chords)
        a, b = self.end_vertex[p], self.end_vertex[q]
        on_chords = Points(a, b, count, t, unit, bend, V + C, place[:crossings])
        prepared = later(on_chords.prepare, self.z.size) if self.bends else None
        pieces = _insert(a, b, count, chord, vertex)
        piece_token = _prefix(pieces, count, self.end_token[p], step)
        if (piece_token[pieces.last] != self.end_token[q]).any():
            raise Degenerate("a chord ends in the wrong region")
        parent = np.repeat(np.arange(chords), count + 1)
        right = self.chord_region[parent] + piece_token
        left = right + tokens[self.chord_unit[parent]]

        start, end = np.concatenate([self.pieces.start, pieces.start]), np.concatenate([self.pieces.end, pieces.end])
        left, right = np.concatenate([self.piece_left, left]), np.concatenate([self.piece_right, right])
        keys = np.concatenate([left, right[right != OUTSIDE]])
        keys.sort()
        regions, faces = int((keys[1:] != keys[:-1]).sum()) + 1, len(start) - (V + C + crossings) + 1
        if regions != faces:
            raise Degenerate(f"{regions} keys for {faces} faces")

        split = Split(
            before=V,
            after=V + C + crossings,
            edges=self.on_edges,
            chords=on_chords,
            zero_vertex=np.concatenate([V + np.arange(C), *[V + C + np.arange(crossings)] * 2]),
            zero_unit=np.concatenate([self.unit, unit_a, unit_b]),
        )
        c.x = np.concatenate([c.x, self.cut_x, x])
        c.snapped[self.snapped] = True
        c.snapped = np.concatenate([c.snapped, np.zeros(C + crossings, bool)])
        c.corner = np.concatenate([c.corner, np.zeros(C + crossings, bool)])
        c.start, c.end, c.left, c.right = start, end, left, right
        if prepared:
            prepared()
        return split


@dataclass
class _Pieces:
    """Segments cut at points: ends of the pieces, the first and last piece of every segment, the piece before each
    point (`at`; the one after is at + 1)."""

    start: Array
    end: Array
    first: Array
    last: Array
    at: Array


def _insert(start: Array, end: Array, count: Array, segment: Array, points: Array) -> _Pieces:
    """Put points, sorted along segments, into the segments start → end."""
    number, total = np.arange(len(start)), np.cumsum(count)
    first, last = number + total - count, number + total
    at = np.arange(len(points)) + segment
    a, b = np.empty(len(start) + len(points), np.int64), np.empty(len(start) + len(points), np.int64)
    a[first], a[at + 1] = start, points
    b[at], b[last] = points, end
    return _Pieces(a, b, first, last, at)


def _prefix(pieces: _Pieces, count: Array, begin: Array, step: Array) -> Array:
    """Piecewise constant along cut segments: `begin` on the first piece, plus `step` after each point."""
    value = np.zeros(len(pieces.start), np.int64)
    value[pieces.at + 1] = step
    value = np.cumsum(value)
    return value + np.repeat(begin - value[pieces.first], count + 1)


def between(x: Array, a: Array, b: Array, t: Array) -> Array:
    """Points at parameter t from x[a] to x[b]."""
    start = x.take(a, 0)
    return start + t[:, None] * (x.take(b, 0) - start)


def _resolved(segment: Array, t: Array, error: Array) -> None:
    """Points of one segment must be further apart than their errors."""
    if len(t) > 1 and ((segment[1:] == segment[:-1]) & (t[1:] - t[:-1] <= error[1:] + error[:-1])).any():
        raise Degenerate("two points of an edge coincide")
