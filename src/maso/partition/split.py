"""How values at the new vertices of a cut follow from those at the old ones: sparse combinations of rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch

from maso.partition.bits import Array
from maso.partition.constants import LEVEL, WRITTEN
from maso.partition.threads import over_blocks


@dataclass(frozen=True, eq=False)
class Combination:
    """Consecutive rows of an array as sparse combinations of other rows, in compressed sparse rows.

    Attributes:
        first: number of the first row.
        pointer: (n + 1,) entries pointer[i] … pointer[i + 1] − 1 belong to row first + i.
        column, weight: (entries,) the row combined, and its factor.
    """

    first: int
    pointer: Array
    column: Array
    weight: Array

    def apply(self, rows: Array) -> None:
        """Fill the rows in, in place: (any number, k) float64."""
        _warn_once()
        whole = torch.from_numpy(rows)

        def block(at: slice) -> None:
            low, high = self.pointer[at.start], self.pointer[at.stop]
            matrix = torch.sparse_csr_tensor(
                torch.from_numpy(self.pointer[at.start : at.stop + 1] - low),
                torch.from_numpy(self.column[low:high]),
                torch.from_numpy(self.weight[low:high]),
                size=(at.stop - at.start, len(rows)),
                device="cpu",
                check_invariants=False,
            )
            out = whole[self.first + at.start : self.first + at.stop]
            torch.addmm(out, matrix, whole, beta=0, out=out)

        over_blocks(block, len(self.pointer) - 1, max(64, WRITTEN // max(1, rows.shape[1])))


@cache
def _warn_once() -> None:
    """torch says once in a process that its sparse matrices are young: nothing that a caller could act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1), device="cpu", check_invariants=False)


@dataclass(frozen=True, eq=False)
class Points:
    """Points inserted into segments: point i sits at parameter t[i] of a segment, sorted along each segment.

    Attributes:
        a, b: ends of every segment.
        count: points on every segment.
        t: parameter in (0, 1) of every point.
        unit: the unit that is zero there.
        bend: |change of that unit along the whole segment|, by which functions of it bend at the point.
        first: number of the first vertex that is evaluated here.
        wanted: the point at vertex first, first + 1, …; the others are evaluated on another segment.
    """

    a: Array
    b: Array
    count: Array
    t: Array
    unit: Array
    bend: Array
    first: int
    wanted: Array

    @cached_property
    def level(self) -> Array:
        """For every point, how often eight divides its number, counted from 1, along its segment."""
        number, step = self.line.place - self.line.low, LEVEL
        level = np.zeros(len(number), np.int8)
        while step <= self.count.max(initial=0):
            level += number % step == 0
            step *= LEVEL
        return level

    @cached_property
    def line(self) -> _Line:
        """The segments that have points, one after the other."""
        segment = np.flatnonzero(self.count)
        count, rank = self.count[segment], np.arange(len(segment))
        begin = np.cumsum(count) - count + 2 * rank
        end = begin + count + 1
        place = np.arange(len(self.t)) + np.repeat(2 * rank + 1, count)
        return _Line(segment, begin, end, place, np.repeat(begin, count), np.repeat(end, count))

    @property
    def ahead(self) -> int:
        """Number of points that `bent` evaluates before the others."""
        return int((self.level > 0).sum())

    def straight(self) -> Combination:
        """Values linear along every segment."""
        segment, t = np.repeat(np.arange(len(self.a)), self.count)[self.wanted], self.t[self.wanted]
        column, weight = np.stack([self.a[segment], self.b[segment]], 1), np.stack([1 - t, t], 1)
        return Combination(self.first, np.arange(0, 2 * len(t) + 1, 2), column.ravel(), weight.ravel())

    def bent(self, row: Array, jump: Array, spare: int) -> list[Combination]:
        """Values continuous and piecewise linear along every segment, whose slope turns at point k by
        bend_k · jump[unit_k] times the row row[unit_k]; to be applied one after the other.

        With G(t, s) = min(t, s) (1 − max(t, s)), the value at t is  (1 − t) value_a + t value_b − Σ_k bend_k jump
        G(t, t_k) row.  So that no sum is long, every eighth point is evaluated first, and before these every eighth of
        them, and so on; between two known points is a segment again.

        Args:
            spare: number of the first of `ahead` spare rows, for the points evaluated first.
        """
        line, level, levels = self.line, self.level, []
        place, low, high = line.place, line.low, line.high
        size, bend = len(place) + 2 * len(line.segment), -self.bend * jump[self.unit]
        column, whole, turn = np.empty(size, np.int64), np.zeros(size), np.zeros(size)
        column[line.begin], column[line.end] = self.a[line.segment], self.b[line.segment]
        column[place], whole[place], whole[line.end], turn[place] = row[self.unit], self.t, 1.0, bend
        t = whole
        for now in range(int(level.max(initial=0)), -1, -1):
            points = np.flatnonzero(level == now) if now else self.wanted
            first = spare if now else self.first
            levels.append(_between(first, place[points], low[points], high[points], column, t, turn))
            if now:
                column[place[points]] = spare + np.arange(len(points))
                spare += len(points)
                known = level >= now
                number: Array = np.cumsum(known) - known
                stops = np.concatenate([[-1], place[known], [size]])
                low, high = np.maximum(line.low, stops[number]), np.minimum(line.high, stops[number + 1])
                width = whole[high] - whole[low]
                t, turn = whole.copy(), turn.copy()
                t[place], turn[place] = (self.t - whole[low]) / width, bend * width
        return levels


