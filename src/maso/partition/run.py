"""Partition a network: run the tiles, put them together, forward the centres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from maso.errors import MasoError
from maso.graph import Graph
from maso.partition.bits import Array
from maso.partition.complex import Degenerate
from maso.partition.constants import AGREE, CLOSE_LOOKS, CLOSER, FINEST, ROUNDING, SHARE, ZOOM, ZOOMS
from maso.partition.cost import centres_to_check, point_cost
from maso.partition.cut import TooMany
from maso.partition.estimate import Estimate, estimate
from maso.partition.forward import Snapshot, forward
from maso.partition.network import read_on_plane
from maso.partition.noise import Unresolved
from maso.partition.plane import Plane
from maso.partition.result import Partition
from maso.partition.threads import lend_threads
from maso.partition.tiles import Limits, TooLarge, default_bytes, run_tiles, run_window, stitch


def partition(
    model: nn.Module,
    plane: Plane,
    *,
    layers: Sequence[str] | None = None,
    max_regions: int = 2_000_000,
    max_bytes: int | None = None,
    progress: bool = False,
) -> Partition:
    """All regions of a network in a window of a plane, with their affine maps.

    Args:
        model: a piecewise-affine network, in eval mode; its weights are read as float64 and copied.
        plane: the window, in the shape of one input.
        layers: only cut by these layers (paths, as in `Partition.layers`); each kink that leads to one of them must be
            among them. The partition's output is then that of the last of them.
        max_regions: refuse beyond, with an estimate.
        max_bytes: memory for coefficients, rows and results; half of the machine's, at most 8 GiB, by default.
        progress: print tiles as they are finished.

    Returns:
        The partition.

    Raises:
        MasoError: more regions than `max_regions`; a plane or layer that does not fit the network; numbers that are not
            finite, or so large that what varies in the window is lost in them, with the layer and the tensor; a window
            that float64 cannot resolve; a certificate that fails.
        NotPiecewiseAffine: see `maso.trace`.

    Source:
        Mad Max §4; The Geometry of Deep Networks: Power Diagram Subdivision.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> with torch.no_grad():
        ...     _ = net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        ...     _ = net[0].bias.copy_(torch.tensor([0.0, 0.0, -0.5]))
        >>> len(partition(net, Plane.square(-1, 1)))
        7
    """
    graph, snapshot = read_on_plane(model, plane, layers, asked="partition")
    for name, value in {"max_regions": max_regions, "max_bytes": max_bytes}.items():
        if not (isinstance(value, (int, np.integer)) and value > 0) and (value, name) != (None, "max_bytes"):
            raise MasoError(f"partition: {name} is {value!r}; expected a positive whole number.")
    with lend_threads():
        return compute(graph, snapshot, plane, Limits(max_regions, max_bytes or default_bytes()), progress=progress)


def compute(graph: Graph, model: Snapshot, plane: Plane, limits: Limits, *, progress: bool = False) -> Partition:
    """As `partition`, for a network already read."""

    def refuse_early() -> None:
        guess = estimate(graph, model, plane, samples=9)
        if guess.regions > 2 * limits.regions:
            raise MasoError(_too_many(limits.regions, guess))

    try:
        tiles = run_tiles(graph, model, plane, limits, refuse_early, progress=progress)
    except TooMany:
        raise MasoError(_too_many(limits.regions, estimate(graph, model, plane, samples=9))) from None
    try:
        whole = stitch(tiles, plane)
    except Degenerate as error:
        raise MasoError(
            f"partition: the tiles do not fit together ({error}); choose a slightly different window."
        ) from error
    result = Partition(plane, whole.cells, whole.faces, whole.values, whole.scale, graph, model, tiles=len(tiles))
    _certify(result, centres_to_check(len(result), whole.cost.total, point_cost(graph, model)))
    _look_closer(graph, model, result, SHARE * whole.cost.total)
    return result


def _too_many(max_regions: int, guess: Estimate) -> str:
    return (
        f"partition: more than max_regions = {max_regions:,} regions: about {guess.regions:,.0f} "
        f"(95 % interval {guess.low:,.0f} to {guess.high:,.0f}), about {guess.seconds:,.0f} s here. "
        "Use a smaller window or raise max_regions."
    )


def _certify(result: Partition, centres: int) -> None:
    """Forward so many centres: those of the first regions, a random choice, since they are sorted by key, a hash."""
    _compare(result, np.arange(centres))
    n = len(result)
    result.certified = "all centres" if centres == n else f"{centres:,} of {n:,} centres"


def _compare(result: Partition, regions: Array) -> None:
    if not len(regions):
        return
    forwarded = result.forward(regions)
    A, b = result.affine(regions)
    ours = np.einsum("fkd,fd->fk", A, result.centres[regions]) + b
    error, reach = np.abs(ours - forwarded.output), result.reach(regions)
    differs = forwarded.key != result.keys[regions]
    doubtful = np.flatnonzero(differs | ~(error <= AGREE * reach).all(1))
    if not len(doubtful):
        return

    sure, size = forwarded.judge(doubtful, False)
    excess = error[doubtful] - AGREE * np.maximum(size, reach[doubtful]) - ROUNDING * result.scale
    if not (excess <= 0).all():
        worst, output = np.unravel_index(np.argmax(excess), excess.shape)
        region = doubtful[worst]
        raise MasoError(
            f"partition: at {result.centres[regions[region]].tolist()} the affine map of the region misses output "
            f"{output} of the network by {error[region, output]:.3g}: float64 does not resolve this window. Use a "
            f"smaller one, with its origin inside ({result.largest()})."
        )
    if (sure & differs[doubtful]).any():
        raise MasoError(
            "partition: the code of a region differs from the network's at its centre: float64 does not resolve this "
            f"window. Use a smaller one, with its origin inside ({result.largest()})."
        )


def _look_closer(graph: Graph, model: Snapshot, result: Partition, budget: float) -> None:
    """Zoom in on vertices where several lines meet, to rounding: all regions there must be known.

    In a window so large that float64 cannot tell the lines apart, regions would be lost without a trace; a small window
    around the vertex shows them.

    Args:
        budget: as many vertices as cost no more than this, at least `CLOSE_LOOKS`, in a random order.
    """
    spent = 0.0
    for looks, vertex in enumerate(np.random.default_rng(1).permutation(result.snapped)):
        if looks >= CLOSE_LOOKS and spent > budget:
            break
        spent += _zoom_in(graph, model, result, result.vertices[vertex])


def _zoom_in(graph: Graph, model: Snapshot, result: Partition, vertex: Array) -> float:
    """Ever smaller windows around one vertex (2,), as long as several lines meet there.

    Returns:
        What they cost.

    Raises:
        MasoError: one has a region that is not known.
    """
    s, t = vertex
    s0, s1, t0, t1 = result.plane.bounds
    spent, side = 0.0, ZOOM
    for _ in range(ZOOMS):
        w, h = side * (s1 - s0), side * (t1 - t0)
        bounds = (max(s0, s - w), min(s1, s + w), max(t0, t - h), min(t1, t + h))
        if not (bounds[1] - bounds[0] > 1e-12 * abs(s) and bounds[3] - bounds[2] > 1e-12 * abs(t)):
            break  # the coordinates themselves are no finer
        small = result.plane.window(*bounds)
        at = small.points([[s, t]])[0].abs()
        if ((w * small.u.abs()).maximum(h * small.v.abs()) < FINEST * at).all():
            break  # nor are the inputs: every step drowns in them
        try:
            tile = run_window(graph, model, small, Limits(100_000, default_bytes()))
        except (TooMany, TooLarge):
            break
        except Degenerate as error:
            spent += error.cost
            if isinstance(error, Unresolved):
                break
            side *= CLOSER  # a little closer it may be clear
            continue
        centres = forward(graph, model, small.points(tile.faces.centre))
        spent += tile.cost.closely + point_cost(graph, model) * len(centres.key)

        known = result.keys.take(np.searchsorted(result.keys, centres.key), mode="clip") == centres.key
        if centres.judge(np.flatnonzero(~known), False)[0].any():
            raise MasoError(
                f"partition: near {[float(s), float(t)]} there are regions that float64 does not resolve in this "
                f"window. Use a smaller one, with its origin inside ({result.largest()})."
            )
        meeting = np.flatnonzero(tile.cells.snapped)
        if not len(meeting):
            break
        s, t = tile.cells.x[meeting[0]]
        side *= ZOOM
    return spent
