"""Is the VQ distance a metric on codes, and 0 within a cell only? (07-metric)

Networks on the plane with random weights, of every kind of kink.  Distances are compared as whole numbers of units.
"The same cell" is decided without codes: by the exact polygons of `maso.partition` that two points lie in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from maso.affine import affine_map
from maso.codes import codes, vq_distance
from maso.partition import Plane, partition
from maso_book.shared.layers import Absolute, Maxout

SAME = 1e-12
"""Two affine maps whose entries differ by at most this much count as equal (entries are of order 1)."""


def _dense(gate: Callable[[], nn.Module], *widths: int) -> nn.Sequential:
    hidden = [m for i, o in itertools.pairwise((2, *widths)) for m in (nn.Linear(i, o), gate())]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], 3))


def _maxout() -> nn.Sequential:
    return nn.Sequential(Maxout(2, 8, 3), Maxout(8, 8, 3), nn.Linear(8, 3))


def _convolution() -> nn.Sequential:
    body = [nn.Linear(2, 36), nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(16, 3))


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "ReLU": lambda: _dense(nn.ReLU, 16, 16),
    "leaky ReLU": lambda: _dense(lambda: nn.LeakyReLU(0.1), 16, 16),
    "absolute value": lambda: _dense(Absolute, 12, 12),
    "hard tanh": lambda: _dense(lambda: nn.Hardtanh(-0.5, 0.5), 16, 16),
    "maxout": _maxout,
    "convolution, ReLU, max pool": _convolution,
    "ReLU, narrow": lambda: _dense(nn.ReLU, 8, 3, 3),
}


@dataclass(frozen=True)
class Metric:
    """One network of each kind, `points` points in the window [−3, 3]², every second one close to the one before."""

    seed: int
    points: int = 240


def run_metric(config: Metric) -> tuple[dict[str, list[dict[str, Any]]], dict[str, np.ndarray]]:
    """Violations of the axioms, and pairs at distance 0 against pairs in one polygon and pairs with one map.

    Table `networks`, a row for each kind of network; a pair is ordered, of two different points, and "at distance 0"
    means in all layers:
        network: its kind, a key of `NETWORKS`; pairs; triples: of points, in all layers together.
        nonzero_to_itself, asymmetric, broken_triangles: points, pairs and triples that break an axiom in a layer.
        pairs_at_zero: pairs at distance 0.
        zero_across_polygons: those of them that lie in two polygons of the exact partition.
        positive_within_polygon: pairs in one polygon that are not at distance 0.
        largest_map_difference: between the affine maps at two points at distance 0, over all entries.
        positive_with_one_map: pairs not at distance 0 whose affine maps are equal.
    """
    return {"networks": [_network(name, config) for name in NETWORKS]}, {}


def _network(name: str, config: Metric) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    model = NETWORKS[name]().double()
    x = _points(config.points)
    counts = list(_differing(model, x).values())

    other = ~torch.eye(config.points, dtype=torch.bool)
    zero = torch.stack([n == 0 for n in counts]).all(0)
    polygon = torch.as_tensor(partition(model, Plane.square(-3, 3)).locate(x.numpy()))
    one_polygon = polygon[:, None] == polygon[None]
    apart = _map_differences(model, x)

    return {
        "network": name,
        "pairs": int(other.sum()),
        "triples": len(counts) * config.points**3,
        "nonzero_to_itself": sum(int(n.diagonal().count_nonzero()) for n in counts),
        "asymmetric": sum(int((n != n.T).sum()) for n in counts),
        "broken_triangles": sum(broken_triangles(n) for n in counts),
        "pairs_at_zero": int((zero & other).sum()),
        "zero_across_polygons": int((zero & ~one_polygon).sum()),
        "positive_within_polygon": int((~zero & one_polygon).sum()),
        "largest_map_difference": float(apart[zero].max()),
        "positive_with_one_map": int((~zero & (apart <= SAME)).sum()),
    }


def _points(number: int) -> torch.Tensor:
    """Points in the window, (number, 2); every second one close to the one before, so that many share a cell."""
    x = 6 * torch.rand(number, 2, dtype=torch.float64) - 3
    x[1::2] = (x[::2] + 0.05 * torch.randn(number // 2, 2, dtype=torch.float64)).clamp(-3, 3)
    return x


def _differing(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Layer → how many of its units differ between two points, (N, N) int64."""
    units = {path: code[0].numel() for path, code in codes(model, x[:2]).items()}
    return {path: (d.double() * units[path]).round().long() for path, d in vq_distance(model, x, x).items()}


def _map_differences(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Largest difference between the entries of the affine maps at two points, (N, N)."""
    am = affine_map(model, x)
    maps = torch.cat([am.A.flatten(1), am.b], 1)
    return (maps[:, None] - maps[None]).abs().amax(2)


def broken_triangles(n: torch.Tensor) -> int:
    """Triples with n(i, j) > n(i, k) + n(k, j), for n (N, N)."""
    return sum(int((n > n[:, k, None] + n[None, k]).sum()) for k in range(len(n)))
