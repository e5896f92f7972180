"""Chapter 05, memorization: does the template become the picture?

Six experiments: free templates with and without a budget against optimisers (`maso_book.ch05.optimum`); the templates
of small networks with true and permuted labels, and over widths, as the first edition measured them
(`maso_book.ch05.templates`); and the second edition's, larger networks against stronger controls
(`maso_book.ch05.memory`).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from maso_book.ch05.memory import Memory, run_memory
from maso_book.ch05.optimum import Growth, Optimum, run_growth, run_optimum
from maso_book.ch05.templates import LABELS, Templates, run_templates
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.shared import twins
from maso_book.trained import Recipe, TrainedCell

SEEDS = range(5)
QUICK_SEEDS = range(2)
WIDTHS = {"quick": (8, 32), "paper": (32, 64, 128, 256, 512)}
MEMORY = ("large_cnn", "small_cnn", "small_resnet")
"""The networks of 05-memory, those first that can learn the most."""
MEMORY_WIDTHS = {"quick": (8, 32), "paper": (32, 128, 512, 2048)}

_QUICK: dict[str, Any] = {"dataset": "digits", "samples": 150, "epochs": 2, "keep": (0,), "points": 60}


def _templates(profile: str) -> list[Any]:
    if profile == "quick":
        return [Templates(seed, labels, pictures=2, **_QUICK) for seed, labels in product(QUICK_SEEDS, LABELS)]
    return [Templates(seed, labels) for seed, labels in product(SEEDS, LABELS)]


def _widths(profile: str) -> list[Any]:
    quick = profile == "quick"
    wide = replace(Templates(0, "true", "fashion_mnist", "mlp", pictures=0), **(_QUICK if quick else {}))
    return [
        replace(wide, seed=seed, labels=labels, width=width)
        for seed, labels, width in product(
            QUICK_SEEDS if quick else SEEDS, LABELS, WIDTHS["quick" if quick else "paper"]
        )
    ]


def _memory(profile: str) -> list[Any]:
    if profile == "quick":
        return [Memory(s, labels, **_QUICK | {"keep": (0, 1)}) for s, labels in product(QUICK_SEEDS, LABELS)]
    return [
        Memory(seed, labels, network, lr=twins.RATES[network])
        for seed, network, labels in product(twins.SEEDS, MEMORY, LABELS)
    ]


def _memory_widths(profile: str) -> list[Any]:
    quick = profile == "quick"
    wide = Memory(0, "true", "mlp", "fashion_mnist", lr=twins.RATES["mlp"], keep=(0, 1, 5, 20))
    wide = replace(wide, **(_QUICK | {"keep": (0, 1)} if quick else {}))
    return [
        replace(wide, seed=seed, labels=labels, width=width)
        for seed, width, labels in product(
            QUICK_SEEDS if quick else twins.SEEDS, MEMORY_WIDTHS["quick" if quick else "paper"], LABELS
        )
    ]


def _recipes(config: TrainedCell) -> list[Recipe]:
    return [config.recipe]


EXPERIMENTS = [
    Experiment(
        "05-optimum",
        run=on_cpu(run_optimum),
        grid=same_grid(
            quick=[Optimum(0, problems=20, classes=(2, 10), steps=1000)],
            paper=[Optimum(seed, problems=200) for seed in SEEDS],
        ),
    ),
    Experiment(
        "05-growth",
        run=on_cpu(run_growth),
        grid=same_grid(quick=[Growth(0)], paper=[Growth(seed, classes) for seed, classes in product(SEEDS, (2, 10))]),
    ),
    Experiment("05-templates", run=run_templates, grid=_templates, recipes=_recipes),
    Experiment("05-widths", run=run_templates, grid=_widths, recipes=_recipes),
    Experiment("05-memory", run=run_memory, grid=_memory, recipes=_recipes, worth=9.45),
    Experiment("05-memory-widths", run=run_memory, grid=_memory_widths, recipes=_recipes, worth=5.5),
]
