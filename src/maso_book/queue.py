"""The queue for a GPU: cells of the experiments that ask for one, without a record, in the order of their worth.

How long a cell takes is estimated from operation counts: a training step costs its arithmetic or its launches,
whichever is more.  What the device itself could do is counted beside it: an H100 multiplies at some 800 TFLOP/s in
bfloat16 and reads and writes 3 TB/s.  A step of batch 256, in milliseconds:

    network        arithmetic   memory   reached, several at once (H200)
    smallCNN       0.008        0.15     0.45
    small ResNet   0.05         0.47     1.5
    largeCNN       0.87         1.6      3.7

So memory is the limit, for the layers between two products each read and write all activations, and 30 to 45 % of it is
reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maso_book import registry, results
from maso_book.experiment import Experiment
from maso_book.trained import Recipe, data, network

RATE = 140e12
"""Operations a second in bfloat16 that a training reaches where arithmetic limits it."""
LAUNCH = 7e-6
"""Seconds between two kernels of a CUDA graph; a layer has about eight of them in a training step."""
ARITHMETIC, MEMORY = 800e12, 3e12
"""Operations in bfloat16 and bytes a second of an H100 at its limits."""
PASSES = 6
"""How often an activation is written or read in a training step, at the least: twice forward, four times back."""
TWICE, TWICE_COST = ("templates", "rugosity", "relative_rugosity"), 3.0
"""The penalties that differentiate twice, and the steps that a step with one of them costs."""
SIDE_BY_SIDE = 1.7
"""How much more several processes get through than one: they share one device, and four fill it (H200)."""


@dataclass(frozen=True)
class Queued:
    """A cell without a record: its experiment, its configuration and its record's file."""

    experiment: Experiment
    config: Any
    path: Path

    @property
    def name(self) -> str:
        """`"05-templates/0123456789abcdef"`."""
        return f"{self.experiment.name}/{self.path.stem}"

    @property
    def recipes(self) -> list[Recipe]:
        """The networks that it needs."""
        return self.experiment.recipes(self.config) if self.experiment.recipes else []

    @property
    def trained_within(self) -> list[Recipe]:
        """Networks that take as long as those that it trains within its run."""
        return self.experiment.trains(self.config) if self.experiment.trains else []


def queue(profile: str = "full", root: Path | None = None) -> list[Queued]:
    """The cells that are missing, the worthiest experiment first, each in the order of its grid.

    Args:
        profile: whose grids.
        root: folder of all records.
    """
    asking = sorted((e for e in registry.registry().values() if e.worth), key=lambda e: -e.worth)
    cells = (Queued(e, c, results.path_of(e, c, root)) for e in asking for c in results.cells(e, profile))
    return [cell for cell in cells if not cell.path.is_file()]


def seconds(recipe: Recipe) -> float:
    """What training this network on a GPU takes, by estimate."""
    operations, layers, _ = _counted(recipe)
    steps, work = _steps(recipe)
    return steps * work * max(6 * operations * recipe.training.batch / RATE, layers * 8 * LAUNCH)


def floor(recipe: Recipe) -> float:
    """What its arithmetic or its memory traffic would take on an H100 at its limits, in seconds."""
    operations, _, activations = _counted(recipe)
    steps, work = _steps(recipe)
    per_sample = max(6 * operations / ARITHMETIC, 2 * PASSES * activations / MEMORY)
    return steps * work * recipe.training.batch * per_sample


def _steps(recipe: Recipe) -> tuple[int, float]:
    """Training steps, and how many plain steps each of them costs."""
    how, images = recipe.training, len(data(recipe).x)
    work = (1.0 + how.attack_steps * (how.attack > 0)) * (TWICE_COST if how.penalty in TWICE else 1.0)
    return how.epochs * -(-images // how.batch), work


@cache
def _counted(recipe: Recipe) -> tuple[float, int, float]:
    """Multiplications of one forward pass of one sample, layers that have kernels, and numbers that they write."""
    model, total, layers, written = network(recipe).eval(), 0.0, 0, 0.0

    def count(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total, layers, written
        layers += 1
        written += output.numel()
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Conv2d | nn.Linear) and weight is not None:
            total += float(weight[0].numel() * output.numel())

    for module in model.modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, *data(recipe).x.shape[1:]))
    return total, layers, written


def timetable(cells: list[Queued], minutes: float, workers: int = 1) -> Iterator[tuple[Queued, float, bool]]:
    """Each cell, the seconds its own trainings take, and whether it is done by then.

    A network that two cells need is counted once.

    Args:
        cells: in the order in which they are run.
        minutes: how long the slot is.
        workers: trainings that are under way at a time; more than one get through `SIDE_BY_SIDE` as much.
    """
    known: set[Recipe] = set()
    total = 0.0
    for cell in cells:
        fresh = [recipe for recipe in cell.recipes if recipe not in known]
        own = sum(seconds(recipe) for recipe in [*fresh, *cell.trained_within])
        known.update(cell.recipes)
        total += own
        yield cell, own, total <= 60 * minutes * (SIDE_BY_SIDE if workers > 1 else 1)
