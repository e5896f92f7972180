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

SAME = 1e-12
"""Two affine maps whose entries differ by at most this much count as equal (entries are of order 1)."""


class Maxout(nn.Module):
    """The largest of every three entries."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3 K) → (N, K)."""
        return x.unflatten(1, (-1, 3)).amax(2)


class Absolute(nn.Module):
    """|x|."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As x."""
        return x.abs()


def _dense(gate: Callable[[], nn.Module], *widths: int) -> nn.Sequential:
    hidden = [m for i, o in itertools.pairwise((2, *widths)) for m in (nn.Linear(i, o), gate())]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], 3))


def _maxout() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 24), Maxout(), nn.Linear(8, 24), Maxout(), nn.Linear(8, 3))


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


def run_metric(config: Metric) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Violations of the axioms, and pairs with distance 0 against pairs in one polygon and pairs with one map."""
    return {"networks": [_network(name, config) for name in NETWORKS]}, {}


def _network(name: str, config: Metric) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    model = NETWORKS[name]().double()
    x = 6 * torch.rand(config.points, 2, dtype=torch.float64) - 3
    x[1::2] = (x[::2] + 0.05 * torch.randn(config.points // 2, 2, dtype=torch.float64)).clamp(-3, 3)
    units = {path: code[0].numel() for path, code in codes(model, x[:2]).items()}
    counts = {path: (d.double() * units[path]).round().long() for path, d in vq_distance(model, x, x).items()}
    off = ~torch.eye(config.points, dtype=torch.bool)
    zero = torch.stack([n == 0 for n in counts.values()]).all(0)
    region = torch.as_tensor(partition(model, Plane.square(-3, 3)).locate(x.numpy()))
    same_region = region[:, None] == region[None]
    am = affine_map(model, x)
    maps = torch.cat([am.A.flatten(1), am.b], 1)
    apart = (maps[:, None] - maps[None]).abs().amax(2)
    return {
        "network": name,
        "pairs": int(off.sum()),
        "triples": len(counts) * config.points**3,
        "not zero to itself": sum(int(n.diagonal().count_nonzero()) for n in counts.values()),
        "not symmetric": sum(int((n != n.T).sum()) for n in counts.values()),
        "triangle": sum(broken_triangles(n) for n in counts.values()),
        "pairs at distance 0": int((zero & off).sum()),
        "distance 0, other polygon": int((zero & ~same_region).sum()),
        "distance above 0, same polygon": int((~zero & same_region).sum()),
        "distance 0, largest difference of the maps": float(apart[zero].max()),
        "distance above 0, same map": int((~zero & (apart <= SAME)).sum()),
    }


def broken_triangles(n: torch.Tensor) -> int:
    """Triples with n(i, j) > n(i, k) + n(k, j), for n (N, N)."""
    return sum(int((n > n[:, k, None] + n[None, k]).sum()) for k in range(len(n)))
