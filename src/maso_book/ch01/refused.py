"""What is not a MASO: refusals by name, and a witness each (experiment 01-not-maso)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maso import NotPiecewiseAffine, affine_map
from maso_book.experiment import Rows

RELU, BATCHNORM = "ReLU network", "BatchNorm, training mode"
ROUNDING = 1e-14
"""A second difference below that, relative to the values it is made of, counts as zero."""


@dataclass(frozen=True)
class NotMaso:
    """Random points and directions, and the steps h of the second difference."""

    seed: int
    points: int
    halvings: int


class Attention(nn.Module):
    """Self-attention of four tokens of eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x.unflatten(1, (4, 8))).chunk(3, 2)
        return nn.functional.scaled_dot_product_attention(query, key, value).flatten(1)


def networks() -> dict[str, nn.Module]:
    """Four layers on 32 numbers that are not MASOs, and a ReLU network for comparison.

    Batch-mode BatchNorm is a function of the whole batch.
    """
    return {
        "GELU": nn.Sequential(nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 4)).eval(),
        "attention": Attention().eval(),
        "LayerNorm": nn.LayerNorm(32).eval(),
        BATCHNORM: nn.BatchNorm1d(32, track_running_stats=False).train(),
        RELU: nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)).eval(),
    }


def run_not_maso(config: NotMaso) -> tuple[Rows, dict[str, np.ndarray]]:
    """Second differences Δ = f(x + h u) − 2 f(x) + f(x − h u) of refused layers and of a ReLU network, over h.

    Table `refusals`, a row for each network: `network`, and the `operator` that `affine_map` names when it refuses it,
    null where it does not.

    Table `second_differences`, a row for each network and step: `network`, `step` h, `nonzero_share` of the points at
    which Δ is larger than rounding, and `bend`, the median of |Δ| / h².
    """
    torch.manual_seed(config.seed)
    refusals, rows = [], []
    for name, net in networks().items():
        net = net.double()
        batch = 4 if name == BATCHNORM else 1  # there a "point" is a batch of four samples
        x, u = (torch.randn(config.points, batch, 32, dtype=torch.float64) for _ in range(2))
        u = u / u.flatten(1).norm(dim=1)[:, None, None]

        for step in (0.5 ** np.arange(config.halvings)).tolist():
            share, bend = _second_difference(_on_batches(net, batch), x, u, step)
            rows.append({"network": name, "step": step, "nonzero_share": share, "bend": bend})
        refusals.append({"network": name, "operator": _refusal(net, x[:, 0])})
    return {"refusals": refusals, "second_differences": rows}, {}


def _on_batches(net: nn.Module, batch: int) -> Callable[[Tensor], Tensor]:
    """(points, batch, 32) → (points, all outputs of the batch): for a batch of one, all points in one pass."""

    def f(z: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([net(samples) for samples in z]).flatten(1) if batch > 1 else net(z[:, 0])

    return f


def _second_difference(f: Callable[[Tensor], Tensor], x: Tensor, u: Tensor, h: float) -> tuple[float, float]:
    """The share of the points where it is not zero, and its median over h²."""
    middle, sides = f(x), [f(x + h * u), f(x - h * u)]
    second = (sides[0] - 2 * middle + sides[1]).abs().amax(1)
    rounding = ROUNDING * torch.stack([middle, *sides]).abs().amax((0, 2))
    return float((second > rounding).double().mean()), float(second.median() / h**2)


def _refusal(net: nn.Module, x: Tensor) -> str | None:
    """The operator that `affine_map` names when it refuses; None where it does not."""
    try:
        affine_map(net, x[:2])
    except NotPiecewiseAffine as error:
        return str(error).split("operator '")[1].split("'")[0]
    return None
