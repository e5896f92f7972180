"""What is not a MASO: refusals by name, and a witness each (experiment 01-not-maso)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso import NotPiecewiseAffine, affine_map


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


def refused() -> dict[str, nn.Module]:
    """Layers on 32 numbers that are not MASOs. Batch-mode BatchNorm is a function of the whole batch."""
    return {
        "GELU": nn.Sequential(nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 4)).eval(),
        "attention": Attention().eval(),
        "LayerNorm": nn.LayerNorm(32).eval(),
        "BatchNorm, training mode": nn.BatchNorm1d(32, track_running_stats=False).train(),
    }


def run_not_maso(config: NotMaso) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Second differences f(x + h u) − 2 f(x) + f(x − h u) of refused layers and of a ReLU network, over h."""
    torch.manual_seed(config.seed)
    nets = refused() | {
        "ReLU network": nn.Sequential(
            nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
        ).eval()
    }
    steps = 0.5 ** np.arange(config.halvings)
    shares: list[list[float]] = []
    bends: list[list[float]] = []
    refusals = {}
    for name, net in nets.items():
        net = net.double()
        batch = 4 if "BatchNorm" in name else 1  # there a "point" is a batch of four samples
        shares.append([])
        bends.append([])
        x, u = (torch.randn(config.points, batch, 32, dtype=torch.float64) for _ in range(2))
        u = u / u.flatten(1).norm(dim=1)[:, None, None]

        def f(z: Tensor, net: nn.Module = net, batch: int = batch) -> Tensor:
            with torch.no_grad():
                return torch.stack([net(s) for s in z]).flatten(1) if batch > 1 else net(z[:, 0])

        for h in steps:
            middle, sides = f(x), [f(x + h * u), f(x - h * u)]
            second = (sides[0] - 2 * middle + sides[1]).abs().amax(1)
            rounding = 1e-14 * torch.stack([middle, *sides]).abs().amax((0, 2))
            shares[-1].append(float((second > rounding).double().mean()))
            bends[-1].append(float(second.median() / h**2))
        refusals[name] = _refusal(net, x[:, 0])
    metrics = {"networks": list(nets), "steps": steps.tolist(), "refused as": refusals}
    return metrics, {"share": np.array(shares), "bend": np.array(bends)}


def _refusal(net: nn.Module, x: Tensor) -> str | None:
    """The operator that `affine_map` names when it refuses; None where it does not."""
    try:
        affine_map(net, x[:2])
    except NotPiecewiseAffine as error:
        return str(error).split("operator '")[1].split("'")[0]
    return None
