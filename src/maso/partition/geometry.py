"""Reading lines, neighbours and places off the faces of a complex."""

from __future__ import annotations

import numpy as np

from maso.errors import MasoError
from maso.partition.bits import Array
from maso.partition.complex import Faces

_PAIRS = 1 << 21


def components(n: int, a: Array, b: Array) -> Array:
    """Connected components of a graph of n nodes with edges a – b: labels 0 …, (n,)."""
    parent = np.arange(n)
    for _ in range(n + 1):  # every pass but the last hangs at least one node below another
        low = np.minimum(parent[a], parent[b])
        before = parent.copy()
        np.minimum.at(parent, parent[a], low)
        np.minimum.at(parent, parent[b], low)
        for _ in range(n.bit_length() + 1):  # parents have smaller numbers: no ring
            if (parent[parent] == parent).all():
                break
            parent = parent[parent]
        if (parent == before).all():
            return np.unique(parent, return_inverse=True)[1]
    raise MasoError("components: the pairs of neighbours never settle; this is an error of the package.")


class Locator:
    """Finds regions by buckets: each cell of a grid lists the regions whose bounding box meets it."""

    def __init__(self, faces: Faces, x: Array, bounds: tuple[float, float, float, float]) -> None:
        self.faces, self.bounds = faces, np.array(bounds)
        first = faces.first[:-1]
        corners = x[faces.start]
        self.low, self.high = np.minimum.reduceat(corners, first), np.maximum.reduceat(corners, first)
        a, d = corners, x[faces.end] - corners
        length = np.hypot(d[:, 0], d[:, 1])
        self.normal = np.stack([-d[:, 1], d[:, 0]], 1) / length[:, None]  # points inside
        self.offset = (self.normal * a).sum(1)
        self.grid = max(1, int(np.sqrt(len(first))))
        i0, i1 = self.cell(self.low), self.cell(self.high)
        wide, tall = i1[:, 0] - i0[:, 0] + 1, i1[:, 1] - i0[:, 1] + 1
        count = wide * tall
        region = np.repeat(np.arange(len(first)), count)
        k = np.arange(len(region)) - np.repeat(np.cumsum(count) - count, count)
        cell = (i0[region, 1] + k // wide[region]) * self.grid + i0[region, 0] + k % wide[region]
        order = np.argsort(cell, kind="stable")
        self.region = region[order]
        self.first = np.searchsorted(cell[order], np.arange(self.grid**2 + 1))

    def cell(self, points: Array) -> Array:
        """Column and row of the grid: (N, 2)."""
        low, high = self.bounds[[0, 2]], self.bounds[[1, 3]]
        place = (points - low) / (high - low) * self.grid
        cell: Array = np.clip(place.astype(np.int64), 0, self.grid - 1)
        return cell

    def find(self, points: Array) -> Array:
        """Region of every point, −1 outside the window."""
        out = np.full(len(points), -1)
        low, high = self.bounds[[0, 2]], self.bounds[[1, 3]]
        inside = np.flatnonzero(((points >= low) & (points <= high)).all(1))
        cell = self.cell(points[inside])
        bucket = cell[:, 1] * self.grid + cell[:, 0]
        inside, bucket = inside[np.argsort(bucket, kind="stable")], np.sort(bucket)
        count = self.first[bucket + 1] - self.first[bucket]
        total = np.cumsum(count)
        i = 0
        while i < len(inside):
            j = max(int(np.searchsorted(total, (total[i - 1] if i else 0) + _PAIRS // 8, "right")), i + 1)
            out[inside[i:j]] = self._best(points[inside[i:j]], self.first[bucket[i:j]], count[i:j])
            i = j
        return out

    def _best(self, points: Array, first: Array, count: Array) -> Array:
        """Of the candidates of every point, the region that it lies deepest in."""
        point, k = _ranges(first, count)
        region = self.region[k]
        p = points[point]
        slack = 1e-12 * (self.bounds[[1, 3]] - self.bounds[[0, 2]])
        near = ((p >= self.low[region] - slack) & (p <= self.high[region] + slack)).all(1)
        point, region = point[near], region[near]
        sides = self.faces.first[region + 1] - self.faces.first[region]
        pair, half = _ranges(self.faces.first[region], sides)
        q, normal = points[point[pair]], self.normal[half]
        depth = normal[:, 0] * q[:, 0] + normal[:, 1] * q[:, 1] - self.offset[half]
        depth = np.minimum.reduceat(depth, np.cumsum(sides) - sides)
        order = np.lexsort((depth, point))
        best = np.flatnonzero(np.append(point[order][1:] != point[order][:-1], True))
        out = np.full(len(points), -1)
        out[point[order[best]]] = region[order[best]]
        return out


def _ranges(first: Array, count: Array) -> tuple[Array, Array]:
    """Row i repeated count[i] times, and the numbers first[i] … first[i] + count[i] − 1."""
    row = np.repeat(np.arange(len(first)), count)
    return row, first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)


def _crossings(faces: Faces, positive: Array) -> tuple[Array, Array]:
    """Half-edges (out of, into) the positive side, one pair for every region that has both signs, in order."""
    a, b = positive[faces.start], positive[faces.end]
    return np.flatnonzero(a & ~b), np.flatnonzero(~a & b)


def zero_lines(faces: Faces, x: Array, z: Array) -> list[Array]:
    """Polylines of z = 0, for z (V,) affine on every region; nothing is drawn inside a region where z is zero."""
    out, into = _crossings(faces, z > 0)
    segments = [(faces.edge[h], *_point(faces, x, z, h)) for h in (out, into)]
    ends = np.stack([segments[0][1], segments[1][1]], 1)
    names = np.stack([segments[0][0], segments[1][0]], 1)
    return chain(names, ends)


def _point(faces: Faces, x: Array, z: Array, half: Array) -> tuple[Array, Array]:
    """Zero of z on half-edges: the point, (N, 2), and the parameter from start to end."""
    a, b = faces.start[half], faces.end[half]
    flip = a > b  # the same arithmetic from both sides
    a, b = np.where(flip, b, a), np.where(flip, a, b)
    t = z[a] / (z[a] - z[b])
    return x[a] + t[:, None] * (x[b] - x[a]), t


def zero_chords(faces: Faces, x: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """See `Partition.zero_chords`."""
    positive = values > 0
    region = np.repeat(np.arange(len(faces.key)), np.diff(faces.first))
    ends = []
    for out in (True, False):
        a, b = positive[faces.start], positive[faces.end]
        half, unit = np.nonzero(a & ~b if out else ~a & b)
        order = np.lexsort((unit, region[half]))
        half, unit = half[order], unit[order]
        u, v = np.minimum(faces.start[half], faces.end[half]), np.maximum(faces.start[half], faces.end[half])
        t = values[u, unit] / (values[u, unit] - values[v, unit])
        ends.append((region[half], unit, faces.edge[half], x[u] + t[:, None] * (x[v] - x[u])))
    (where, unit, edge0, point0), (_, _, edge1, point1) = ends
    return where, unit, np.stack([edge0, edge1], 1), np.stack([point0, point1], 1)


def class_borders(faces: Faces, x: Array, values: Array) -> list[Array]:
    """Polylines on which the arg max of the values (V, K) changes.

    In a region, class pair (i, j) contributes the part of the segment f_i = f_j on which no other output is larger.
    """
    first, sides = faces.first[:-1], np.diff(faces.first)
    corner = values.argmax(1)[faces.start]
    mixed = np.minimum.reduceat(corner, first) != np.maximum.reduceat(corner, first)  # else one class wins throughout
    half = np.flatnonzero(np.repeat(mixed, sides))
    if not len(half):
        return []
    start, end = faces.start[half], faces.end[half]
    names, points = [], []
    classes = _contenders(values[start], sides[mixed])
    for n, i in enumerate(classes):
        for j in classes[n + 1 :]:
            z = values[:, i] - values[:, j]
            pos_a, pos_b = z[start] > 0, z[end] > 0
            out, into = half[pos_a & ~pos_b], half[~pos_a & pos_b]
            if not len(out):
                continue
            (p, tp), (q, tq) = _point(faces, x, z, out), _point(faces, x, z, into)
            fp, fq = _values(faces, values, out, tp), _values(faces, values, into, tq)
            gap_p = fp[:, [i]] - np.delete(fp, [i, j], 1)
            gap_q = fq[:, [i]] - np.delete(fq, [i, j], 1)
            with np.errstate(all="ignore"):
                t = gap_p / (gap_p - gap_q)
            low = np.where((gap_p < 0) & (gap_q >= 0), t, 0.0).max(1, initial=0.0)
            high = np.where((gap_p >= 0) & (gap_q < 0), t, 1.0).min(1, initial=1.0)
            high = np.where(((gap_p < 0) & (gap_q < 0)).any(1), -1.0, high)
            keep = np.flatnonzero(low < high)
            low, high, p, q = low[keep, None], high[keep, None], p[keep], q[keep]
            pair = np.int64(i) * values.shape[1] + j
            ends = np.stack([p + low * (q - p), p + high * (q - p)], 1)
            # an end on the region's border is named by its edge and pair, one inside by its region
            inside = -(np.repeat(np.searchsorted(first, out[keep], "right")[:, None], 2, 1)) - 1
            cut_off = np.concatenate([low > 0, high < 1], 1)
            edge = np.stack([faces.edge[out[keep]], faces.edge[into[keep]]], 1)
            names.append(np.where(cut_off, inside, edge * values.shape[1] ** 2 + pair))
            points.append(ends)
    return chain(np.concatenate(names), np.concatenate(points)) if names else []


def _contenders(values: Array, sides: Array) -> Array:
    """Classes that one region's likely winner does not dominate at all its corners: values (H, K), regions one after
    the other."""
    first = np.cumsum(sides) - sides
    likely = np.add.reduceat(values, first, axis=0).argmax(1)
    gap = np.take_along_axis(values, np.repeat(likely, sides)[:, None], 1) - values
    possible = np.flatnonzero((np.minimum.reduceat(gap, first, axis=0) < 0).any(0))
    return np.union1d(possible, likely)


def _values(faces: Faces, values: Array, half: Array, t: Array) -> Array:
    """Values (V, K) at parameters t (N,) along half-edges (N,), counted as in `_point`: (N, K)."""
    a, b = faces.start[half], faces.end[half]
    flip = a > b
    a, b = np.where(flip, b, a), np.where(flip, a, b)
    between: Array = values[a] + t[:, None] * (values[b] - values[a])
    return between


def chain(names: Array, points: Array) -> list[Array]:
    """Join segments whose ends have the same name into polylines.

    Args:
        names: (S, 2) names of the ends.
        points: (S, 2, 2) the ends.
    """
    if not len(names):
        return []
    _, node = np.unique(names, return_inverse=True)
    node = node.reshape(-1, 2)
    degree = np.bincount(node.ravel())
    order = np.argsort(node.ravel(), kind="stable")
    first = np.searchsorted(node.ravel()[order], np.arange(len(degree)))
    # the other segment end at a node that joins exactly two
    partner = np.full(2 * len(node), -1)
    joint = np.flatnonzero(degree == 2)
    a, b = order[first[joint]], order[first[joint] + 1]
    partner[a], partner[b] = b, a
    flat, used, lines = points.reshape(-1, 2), np.zeros(len(node), bool), []
    for begin in np.concatenate([np.flatnonzero(partner < 0), np.arange(len(partner))]):
        if used[begin // 2]:
            continue
        line, at = [flat[begin]], int(begin)
        while at >= 0 and not used[at // 2]:
            used[at // 2] = True
            line.append(flat[at ^ 1])
            at = int(partner[at ^ 1])
        lines.append(np.array(line))
    return lines
