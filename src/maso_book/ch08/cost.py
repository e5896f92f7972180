"""What a step with a penalty costs (claim 08.5): seconds, memory, and the spread of each estimate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maso.rugosity import rugosity_penalty
from maso.tangents import random_translation
from maso_book import networks
from maso_book.datasets import load, to_tensor
from maso_book.experiment import Rows
from maso_book.training.penalties import BANDWIDTH, PENALTIES

PLAIN = "none"


@dataclass(frozen=True)
class Cost:
    """One timing.

    Attributes:
        seed: of the weights and of what is drawn.
        network: a function of `maso_book.networks`.
        batch: images of a step.
        repeats: times each kind of step is timed, in turn.
        draws: estimates of each penalty on the same images.
        dataset: where the images are from.
    """

    seed: int
    network: str = "small_cnn"
    batch: int = 256
    repeats: int = 20
    draws: int = 50
    dataset: str = "cifar10"


def run_cost(config: Cost) -> tuple[Rows, dict[str, np.ndarray]]:
    """Forward, loss and backward with each penalty, on a GPU as a CUDA graph.

    Table `steps`, one row a kind of step:

    - `penalty`: "none"; those of `PENALTIES`, an eighth of the batch each; "rugosity, quarter" and "whole batch" (the
      rugosity of more and of all images, forward mode); "second derivatives" and "second derivatives, eighth" (the
      same by double backward passes);
    - `step_seconds`: median; `ratio_of_seconds`: median over the repeats of the ratio to the plain step timed beside;
    - `spread`: standard deviation of the estimate over its mean, the same images (0 for "none");
    - `peak_mebibytes_of_seconds`: largest memory of an eager step beyond what was there, on a GPU (0 on a CPU; named
      so that a comparison of records passes it over).
    """
    torch.manual_seed(config.seed)
    device = torch.get_default_device()
    whole = load(config.dataset)
    x = to_tensor(whole.x_train[: config.batch]).to(device)
    y = torch.from_numpy(whole.y_train[: config.batch].astype(np.int64)).to(device)
    classes = len(whole.classes)
    with torch.device("cpu"):
        model = getattr(networks, config.network)(tuple(x.shape[1:]), classes, bn=True, bias=True)
    model = model.to(device).train()

    kinds = _kinds()
    steps = {name: _step(model, x, y, penalty) for name, penalty in kinds.items()}
    memory = {name: _peak(step) for name, step in steps.items()}
    ready = {name: _captured(step) for name, step in steps.items()}
    seconds = np.array([[_seconds(run) for run in ready.values()] for _ in range(config.repeats)])
    rows = []
    for i, (name, penalty) in enumerate(kinds.items()):
        rows.append({
            "penalty": name,
            "step_seconds": float(np.median(seconds[:, i])),
            "ratio_of_seconds": float(np.median(seconds[:, i] / seconds[:, 0])),
            "spread": _spread(model, x, y, penalty, config.draws) if penalty else 0.0,
            "peak_mebibytes_of_seconds": memory[name] / 2**20,
        })  # fmt: skip
    return {"steps": rows}, {}


Penalty = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def _kinds() -> dict[str, Penalty | None]:
    return {
        PLAIN: None,
        **PENALTIES_HERE,
        "rugosity, quarter": lambda model, x, _z, _y: _rugosity(model, x[: len(x) // 4]),
        "whole batch": lambda model, x, _z, _y: _rugosity(model, x),
        "second derivatives": lambda model, x, _z, _y: by_second_derivatives(model, x),
        "second derivatives, eighth": lambda model, x, _z, _y: by_second_derivatives(model, x[: len(x) // 8]),
    }


PENALTIES_HERE: dict[str, Penalty] = {
    name: PENALTIES[name] for name in ("rugosity", "relative_rugosity", "tangent_prop")
}


def _rugosity(model: nn.Module, x: Tensor) -> Tensor:
    return rugosity_penalty(model, x, tangents=random_translation(x), eps=BANDWIDTH)


def by_second_derivatives(model: nn.Module, x: Tensor) -> Tensor:
    """`rugosity_penalty` by a random combination of the rows of A, in place of a random input direction."""
    x, u = x.detach(), random_translation(x.detach())[:, 0]
    u = u / u.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (x.ndim - 1))
    training = model.training
    model.eval()
    leaf = torch.cat([x, x + BANDWIDTH * u]).requires_grad_()
    z = model(leaf)
    v = torch.randn_like(z[: len(x)])
    (rows,) = torch.autograd.grad(z, leaf, torch.cat([v, v]), create_graph=True)
    model.train(training)
    return (rows[: len(x)] - rows[len(x) :]).square().flatten(1).sum(1).mean() / BANDWIDTH**2


def _step(model: nn.Module, x: Tensor, y: Tensor, penalty: Penalty | None) -> Callable[[], None]:
    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
            z = model(x)
            objective = nn.functional.cross_entropy(z, y)
        if penalty is not None:
            objective = objective + penalty(model, x, z, y)
        for p in model.parameters():
            p.grad = None
        objective.backward()

    return step


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """On a GPU the step as a CUDA graph."""
    if torch.get_default_device().type != "cuda":
        step()
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _seconds(run: Callable[[], None]) -> float:
    """Time of one call: the shortest of three on a CPU, the mean of twenty on a GPU."""
    cuda = torch.get_default_device().type == "cuda"
    times = []
    for _ in range(1 if cuda else 3):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20 if cuda else 1):
            run()
        if cuda:
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / (20 if cuda else 1))
    return min(times)


def _peak(step: Callable[[], None]) -> float:
    """Bytes beyond those in use before, of a step in eager mode."""
    if torch.get_default_device().type != "cuda":
        return 0.0
    step()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before)


def _spread(model: nn.Module, x: Tensor, y: Tensor, penalty: Penalty, draws: int) -> float:
    """Standard deviation over mean of the estimate; the images of a part are drawn anew."""
    values = []
    for _ in range(draws):
        order = torch.randperm(len(x), device=x.device)
        values.append(float(penalty(model, x[order], x.new_zeros(0), y[order]).detach()))
    return float(np.std(values, ddof=1) / np.mean(values))
