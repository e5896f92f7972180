"""How many regions a window would have, and what they would cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from maso.errors import MasoError
from maso.graph import Graph
from maso.partition.complex import Degenerate
from maso.partition.cut import TooMany
from maso.partition.forward import Snapshot
from maso.partition.network import read_network
from maso.partition.plane import Plane
from maso.partition.tiles import Bounds, Limits, Tile, TooLarge, default_bytes, run_window


@dataclass(frozen=True)
class Estimate:
    """What a partition would have and cost.

    Attributes:
        regions: estimated number of regions.
        low, high: 95 % interval from the spread of the samples.
        seconds: estimated time on this machine.
    """

    regions: float
    low: float
    high: float
    seconds: float


def estimate_regions(
    model: nn.Module, plane: Plane, *, layers: Sequence[str] | None = None, samples: int = 16
) -> Estimate:
    """The number of regions in a window, estimated from a few small sampled windows.

    A window has 1 + Σ_v (d_v / 2 − 1) regions, d_v the number of edges at vertex v: a sum over places, whose density
    inside and along the border is measured in the samples.

    Args:
        model, plane, layers: as in `partition`.
        samples: number of windows, one at random in each cell of a grid.

    Raises:
        MasoError: as `partition`.
    """
    graph, snapshot = read_network(model, plane.origin, layers)
    return estimate(graph, snapshot, plane, samples=samples)


def estimate(graph: Graph, model: Snapshot, plane: Plane, *, samples: int) -> Estimate:
    """As `estimate_regions`, for a network already read."""
    rng = np.random.default_rng(0)
    grid = max(2, round(samples**0.5))
    s0, s1, t0, t1 = plane.bounds
    wide, tall = (s1 - s0) / grid, (t1 - t0) / grid
    share, densities, counts, times = 1.0, [], [], []

    def run(bounds: Bounds) -> tuple[Tile, float]:
        began = time.perf_counter()
        tile = run_window(graph, model, plane.window(*bounds), Limits(256, default_bytes()), whole=True)
        return tile, time.perf_counter() - began

    for i, j in np.ndindex(grid, grid):
        at = rng.random(2)
        while True:
            w, h = share * wide, share * tall
            s, t = s0 + i * wide + at[0] * (wide - w), t0 + j * tall + at[1] * (tall - h)
            try:
                tile, took = run((s, s + w, t, t + h))
                break
            except (TooMany, TooLarge, Degenerate) as error:
                share /= 2
                if share < 1e-12:
                    raise MasoError("estimate_regions: no window small enough could be computed.") from error
        inside, border = _densities(tile, (s, s + w, t, t + h))
        densities.append((inside / (w * h), border / (2 * (w + h))))
        counts.append(tile.cells.count())
        times.append(took)
    inside, border = np.array(densities).T
    regions = 1 + inside * plane.area + border * 2 * (s1 - s0 + t1 - t0)
    mean, spread = float(regions.mean()), float(1.96 * regions.std(ddof=1) / len(regions) ** 0.5)
    empty = run((s, s + 1e-6 * w, t, t + 1e-6 * h))[1]  # what a run costs however few regions it finds
    seconds = empty + mean * max(sum(times) - empty * len(times), 0.0) / sum(counts)
    return Estimate(mean, max(1.0, mean - spread), mean + spread, seconds)


def _densities(tile: Tile, bounds: Bounds) -> tuple[float, float]:
    """Σ (d/2 − 1) over the vertices inside the tile, and over those on its border."""
    cells = tile.cells
    degree = np.bincount(np.concatenate([cells.start, cells.end]), minlength=len(cells.x))
    s0, s1, t0, t1 = bounds
    s, t = cells.x.T
    on_border = (s == s0) | (s == s1) | (t == t0) | (t == t1)
    weight = degree / 2 - 1
    return float(weight[~on_border].sum()), float(weight[on_border].sum())
