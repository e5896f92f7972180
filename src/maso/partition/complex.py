"""A planar complex of convex cells.

State: vertices `x` (V, 2); edges `start` → `end`; and for every edge the keys of the region on its `left` and on its
`right` (`OUTSIDE` beyond the window).  A region is the cycle of the half-edges that have it on their left, so no
polygon is ever stored: the corners of a region follow from its half-edges alone.  `corner` marks the corners of the
window, `snapped` vertices that a unit's line was taken to run through.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maso.partition.bits import Array, order_of, pack, runs
from maso.partition.constants import REGIONS
from maso.partition.threads import over_blocks

OUTSIDE = np.int64(0)


class Degenerate(Exception):
    """Two points of an edge or a chord cannot be told apart in float64, or a certificate failed.

    Attributes:
        layer: path of the layer at which, where it is known.
        cost: of the run until then, a look at a small window, see `cost`.
    """

    layer: str | None = None
    cost: float = 0.0


@dataclass(frozen=True, eq=False)
class Faces:
    """The regions of a complex; half-edges sorted by region.

    Attributes:
        key: (F,) sorted.
        first: (F + 1,) region i owns half-edges first[i] … first[i + 1] − 1.
        start, end, edge: vertices and edge of every half-edge.
        area, centre: (F,) and (F, 2), the centre is the mean of the corners.
    """

    key: Array
    first: Array
    start: Array
    end: Array
    edge: Array
    area: Array
    centre: Array


@dataclass(frozen=True, eq=False)
class Sorted:
    """The half-edges of a complex by region: `order`, and their keys in that order, for these keys of its edges."""

    left: Array
    right: Array
    order: Array
    key: Array


class Complex:
    """The window as one region, until `maso.partition.cut` cuts it."""

    def __init__(self, bounds: tuple[float, float, float, float]) -> None:
        s0, s1, t0, t1 = bounds
        self.x = np.array([[s0, t0], [s1, t0], [s1, t1], [s0, t1]], np.float64)
        self.corner = np.ones(4, bool)
        self.snapped = np.zeros(4, bool)
        self.start = np.arange(4)
        self.end = (self.start + 1) % 4
        self.left = np.ones(4, np.int64)
        self.right = np.full(4, OUTSIDE)
        self.sorted: Sorted | None = None

    def half_edges(self) -> tuple[Array, Array, Array, Array]:
        """Key of the region on the left, start, end and edge of every half-edge: all edges, then those reversed."""
        i = np.flatnonzero(self.right != OUTSIDE)
        return (
            np.concatenate([self.left, self.right[i]]),
            np.concatenate([self.start, self.end[i]]),
            np.concatenate([self.end, self.start[i]]),
            np.concatenate([np.arange(len(self.start)), i]),
        )

    def by_region(self) -> tuple[Array, Array]:
        """A permutation that sorts the half-edges by region, and their keys in that order; both are kept."""
        known = self.sorted
        if known is None or known.left is not self.left or known.right is not self.right:
            keys, *_ = self.half_edges()
            self.sorted = known = Sorted(self.left, self.right, *order_of(keys))
        return known.order, known.key

    def regions(self) -> tuple[Array, Array]:
        """Sorted keys of the regions, and the region of every half-edge."""
        return np.unique(self.half_edges()[0], return_inverse=True)

    def count(self) -> int:
        """Number of regions, by Euler's formula."""
        return len(self.start) - len(self.x) + 1

    def shift(self, token: int) -> None:
        """Add a token to the key of every region."""
        with np.errstate(over="ignore"):
            self.left = self.left + token
            self.right = np.where(self.right == OUTSIDE, OUTSIDE, self.right + token)

    def any_bits(self, *masks: Array) -> list[Array]:
        """Or over the corners of every region, regions in the order of `regions()`: (V, n) bool → packed (F, words)."""
        _, start, _, _ = self.half_edges()
        order, keys = self.by_region()
        (first, _), corners = runs(keys), start[order]
        return [np.bitwise_or.reduceat(pack(mask).take(corners, 0), first, axis=0) for mask in masks]

    def rekey(self, new: Array) -> Array:
        """Give the regions new keys, in the order of `regions()`; regions with equal keys become one.

        Edges inside a region go, and so do vertices that then lie inside a straight edge.

        Returns:
            The vertices kept.
        """
        _, region = self.regions()
        n, inside = len(self.start), np.flatnonzero(self.right != OUTSIDE)
        left, right = new[region[:n]], np.full(n, OUTSIDE)
        right[inside] = new[region[n:]]
        kept = np.flatnonzero(left != right)
        start, end, left, right = self.start[kept], self.end[kept], left[kept], right[kept]
        flip = (right != OUTSIDE) & (left < right)  # so that the edges of a straight chain all point one way
        start, end = np.where(flip, end, start), np.where(flip, start, end)
        left, right = np.where(flip, right, left), np.where(flip, left, right)
        degree = np.bincount(start, minlength=len(self.x)) + np.bincount(end, minlength=len(self.x))
        middle = (degree == 2) & ~self.corner
        leaving = np.full(len(self.x), -1)
        leaving[start] = np.arange(len(start))
        last = np.where(middle[end], leaving[end], np.arange(len(start)))
        if (last < 0).any():
            raise Degenerate("merged regions do not fit")
        for _ in range(len(last).bit_length() + 1):  # pointer doubling to the last edge of each chain
            following = last[last]
            if (following == last).all():
                break
            last = following
        else:  # the chain is a ring: no edge is its last
            raise Degenerate("the border of a merged region never ends")
        head = ~middle[start]
        start, end, left, right = start[head], end[last[head]], left[head], right[head]
        vertices = np.flatnonzero((degree > 0) & ~middle)
        number = np.full(len(self.x), -1)
        number[vertices] = np.arange(len(vertices))
        self.start, self.end, self.left, self.right = number[start], number[end], left, right
        self.x, self.corner, self.snapped = self.x[vertices], self.corner[vertices], self.snapped[vertices]
        return vertices

    def faces(self, area: float) -> Faces:
        """The regions, certified: as many keys as Euler's formula has faces, every region's half-edges balance at each
        vertex, all areas are positive and sum to `area`.

        Raises:
            Degenerate: a certificate fails.
        """
        _, start, end, edge = self.half_edges()
        order, key = self.by_region()
        self.sorted = None  # the faces are in that order
        start, end, edge = (a.take(order) for a in (start, end, edge))
        first, sides = runs(key)
        if len(first) != self.count():
            raise Degenerate(f"{len(first)} keys for {self.count()} faces")

        corner = np.ascontiguousarray(self.x).view(np.complex128)[:, 0]  # a point of the plane is one number
        tokens = np.random.default_rng(0).integers(-(2**63), 2**63, len(self.x))
        areas, centres = np.empty(len(first)), np.empty(len(first), np.complex128)

        def measure(some: slice) -> None:
            at = slice(first[some.start], first[some.stop] if some.stop < len(first) else None)
            own, count = first[some] - at.start, sides[some]
            one, other = start[at], end[at]
            if np.cumsum(tokens.take(one) - tokens.take(other)).take(own + count - 1).any():
                raise Degenerate("the border of a region is not closed")
            a, b = corner.take(one), corner.take(other)
            centres[some] = np.add.reduceat(a, own) / count
            middle = np.repeat(centres[some], count)
            a -= middle
            b -= middle
            areas[some] = np.add.reduceat((a.conj() * b).imag, own) / 2

        over_blocks(measure, len(first), REGIONS)
        if (areas <= 0).any():
            raise Degenerate(f"{(areas <= 0).sum()} regions without area")
        if abs(areas.sum() / area - 1) > 1e-9:
            raise Degenerate(f"areas sum to {areas.sum()!r}, the window has {area!r}")
        centre = centres.view(np.float64).reshape(-1, 2)
        return Faces(key[first], np.append(first, len(key)), start, end, edge, areas, centre)


def walk(faces: Faces) -> Array:
    """Half-edges of every region in counter-clockwise order: a permutation that respects `faces.first`.

    Raises:
        Degenerate: the half-edges of a region are not one cycle.
    """
    sides = np.diff(faces.first)
    region = np.repeat(np.arange(len(sides)), sides)
    vertices = np.int64(max(faces.start.max(), faces.end.max()) + 1)
    by_start = np.argsort(region * vertices + faces.start)
    by_end = np.argsort(region * vertices + faces.end)
    if (faces.start[by_start] != faces.end[by_end]).any():
        raise Degenerate("the border of a region is not closed")
    following = np.empty(len(region), np.int64)
    following[by_end] = by_start
    order = np.empty(len(region), np.int64)
    current, live = faces.first[:-1].copy(), np.arange(len(sides))
    for k in range(int(sides.max())):
        live = live[sides[live] > k]
        order[faces.first[live] + k] = current[live]
        current[live] = following[current[live]]
    if (current != faces.first[:-1]).any():
        raise Degenerate("a region is not one cycle")
    return order
