"""`fit`: one network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from maso_book.training.loop import train
from maso_book.training.objective import LOSSES, adversarial, noisy
from maso_book.training.penalties import PENALTIES
from maso_book.training.settings import History, Training, check


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
    """Train a classifier in place; the model is in eval mode afterwards, channels last for images.

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
    if x.ndim == 4:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    (history,) = train(
        partial(Alone, training=training), [model], [x], [y], [training],
        on_epoch=(lambda _, epoch, model: on_epoch(epoch, model)) if on_epoch else None,
        validation=validation, progress=progress, checkpoint=checkpoint, deadline=deadline,
    )  # fmt: skip
    return history


class Alone:
    """One network as the loop's learner: its weights stay where they are."""

    def __init__(self, models: Sequence[nn.Module], *, training: Training) -> None:
        (self.model,), self.training = models, training
        self.parameters: list[list[Tensor]] = [list(self.model.parameters())]

    def train(self, alive: Sequence[int]) -> None:
        self.model.train()

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        how, y, loss = self.training, targets[0], LOSSES[self.training.loss]
        if how.noise:
            inputs = noisy(inputs, how.noise)
        if how.attack:
            inputs = adversarial(self.model, inputs, y, radius=how.attack, steps=how.attack_steps, loss=loss)
        if how.penalty:
            inputs = inputs.detach().requires_grad_()
        outputs = self.model(inputs)
        losses = loss(outputs, y)[None]
        objective = losses.sum()
        if how.penalty:
            with torch.autocast(inputs.device.type, enabled=False):
                objective = objective + how.strength * PENALTIES[how.penalty](self.model, inputs, outputs, y)
        return outputs[None], losses, objective

    def hand_back(self, models: Sequence[nn.Module], which: Sequence[int]) -> None:
        """They are there."""
