"""A partition: every region of a window of a plane, and what can be read off it.

The regions are the cells on which every kink keeps its piece; they are convex polygons that tile the window, and on
each the network is one affine map  f(origin + s u + t v) = A (s, t) + b.  A *linear region* is a connected set with one
map; it may hold several cells, where units that differ have no way left to the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from maso.errors import MasoError
from maso.graph import Graph
from maso.partition import geometry
from maso.partition.bits import Array
from maso.partition.complex import OUTSIDE, Complex, Degenerate, Faces, walk
from maso.partition.forward import Forwarded, Snapshot, batch, forward, judge, tangents
from maso.partition.huge import largest
from maso.partition.packed import pack, unpack
from maso.partition.plane import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Partition:
    """All regions of a network in a window of a plane; it can be pickled and copied, with its network.

    Attributes:
        plane: the window.
        certified: which certificates hold: those of the complex always do; "all centres" or "n of N centres" says how
            many regions were forwarded at their centre, and agreed in key and output.
        tiles: number of windows that were computed one by one.
        areas, centres, keys: (F,), (F, 2), (F,) of every region: area in plane coordinates, mean of the corners, and a
            64-bit number that is equal for equal codes.
        vertices: (V, 2) corners of all regions, in plane coordinates.
        values: (V, K) output of the network at the vertices.
        scale: (K,) what rounding errors of each output are relative to: the size of the numbers that meet in it.
    """

    def __init__(
        self,
        plane: Plane,
        cells: Complex,
        faces: Faces,
        values: Array,
        scale: Array,
        graph: Graph,
        model: Snapshot,
        *,
        tiles: int = 1,
    ) -> None:
        self.plane, self.vertices, self.values, self.tiles = plane, cells.x, values, tiles
        self.scale = scale
        self.certified = "complex"
        self._cells, self._faces, self._graph, self._model = cells, faces, graph, model

    def __len__(self) -> int:
        return len(self._faces.key)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_graph": pack(self._graph)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_graph": unpack(state["_graph"])})

    def __repr__(self) -> str:
        return f"Partition({len(self)} regions, certified: {self.certified})"

    @property
    def areas(self) -> Array:
        """Area of every region in plane coordinates, (F,)."""
        return self._faces.area

    @property
    def centres(self) -> Array:
        """Mean of the corners of every region, (F, 2): a point inside."""
        return self._faces.centre

    @property
    def keys(self) -> Array:
        """A 64-bit number for every region, equal for equal codes: (F,) sorted."""
        return self._faces.key

    @property
    def layers(self) -> list[str]:
        """Paths of the layers whose codes tell the regions apart."""
        return list(self._graph.kinks)

    @property
    def regions(self) -> Regions:
        """The regions, as a sequence."""
        return Regions(self)

    # ------------------------------------------------------------------ polygons
    @cached_property
    def _border(self) -> Array:
        try:
            return walk(self._faces)
        except Degenerate as error:
            raise MasoError(f"partition: {error}; choose a slightly different window.") from error

    @cached_property
    def corners(self) -> tuple[Array, Array]:
        """Corners of all polygons: (first, vertex), region i has vertex[first[i] : first[i + 1]], counter-clockwise."""
        return self._faces.first, self._faces.start[self._border]

    def polygon(self, region: int) -> Array:
        """Corners of a region, counter-clockwise: (M, 2)."""
        first, vertex = self.corners
        return self.vertices[vertex[first[region] : first[region + 1]]]

    def polygons(self) -> list[Array]:
        """Corners of every region."""
        first, vertex = self.corners
        return np.split(self.vertices[vertex], first[1:-1])

    def _sides(self, chosen: Array) -> tuple[Array, Array, Array]:
        """Half-edges of regions, one region after the other: (half-edges, first of each region, region of each)."""
        f = self._faces
        sides = np.diff(f.first)[chosen]
        first = np.cumsum(sides) - sides
        region = np.repeat(np.arange(len(chosen)), sides)
        return (f.first[chosen] - first)[region] + np.arange(len(region)), first, region

    def reach(self, regions: Array) -> Array:
        """Largest magnitude of each output at the corners of regions: (n, K)."""
        half, first, _ = self._sides(regions)
        return np.maximum.reduceat(np.abs(self.values.take(self._faces.start[half], 0)), first, axis=0)

    # ------------------------------------------------------------------ affine maps and codes
    def affine(self, regions: Sequence[int] | Array | slice = slice(None)) -> tuple[Array, Array]:
        """Affine maps of regions, f(s, t) = A (s, t) + b, by Green's formula from the values at the corners.

        Args:
            regions: indices, all by default.

        Returns:
            A (n, K, 2) and b (n, K).
        """
        f = self._faces
        chosen = np.arange(len(self))[regions]
        if not len(chosen):
            return np.zeros((0, self.values.shape[1], 2)), np.zeros((0, self.values.shape[1]))
        half, first, region = self._sides(chosen)
        start, end = f.start[half], f.end[half]
        at_start, at_end = self.values.take(start, 0), self.values.take(end, 0)
        mean = np.add.reduceat(at_start, first, axis=0) / np.bincount(region)[:, None]
        along = self.vertices.take(end, 0) - self.vertices.take(start, 0)
        middle = (at_start + at_end) / 2 - mean.take(region, 0)
        integral = [np.add.reduceat(middle * along[:, i : i + 1], first, axis=0) for i in (1, 0)]
        A = np.stack([integral[0], -integral[1]], 2) / f.area[chosen][:, None, None]
        return A, mean - np.einsum("fkd,fd->fk", A, f.centre[chosen])

    @property
    def snapped(self) -> Array:
        """Vertices that the line of a unit was taken to run through, to rounding."""
        return np.flatnonzero(self._cells.snapped)

    def forward(self, regions: Array | None = None, *, codes: bool = False) -> Forwarded:
        """The network at the centres of regions (all by default)."""
        centres = self.centres if regions is None else self.centres[regions]
        step = batch(self._graph)
        batches = [
            forward(self._graph, self._model, self.plane.points(centres[i : i + step]), codes=codes)
            for i in range(0, len(centres), step)
        ]
        return Forwarded.concatenate(
            batches, lambda some, ties: judge(self._graph, self._model, self.plane.points(centres[some]), ties=ties)
        )

    def largest(self) -> str:
        """The largest numbers that the network calculates with, and the tensors that hold them, in words."""
        return largest(self._graph, self._model, self._graph.output)

    def code(self, region: int) -> dict[str, Array]:
        """The code of a region: by layer, the pieces of its gates or the positions of its winners."""
        codes = self.forward(np.array([region]), codes=True).codes
        return {path: values[0] for path, values in codes.items()}

    @cached_property
    def slopes(self) -> Array:
        """Slopes A of all regions, (F, K, 2), by forwarding tangents: exact to rounding however small the region."""
        directions = self._directions
        step = max(16, batch(self._graph) // 3)
        batches = [
            tangents(self._graph, self._model, self.plane.points(self.centres[i : i + step]), directions)[1]
            for i in range(0, len(self), step)
        ]
        return np.concatenate(batches)

    @property
    def _directions(self) -> Any:
        import torch

        return torch.stack([self.plane.u, self.plane.v])

    @cached_property
    def linear_regions(self) -> Array:
        """Label (0 …) of the linear region of every region: (F,).

        Two regions that share an edge belong to one linear region iff their slopes are equal to rounding.
        """
        a, b = self.adjacency.T
        slopes = self.slopes.reshape(len(self), -1)
        size = np.abs(slopes).max(1, initial=0.0)
        jump = np.abs(slopes[a] - slopes[b]).max(1, initial=0.0)
        same = jump <= 1e-10 * np.maximum(np.maximum(size[a], size[b]), 1e-6 * size.max(initial=0.0))
        return geometry.components(len(self), a[same], b[same])

    # ------------------------------------------------------------------ neighbours
    @cached_property
    def _inner(self) -> tuple[Array, Array, Array]:
        """Edges between two regions: edge, region on the left, region on the right."""
        c = self._cells
        edge = np.flatnonzero(c.right != OUTSIDE)
        left, right = np.searchsorted(self.keys, c.left[edge]), np.searchsorted(self.keys, c.right[edge])
        return edge, left, right

    @property
    def adjacency(self) -> Array:
        """Pairs of regions that share an edge: (E, 2), smaller index first."""
        _, left, right = self._inner
        return np.stack([np.minimum(left, right), np.maximum(left, right)], 1)

    @property
    def edges(self) -> Array:
        """Ends of the edges between two regions, in the order of `adjacency`: (E, 2, 2)."""
        edge = self._inner[0]
        return np.stack([self.vertices[self._cells.start[edge]], self.vertices[self._cells.end[edge]]], 1)

    def locate(self, points: Any) -> Array:
        """Region of each point: (N, 2) plane coordinates → (N,); −1 outside the window."""
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise MasoError(f"locate: points have shape {points.shape}; expected (N, 2) plane coordinates.")
        return self._locator.find(points)

    @cached_property
    def _locator(self) -> geometry.Locator:
        return geometry.Locator(self._faces, self.vertices, self.plane.bounds)

    def pullback(self, *layers: str) -> Pullback:
        """The cells of some layers alone, pulled back to the plane: sets of regions with the same code in these layers.

        Args:
            layers: paths, as in `layers`.
        """
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown or not layers:
            raise MasoError(f"pullback: no layer {unknown or 'named'}; the layers are {self.layers}.")
        key = sum((self._layer_keys[layer] for layer in layers), np.zeros(len(self), np.int64))
        _, label = np.unique(key, return_inverse=True)
        a, b = self.adjacency.T
        same = label[a] == label[b]
        return Pullback(label, geometry.components(len(self), a[same], b[same]))

    @cached_property
    def _layer_keys(self) -> dict[str, Array]:
        return self.forward().layer_keys

    # ------------------------------------------------------------------ decisions
    def decision_boundary(self, i: int | None = None, j: int | None = None) -> list[Array]:
        """Polylines on which the decision changes.

        Args:
            i, j: the line f_i = f_j of two outputs; of one output alone, f_i = 0; of neither, the border between
                classes (arg max of the outputs; f = 0 where there is one output).

        Returns:
            List of (M, 2) plane coordinates; a closed polyline ends where it began.
        """
        outputs = self.values.shape[1]
        for k in (i, j):
            if k is not None and not 0 <= k < outputs:
                raise MasoError(f"decision_boundary: there is no output {k}; expected 0 … {outputs - 1}.")
        if i is None and j is None and outputs > 1:
            return geometry.class_borders(self._faces, self.vertices, self.values)
        z = self.values[:, i or 0] - (0.0 if j is None else self.values[:, j])
        return geometry.zero_lines(self._faces, self.vertices, z)

    def zero_chords(self) -> tuple[Array, Array, Array, Array]:
        """The segments on which an output is zero, in every region that it cuts.

        Returns:
            region (S,), output (S,), edges (S, 2) and points (S, 2, 2) of the ends; the output is positive on the left.
        """
        return geometry.zero_chords(self._faces, self.vertices, self.values)

    # ------------------------------------------------------------------ picture
    def plot(self, ax: Axes | None = None, *, color: Any = None, linewidth: float = 0.3, boundary: bool = True) -> Axes:
        """Draw the regions and the decision boundary with matplotlib.

        Args:
            ax: axes to draw on; new ones by default.
            color: one colour for every region, (F, 3) or (F, 4), or (F,) numbers; by default a colour from the key.
            linewidth: of the regions' borders.
            boundary: draw the decision boundary.
        """
        import matplotlib.pyplot as plt
        from matplotlib.collections import LineCollection, PolyCollection

        ax = ax or plt.subplots()[1]
        art = PolyCollection(self.polygons(), linewidths=linewidth, edgecolors="white")
        if color is None:
            hue = (self.keys.view(np.uint64) >> np.uint64(40)).astype(np.float64) / 2**24
            color = plt.get_cmap("cividis")(0.15 + 0.75 * hue)
        color = np.asarray(color)
        if color.ndim == 1:
            art.set_array(color)
        else:
            art.set_facecolor([tuple(c) for c in color])
        ax.add_collection(art)
        if boundary:
            ax.add_collection(LineCollection(self.decision_boundary(), colors="black", linewidths=4 * linewidth + 0.6))
        s0, s1, t0, t1 = self.plane.bounds
        ax.set(xlim=(s0, s1), ylim=(t0, t1), aspect="equal", xlabel="$s$", ylabel="$t$")
        return ax


@dataclass(frozen=True)
class Region:
    """One region of a partition."""

    partition: Partition
    index: int

    @property
    def polygon(self) -> Array:
        """Corners, counter-clockwise: (M, 2)."""
        return self.partition.polygon(self.index)

    @property
    def area(self) -> float:
        """Area in plane coordinates."""
        return float(self.partition.areas[self.index])

    @property
    def centre(self) -> Array:
        """A point inside: (2,)."""
        centre: Array = self.partition.centres[self.index]
        return centre

    @property
    def key(self) -> int:
        """A 64-bit number that is equal for equal codes."""
        return int(self.partition.keys[self.index])

    @property
    def code(self) -> dict[str, Array]:
        """By layer, the pieces of its gates or the positions of its winners: (units,)."""
        return self.partition.code(self.index)

    @property
    def A(self) -> Array:
        """Slopes of the output in plane coordinates: (K, 2)."""
        slopes: Array = self.partition.affine([self.index])[0][0]
        return slopes

    @property
    def b(self) -> Array:
        """Offsets of the output: (K,)."""
        offsets: Array = self.partition.affine([self.index])[1][0]
        return offsets


class Regions(Sequence[Region]):
    """The regions of a partition, made when asked for."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def __len__(self) -> int:
        return len(self._partition)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"region {index} of {len(self)}")
        return Region(self._partition, int(index) % len(self))

    def __iter__(self) -> Iterator[Region]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Pullback:
    """Cells of some layers pulled back to the plane; in general neither convex nor connected.

    Attributes:
        label: (F,) the set of every region: equal code in the layers.
        component: (F,) the connected component of every region.
    """

    label: Array
    component: Array

    @property
    def sets(self) -> int:
        """Number of different codes."""
        return int(self.label.max()) + 1

    @property
    def components(self) -> int:
        """Number of connected components."""
        return int(self.component.max()) + 1
