"""`fit_many`: copies of one network, side by side.

The parameters of M copies stand in one matrix, a row for each copy, (M, P).  `torch.vmap` runs the network for all
rows at once (a convolution becomes one grouped convolution), and AdamW is a few operations on the matrix, with a
learning rate and a weight decay for each row.  No copy sees another one: the loss is the sum of theirs.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from maso.errors import MasoError
from maso.training import checkpoint as checkpoints
from maso.training.one import accuracy, identity
from maso.training.samples import augmented, draw, scaled
from maso.training.settings import History, Row, Training, check, check_time, has_diverged, history


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
        models: the copies, with their own initial weights, all on one device; trained in place.
        x: the samples of each copy, (N, *shape); the same tensor may stand there several times.
        y: the labels of each copy, (N,) int64.
        trainings: how to train each copy; epochs, batch and augment are the same for all.
        validation: as in `fit`, the same for all.
        on_epoch: called as `on_epoch(number, epoch, model)` for every copy that has not diverged.
        progress, checkpoint, deadline: as in `fit`.

    Returns:
        A `History` for each copy. One that diverges stops there; the others go on.

    Raises:
        MasoError: copies, samples or settings that do not fit together, or a checkpoint of another training.
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
        stack = _Stack(models, saved)
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


class _Stack:
    """Copies of one network as one: parameters that learn as a matrix (M, P), everything else stacked by name."""

    def __init__(self, models: Sequence[nn.Module], saved: checkpoints.Arrays | None) -> None:
        self.base = copy.deepcopy(models[0]).train()
        learning = {name: p for name, p in self.base.named_parameters() if p.requires_grad}
        self.shapes = {name: p.shape for name, p in learning.items()}
        vectors = [torch.cat([dict(m.named_parameters())[n].detach().flatten() for n in self.shapes]) for m in models]
        self.flat = torch.stack(vectors).requires_grad_()
        tensors = [dict(m.named_parameters()) | dict(m.named_buffers()) for m in models]
        names = [name for name in tensors[0] if name not in learning]
        self.fixed = {name: torch.stack([each[name].detach() for each in tensors]) for name in names}
        self.steps, self.first, self.second = 0, torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        if saved:
            self.steps = int(saved["steps"])
            self.first, self.second = (torch.from_numpy(saved[n]).to(self.flat.device) for n in ("first", "second"))

    def parameters(self) -> dict[str, Tensor]:
        """The parameters that learn by name, (M, *shape), as views of the matrix."""
        parts = self.flat.split([shape.numel() for shape in self.shapes.values()], 1)
        return {n: part.unflatten(1, (*s, 1))[..., 0] for (n, s), part in zip(self.shapes.items(), parts, strict=True)}

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs of all copies in training mode, (M, N, *shape) → (M, N, classes); running statistics move on."""

        def one(learning: dict[str, Tensor], fixed: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(self.base, learning | fixed, (x,))

        return torch.vmap(one, randomness="different")(self.parameters(), self.fixed, x)

    @torch.no_grad()
    def step(self, rate: Tensor, decay: Tensor) -> None:
        """One step of AdamW, with the rate (M, 1) and the weight decay (M, 1) of each copy."""
        gradient = self.flat.grad
        assert gradient is not None
        beta, gamma, epsilon = 0.9, 0.999, 1e-8
        self.steps += 1
        self.first.lerp_(gradient, 1 - beta)
        self.second.mul_(gamma).addcmul_(gradient, gradient, value=1 - gamma)
        scale = (self.second.sqrt() / math.sqrt(1 - gamma**self.steps)).add_(epsilon)
        self.flat.mul_(1 - rate * decay).sub_(rate / (1 - beta**self.steps) * self.first / scale)
        self.flat.grad = None

    @torch.no_grad()
    def hand_back(self, models: Sequence[nn.Module], which: Sequence[int]) -> None:
        """Copy the rows of these copies to their models."""
        stacked = self.parameters() | self.fixed
        for m in which:
            for name, value in [*models[m].named_parameters(), *models[m].named_buffers()]:
                value.copy_(stacked[name][m])

    @torch.no_grad()
    def blank(self, which: Sequence[int]) -> None:
        """Make the rows of copies that diverged zero, so that no kernel can carry their NaN to the others."""
        for tensor in (self.flat, self.first, self.second, *self.fixed.values()):
            tensor[list(which)] = 0

    def moments(self) -> checkpoints.Arrays:
        """The optimiser's state for a checkpoint."""
        arrays = {"first": self.first, "second": self.second, "steps": torch.tensor(self.steps)}
        return {name: value.cpu().numpy() for name, value in arrays.items()}
