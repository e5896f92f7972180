"""Three cells with a network each, as the queue of a toy tree: what leases are tested on."""

import time
from dataclasses import dataclass

import torch

from maso_book import registry
from maso_book.experiment import Experiment
from maso_book.trained import Recipe, TrainedCell, trained


@dataclass(frozen=True)
class Cell(TrainedCell):
    seed: int
    dataset: str = "digits"
    network: str = "mlp"
    width: int = 16
    samples: int = 400
    epochs: int = 12
    lr: float = 1e-3
    grey: bool = True
    attack: float = 0.1
    attack_steps: int = 2


def measure(config: Cell) -> tuple[dict, dict]:
    model = trained(config.recipe).model
    time.sleep(4.0)
    total = sum(float(p.detach().double().square().sum()) for p in model.parameters())
    return {"weights": [{"square": total, "threads": torch.get_num_threads()}]}, {}


def recipes(config: Cell) -> list[Recipe]:
    return [config.recipe]


CELLS = Experiment("01-cells", measure, lambda profile: [Cell(seed) for seed in range(5)], recipes, worth=1.0)


def install() -> None:
    """Put the toy cells in the place of the book's experiments, in this process."""
    registry.registry = lambda: {"01-cells": CELLS}
