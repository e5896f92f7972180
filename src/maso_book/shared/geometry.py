"""What chapter 02 measures on the cells of a window: convexity, distance to a point, density near data, grids.

A *set* is a union of cells with one label.  Its convexity defect is the share of its convex hull that it does not
cover: 0 for a convex set, positive for one that is bent inwards or falls into several parts.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from maso.partition import Partition

ROUNDING = 1e-13
"""Area, as a share of the window's, below which a difference of two areas is rounding."""


def defects(p: Partition, label: np.ndarray) -> np.ndarray:
    """Convexity defect 1 − area / area of the convex hull of every set, in [0, 1].

    Args:
        p: the cells.
        label: (F,) the set of every cell, 0 … S − 1.

    Returns:
        (S,); a defect whose uncovered area is within `ROUNDING` of the window's area is 0.
    """
    covered = np.bincount(label, p.areas)
    first, vertex = p.corners
    owner = np.repeat(label, np.diff(first))
    order = np.argsort(owner, kind="stable")
    cuts = np.searchsorted(owner[order], np.arange(1, len(covered)))
    hull = np.array([hull_area(p.vertices[np.unique(group)]) for group in np.split(vertex[order], cuts)])
    uncovered = hull - covered
    return np.where(uncovered > ROUNDING * p.plane.area, uncovered / hull, 0.0)


def hull_area(points: np.ndarray) -> float:
    """Area of the convex hull of points (M, 2), by Andrew's monotone chain; it takes slivers that Qhull refuses."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))].tolist()
    corners = np.array(_chain(ordered)[:-1] + _chain(ordered[::-1])[:-1])
    x, y = (corners - corners[0]).T  # from a corner: less rounding
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _chain(points: list[list[float]]) -> list[list[float]]:
    """The points at which the path from the first to the last turns left."""
    chain: list[list[float]] = []
    for x, y in points:
        while len(chain) > 1:
            (ax, ay), (bx, by) = chain[-2:]
            if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                break
            chain.pop()
        chain.append([x, y])
    return chain


def distance(p: Partition, point: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Euclidean distance of every cell to a point, 0 where the point lies in the cell: (F,) in plane coordinates."""
    first, vertex = p.corners
    start = p.vertices[vertex]
    following = np.append(vertex[1:], 0)
    following[first[1:] - 1] = vertex[first[:-1]]
    side = p.vertices[following] - start
    away = np.asarray(point) - start
    along = np.clip((away * side).sum(1) / (side**2).sum(1), 0, 1)
    gap = np.linalg.norm(away - along[:, None] * side, axis=1)
    inside = np.minimum.reduceat(side[:, 0] * away[:, 1] - side[:, 1] * away[:, 0], first[:-1]) >= 0
    return np.where(inside, 0.0, np.minimum.reduceat(gap, first[:-1]))


class Zones:
    """The data's bounding box in two parts: within `radius` of a data point, and the rest.

    Args:
        data: (N, 2).
        radius: what is near.
    """

    GRID = 400
    """Points along each side of the grid that measures the zones' areas."""

    def __init__(self, data: np.ndarray, radius: float) -> None:
        self.tree, self.radius = cKDTree(data), radius
        self.low, self.high = data.min(0), data.max(0)
        steps = (np.arange(self.GRID) + 0.5) / self.GRID
        grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2) * (self.high - self.low) + self.low
        share = self._near(grid).mean()
        self.near_area = float(share * np.prod(self.high - self.low))
        self.rest_area = float((1 - share) * np.prod(self.high - self.low))

    def _near(self, points: np.ndarray) -> np.ndarray:
        return np.isfinite(self.tree.query(points, distance_upper_bound=self.radius)[0])

    def densities(self, points: np.ndarray) -> tuple[float, float]:
        """Points (N, 2) per unit area near the data, and in the rest of the bounding box."""
        inside = ((points >= self.low) & (points <= self.high)).all(1)
        near = self._near(points)
        return float((inside & near).sum() / self.near_area), float((inside & ~near).sum() / self.rest_area)


def confirmed(p: Partition, cells: np.ndarray) -> float:
    """Share of the cells whose centre, sent through the network, has the cell's code or lies within rounding of it."""
    found = p.forward(cells)
    return float(((found.key == p.keys[cells]) | ~found.sure).mean())


def met_by_grid(p: Partition, side: int) -> int:
    """How many cells a regular grid of side × side points over the window meets."""
    s0, s1, t0, t1 = p.plane.bounds
    s, t = np.linspace(s0, s1, side), np.linspace(t0, t1, side)
    seen = np.zeros(len(p), bool)
    for rows in np.array_split(t, max(1, side * side // 500_000)):
        found = p.locate(np.stack(np.meshgrid(s, rows), -1).reshape(-1, 2))
        seen[found[found >= 0]] = True
    return int(seen.sum())
