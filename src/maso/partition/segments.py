"""Segments, edges or chords, cut at points: their pieces, sums along them, and whether the points can be told apart.

Points are sorted along each segment, and the segments follow each other; `count` says how many points each has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maso.partition.bits import Array
from maso.partition.complex import Degenerate


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of S segments cut at N points: S + N of them, segment after segment.

    Attributes:
        start, end: (S + N,) vertices at the ends of every piece.
        first, last: (S,) the first and the last piece of every segment.
        before: (N,) the piece that ends at each point; the one that starts there is before + 1.
    """

    start: Array
    end: Array
    first: Array
    last: Array
    before: Array


def insert(start: Array, end: Array, count: Array, segment: Array, points: Array) -> Pieces:
    """Put points into segments.

    Args:
        start, end, count: (S,) ends of every segment, and its number of points.
        segment, points: (N,) the segment and the vertex of every point.
    """
    number, total = np.arange(len(start)), np.cumsum(count)
    first, last = number + total - count, number + total
    before = np.arange(len(points)) + segment

    piece_start = np.empty(len(start) + len(points), np.int64)
    piece_start[first], piece_start[before + 1] = start, points
    piece_end = np.empty(len(start) + len(points), np.int64)
    piece_end[before], piece_end[last] = points, end
    return Pieces(piece_start, piece_end, first, last, before)


def sum_along(pieces: Pieces, count: Array, begin: Array, step: Array) -> Array:
    """Constant on every piece: `begin` (S,) on the first of a segment, plus `step` (N,) after each point: (S + N,)."""
    jump = np.zeros(len(pieces.start), np.int64)
    jump[pieces.before + 1] = step
    total = np.cumsum(jump)
    along: Array = total + np.repeat(begin - total[pieces.first], count + 1)
    return along


def between(x: Array, a: Array, b: Array, t: Array) -> Array:
    """Points at parameters t (N,) from x[a] to x[b]: x (V, 2) → (N, 2)."""
    start = x.take(a, 0)
    middle: Array = start + t[:, None] * (x.take(b, 0) - start)
    return middle


def check_apart(segment: Array, t: Array, error: Array) -> None:
    """Points of one segment must be further apart than their errors: all (N,).

    Raises:
        Degenerate: two are not.
    """
    neighbours = segment[1:] == segment[:-1]
    if (neighbours & (t[1:] - t[:-1] <= error[1:] + error[:-1])).any():
        raise Degenerate("two points of an edge coincide")
