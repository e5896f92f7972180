"""`fit_many`: copies of one network, side by side, as one network of theirs (`maso_book.training.stack`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor, nn

from maso.errors import MasoError
from maso_book.training.loop import train
from maso_book.training.samples import scaled
from maso_book.training.settings import History, Training, check
from maso_book.training.stack import Stack, check_stackable


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
        >>> import torch
        >>> x = torch.randn(64, 2)
        >>> nets = [nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in range(3)]
        >>> trainings = [Training(epochs=30, lr=lr) for lr in (0.02, 0.05, 0.1)]
        >>> histories = fit_many(nets, [x] * 3, [(x[:, 0] > 0).long()] * 3, trainings)
        >>> all(history.accuracy[-1] > 0.9 for history in histories)
        True
    """
    _check(models, x, y, trainings)
    for samples, labels, training in zip(x, y, trainings, strict=True):
        check(samples, labels, training, checkpoint, deadline)
    if checkpoint is None or not checkpoint.is_file():  # what it holds has been checked, and may have diverged since
        check_stackable(models, scaled(x[0][:2]))
    return train(
        Stack, models, x, y, trainings,
        on_epoch=on_epoch, validation=validation, progress=progress, checkpoint=checkpoint, deadline=deadline,
    )  # fmt: skip


def _check(
    models: Sequence[nn.Module], x: Sequence[Tensor], y: Sequence[Tensor], trainings: Sequence[Training]
) -> None:
    if not models or not len(models) == len(x) == len(y) == len(trainings):
        raise MasoError(
            f"fit_many: {len(models)} models, {len(x)} samples, {len(y)} labels and {len(trainings)} trainings; "
            "expected one of each for every copy."
        )
    shapes = [[(name, value.shape) for name, value in model.state_dict().items()] for model in models]
    if any(other != shapes[0] for other in shapes) or len({next(model.parameters()).device for model in models}) > 1:
        raise MasoError("fit_many: the models differ in their parameters or devices; expected copies of one network.")
    kinds = {(tuple(samples.shape), samples.dtype) for samples in x}
    if len(kinds) > 1:
        raise MasoError(f"fit_many: samples {kinds}; expected the same shape and type for all.")
    if len({(training.epochs, training.batch, training.augment) for training in trainings}) > 1:
        raise MasoError("fit_many: the trainings differ in epochs, batch or augment; expected the same for all.")
    if not all(training.plain for training in trainings):
        raise MasoError("fit_many: noise, attacks, penalties and other losses are for one network alone: use `fit`.")
