"""How values at the new vertices of a cut follow from those at the old ones: sparse combinations of rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch

from maso.partition.bits import Array
from maso.partition.threads import over_blocks

_NUMBERS = 1 << 18  # numbers that a thread writes at a time


@dataclass
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
                check_invariants=False,
            )
            out = whole[self.first + at.start : self.first + at.stop]
            torch.addmm(out, matrix, whole, beta=0, out=out)

        over_blocks(block, len(self.pointer) - 1, max(64, _NUMBERS // max(1, rows.shape[1])))


@cache
def _warn_once() -> None:
    """torch says once in a process that its sparse matrices are young: nothing that a caller could act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor([0, 0], [], torch.zeros(0), size=(1, 1), check_invariants=False)


@dataclass
class Points:
    """Points inserted into segments: point i sits at parameter t[i] of a segment, sorted along each segment.

    Attributes:
        a, b: ends of every segment.
        count: points on every segment.
        t: parameter in (0, 1) of every point.
        unit: the unit that is zero there.
        bend: |change of that unit along the whole segment|, by which functions of it bend at the point.
        row: vertex number of the point; −1: evaluated on another segment.
    """

    a: Array
    b: Array
    count: Array
    t: Array
    unit: Array
    bend: Array
    row: Array

    @cached_property
    def wanted(self) -> Array:
        """The points that are evaluated here, in the order of their vertices."""
        here = np.flatnonzero(self.row >= 0)
        return here[np.argsort(self.row[here], kind="stable")]

    @cached_property
    def segment(self) -> Array:
        """Segment of every point."""
        return np.repeat(np.arange(len(self.a)), self.count)

    @cached_property
    def level(self) -> Array:
        """For every point, how often eight divides its number, counted from 1, among the wanted points of its segment;
        −1 for those evaluated elsewhere."""
        wanted = self.row >= 0
        total = np.concatenate([[0], np.cumsum(wanted)])
        number = total[1:] - total[np.cumsum(self.count) - self.count][self.segment]
        level, step = np.where(wanted, 0, -1), 8
        while wanted.any() and step <= number.max():
            level[wanted & (number % step == 0)] += 1
            step *= 8
        return level

    def prepare(self) -> None:
        """Find what `bent` needs and this alone determines."""
        _ = self.wanted, self.level

    @property
    def ahead(self) -> int:
        """Number of points that `bent` evaluates before the others."""
        return int((self.level > 0).sum())

    def straight(self) -> Combination:
        """Values linear along every segment."""
        segment, t = self.segment[self.wanted], self.t[self.wanted]
        column, weight = np.empty((len(t), 2), np.int64), np.empty((len(t), 2))
        column[:, 0], column[:, 1] = self.a[segment], self.b[segment]
        weight[:, 0], weight[:, 1] = 1 - t, t
        return Combination(self._first, np.arange(0, 2 * len(t) + 1, 2), column.ravel(), weight.ravel())

    @property
    def _first(self) -> int:
        return int(self.row[self.wanted[0]]) if len(self.wanted) else 0

    def bent(self, row: Array, jump: Array, spare: int) -> list[Combination]:
        """Values continuous and piecewise linear along every segment, whose slope turns at point k by
        bend_k · jump[unit_k] times the row row[unit_k]; to be applied one after the other.

        Between two points p and q of the segment, with G(t, s) = min(t, s) (1 − max(t, s)) for t and s counted from 0
        at p to 1 at q, the value at t is  (1 − t) value_p + t value_q − (q − p) Σ_k bend_k jump G(t, t_k) row.
        So that no sum is long, every eighth point is evaluated first, and before these every eighth of them, and so on.

        Args:
            spare: number of the first of `ahead` spare rows, for the points evaluated first.
        """
        level, place = self.level, np.empty(len(self.t), np.int64)
        turn, which, found = self.bend * jump[self.unit], row[self.unit], []
        for now in range(int(level.max(initial=0)), -1, -1):
            point = np.flatnonzero(level == now) if now else self.wanted
            pointer, column, weight = self._between(point, level > now, place, turn, which)
            found.append(Combination(spare if now else self._first, pointer, column, weight))
            if now:
                place[point] = spare + np.arange(len(point))
                spare += len(point)
        return found

    def _between(
        self, point: Array, is_known: Array, place: Array, turn: Array, which: Array
    ) -> tuple[Array, Array, Array]:
        """Entries of points from the nearest known points (or the ends of the segment) and the bends between these."""
        begin, end = np.cumsum(self.count) - self.count, np.cumsum(self.count)
        known = np.concatenate([[-1], np.flatnonzero(is_known), [len(self.t)]])
        segment, after = self.segment[point], np.searchsorted(known, point)
        low, high = np.maximum(known[after - 1], begin[segment] - 1), np.minimum(known[after], end[segment])
        at_a, at_b = low < begin[segment], high == end[segment]
        start = np.where(at_a, 0.0, self.t[low])
        width = np.where(at_b, 1.0, self.t.take(high, mode="clip")) - start
        t, count = (self.t[point] - start) / width, high - low - 1
        pointer = np.zeros(len(t) + 1, np.int64)
        np.cumsum(count + 2, out=pointer[1:])
        column, weight, at = np.empty(pointer[-1], np.int64), np.empty(pointer[-1]), pointer[:-1]
        column[at] = np.where(at_a, self.a[segment], place[low])
        column[at + 1] = np.where(at_b, self.b[segment], place.take(high, mode="clip"))
        weight[at], weight[at + 1] = 1 - t, t
        one = np.repeat(np.arange(len(t)), count)
        within = np.arange(len(one)) - (pointer[:-1] - 2 * np.arange(len(t)))[one]
        other = low[one] + 1 + within
        here, there = t[one], (self.t[other] - start[one]) / width[one]
        entries = at[one] + 2 + within
        column[entries] = which[other]
        weight[entries] = -turn[other] * width[one] * np.minimum(here, there) * (1 - np.maximum(here, there))
        return pointer, column, weight


@dataclass
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

    def extend(self, old: Array) -> Array:
        """Rows linear on every old edge and in every old region, (before, n), at all vertices: (after, n)."""
        new = np.empty((self.after, old.shape[1]))
        new[: self.before] = old
        for combination in self._straight:
            combination.apply(new)
        return new
