"""`fit`: one network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from maso_book.training import checkpoint as checkpoints
from maso_book.training.samples import augmented, draw, scaled
from maso_book.training.settings import History, Row, Training, check, check_time, has_diverged, history


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    training: Training,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
    progress: bool = False,
    checkpoint: Path | None = None,
    deadline: float | None = None,
) -> History:
    """Train a classifier in place by cross-entropy; the model is in eval mode afterwards, channels last for images.

    Args:
        model: (N, *shape) → (N, classes), on the device where it is to be trained.
        x: samples, (N, *shape) floating point, or images (N, channels, height, width) uint8.
        y: labels, (N,) int64.
        training: how to train.
        validation: samples and labels held out for choices between settings.
        on_epoch: called as `on_epoch(epoch, model)`, in eval mode, before training (epoch 0) and after each epoch.
        progress: show a bar with loss, accuracy and the time left.
        checkpoint: a file that is written after each epoch. Where it is there, training goes on from it, and gives
            the same weights as without a stop; `on_epoch` is not called again for what is done.
        deadline: `time.monotonic()` by which to stop; needs a checkpoint.

    Returns:
        `History`.

    Raises:
        MasoError: samples and labels that do not fit, or a checkpoint of another training.
        OutOfTime: a further epoch would end after the deadline.

    Example:
        >>> x = torch.randn(64, 2)
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> fit(net, x, (x[:, 0] > 0).long(), Training(epochs=30, lr=0.05)).accuracy[-1] > 0.9
        np.True_
    """
    check(x, y, training, checkpoint, deadline)
    device = next(model.parameters()).device
    x, y = x.to(device), y.to(device)
    if x.ndim == 4:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        model.parameters(), training.lr, weight_decay=training.weight_decay, fused=device.type == "cuda"
    )
    generator = torch.Generator(device).manual_seed(training.seed)
    steps_an_epoch = math.ceil(len(x) / training.batch)
    made_of = "" if checkpoint is None else identity([training], [model], [x], [y])
    rows: list[Row] = []

    def report(epoch: int) -> None:
        model.eval()
        if on_epoch:
            on_epoch(epoch, model)

    with checkpoints.reproducible(device, training.seed):
        saved = checkpoints.resume(checkpoint, made_of)
        if saved is None:
            report(0)
        else:
            rows = [tuple(row) for row in saved["rows"].tolist()]
            checkpoints.load_state(model.eval(), saved, "model/")
            _load_optimiser(optimiser, saved)
            checkpoints.set_random_state(device, [generator], saved)
        bar = tqdm(total=training.epochs, initial=len(rows), unit="epoch", disable=not progress)
        while len(rows) < training.epochs and not has_diverged(rows):
            check_time(deadline, max((row[3] for row in rows), default=0.0), len(rows), training.epochs)
            start, total, right = time.perf_counter(), torch.zeros((), device=device), torch.zeros((), device=device)
            model.train()
            epoch = draw(len(x), training, generator)
            for i, chosen in enumerate(epoch.order.split(training.batch)):
                inputs, labels = scaled(x[chosen]), y[chosen]
                if training.augment:
                    inputs = augmented(inputs, epoch.moves[:, i * training.batch :][:, : len(chosen)])
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    logits = model(inputs)
                    loss = nn.functional.cross_entropy(logits, labels)
                for group in optimiser.param_groups:
                    group["lr"] = training.rate(len(rows) * steps_an_epoch + i, training.epochs * steps_an_epoch)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                total += loss.detach() * len(labels)
                right += (logits.detach().argmax(1) == labels).sum()
            report(len(rows) + 1)
            held_out = accuracy(model, *validation) if validation else math.nan
            rows.append((float(total) / len(x), float(right) / len(x), held_out, time.perf_counter() - start))
            bar.update()
            bar.set_postfix(loss=f"{rows[-1][0]:.3f}", accuracy=f"{rows[-1][1]:.3f}", validation=f"{held_out:.3f}")
            if checkpoint:
                arrays = checkpoints.state_of(model, "model/") | _optimiser_state(optimiser)
                arrays |= checkpoints.random_state(device, [generator]) | {"rows": np.array(rows)}
                checkpoints.write_arrays(checkpoint, arrays | {"made of": np.array(made_of)})
        bar.close()
    return history(rows, validation is not None)


def accuracy(model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 250) -> float:
    """Share of samples whose largest output is their label; the model is used in the mode it is in."""
    device = next(model.parameters()).device
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.no_grad():
        for xs, ys in zip(x.split(batch), y.split(batch), strict=True):
            right += (model(scaled(xs.to(device))).argmax(1) == ys.to(device)).sum()
    return int(right) / len(x)


def identity(trainings: list[Training], models: list[nn.Module], x: list[Tensor], y: list[Tensor]) -> str:
    """Text that names a training: settings, shapes and labels. A checkpoint is continued only by its own training."""
    labels = hashlib.sha256()
    for each in y:
        labels.update(each.cpu().numpy().tobytes())
    parts = {
        "trainings": [dataclasses.asdict(training) for training in trainings],
        "weights": [[name, list(value.shape)] for name, value in models[0].state_dict().items()],
        "samples": [[list(each.shape), str(each.dtype)] for each in x],
        "labels": labels.hexdigest(),
    }
    return json.dumps(parts, sort_keys=True)


def _optimiser_state(optimiser: torch.optim.Optimizer) -> checkpoints.Arrays:
    """The state of AdamW: for each parameter the number of steps and two moments."""
    states = optimiser.state_dict()["state"]
    return {
        f"optimiser/{i}/{n}": v.detach().cpu().numpy().copy() for i, state in states.items() for n, v in state.items()
    }


def _load_optimiser(optimiser: torch.optim.Optimizer, arrays: checkpoints.Arrays) -> None:
    """Put the state back, each moment in the memory layout of its parameter."""
    (group,) = optimiser.param_groups
    for i, parameter in enumerate(group["params"]):
        if f"optimiser/{i}/step" not in arrays:
            continue  # a parameter without a gradient
        step, first, second = (
            torch.from_numpy(arrays[f"optimiser/{i}/{n}"]) for n in ("step", "exp_avg", "exp_avg_sq")
        )
        optimiser.state[parameter] = {
            "step": step.to(parameter.device) if group["fused"] else step,
            "exp_avg": torch.empty_like(parameter).copy_(first),
            "exp_avg_sq": torch.empty_like(parameter).copy_(second),
        }
