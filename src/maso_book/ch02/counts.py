"""How many regions: fully connected networks of equal numbers of neurons and depths 1 to 6, before and after training.

Upper bounds grow exponentially with depth; Hanin and Rolnick's expected number at initialisation is of the order of
neurons^2 for two inputs, whatever the depth.  Initial weights are He's, initial biases PyTorch's; the learning rate is
that of the toy net divided by the depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from maso.partition import partition
from maso_book.experiment import Rows
from maso_book.shared.toy import LEARNING_RATE, network, split, window
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms
from maso_book.training import Training, accuracy, fit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Counts:
    """Networks of all `depths` × `neurons` (each a multiple of every depth), counted after each of `epochs`."""

    seed: int
    neurons: tuple[int, ...] = (60, 120, 240)
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    samples: int = 4000
    epochs: tuple[int, ...] = (0, 20)


def run_counts(config: Counts) -> tuple[Rows, dict[str, np.ndarray]]:
    """Train every network on the toy data and count the regions of the window.

    Returns:
        Tables `regions` with rows of `depth`, `units` (in all layers), `epoch` and `regions`, and `networks` with rows
        of `depth`, `units` and test `accuracy` after training. No arrays.
    """
    data = split(config.samples, config.seed)
    regions: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for depth in config.depths:
        for units in config.neurons:
            size = {"depth": depth, "units": units}
            count, right = _trained(config, data, **size)
            regions += [{**size, "epoch": epoch, "regions": number} for epoch, number in count.items()]
            networks.append({**size, "accuracy": right})
    return {"regions": regions, "networks": networks}, {}


def _trained(config: Counts, data: tuple[Tensor, ...], *, depth: int, units: int) -> tuple[dict[int, int], float]:
    """Regions of one network by epoch, and its test accuracy in the end."""
    x, y, x_test, y_test = data
    regions: dict[int, int] = {}

    def count(epoch: int, model: nn.Module) -> None:
        if epoch in config.epochs:
            regions[epoch] = len(partition(model, window()))

    torch.manual_seed(config.seed)
    model = network((units // depth,) * depth)
    fit(model, x, y, Training(config.epochs[-1], 200, LEARNING_RATE / depth, seed=config.seed), on_epoch=count)
    return regions, accuracy(model, x_test, y_test)


def slopes(regions: pd.DataFrame) -> dict[tuple[int, int], Interval]:
    """(epoch, depth) → slope of log regions against log units, one least-squares slope per seed.

    Args:
        regions: rows of the table `regions` of "02-counts".
    """
    return {
        arm: interval(
            [float(np.polyfit(np.log(one.units), np.log(one.regions), 1)[0]) for _, one in arms(rows, "seed")]
        )
        for arm, rows in arms(regions, "epoch", "depth")
    }
