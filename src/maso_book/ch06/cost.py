"""What one step of training costs with each penalty, against a plain step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maso import penalties
from maso_book import networks
from maso_book.experiment import Rows


@dataclass(frozen=True)
class Cost:
    """Steps on random images of CIFAR's shape.

    Attributes:
        seed: of weights and images.
        network: a function of `maso_book.networks`.
        batch: images a step.
        rounds: how often each kind of step is timed, in turn.
    """

    seed: int
    network: str = "small_cnn"
    batch: int = 256
    rounds: int = 15


def kinds() -> dict[str, Callable[[nn.Module, Tensor], Tensor] | None]:
    """What is added to the loss: (model, images) → scalar; nothing in a plain step."""

    def of_rows(penalty: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
        return lambda model, x: penalty(list(model.modules())[-1].weight)  # type: ignore[arg-type]

    def share(parts: int) -> Callable[[nn.Module, Tensor], Tensor]:
        return lambda model, x: penalties.templates(model, x, samples=len(x) // parts)

    return {
        "plain": None,
        "rows": of_rows(penalties.orthogonality),
        "norms": of_rows(penalties.quartic_norm),
        "authors' form": of_rows(penalties.published),
        "templates, a quarter": share(4),
        "templates, half": share(2),
        "templates, all": share(1),
    }


def run_cost(config: Cost) -> tuple[Rows, dict[str, np.ndarray]]:
    """Seconds of one step, forward and backward and AdamW, in float32 and without a CUDA graph.

    Returns:
        Table `steps`, one row a kind of step and round: `kind`, `round`, `step_seconds`.
    """
    device = torch.get_default_device()
    torch.manual_seed(config.seed)
    model = getattr(networks, config.network)().to(device)
    x = torch.rand(config.batch, 3, 32, 32, device=device)
    y = torch.randint(0, 10, (config.batch,), device=device)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)

    def step(penalty: Callable[[nn.Module, Tensor], Tensor] | None) -> float:
        _wait(device)
        start = time.perf_counter()
        loss = nn.functional.cross_entropy(model(x), y)
        if penalty is not None:
            loss = loss + 0.01 * penalty(model, x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        _wait(device)
        return time.perf_counter() - start

    every = kinds()
    for penalty in every.values():
        step(penalty)  # the first one sets things up
    rows = [
        {"kind": kind, "round": number, "step_seconds": step(penalty)}
        for number in range(config.rounds)
        for kind, penalty in every.items()
    ]
    return {"steps": rows}, {}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
