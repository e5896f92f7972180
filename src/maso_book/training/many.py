"""`fit_many`: copies of one network, side by side, as one network of theirs (`maso_book.training.stack`).

No copy sees another one: the loss is the sum of theirs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from maso.errors import MasoError
from maso_book.training import checkpoint as checkpoints
from maso_book.training.one import accuracy, identity
from maso_book.training.samples import augmented, draw, scaled
from maso_book.training.settings import History, Row, Training, check, check_time, has_diverged, history
from maso_book.training.stack import Stack


def fit_many(
    models: Sequence[nn.Module],
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    trainings: Sequence[Training],
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    on_epoch: Callable[[int, int, nn.Module], None] | None = None,
    progress: bool = False,
    checkpoint: Path | None = None,
    deadline: float | None = None,
) -> list[History]:
    """Train copies of one network together, each as `fit` would train it alone, up to rounding (and dropout's draws).

    Args:
        models: the copies, with their own initial weights, all on one device; trained in place. Convolutions, dense
            layers, BatchNorm, pooling, flattening and all that acts unit by unit can be stacked.
        x: the samples of each copy, (N, *shape); the same tensor may stand there several times.
        y: the labels of each copy, (N,) int64.
        trainings: how to train each copy; epochs, batch and augment are the same for all.
        validation: as in `fit`, the same for all.
        on_epoch: called as `on_epoch(number, epoch, model)` for every copy that has not diverged.
        progress, checkpoint, deadline: as in `fit`.

    Returns:
        A `History` for each copy. One that diverges stops there; the others go on.

    Raises:
        MasoError: copies, samples or settings that do not fit together, a network that cannot be stacked, or a
            checkpoint of another training.
        OutOfTime: a further epoch would end after the deadline.

    Example:
        >>> x = torch.randn(64, 2)
        >>> nets = [nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in range(3)]
        >>> trainings = [Training(epochs=30, lr=lr) for lr in (0.02, 0.05, 0.1)]
        >>> histories = fit_many(nets, [x] * 3, [(x[:, 0] > 0).long()] * 3, trainings)
        >>> all(history.accuracy[-1] > 0.9 for history in histories)
        True
    """
    _check(models, x, y, trainings)
    for each in zip(x, y, trainings, strict=True):
        check(*each, checkpoint, deadline)
    device, dtype = next(models[0].parameters()).device, next(models[0].parameters()).dtype
    epochs, batch, n = trainings[0].epochs, trainings[0].batch, len(x[0])
    moved = {(each.data_ptr(), each.shape): each.to(device) for each in x}  # one that stands there twice: once
    samples, labels = [moved[each.data_ptr(), each.shape] for each in x], torch.stack([each.to(device) for each in y])
    generators = [torch.Generator(device).manual_seed(training.seed) for training in trainings]
    steps = math.ceil(n / batch)
    total_steps = epochs * steps
    rates = torch.tensor(
        [[[t.rate(step, total_steps)] for t in trainings] for step in range(total_steps)], dtype=torch.float64
    )
    rates = rates.to(device, dtype)
    decays = torch.tensor([[t.weight_decay] for t in trainings], dtype=torch.float64).to(device, dtype)
    made_of = "" if checkpoint is None else identity(list(trainings), list(models), list(x), list(y))
    rows: list[list[Row]] = [[] for _ in models]
    copies = torch.arange(len(models), device=device)[:, None]

    def report(epoch: int) -> None:
        for number, model in enumerate(models):
            model.eval()
            if on_epoch and not has_diverged(rows[number]):
                on_epoch(number, epoch, model)

    with checkpoints.reproducible(device, trainings[0].seed):
        saved = checkpoints.resume(checkpoint, made_of)
        if saved is None:
            report(0)
        else:
            rows = [[tuple(row) for row in saved[f"rows/{m}"].tolist()] for m in range(len(models))]
            for m, model in enumerate(models):
                checkpoints.load_state(model.eval(), saved, f"model/{m}/")
            checkpoints.set_random_state(device, generators, saved)
        stack = Stack(models)
        if saved is None:
            stack.check(models, scaled(samples[0][:2]))
        else:
            stack.load_moments(saved)
        stack.blank([m for m in range(len(models)) if has_diverged(rows[m])])
        done = max(len(each) for each in rows)
        bar = tqdm(total=epochs, initial=done, unit="epoch", disable=not progress)
        while done < epochs and not all(has_diverged(each) for each in rows):
            slowest = max((sum(each[e][3] for each in rows if e < len(each)) for e in range(done)), default=0.0)
            check_time(deadline, slowest, done, epochs)
            start = time.perf_counter()
            total, right = torch.zeros(len(models), device=device), torch.zeros(len(models), device=device)
            drawn = [draw(n, *each) for each in zip(trainings, generators, strict=True)]
            order = torch.stack([each.order for each in drawn])
            moves = torch.stack([each.moves for each in drawn], 1)
            for i, chosen in enumerate(order.split(batch, 1)):
                inputs = scaled(torch.stack([each[some] for each, some in zip(samples, chosen, strict=True)]))
                if trainings[0].augment:
                    here = moves[:, :, i * batch :][:, :, :batch]
                    inputs = augmented(inputs.flatten(0, 1), here.flatten(1)).unflatten(0, chosen.shape)
                targets = labels[copies, chosen]
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    logits = stack(inputs)
                    each_loss = nn.functional.cross_entropy(logits.movedim(2, 1), targets, reduction="none").mean(1)
                each_loss.sum().backward()
                stack.step(rates[done * steps + i], decays)
                total += each_loss.detach() * chosen.shape[1]
                right += (logits.detach().argmax(2) == targets).sum(1)
            done += 1
            alive = [m for m in range(len(models)) if not has_diverged(rows[m])]
            stack.hand_back(models, alive)
            report(done)
            held_out = {m: accuracy(models[m], *validation) if validation else math.nan for m in alive}
            seconds = (time.perf_counter() - start) / len(alive)
            for m in alive:
                rows[m].append((float(total[m]) / n, float(right[m]) / n, held_out[m], seconds))
            stack.blank([m for m in alive if has_diverged(rows[m])])
            bar.update()
            bar.set_postfix(loss=f"{np.mean([rows[m][-1][0] for m in alive]):.3f}",
                            accuracy=f"{np.mean([rows[m][-1][1] for m in alive]):.3f}")  # fmt: skip
            if checkpoint:
                arrays = {f"rows/{m}": np.array(each) for m, each in enumerate(rows)} | stack.moments()
                for m, model in enumerate(models):
                    arrays |= checkpoints.state_of(model, f"model/{m}/")
                arrays |= checkpoints.random_state(device, generators) | {"made of": np.array(made_of)}
                checkpoints.write_arrays(checkpoint, arrays)
        bar.close()
    return [history(each, validation is not None) for each in rows]


def _check(
    models: Sequence[nn.Module], x: Sequence[Tensor], y: Sequence[Tensor], trainings: Sequence[Training]
) -> None:
    if not models or not len(models) == len(x) == len(y) == len(trainings):
        raise MasoError(
            f"fit_many: {len(models)} models, {len(x)} samples, {len(y)} labels and {len(trainings)} trainings; "
            "expected one of each for every copy."
        )
    shapes = [[(name, value.shape) for name, value in model.state_dict().items()] for model in models]
    if any(each != shapes[0] for each in shapes) or len({next(model.parameters()).device for model in models}) > 1:
        raise MasoError("fit_many: the models differ in their parameters or devices; expected copies of one network.")
    if len({each.shape for each in x}) > 1 or len({each.dtype for each in x}) > 1:
        raise MasoError(f"fit_many: samples {[tuple(each.shape) for each in x]}; expected the same shape for all.")
    if len({(training.epochs, training.batch, training.augment) for training in trainings}) > 1:
        raise MasoError("fit_many: the trainings differ in epochs, batch or augment; expected the same for all.")
