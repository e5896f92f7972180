"""Codes against Laguerre distances (03-laguerre), and the cells of a whole network as one power diagram (03-one).

A sum of convex functions has convex kinks only, but a network's later layers bend both ways.  With weights w_l that
fall fast enough

    f(x) = Σ_l w_l Σ_k σ(z_k^(l)(x))

is convex all the same: at a cut born in layer l the kinks of the layers before add nothing, those of layer l bend
upwards, and those of later layers are small.  Then f is a max-affine spline with one piece per cell, and the joint
cells of all layers are one power diagram, with centroids the slopes of f.  In place of σ(z_k) any output will do that
is a maximum of affine functions of what comes before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso import MASO, codes, from_layer
from maso.partition import Partition, Plane, partition
from maso_book.ch03.hand import Dense, dense_layers, diagram, illustration, nearest, number, pulled_back, upstream
from maso_book.experiment import Rows
from maso_book.shared import toy
from maso_book.shared.layers import Absolute, Maxout, Skip
from maso_book.training import Training, fit

INWARDS = 1e-3
"""Share of the way from a corner of a cell to its centre at which the code is compared."""


def networks(seed: int, epochs: int) -> dict[str, tuple[nn.Sequential, Plane]]:
    """Three networks on the plane with windows: two random ones, and one that has learned the toy problem."""
    torch.manual_seed(seed)
    trained = toy.network((9, 9, 9))
    x, y, _, _ = toy.split(n=2000, seed=seed)
    fit(trained, x, y, Training(epochs=epochs, batch=100, lr=toy.LEARNING_RATE, seed=seed))
    wide = Plane.square(-7, 7)
    return {
        "random, leaky ReLU": (illustration(seed), wide),
        "random, ReLU": (illustration(seed, 0.0), wide),
        "trained, ReLU": (trained, toy.window()),
    }


# 03-laguerre ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Laguerre:
    """Points to compare on each network and, a tenth of them, on single layers; epochs of the trained network."""

    seed: int
    points: int
    epochs: int


def run_laguerre(config: Laguerre) -> tuple[Rows, dict[str, np.ndarray]]:
    """Compare the code with the arg min over the distances to the centroids of all codes, layer by layer.

    Tables:
        networks: one network. `cells` in its window; `partition_seconds` for all of them, `forward_seconds` for one
            forward pass of all points, `search_seconds` for their nearest centroids in all layers.
        samples: one kind of points on one network. `sample` is "random" in the window, "centres" of the cells, or
            "corners" of the cells, moved inwards; `compared` is how many there are.
        layers: one layer of a network. `upstream_cells` and `cells`, those with a point in them before and after this
            layer; `codes`, all R^K; `centroids_inside`, the cells that hold their own centroid.
        mismatches: one kind of points in one layer. `mismatches`, those whose code is not the nearest centroid's.
        single_layers: one layer alone. `layer_type`, the dimension `inputs`, `codes`, `compared` and `mismatches`.
    """
    rng = np.random.default_rng(config.seed)
    tables: dict[str, list[dict[str, Any]]] = {"networks": [], "samples": [], "layers": [], "mismatches": []}
    for name, (model, plane) in networks(config.seed, config.epochs).items():
        for table, rows in _compare(model, plane, config.points, rng).items():
            tables[table] += [{"network": name} | row for row in rows]

    single = [_compare_single(*layer, config.points // 10, rng) for layer in _single_layers(config.seed)]
    return tables | {"single_layers": single}, {}


def _compare(
    model: nn.Sequential, plane: Plane, points: int, rng: np.random.Generator
) -> dict[str, list[dict[str, Any]]]:
    """The rows of one network, by table."""
    began = time.perf_counter()
    p = partition(model, plane)
    partition_seconds = time.perf_counter() - began

    samples = {"random": _uniform(plane, points, rng), "centres": p.centres, "corners": corners_inwards(p)}
    x = np.concatenate(list(samples.values()))
    sample = np.repeat(list(samples), [len(v) for v in samples.values()])

    began = time.perf_counter()
    with torch.no_grad():
        model(torch.from_numpy(x))
    forward_seconds = time.perf_counter() - began

    dense, upstream_cell, search_seconds = dense_layers(model), np.zeros(len(x), np.int64), 0.0
    layers, mismatches = [], []
    for depth, codes_of_layer in enumerate(codes(model, torch.from_numpy(x)).values(), 1):
        code = number(codes_of_layer.numpy())
        nearest_code, row, seconds = _search(dense[:depth], x, upstream_cell)
        search_seconds += seconds
        layers.append({"layer": depth} | row)
        for kind in samples:
            wrong = int((nearest_code != code)[sample == kind].sum())
            mismatches.append({"layer": depth, "sample": kind, "mismatches": wrong})
        upstream_cell = upstream_cell * row["codes"] + code

    seconds_row = {
        "partition_seconds": partition_seconds,
        "forward_seconds": forward_seconds,
        "search_seconds": search_seconds,
    }
    return {
        "networks": [{"cells": len(p)} | seconds_row],
        "samples": [{"sample": kind, "compared": len(v)} for kind, v in samples.items()],
        "layers": layers,
        "mismatches": mismatches,
    }


def _uniform(plane: Plane, points: int, rng: np.random.Generator) -> np.ndarray:
    """Random points in a window, (points, 2)."""
    s0, s1, t0, t1 = plane.bounds
    return rng.uniform((s0, t0), (s1, t1), (points, 2))


def _search(layers: list[Dense], x: np.ndarray, upstream_cell: np.ndarray) -> tuple[np.ndarray, dict[str, int], float]:
    """The nearest of all centroids of the last of these layers.

    Args:
        layers: the layers up to the one that is searched.
        x: points, (N, D).
        upstream_cell: a number for the cell of the layers before, (N,).

    Returns:
        The number of the nearest centroid's code, (N,); a row of the table `layers`; the seconds of the search alone.
    """
    _, first, cell = np.unique(upstream_cell, return_index=True, return_inverse=True)
    centroids, B = diagram(*layers[-1].pieces)
    before = upstream(layers, x[first])[-1]

    code, cells, inside, seconds = np.zeros(len(x), np.int64), 0, 0, 0.0
    for i, point in enumerate(first):
        mu, tau = pulled_back(centroids, B, before.A[i], before.b[i])
        members = np.flatnonzero(cell == i)
        began = time.perf_counter()
        code[members] = nearest(x[members], mu, tau)
        seconds += time.perf_counter() - began

        home = _path(layers[:-1], x[point : point + 1])
        used = np.unique(code[members]).tolist()
        cells += len(used)
        inside += sum(_path(layers, mu[r : r + 1]) == (*home, r) for r in used)
    row = {"upstream_cells": len(first), "codes": len(B), "cells": cells, "centroids_inside": inside}
    return code, row, seconds


def corners_inwards(p: Partition) -> np.ndarray:
    """A point of every cell next to each of its corners, (corners, 2)."""
    first, vertex = p.corners
    cell = np.repeat(np.arange(len(p)), np.diff(first))
    return (1 - INWARDS) * p.vertices[vertex] + INWARDS * p.centres[cell]


def _path(layers: list[Dense], x: np.ndarray) -> tuple[int, ...]:
    """The number of the code of every layer at one point."""
    return tuple(int(number(up.code)[0]) for up in upstream(layers, x))


def _single_layers(seed: int) -> list[tuple[str, nn.Module, int]]:
    """Single layers of nine units with two pieces, or six with three, of inputs in 2 to 64 dimensions."""
    torch.manual_seed(seed)
    return [
        ("ReLU", nn.Sequential(nn.Linear(2, 9), nn.ReLU()).double(), 2),
        ("leaky ReLU", nn.Sequential(nn.Linear(16, 9), nn.LeakyReLU(0.1)).double(), 16),
        ("absolute value", nn.Sequential(nn.Linear(64, 9), Absolute()).double(), 64),
        ("ReLU with skip", Skip(nn.Linear(16, 9), nn.ReLU(), nn.Linear(16, 9)).double(), 16),
        ("maxout of three", Maxout(16, 6, 3).double(), 16),
    ]


def _compare_single(
    layer_type: str, layer: nn.Module, inputs: int, points: int, rng: np.random.Generator
) -> dict[str, Any]:
    m: MASO = from_layer(layer, inputs)
    centroids, B = diagram(m.A.detach().numpy(), m.B.detach().numpy())
    x = rng.normal(size=(points, inputs))
    (code,) = codes(layer, torch.from_numpy(x)).values()
    wrong = nearest(x, centroids, (centroids**2).sum(1) + 2 * B) != number(code.numpy(), m.R)
    row = {"layer_type": layer_type, "inputs": inputs, "codes": len(B)}
    return row | {"compared": points, "mismatches": int(wrong.sum())}


# 03-one ---------------------------------------------------------------------------------------------------------------


class LayerSums(nn.Module):
    """The outputs of every hidden layer, summed: Σ_k σ(z_k^(l)), (N, layers)."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__()
        self.layers = nn.ModuleList(list(model)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        sums = []
        for layer in self.layers:
            x = layer(x)
            if not isinstance(layer, nn.Linear):
                sums.append(x.sum(1, keepdim=True))
        return torch.cat(sums, 1)


@dataclass(frozen=True)
class Lift:
    """The max-affine spline whose cells are the joint cells of a network in a window.

    Attributes:
        cells: the cells.
        weights: w_l of every layer, (L,).
        kinks: how far the slope of f grows across every edge between two cells, (E,).
        unweighted: the same for w_l = 1.
        centroids, radii: (F, 2) and squared, (F,).
    """

    cells: Partition
    weights: np.ndarray
    kinks: np.ndarray
    unweighted: np.ndarray
    centroids: np.ndarray
    radii: np.ndarray


def lift(model: nn.Sequential, plane: Plane) -> Lift:
    """One power diagram for the joint cells of all layers: weights, kinks, centroids and radii.

    Args:
        model: max-affine layers, dense ones between them, and a dense one at the end; input (N, 2).
        plane: a window of its input plane.
    """
    sums = LayerSums(model)
    p = partition(sums, plane)
    slopes = p.slopes
    offsets = p.forward().output - np.einsum("fld,fd->fl", slopes, p.centres)
    a, b = p.adjacency.T
    along = p.edges[:, 1] - p.edges[:, 0]
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1)[:, None]
    normal *= np.sign(((p.centres[b] - p.centres[a]) * normal).sum(1))[:, None]
    kinks = np.einsum("eld,ed->el", slopes[b] - slopes[a], normal)
    born = _born(model, p)
    kinks[np.arange(kinks.shape[1]) < born[:, None]] = 0.0  # rounding
    weights = np.ones(kinks.shape[1])
    total = kinks[:, 0].copy()
    for layer in range(1, len(weights)):
        down = (born < layer) & (kinks[:, layer] < 0)
        most = (total[down] / -kinks[down, layer]).min(initial=2 * weights[layer - 1])
        weights[layer] = most / 2
        total += weights[layer] * kinks[:, layer]
    mu = np.einsum("l,fld->fd", weights, slopes)
    return Lift(p, weights, total, kinks.sum(1), mu, (mu**2).sum(1) + 2 * offsets @ weights)


