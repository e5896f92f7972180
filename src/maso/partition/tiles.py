"""From one window to any window: tiles, their cost, and how they are put together again.

A frame costs vertices × rows at every kink, and both grow with the window; affine operators cost rows alone.  So a run
is given up where the vertices outweigh the affine operators, by the operations counted (`cost`) or to be foretold, or
where memory runs short, and its window is cut into nine.  Keys do not depend on the window: along a border between two
tiles the same regions follow each other, the border goes, and the regions that it cut become whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from maso.errors import MasoError
from maso.graph import Graph
from maso.partition.bits import Array
from maso.partition.complex import OUTSIDE, Complex, Degenerate, Faces
from maso.partition.constants import DEEPEST, FREE, HELD_AGAIN, LATER, OUTWEIGHED, WORTH_GIVING_UP
from maso.partition.cost import Cost, row_costs
from maso.partition.forward import Snapshot
from maso.partition.frame import FrameReading
from maso.partition.huge import NotFinite, explain_unresolved, largest, refuse_number
from maso.partition.noise import Unresolved
from maso.partition.plane import Plane

Bounds = tuple[float, float, float, float]


class TooLarge(Exception):
    """A window costs more than its parts."""


@dataclass
class Limits:
    """What a run may use.

    Attributes:
        regions: most regions of a run.
        bytes: most bytes of its frame and rows.
    """

    regions: int
    bytes: int


@dataclass
class Tile:
    """All regions of one window.

    Attributes:
        cells, faces: the complex, and its faces, certified.
        values: (V, K) the output at its vertices.
        scale: (K,) what rounding errors of each output are relative to.
        cost: of the run, or of those that it is put together from.
    """

    cells: Complex
    faces: Faces
    values: Array
    scale: Array
    cost: Cost


def default_bytes() -> int:
    """Half of the machine's memory, at most 8 GiB."""
    return min(8 << 30, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)


def run_window(graph: Graph, model: Snapshot, plane: Plane, limits: Limits, *, divisible: bool = False) -> Tile:
    """All regions of one window.

    Args:
        divisible: give up where its parts would cost less.

    Raises:
        TooLarge: the window should be cut up.
        TooMany: more regions than `limits.regions`.
        Degenerate: a certificate failed.
        Unresolved: numbers so large meet in a unit that float64 does not say what it does.
        MasoError: numbers that are not finite.
    """
    costs = row_costs(graph, model)
    one_row = sum(costs.values())

    def watch(reading: FrameReading, coefficients: int, held: int) -> None:
        if HELD_AGAIN * held > limits.bytes:
            raise TooLarge
        if not divisible or reading.settled or coefficients <= FREE:
            return
        if reading.first:
            at_vertices = LATER * coefficients
        elif coefficients > WORTH_GIVING_UP:
            at_vertices = reading.cost.vertices
        else:
            return
        if at_vertices > OUTWEIGHED * max(reading.cost.affine, one_row * reading.rank):
            raise TooLarge

    reading = FrameReading(graph, costs, plane, model.device, limits.regions, watch)
    try:
        with torch.no_grad():
            out = graph.read(model, graph.input, reading)  # type: ignore[arg-type]
            rows = reading.rows[out].movedim(out.axis, 0)
            values, scale, faces = reading.finish(rows.reshape(len(rows), -1), plane.area)
    except NotFinite as error:
        raise refuse_number(graph, model, error) from error
    except Degenerate as error:
        error.layer, error.cost = graph.paths.get(reading.at), reading.cost.closely
        raise
    return Tile(reading.cells, faces, values, scale, reading.cost)


