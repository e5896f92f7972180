"""How to train, and what happened."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maso.errors import MasoError
from maso_book.training.objective import LOSSES
from maso_book.training.penalties import PENALTIES


class OutOfTime(MasoError):
    """The deadline came before the last epoch; the checkpoint holds the epochs that are done."""


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
        seed: fixes the order of the samples, the augmentation, the noise and dropout; the model brings its own initial
            weights.
        noise: standard deviation of Gaussian noise that each sample gets anew at every step, after the augmentation.
        attack: radius, in the Euclidean norm, of the ball in which each sample is moved to where the loss is higher
            (adversarial training, `maso_book.training.adversarial`).
        attack_steps: how many steps of gradient ascent do that.
        loss: "cross-entropy", or "squared": the squared distance of the outputs from the one-hot label.
        penalty: a name of `maso_book.training.penalties.PENALTIES`, none where empty.
        strength: what the penalty is multiplied by before it is added to the loss.
    """

    epochs: int = 10
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "one-cycle"] = "constant"
    augment: bool = False
    seed: int = 0
    noise: float = 0.0
    attack: float = 0.0
    attack_steps: int = 3
    loss: Literal["cross-entropy", "squared"] = "cross-entropy"
    penalty: str = ""
    strength: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1 or not self.lr > 0 or self.weight_decay < 0:
            raise MasoError(f"{self}: expected epochs ≥ 0, batch ≥ 1, lr > 0 and weight_decay ≥ 0.")
        if self.schedule not in ("constant", "one-cycle"):
            raise MasoError(f"There is no schedule {self.schedule!r}. Schedules: constant, one-cycle.")
        if not self.noise >= 0 or not self.attack >= 0 or self.attack_steps < 1:
            raise MasoError(f"{self}: expected noise ≥ 0, attack ≥ 0 and attack_steps ≥ 1.")
        if self.loss not in LOSSES:
            raise MasoError(f"There is no loss {self.loss!r}. Losses: {', '.join(LOSSES)}.")
        if self.penalty and self.penalty not in PENALTIES:
            raise MasoError(f"There is no penalty {self.penalty!r}. Penalties: {', '.join(PENALTIES)}.")

    @property
    def plain(self) -> bool:
        """Whether it minimises the mean cross-entropy of the samples and nothing else."""
        return not self.noise and not self.attack and not self.penalty and self.loss == "cross-entropy"

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of one of `steps` steps, counted from 0."""
        if self.schedule == "constant":
            return self.lr
        rise = max(1, steps // 4)
        return self.lr * ((step + 1) / rise if step < rise else max(0.0, (steps - step) / (steps - rise + 1e-9)))


@dataclass(frozen=True)
class History:
    """What happened, epoch by epoch.

    Attributes:
        loss, accuracy: mean over the training samples as they were seen (moved, noisy, attacked), without the penalty,
            (epochs,).
        validation_accuracy: after each epoch, (epochs,); empty without a validation set.
        seconds: wall time of each epoch, (epochs,); of copies that trained together, each has an equal share.
        diverged: the loss became NaN or infinite, and training stopped there.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    validation_accuracy: np.ndarray
    seconds: np.ndarray
    diverged: bool


class Row(NamedTuple):
    """One epoch of one copy; the validation accuracy is NaN where there is none."""

    loss: float
    accuracy: float
    validation_accuracy: float
    seconds: float


def history(rows: Sequence[Row], validated: bool) -> History:
    """The history of these epochs."""
    loss, accuracy, validation_accuracy, seconds = np.array(rows).reshape(-1, 4).T.copy()
    return History(loss, accuracy, validation_accuracy if validated else np.zeros(0), seconds, has_diverged(rows))


def has_diverged(rows: Sequence[Row]) -> bool:
    """Whether the last epoch's loss is NaN or infinite."""
    return bool(rows) and not math.isfinite(rows[-1].loss)


def check(x: Tensor, y: Tensor, training: Training, checkpoint: Path | None, deadline: float | None) -> None:
    """Refuse what cannot be trained on.

    Raises:
        MasoError: samples and labels that do not fit, or a deadline without a checkpoint.
    """
    if len(x) != len(y) or len(x) == 0 or y.dtype != torch.int64 or y.ndim != 1:
        raise MasoError(f"fit: {len(x)} samples and labels {tuple(y.shape)} {y.dtype}; expected as many int64 labels.")
    if training.augment and x.ndim != 4:
        raise MasoError(f"fit: augment needs images (N, channels, height, width); x has shape {tuple(x.shape)}.")
    if deadline is not None and checkpoint is None:
        raise MasoError("fit: what is done by the deadline would be lost; give a file as `checkpoint` too.")


def check_time(deadline: float | None, rows: Sequence[Sequence[Row]], epochs: int) -> None:
    """Refuse an epoch that would end after the deadline, were it as slow as the slowest one of all copies so far.

    Raises:
        OutOfTime: those seconds are no longer left.
    """
    seconds = [sum(row.seconds for row in epoch if row) for epoch in zip_longest(*rows)]
    if deadline is not None and time.monotonic() + max(seconds, default=0.0) > deadline:
        raise OutOfTime(
            f"The time is used up after {len(seconds)} of {epochs} epochs. The same call goes on from there."
        )
