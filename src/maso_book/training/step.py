"""One step of training, and the same step as a CUDA graph.

The kernels of small networks take less time than their launch; a graph launches those of a whole step at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from maso_book.training.samples import Samples


class Learn(Protocol):
    """How M copies compute, see `maso_book.training.loop.Learners`."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...


class Step:
    """A step of M copies on the samples `chosen` (M, B), moved as `moves` (3, M, B) says; sums over an epoch.

    Attributes:
        total, right: loss and number of right answers of each copy since `restart`, (M,), on the device.
    """

    def __init__(self, learners: Learn, optimiser: torch.optim.Optimizer, samples: Samples) -> None:
        self.learners, self.optimiser, self.samples = learners, optimiser, samples
        copies, device = len(samples.labels), samples.labels.device
        self.total, self.right = torch.zeros(copies, device=device), torch.zeros(copies, device=device)

    def restart(self) -> None:
        self.total.zero_()
        self.right.zero_()

    def __call__(self, chosen: Tensor, moves: Tensor) -> None:
        inputs, targets = self.samples.batch(chosen, moves)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
            outputs, losses, objective = self.learners(inputs, targets)
        self.optimiser.zero_grad(set_to_none=True)
        objective.backward()
        self.optimiser.step()
        self.total += losses.detach() * targets.shape[1]
        self.right += (outputs.detach().argmax(2) == targets).sum(1)


class Replayed:
    """A step that is captured at its second batch and replayed from then on; a batch of another size runs as it is.

    The first batch, too, runs as it is: what a first call sets up (AdamW's moments, libraries) is not in the graph.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.graph = step, torch.cuda.CUDAGraph()
        self.chosen: Tensor | None = None
        self.moves: Tensor | None = None

    def __call__(self, chosen: Tensor, moves: Tensor) -> None:
        if self.chosen is None or self.moves is None:
            self.step(chosen, moves)
            self.chosen, self.moves = chosen.clone(), moves.clone()
            self.step.optimiser.zero_grad(set_to_none=True)
            with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
                self.step(self.chosen, self.moves)
        elif chosen.shape != self.chosen.shape:
            self.step(chosen, moves)
        else:
            self.chosen.copy_(chosen)
            self.moves.copy_(moves)
            self.graph.replay()


@contextlib.contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Inside, work on a GPU goes to a stream of its own, as capturing needs; nothing happens on a CPU."""
    if device.type != "cuda":
        yield
        return
    stream, outer = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(outer)
    with torch.cuda.stream(stream):
        yield
    outer.wait_stream(stream)