@dataclass(frozen=True, eq=False)
class _Line:
    """Segments with points in one line, each its start, its points, its end.

    Attributes:
        segment: which they are.
        begin, end: places of the ends of every such segment.
        place, low, high: of every point, its place and those of the ends of its segment.
    """

    segment: Array
    begin: Array
    end: Array
    place: Array
    low: Array
    high: Array


def _between(first: int, place: Array, low: Array, high: Array, column: Array, t: Array, turn: Array) -> Combination:
    """Values at some places of a line from all that lies from low to high there: rows `column` with parameters t from 0
    to 1 and turns of slope."""
    own, count = t.take(place), high - low + 1
    pointer = np.concatenate([[0], np.cumsum(count)])
    entry = np.arange(pointer[-1]) + np.repeat(low - pointer[:-1], count)
    one, other = np.repeat(own, count), t.take(entry)
    weight = turn.take(entry) * np.minimum(one, other) * (1 - np.maximum(one, other))
    weight[pointer[:-1]], weight[pointer[1:] - 1] = 1 - own, own
    return Combination(first, pointer, column.take(entry), weight)


@dataclass(frozen=True, eq=False)
class Split:
    """How the new vertices of one cut follow from the old: cuts of edges, then crossings of two chords.

    Attributes:
        before, after: number of vertices before and after.
        edges, chords: the points inserted; every new vertex lies on exactly one segment.
        zero_vertex, zero_unit: new vertices and the units that are zero there.
    """

    before: int
    after: int
    edges: Points
    chords: Points
    zero_vertex: Array
    zero_unit: Array

    @cached_property
    def _straight(self) -> list[Combination]:
        return [self.edges.straight(), self.chords.straight()]

    def renumbered(self, first: int) -> Split:
        """The same cut, its units numbered from `first` on."""
        return replace(
            self,
            edges=replace(self.edges, unit=self.edges.unit + first),
            chords=replace(self.chords, unit=self.chords.unit + first),
            zero_unit=self.zero_unit + first,
        )

    def extend(self, old: Array) -> Array:
        """Rows linear on every old edge and in every old region, (before, n), at all vertices: (after, n)."""
        new = np.empty((self.after, old.shape[1]))
        new[: self.before] = old
        for combination in self._straight:
            combination.apply(new)
        return new