def _born(model: nn.Sequential, p: Partition) -> np.ndarray:
    """The first layer in whose code the two sides of every edge differ, (E,)."""
    a, b = p.adjacency.T
    found = codes(model, torch.from_numpy(p.centres)).values()
    return np.stack([(code[a] != code[b]).any(1).numpy() for code in found], 1).argmax(1)


@dataclass(frozen=True)
class OneDiagram:
    """Points to compare on each network; epochs of the trained one."""

    seed: int
    points: int
    epochs: int


def run_one(config: OneDiagram) -> tuple[Rows, dict[str, np.ndarray]]:
    """Are the joint cells the cells of f: convex kinks at all edges, and the code of the nearest centroid?

    Tables:
        networks: one network. Its `cells` and the `edges` between two of them; `smallest_kink`, by which the slope of f
            grows across an edge; `concave_edges_unweighted`, edges where it does not with all w_l = 1; points
            `compared` and `mismatches`; `lift_seconds` for cells, weights and centroids, `search_seconds` for the
            nearest centroids of all points.
        weights: one layer of a network. Its `weight` w_l.
    """
    rng = np.random.default_rng(config.seed)
    rows, weights = [], []
    for name, (model, plane) in networks(config.seed, config.epochs).items():
        began = time.perf_counter()
        lifted = lift(model, plane)
        lift_seconds = time.perf_counter() - began

        x = np.concatenate([_uniform(plane, config.points, rng), corners_inwards(lifted.cells)])
        began = time.perf_counter()
        of_nearest = _numbers(model, lifted.cells.centres)[nearest(x, lifted.centroids, lifted.radii)]
        search_seconds = time.perf_counter() - began

        row = {
            "network": name,
            "cells": len(lifted.cells),
            "edges": len(lifted.kinks),
            "smallest_kink": float(lifted.kinks.min()),
            "concave_edges_unweighted": int((lifted.unweighted <= 0).sum()),
            "compared": len(x),
            "mismatches": int((of_nearest != _numbers(model, x)).sum()),
            "lift_seconds": lift_seconds,
            "search_seconds": search_seconds,
        }
        rows.append(row)
        weights += [
            {"network": name, "layer": layer, "weight": w} for layer, w in enumerate(lifted.weights.tolist(), 1)
        ]
    return {"networks": rows, "weights": weights}, {}


