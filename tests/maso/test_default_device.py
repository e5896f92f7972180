"""What a call gives does not depend on PyTorch's default device: models and inputs say where they are.

The default here is the device "meta", on which every number is lost: a tensor that is made on it by oversight shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maso

torch.manual_seed(0)
PLAIN = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
POOLED = nn.Sequential(
    nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(2),
    nn.Flatten(), nn.Linear(12, 4),
).double().eval()  # fmt: skip
CONVEX = nn.Sequential(nn.Linear(2, 4), nn.ReLU()).double()
POINTS, IMAGES = torch.rand(5, 2, dtype=torch.float64), torch.rand(3, 1, 8, 8, dtype=torch.float64)


class Shrunk(nn.Module):
    """Branches of `where` with a threshold that is a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("at", torch.tensor([0.25, -0.5], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > self.at, 2 * x - self.at, x)


class Largest(nn.Module):
    """Maxima over an axis, and of two values."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(x.amax(1, keepdim=True), -x)


SHRUNK, LARGEST = Shrunk(), Largest()
CALLS: dict[str, Callable[[], Any]] = {
    "affine_map": lambda: maso.affine_map(PLAIN, POINTS)(POINTS),
    "affine_map, rows": lambda: maso.affine_map(POOLED, IMAGES, outputs=[1, 2]).A,
    "affine_map, where": lambda: maso.affine_map(SHRUNK, POINTS).b,
    "affine_map, maxima": lambda: maso.affine_map(LARGEST, POINTS).A,
    "codes": lambda: torch.cat([code.flatten().double() for code in maso.codes(POOLED, IMAGES).values()]),
    "vq_distance": lambda: torch.stack(list(maso.vq_distance(POOLED, IMAGES, IMAGES).values())),
    "neighbours": lambda: next(iter(maso.neighbours(POOLED, IMAGES, IMAGES, k=2).values())).distance,
    "boundary_distance": lambda: maso.boundary_distance(PLAIN, POINTS),
    "partition": lambda: torch.tensor(float(len(maso.partition(PLAIN, maso.Plane.square()))), device="cpu"),
    "plane": lambda: torch.tensor(
        float(len(maso.partition(PLAIN, maso.Plane.through(*POINTS[:3])))), device="cpu"
    ),
    "estimate_regions": lambda: torch.tensor(
        float(maso.estimate_regions(PLAIN, maso.Plane.square()).regions), device="cpu"
    ),
    "from_layer": lambda: maso.from_layer(CONVEX, 2)(POINTS),
    "match": lambda: maso.matched.match(POOLED, IMAGES, {"first": IMAGES[0]}).correlation["first"],
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_default_device_changes_nothing(name: str) -> None:
    expected = CALLS[name]()
    with torch.device("meta"):
        found = CALLS[name]()
    assert torch.equal(found, expected)
