"""One training loop, for a CPU and a GPU: the data stay on the device, a seed fixes everything.

`fit` minimises the cross-entropy with AdamW.  Images may come as uint8 (they are scaled to [0, 1] batch by batch, so
the data set takes a quarter of the memory) and be augmented on the device.  Same seed, same device, same versions:
same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from maso.errors import MasoError


@dataclass(frozen=True)
class Training:
    """How to train.

    Attributes:
        epochs: passes over the data.
        batch: samples a step.
        lr: learning rate (the highest one of a one-cycle schedule).
        weight_decay: decoupled weight decay of AdamW.
        schedule: "constant", or "one-cycle": up over the first quarter, then down to zero, both linear.
        augment: random horizontal flips and shifts by up to four pixels (images only).
        seed: fixes the order of the samples and the augmentation; the model brings its own initial weights.
    """

    epochs: int = 10
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "one-cycle"] = "constant"
    augment: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1 or not self.lr > 0 or self.weight_decay < 0:
            raise MasoError(f"{self}: expected epochs ≥ 0, batch ≥ 1, lr > 0 and weight_decay ≥ 0.")
        if self.schedule not in ("constant", "one-cycle"):
            raise MasoError(f"There is no schedule {self.schedule!r}. Schedules: constant, one-cycle.")


@dataclass(frozen=True)
class History:
    """What happened, epoch by epoch.

    Attributes:
        loss, accuracy: mean over the training samples as they were seen, (epochs,).
        validation_accuracy: after each epoch, (epochs,); empty without a validation set.
        seconds: wall time of each epoch, (epochs,).
        diverged: the loss became NaN or infinite, and training stopped there.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    validation_accuracy: np.ndarray
    seconds: np.ndarray
    diverged: bool


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    training: Training,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
    progress: bool = False,
) -> History:
    """Train a classifier in place by cross-entropy; the model is in eval mode afterwards.

    Args:
        model: (N, *shape) → (N, classes), on the device where it is to be trained.
        x: samples, (N, *shape) floating point, or images (N, channels, height, width) uint8.
        y: labels, (N,) int64.
        training: how to train.
        validation: samples and labels held out for choices between settings.
        on_epoch: called as `on_epoch(epoch, model)`, in eval mode, before training (epoch 0) and after each epoch.
        progress: show a bar with loss and accuracy.

    Returns:
        `History`.

    Raises:
        MasoError: samples and labels that do not fit.

    Example:
        >>> x = torch.randn(64, 2)
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> fit(net, x, (x[:, 0] > 0).long(), Training(epochs=30, lr=0.05)).accuracy[-1] > 0.9
        np.True_
    """
    if len(x) != len(y) or len(x) == 0 or y.dtype != torch.int64 or y.ndim != 1:
        raise MasoError(f"fit: {len(x)} samples and labels {tuple(y.shape)} {y.dtype}; expected as many int64 labels.")
    if training.augment and x.ndim != 4:
        raise MasoError(f"fit: augment needs images (N, channels, height, width); x has shape {tuple(x.shape)}.")
    device = next(model.parameters()).device
    x, y = x.to(device), y.to(device)
    generator = torch.Generator(device).manual_seed(training.seed)
    optimiser = torch.optim.AdamW(model.parameters(), training.lr, weight_decay=training.weight_decay)
    steps = training.epochs * math.ceil(len(x) / training.batch)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps, training.schedule))
    rows: list[tuple[float, float, float, float]] = []

    def report(epoch: int) -> None:
        model.eval()
        if on_epoch:
            on_epoch(epoch, model)

    report(0)
    bar = tqdm(range(1, training.epochs + 1), unit="epoch", disable=not progress)
    for epoch in bar:
        start, total, right = time.perf_counter(), torch.zeros((), device=device), torch.zeros((), device=device)
        model.train()
        for rows_of_batch in torch.randperm(len(x), generator=generator, device=device).split(training.batch):
            inputs, labels = scaled(x[rows_of_batch]), y[rows_of_batch]
            if training.augment:
                inputs = augmented(inputs, generator)
            logits = model(inputs)
            loss = nn.functional.cross_entropy(logits, labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            scheduler.step()
            total += loss.detach() * len(labels)
            right += (logits.detach().argmax(1) == labels).sum()
        report(epoch)
        held_out = accuracy(model, *validation) if validation else math.nan
        rows.append((float(total) / len(x), float(right) / len(x), held_out, time.perf_counter() - start))
        bar.set_postfix(loss=f"{rows[-1][0]:.3f}", accuracy=f"{rows[-1][1]:.3f}", validation=f"{held_out:.3f}")
        if not math.isfinite(rows[-1][0]):
            break
    table = np.array(rows).reshape(-1, 4)
    return History(
        loss=table[:, 0],
        accuracy=table[:, 1],
        validation_accuracy=table[:, 2] if validation else np.zeros(0),
        seconds=table[:, 3],
        diverged=bool(len(table)) and not math.isfinite(table[-1, 0]),
    )


def accuracy(model: nn.Module, x: Tensor, y: Tensor, *, batch: int = 1000) -> float:
    """Share of samples whose largest output is their label; the model is used in the mode it is in."""
    device = next(model.parameters()).device
    with torch.no_grad():
        right = [
            int((model(scaled(xs.to(device))).argmax(1) == ys.to(device)).sum())
            for xs, ys in zip(x.split(batch), y.split(batch), strict=True)
        ]
    return sum(right) / len(x)


def scaled(x: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]; other samples as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def augmented(images: Tensor, generator: torch.Generator, *, shift: int = 4) -> Tensor:
    """Each image flipped with probability ½ and moved by up to `shift` pixels over a zero border, (N, C, H, W)."""
    n, _, height, width = images.shape
    flip = torch.rand(n, generator=generator, device=images.device) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = nn.functional.pad(images, [shift] * 4)
    top, left = torch.randint(0, 2 * shift + 1, (2, n), generator=generator, device=images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    sample = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _rate(step: int, steps: int, schedule: str) -> float:
    if schedule == "constant":
        return 1.0
    rise = max(1, steps // 4)
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / (steps - rise + 1e-9))
