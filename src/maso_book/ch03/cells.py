"""Codes against Laguerre distances (03-laguerre), and the cells of a whole network as one power diagram (03-one).

A sum of convex functions has convex kinks only, but a network's later layers bend both ways.  With weights w_l that
fall fast enough

    f(x) = Σ_l w_l Σ_k σ(z_k^(l)(x))

is convex all the same: at a cut born in layer l the kinks of the layers before add nothing, those of layer l bend
upwards, and those of later layers are small.  Then f is a max-affine spline with one piece per cell, and the joint
cells of all layers are one power diagram, with centroids the slopes of f.
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
from maso_book.shared import toy as ch02_toy
from maso_book.shared.layers import Absolute, Maxout, Skip
from maso_book.training import Training, fit

Result = tuple[dict[str, Any], dict[str, np.ndarray]]
INWARDS = 1e-3
"""Share of the way from a corner of a cell to its centre at which the code is compared."""


def networks(seed: int, epochs: int) -> dict[str, tuple[nn.Sequential, Plane]]:
    """Three networks on the plane with windows: two random ones, and one that has learned the toy problem."""
    torch.manual_seed(seed)
    trained = ch02_toy.network((9, 9, 9))
    x, y, _, _ = ch02_toy.split(2000, seed)
    fit(trained, x, y, Training(epochs, 100, ch02_toy.LEARNING_RATE, seed=seed))
    wide = Plane.square(-7, 7)
    return {
        "random, leaky ReLU": (illustration(seed), wide),
        "random, ReLU": (illustration(seed, 0.0), wide),
        "trained, ReLU": (trained, ch02_toy.window()),
    }


# 03-laguerre ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Laguerre:
    """Points to compare on each network and, a tenth of them, on single layers; epochs of the trained network."""

    seed: int
    points: int
    epochs: int


def run_laguerre(config: Laguerre) -> Result:
    """Compare the code with the arg min over the distances to the centroids of all codes, layer by layer."""
    rng = np.random.default_rng(config.seed)
    rows = []
    for name, (model, plane) in networks(config.seed, config.epochs).items():
        began = time.perf_counter()
        p = partition(model, plane)
        seconds = time.perf_counter() - began
        row = {"network": name, "cells": len(p), "exact cells seconds": seconds}
        rows.append(row | _compare(model, p, config, rng))
    single = [_compare_layer(*kind, config.points // 10, rng) for kind in _layers(config.seed)]
    return {"networks": rows, "layers": single}, {}


def _compare(model: nn.Sequential, p: Partition, config: Laguerre, rng: np.random.Generator) -> dict[str, Any]:
    s0, s1, t0, t1 = p.plane.bounds
    points = {
        "random": rng.uniform((s0, t0), (s1, t1), (config.points, 2)),
        "centres": p.centres,
        "corners": corners_inwards(p),
    }
    x = np.concatenate(list(points.values()))
    kind = np.repeat(np.arange(len(points)), [len(v) for v in points.values()])
    began = time.perf_counter()
    with torch.no_grad():
        model(torch.from_numpy(x))
    forward_seconds = time.perf_counter() - began
    found = [code.numpy() for code in codes(model, torch.from_numpy(x)).values()]
    layers, key = dense_layers(model), np.zeros(len(x), np.int64)
    rows, search_seconds = [], 0.0
    for depth, (layer, code) in enumerate(zip(layers, found, strict=True)):
        _, first, cell = np.unique(key, return_index=True, return_inverse=True)
        centroids, B = diagram(*layer.pieces)
        before = upstream(layers[: depth + 1], x[first])[-1]
        wrong, at_home = np.zeros(len(x), bool), 0
        used: set[tuple[int, int]] = set()
        for i in range(len(first)):
            mu, tau = pulled_back(centroids, B, before.A[i], before.b[i])
            inside = np.flatnonzero(cell == i)
            began = time.perf_counter()
            nearby = nearest(x[inside], mu, tau)
            search_seconds += time.perf_counter() - began
            wrong[inside] = nearby != number(code[inside])
            used.update((i, int(n)) for n in np.unique(nearby))
        for i, n in used:
            mu, _ = pulled_back(centroids[n : n + 1], B[n : n + 1], before.A[i], before.b[i])
            at_home += _path(layers[: depth + 1], mu) == (*_path(layers[:depth], x[first[i : i + 1]]), n)
        rows.append(
            {
                "layer": depth + 1,
                "upstream cells": len(first),
                "codes": len(B),
                "cells": len(used),
                "centroids in their cell": at_home,
                **{f"mismatches, {name}": int(wrong[kind == i].sum()) for i, name in enumerate(points)},
            }
        )
        key = key * len(B) + number(code)
    return {
        **{f"points, {name}": len(v) for name, v in points.items()},
        "layers": rows,
        "forward seconds": forward_seconds,
        "search seconds": search_seconds,
    }


def corners_inwards(p: Partition) -> np.ndarray:
    """A point of every cell next to each of its corners, (corners, 2)."""
    first, vertex = p.corners
    cell = np.repeat(np.arange(len(p)), np.diff(first))
    return (1 - INWARDS) * p.vertices[vertex] + INWARDS * p.centres[cell]


def _path(layers: list[Dense], x: np.ndarray) -> tuple[int, ...]:
    """The number of the code of every layer at one point."""
    return tuple(int(number(up.code)[0]) for up in upstream(layers, x))


def _layers(seed: int) -> list[tuple[str, nn.Module, int]]:
    """Single layers of nine units with two pieces, or six with three, of inputs in 2 to 64 dimensions."""
    torch.manual_seed(seed)
    return [
        ("ReLU", nn.Sequential(nn.Linear(2, 9), nn.ReLU()).double(), 2),
        ("leaky ReLU", nn.Sequential(nn.Linear(16, 9), nn.LeakyReLU(0.1)).double(), 16),
        ("absolute value", nn.Sequential(nn.Linear(64, 9), Absolute()).double(), 64),
        ("ReLU with skip", Skip(nn.Linear(16, 9), nn.ReLU(), nn.Linear(16, 9)).double(), 16),
        ("maxout of three", Maxout(16, 6, 3).double(), 16),
    ]


def _compare_layer(name: str, layer: nn.Module, inputs: int, points: int, rng: np.random.Generator) -> dict[str, Any]:
    m: MASO = from_layer(layer, inputs)
    centroids, B = diagram(m.A.detach().numpy(), m.B.detach().numpy())
    x = rng.normal(size=(points, inputs))
    (code,) = codes(layer, torch.from_numpy(x)).values()
    wrong = nearest(x, centroids, (centroids**2).sum(1) + 2 * B) != number(code.numpy(), m.R)
    return {"layer": name, "inputs": inputs, "codes": len(B), "points": points, "mismatches": int(wrong.sum())}


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
        model: fully connected, with ReLUs or leaky ReLUs, input (N, 2).
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


def run_one(config: OneDiagram) -> Result:
    """Are the joint cells the cells of f: convex kinks at all edges, and the code of the nearest centroid?"""
    rng = np.random.default_rng(config.seed)
    rows = []
    for name, (model, plane) in networks(config.seed, config.epochs).items():
        began = time.perf_counter()
        found = lift(model, plane)
        seconds = time.perf_counter() - began
        s0, s1, t0, t1 = plane.bounds
        x = np.concatenate([rng.uniform((s0, t0), (s1, t1), (config.points, 2)), corners_inwards(found.cells)])
        began = time.perf_counter()
        ours = _numbers(model, found.cells.centres)[nearest(x, found.centroids, found.radii)]
        search_seconds = time.perf_counter() - began
        rows.append(
            {
                "network": name,
                "cells": len(found.cells),
                "edges": len(found.kinks),
                "weights": found.weights.tolist(),
                "smallest kink": float(found.kinks.min()),
                "concave edges without weights": int((found.unweighted <= 0).sum()),
                "points": len(x),
                "mismatches": int((ours != _numbers(model, x)).sum()),
                "lift seconds": seconds,
                "search seconds": search_seconds,
            }
        )
    return {"networks": rows}, {}


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
