"""Training smallCNN: `maso_book.training` against a plain loop with a DataLoader, Lightning, and the floor, in one run.

    python benchmarks/training.py [--device cuda] [--samples 2048] [--copies 1 2 4 8 16] [--threads 2] [--workers 0]

The data are random images of CIFAR's shape.  Every row is the fastest epoch of two trainings, their first epochs left
out.  `floor` is forward and backward of batches that lie ready on the device, in the arithmetic of `ours` (bfloat16 on
a GPU, images channels last); ratios are to it.  The last two rows keep the memory that a step frees, as cells of the
book do; that cannot be undone, so they come last.  The DataLoader has torchvision's usual transforms, image by image.
The second table trains copies of the network that differ in their seed: together against one after the other.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from maso_book.datasets import import_torchvision
from maso_book.memory import keep_freed
from maso_book.networks import small_cnn
from maso_book.training import Training, fit, fit_many

BATCH, EPOCHS, LR, ROUNDS = 256, 3, 5e-3, 2


def network(device: str) -> nn.Module:
    torch.manual_seed(0)
    return small_cnn().to(device)


def timed(epoch: Callable[[], object], device: str) -> float:
    """Seconds of the fastest epoch after the first."""
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        epoch()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def floor(x: Tensor, y: Tensor, device: str) -> float:
    model = network(device).to(memory_format=torch.channels_last)
    batches = [
        ((part.float() / 255).to(device, memory_format=torch.channels_last), labels.to(device))
        for part, labels in zip(x.split(BATCH), y.split(BATCH), strict=True)
    ]

    def epoch() -> None:
        for inputs, labels in batches:
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()

    return timed(epoch, device)


def ours(x: Tensor, y: Tensor, device: str, augment: bool) -> float:
    history = fit(network(device), x, y, Training(EPOCHS, BATCH, LR, augment=augment))
    return min(history.seconds[1:])


class Images(Dataset):
    """What torchvision's data sets do: one image at a time, through the transforms."""

    def __init__(self, x: Tensor, y: Tensor, augment: bool) -> None:
        import_torchvision()
        from torchvision.transforms import v2 as transforms

        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augment else []
        self.x, self.y = x, y
        self.transform = transforms.Compose([*steps, transforms.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.x[i]), self.y[i]


def loader(x: Tensor, y: Tensor, device: str, augment: bool, workers: int) -> DataLoader:
    return DataLoader(
        Images(x, y, augment), BATCH, True, num_workers=workers, persistent_workers=workers > 0,
        pin_memory=device == "cuda",
    )  # fmt: skip


def plain_loop(x: Tensor, y: Tensor, device: str, augment: bool, workers: int) -> float:
    model, batches = network(device), loader(x, y, device, augment, workers)
    optimiser = torch.optim.AdamW(model.parameters(), LR)

    def epoch() -> None:
        for inputs, labels in batches:
            inputs, labels = inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = nn.functional.cross_entropy(model(inputs), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return timed(epoch, device)


def lightning(x: Tensor, y: Tensor, device: str, augment: bool, workers: int) -> float | None:
    """None where Lightning is not installed."""
    import_torchvision()
    try:
        import pytorch_lightning as pl
    except ModuleNotFoundError:
        return None

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.seconds = network("cpu"), []

        def on_train_epoch_start(self) -> None:
            self.start = time.perf_counter()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def on_train_epoch_end(self) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self.start)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), LR)

    module = Module()
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="gpu" if device == "cuda" else "cpu", devices=1, logger=False,
        precision="bf16-mixed" if device == "cuda" else "32-true", enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader(x, y, device, augment, workers))
    return min(module.seconds[1:])


def together(x: Tensor, y: Tensor, device: str, copies: int) -> tuple[float, float]:
    """Seconds an epoch for all copies: one after the other, and side by side."""
    trainings = [Training(EPOCHS, BATCH, LR, seed=seed) for seed in range(copies)]
    one_by_one = sum(min(fit(network(device), x, y, training).seconds[1:]) for training in trainings)
    models = [network(device) for _ in trainings]
    histories = fit_many(models, [x] * copies, [y] * copies, trainings)
    return one_by_one, min(sum(history.seconds[1:] for history in histories))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--samples", type=int, help="2048, on a GPU 45,056")
    parser.add_argument("--copies", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, n = options.device, options.samples or (2048 if options.device == "cpu" else 45_056)
    x, y = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (n,))
    where = torch.cuda.get_device_name() if device == "cuda" else f"{options.threads} threads"
    print(f"torch {torch.__version__}, {where}, smallCNN, {n:,} images, batches of {BATCH}\n")
    ways: dict[str, Callable[[], float | None]] = {"floor": lambda: floor(x, y, device)}
    for augment, suffix in ((False, ""), (True, ", augmented")):
        more = (x, y, device, augment)
        ways["ours" + suffix] = partial(ours, *more)
        ways["DataLoader" + suffix] = partial(plain_loop, *more, options.workers)
        ways["Lightning" + suffix] = partial(lightning, *more, options.workers)
    kept: dict[str, Callable[[], float | None]] = {f"{name}, memory kept": ways[name] for name in ("floor", "ours")}
    found = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS)]
    keep_freed()
    found = [each | {name: way() for name, way in kept.items()} for each in found]
    ways |= kept
    print(f"{'one network':24s} {'s/epoch':>8s} {'images/s':>10s} {'× floor':>8s}")
    best = {name: min(seconds) for name in ways if None not in (seconds := [each[name] for each in found])}
    for name in ways:
        if name in best:
            print(f"{name:24s} {best[name]:8.2f} {n / best[name]:10,.0f} {best[name] / best['floor']:8.2f}")
        else:
            print(f"{name:24s} not installed: pip install pytorch-lightning")
    print(f"\n{'copies':>8s} {'in turn s':>10s} {'together s':>11s} {'gain':>6s} {'networks × images/s':>20s}")
    for copies in options.copies:
        alone, joint = together(x, y, device, copies)
        print(f"{copies:8d} {alone:10.2f} {joint:11.2f} {alone / joint:6.2f} {copies * n / joint:20,.0f}", flush=True)


if __name__ == "__main__":
    main()
