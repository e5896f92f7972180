"""The loop of `fit` and `fit_many`: M copies of a network, each with its own samples, labels and settings.

How the copies compute is left to `Learners`: one network alone (M = 1), or several side by side.  N samples a copy,
B of them a batch, K classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from maso_book.training import checkpoint as checkpoints
from maso_book.training.samples import Samples, scaled
from maso_book.training.settings import History, OutOfTime, Row, Training, check_time, has_diverged, history
from maso_book.training.step import Replayed, Step, own_stream

PAUSE = {"cpu": 0.0, "cuda": 5.0}
"""Seconds from one checkpoint to the next: on a GPU an epoch can take less than writing one."""


class Learners(Protocol):
    """M copies of a network that learn. They are made of the models, whose weights they may keep elsewhere."""

    parameters: list[list[Tensor]]
    """What AdamW moves, for each copy."""

    def train(self, alive: Sequence[int]) -> None:
        """Go into training mode; the copies that are not alive have diverged, and their NaN must not reach others."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (M, B, K), mean losses (M,) and what is minimised, of inputs (M B, *shape) and labels (M, B)."""

    def hand_back(self, models: Sequence[nn.Module], which: Sequence[int]) -> None:
        """Put the weights and buffers of these copies into their models."""


def train(
    learn: Callable[[Sequence[nn.Module]], Learners],
    models: Sequence[nn.Module],
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    trainings: Sequence[Training],
    *,
    validation: tuple[Tensor, Tensor] | None,
    on_epoch: Callable[[int, int, nn.Module], None] | None,
    progress: bool,
    checkpoint: Path | None,
    deadline: float | None,
) -> list[History]:
    """Train the copies; `learn` makes the learners of them, all else is as in `fit_many`."""
    device, epochs = next(models[0].parameters()).device, trainings[0].epochs
    samples = Samples(x, y, trainings, device)
    rows: list[list[Row]] = [[] for _ in models]
    made_of = "" if checkpoint is None else _identity(trainings, models[0], x, y)

    def report(epoch: int) -> None:
        for m, model in enumerate(models):
            model.eval()
            if on_epoch and not has_diverged(rows[m]):
                on_epoch(m, epoch, model)

    with checkpoints.reproducible(device, trainings[0].seed), own_stream(device):
        saved = checkpoints.resume(checkpoint, made_of)
        if saved:
            for m, model in enumerate(models):
                rows[m] = [Row(*row) for row in saved[f"rows/{m}"].tolist()]
                checkpoints.load_state(model.eval(), saved, f"model/{m}/")
            checkpoints.set_random_state(device, samples.generators, saved)
        else:
            report(0)

        learners = learn(models)  # only now do the models have the weights to begin with
        on_gpu = device.type == "cuda"
        rates = torch.zeros(len(models), device=device)
        groups = [
            {"params": parameters, "weight_decay": training.weight_decay, "lr": rate if on_gpu else 0.0}
            for parameters, training, rate in zip(learners.parameters, trainings, rates, strict=True)
        ]
        optimiser = torch.optim.AdamW(groups, fused=on_gpu, capturable=on_gpu)
        checkpoints.load_optimiser(optimiser, saved)
        step = Step(learners, optimiser, samples)
        run: Callable[[Tensor, Tensor], None] = step
        captured: list[int] = []
        written = -math.inf

        def save(checkpoint: Path) -> None:
            arrays = {"made of": np.array(made_of)} | checkpoints.optimiser_state(optimiser)
            arrays |= checkpoints.random_state(device, samples.generators)
            for m, model in enumerate(models):
                arrays |= {f"rows/{m}": np.array(rows[m])} | checkpoints.state_of(model, f"model/{m}/")
            checkpoints.write_arrays(checkpoint, arrays)

        done = max(len(row) for row in rows)
        bar = tqdm(total=epochs, initial=done, unit="epoch", disable=not progress)
        while done < epochs and (alive := [m for m in range(len(models)) if not has_diverged(rows[m])]):
            try:
                check_time(deadline, rows, epochs)
            except OutOfTime:
                if checkpoint and done:
                    save(checkpoint)
                raise
            start = time.perf_counter()
            learners.train(alive)
            if captured != alive:
                run, captured = Replayed(step) if on_gpu else step, alive
            losses, accuracies = _epoch(step, run, rates, done)
            done += 1

            learners.hand_back(models, alive)
            report(done)
            held_out = {m: accuracy(models[m], *validation) if validation else math.nan for m in alive}
            seconds = (time.perf_counter() - start) / len(alive)
            for m in alive:
                rows[m].append(Row(losses[m], accuracies[m], held_out[m], seconds))

            loss, right, right_held_out, _ = np.mean([rows[m][-1] for m in alive], axis=0)
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{right:.3f}", validation=f"{right_held_out:.3f}")

            if checkpoint and time.perf_counter() - written >= PAUSE[device.type]:
                save(checkpoint)
                written = time.perf_counter()
        bar.close()
    return [history(own, validation is not None) for own in rows]


def _epoch(step: Step, run: Callable[[Tensor, Tensor], None], rates: Tensor, done: int) -> list[list[float]]:
    """Learn for an epoch, after `done` others: each copy's mean loss and its accuracy, as the samples were seen."""
    trainings, n = step.samples.trainings, step.samples.labels.shape[1]
    steps_an_epoch = math.ceil(n / trainings[0].batch)
    steps = trainings[0].epochs * steps_an_epoch
    first = done * steps_an_epoch
    planned = [
        [training.rate(number, steps) for training in trainings] for number in range(first, first + steps_an_epoch)
    ]
    on_device = torch.tensor(planned, device=rates.device)

    step.restart()
    for number, (chosen, moves) in enumerate(step.samples.epoch()):
        rates.copy_(on_device[number])
        if not rates.is_cuda:
            for group, rate in zip(step.optimiser.param_groups, planned[number], strict=True):
                group["lr"] = rate
        run(chosen, moves)
    return [[value / n for value in sums.tolist()] for sums in (step.total, step.right)]


def accuracy(model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 250) -> float:
    """Share of samples whose largest output is their label; the model is used in the mode it is in."""
    device = next(model.parameters()).device
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.no_grad():
        for xs, ys in zip(x.split(batch), y.split(batch), strict=True):
            right += (model(scaled(xs.to(device))).argmax(1) == ys.to(device)).sum()
    return int(right) / len(x)


def _identity(trainings: Sequence[Training], model: nn.Module, x: Sequence[Tensor], y: Sequence[Tensor]) -> str:
    """Text that names a training: settings, shapes and labels. A checkpoint is continued only by its own training."""
    labels = b"".join(part.cpu().numpy().tobytes() for part in y)
    parts = {
        "format": 2,  # of the checkpoint
        "trainings": [dataclasses.asdict(training) for training in trainings],
        "weights": [[name, list(value.shape)] for name, value in model.state_dict().items()],
        "samples": [[list(samples.shape), str(samples.dtype)] for samples in x],
        "labels": hashlib.sha256(labels).hexdigest(),
    }
    return json.dumps(parts, sort_keys=True)