def run_tiles(
    graph: Graph, model: Snapshot, plane: Plane, limits: Limits, refuse_early: Callable[[], None], *, progress: bool
) -> list[Tile]:
    """The window in one run, or in tiles where that costs less.

    Args:
        refuse_early: called once, where the first tile has more regions than its share; it may raise.

    Raises:
        TooMany: more regions than `limits.regions` in all.
        MasoError: a window that cannot be computed.
    """
    waiting, tiles, regions, done, held = [(plane.bounds, 0)], [], 0, 0.0, 0
    while waiting:
        bounds, depth = waiting.pop()
        part = plane.window(*bounds) if depth else plane
        try:
            left = Limits(limits.regions - regions, limits.bytes - held)
            tile = run_window(graph, model, part, left, divisible=depth < DEEPEST)
        except Unresolved as error:
            raise MasoError(explain_unresolved(graph, model, error)) from error
        except (TooLarge, Degenerate) as error:
            if depth >= (DEEPEST // 2 if isinstance(error, Degenerate) else DEEPEST):
                advice = (
                    "float64 does not resolve it: use a smaller window, with its origin inside."
                    if isinstance(error, Degenerate)
                    else f"Raise max_bytes (now {limits.bytes:,}) or use a smaller window."
                )
                why = str(error) or "too little memory"
                at = ""
                if isinstance(error, Degenerate) and error.layer:
                    at = f" at layer {error.layer!r}"
                    why += f"; {largest(graph, model, graph.kinks[error.layer])}"
                raise MasoError(
                    f"partition: no certified complex{at} in the window {bounds} ({why}). {advice}"
                ) from error
            waiting += [(b, depth + 1) for b in _ninths(bounds)]
            continue
        tiles.append(tile)
        regions += tile.cells.count()
        held += tile.values.nbytes + 12 * tile.cells.x.nbytes
        done += part.area / plane.area
        if waiting and len(tiles) == 1 and regions > 2 * limits.regions * done:
            refuse_early()
        if progress:
            end = "\n" if not waiting else ""
            print(
                f"\r{done:6.1%} of the window, {len(tiles)} tiles, {regions:,} regions",
                end=end,
                file=sys.stderr,
                flush=True,
            )
    return tiles


def _ninths(bounds: Bounds) -> list[Bounds]:
    """Nine tiles; the cuts are at no simple fraction, where networks may have corners of their own."""
    s0, s1, t0, t1 = bounds
    s = [s0, s0 + 0.3307 * (s1 - s0), s0 + 0.6661 * (s1 - s0), s1]
    t = [t0, t0 + 0.3313 * (t1 - t0), t0 + 0.6679 * (t1 - t0), t1]
    return [(*along, *up) for up in pairwise(t) for along in pairwise(s)]


def stitch(tiles: list[Tile], plane: Plane) -> Tile:
    """One tile from those that cover the window.

    Raises:
        Degenerate: the regions on the two sides of a border do not fit.
    """
    if len(tiles) == 1:
        return tiles[0]
    cells = Complex(plane.bounds)
    first = np.cumsum([0] + [len(t.cells.x) for t in tiles])
    cells.x = np.concatenate([t.cells.x for t in tiles])
    cells.snapped = np.concatenate([t.cells.snapped for t in tiles])
    values = np.concatenate([t.values for t in tiles])
    start = np.concatenate([t.cells.start + n for t, n in zip(tiles, first, strict=False)])
    end = np.concatenate([t.cells.end + n for t, n in zip(tiles, first, strict=False)])
    left, right = (np.concatenate([getattr(t.cells, side) for t in tiles]) for side in ("left", "right"))
    border = np.flatnonzero(right == OUTSIDE)
    same, kept = np.arange(len(cells.x)), right != OUTSIDE
    added: list[tuple[Array, Array, Array, Array]] = []
    for axis, (low, high) in enumerate((plane.bounds[:2], plane.bounds[2:])):
        across, along = cells.x[:, axis], cells.x[:, 1 - axis]
        level = border[across[start[border]] == across[end[border]]]
        for line in np.unique(across[start[level]]):
            on = level[across[start[level]] == line]
            if line in (low, high):
                kept[on] = True
                continue
            added.append(_join(on, start, end, left, along, same, upward=axis == 0))
    old = (start[kept], end[kept], left[kept], right[kept])
    start, end, cells.left, cells.right = (np.concatenate(columns) for columns in zip(old, *added, strict=True))
    cells.start, cells.end = same[start], same[end]
    s0, s1, t0, t1 = plane.bounds
    s, t = cells.x.T
    cells.corner = ((s == s0) | (s == s1)) & ((t == t0) | (t == t1))
    vertices = cells.rekey(cells.regions()[0])
    cost = Cost(sum(t.cost.affine for t in tiles), sum(t.cost.vertices for t in tiles))
    scale = np.max([t.scale for t in tiles], 0)
    return Tile(cells, cells.faces(plane.area), values[vertices], scale, cost)


def _join(
    on: Array, start: Array, end: Array, left: Array, along: Array, same: Array, *, upward: bool
) -> tuple[Array, Array, Array, Array]:
    """Edges along one line between tiles: (start, end, left, right) with the regions of both sides.

    Args:
        on: border edges on the line, of tiles on either side.
        same: vertices that are one; filled in.
        upward: edges that go up have their tile on the low side of the line (else on the high side).
    """
    vertex = np.unique(np.concatenate([start[on], end[on]]))
    vertex = vertex[np.argsort(along[vertex], kind="stable")]
    place = along[vertex]
    tolerance = 1e-11 * max(place[-1] - place[0], np.abs(place).max())
    group = np.cumsum(np.concatenate([[True], np.diff(place) > tolerance])) - 1
    representative = vertex[np.searchsorted(group, np.arange(group[-1] + 1))]
    same[vertex] = representative[group]
    number = np.zeros(len(same), np.int64)
    number[vertex] = group
    low_key = np.full(group[-1], OUTSIDE)
    high_key = np.full(group[-1], OUTSIDE)
    a, b = number[start[on]], number[end[on]]
    for key, edges in ((low_key, (b > a) == upward), (high_key, (b > a) != upward)):
        i, j = np.minimum(a, b)[edges], np.maximum(a, b)[edges]
        count = j - i
        row = np.repeat(np.arange(len(i)), count)
        key[i[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)] = left[on][edges][row]
    interval = np.flatnonzero((low_key != OUTSIDE) | (high_key != OUTSIDE))
    low_key, high_key = low_key[interval], high_key[interval]
    if (low_key == OUTSIDE).any() or (high_key == OUTSIDE).any():
        raise Degenerate("the borders of two tiles do not fit")
    a, b = representative[interval], representative[interval + 1]
    return (a, b, low_key, high_key) if upward else (a, b, high_key, low_key)
