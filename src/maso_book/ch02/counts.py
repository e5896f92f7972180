"""How many regions: fully connected networks of equal numbers of neurons and depths 1 to 6, before and after training.

Upper bounds grow exponentially with depth; Hanin and Rolnick's expected number at initialisation is of the order of
neurons^2 for two inputs, whatever the depth.  Initial weights are He's, initial biases PyTorch's; the learning rate is
that of the toy net divided by the depth.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from maso.partition import partition
from maso_book.records import Record
from maso_book.shared.toy import LEARNING_RATE, network, split, window
from maso_book.statistics import Interval, interval
from maso_book.training import Training, accuracy, fit


@dataclass(frozen=True)
class Counts:
    """Networks of all `depths` × `neurons` (each a multiple of every depth), counted after each of `epochs`."""

    seed: int
    neurons: tuple[int, ...] = (60, 120, 240)
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    samples: int = 4000
    epochs: tuple[int, ...] = (0, 20)


def run_counts(config: Counts) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train every network on the toy data and count the regions of the window."""
    x, y, x_test, y_test = split(config.samples, config.seed)
    rows = []
    for depth in config.depths:
        for neurons in config.neurons:
            torch.manual_seed(config.seed)
            model = network((neurons // depth,) * depth)
            found: list[int] = []

            def count(epoch: int, model: nn.Module, found: list[int] = found) -> None:
                if epoch in config.epochs:
                    found.append(len(partition(model, window())))

            fit(model, x, y, Training(config.epochs[-1], 200, LEARNING_RATE / depth, seed=config.seed), on_epoch=count)
            right = accuracy(model, x_test, y_test)
            rows.append({"depth": depth, "neurons": neurons, "accuracy": right, "regions": found})
    return {"counts": rows}, {}


def slopes(records: Sequence[Record], epoch: int) -> dict[int, Interval]:
    """Slope of log regions against log neurons for every depth: one least-squares slope per seed.

    Args:
        records: of the experiment "02-counts".
        epoch: which of the counted epochs, by its place (0 first, −1 last).
    """
    series: dict[int, list[float]] = {}
    for record in records:
        for depth in record.config["depths"]:
            rows = [row for row in record.metrics["counts"] if row["depth"] == depth]
            points = [(math.log(row["neurons"]), math.log(row["regions"][epoch])) for row in rows]
            series.setdefault(depth, []).append(statistics.linear_regression(*zip(*points, strict=True)).slope)
    return {depth: interval(values) for depth, values in series.items()}


def mean_counts(records: Sequence[Record], epoch: int) -> dict[tuple[int, int], Interval]:
    """(depth, neurons) → mean and interval over seeds of log regions at a counted epoch."""
    series: dict[tuple[int, int], list[float]] = {}
    for record in records:
        for row in record.metrics["counts"]:
            series.setdefault((row["depth"], row["neurons"]), []).append(math.log(row["regions"][epoch]))
    return {key: interval(values) for key, values in series.items()}