def _numbers(model: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """One number for the code of all layers at points, (N, 2) → (N,)."""
    code = torch.cat(list(codes(model, torch.from_numpy(x)).values()), 1)
    return number(code.numpy())


# Tilings that are no power diagram ------------------------------------------------------------------------------------


def tension(inner: np.ndarray, outer: np.ndarray) -> tuple[np.ndarray, float]:
    """Can a web of a triangle and three seams hang under tension?  If not, its four panes are no power diagram.

    The slope of a max-affine spline changes across an edge by c > 0 times the edge's normal, and by nothing around a
    vertex: with unit vectors d_e along the edges, Σ_e c_e d_e = 0 at every inner vertex (Maxwell).  Three vertices and
    six edges: a square system, with no solution but in special places.

    Args:
        inner: corners of the triangle, (3, 2).
        outer: where the seam of each corner ends, (3, 2).

    Returns:
        Tensions of the three sides and three seams that balance best, with largest entry 1, (6,); and what remains
        unbalanced, the smallest singular value over the largest (0: they balance).
    """
    system = np.zeros((3, 2, 6))
    for side in range(3):
        a, b = side, (side + 1) % 3
        along = (inner[b] - inner[a]) / np.linalg.norm(inner[b] - inner[a])
        system[a, :, side], system[b, :, side] = along, -along
        system[side, :, 3 + side] = (outer[side] - inner[side]) / np.linalg.norm(outer[side] - inner[side])
    _, sizes, rows = np.linalg.svd(system.reshape(6, 6))
    best = rows[-1] / rows[-1][np.abs(rows[-1]).argmax()]
    return best, float(sizes[-1] / sizes[0])
