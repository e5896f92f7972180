"""Chapter 09, soft VQ and swish: which runs there are.

On a CPU: the table of soft units (09-table), the split of a layer into units (09-factorial), the nearest soft unit to
others (09-nearest).  On a GPU: β learned for each channel (09-learned on CIFAR-10, 09-learned-100 on CIFAR-100), hard
networks softened (09-softened), attacked (09-robust) and probed on another data set (09-transfer).
"""

from __future__ import annotations

from itertools import product
from typing import Any

from maso_book.ch09.cells import Cell
from maso_book.ch09.factorial import Factorial, run_factorial
from maso_book.ch09.learned import UNITS, Learned, run_learned
from maso_book.ch09.nearest import TARGETS, Nearest, run_nearest
from maso_book.ch09.softened import Softening, run_softening
from maso_book.ch09.table import Table, run_table
from maso_book.ch09.tuning import Robust, Transfer, run_robust, run_transfer
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.trained import Recipe

SEEDS = range(5)
HARD = {"cifar10": range(100, 105), "cifar100": SEEDS}
"""Seeds of the hard networks that are softened: on CIFAR-10 chapter 04's, on CIFAR-100 those of 09-learned-100."""
DATASETS = ("cifar10", "cifar100")
KEEP = (0, 1, 2, 4, 7, 10, 15, 20, 25)
"""Epochs after which a learned β is read off."""

_QUICK: dict[str, Any] = {"dataset": "digits", "samples": 200, "epochs": 2, "augment": False}


def _learned(seed: int, dataset: str, unit: str) -> Learned:
    return Learned(seed, dataset, unit=unit, keep=KEEP if unit == "beta" else ())


def _recipes(config: Cell) -> list[Recipe]:
    return [config.recipe]


EXPERIMENTS = [
    Experiment(
        "09-table",
        on_cpu(run_table),
        same_grid([Table(0, inputs=60, mixtures=20)], [Table(seed) for seed in range(10)]),
    ),
    Experiment(
        "09-factorial",
        on_cpu(run_factorial),
        same_grid([Factorial(0, inputs=500)], [Factorial(seed) for seed in range(10)]),
    ),
    Experiment(
        "09-nearest",
        on_cpu(run_nearest),
        same_grid([Nearest(0, "GELU", starts=1)], [Nearest(0, target) for target in TARGETS]),
    ),
    Experiment(
        "09-learned",
        run_learned,
        same_grid(
            [
                Learned(seed, unit=unit, keep=(0, 1) if unit == "beta" else (), **_QUICK)
                for seed in (0, 1)
                for unit in UNITS
            ],
            [_learned(seed, "cifar10", unit) for seed, unit in product(SEEDS, UNITS)],
        ),
        _recipes,
        worth=9.4,
    ),
    Experiment(
        "09-learned-100",
        run_learned,
        same_grid(
            [Learned(0, unit="beta", keep=(0, 1), **_QUICK)],
            [_learned(seed, "cifar100", unit) for seed, unit in product(SEEDS, UNITS)],
        ),
        _recipes,
        worth=8.8,
    ),
    Experiment(
        "09-softened",
        run_softening,
        same_grid(
            [Softening(seed, betas=(0.9, 1.0), images=100, looked_at=100, **_QUICK) for seed in (0, 1)],
            [Softening(seed, dataset) for dataset in DATASETS for seed in HARD[dataset]],
        ),
        _recipes,
        worth=9.34,
    ),
    Experiment(
        "09-robust",
        run_robust,
        same_grid(
            [Robust(seed, betas=(0.9, 1.0), validated=10, tested=10, steps=2, images=100, **_QUICK) for seed in (0, 1)],
            [Robust(seed, dataset) for dataset in DATASETS for seed in HARD[dataset]],
        ),
        _recipes,
        worth=9.33,
    ),
    Experiment(
        "09-transfer",
        run_transfer,
        same_grid(
            [Transfer(seed, target="digits", betas=(0.9, 1.0), images=100, **_QUICK) for seed in (0, 1)],
            [Transfer(s, d, target=t) for d, t in (DATASETS, DATASETS[::-1]) for s in HARD[d]],
        ),
        _recipes,
        worth=9.32,
    ),
]
