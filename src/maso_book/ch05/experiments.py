"""Chapter 05, memorization: does the template become the picture?

Four experiments: free templates with and without a budget against optimisers (`maso_book.ch05.optimum`), and the
templates of trained networks with true and permuted labels, for some architectures and over widths
(`maso_book.ch05.templates`).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from maso_book.ch05.optimum import Growth, Optimum, run_growth, run_optimum
from maso_book.ch05.templates import LABELS, Templates, run_templates
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.trained import Recipe

SEEDS = range(5)
QUICK_SEEDS = range(2)
NETWORKS = ("small_cnn", "large_cnn", "small_resnet")
WIDTHS = {"quick": (8, 32), "paper": (32, 64, 128, 256, 512), "full": (32, 128, 512, 2048, 8192)}

_QUICK: dict[str, Any] = {"dataset": "digits", "samples": 250, "epochs": 2, "keep": (0,), "points": 100}
_FULL: dict[str, Any] = {"samples": None, "epochs": 55, "lr": 5e-4, "schedule": "constant", "keep": (0, 1, 5, 10, 20)}
"""As the authors trained: all images, 55 epochs."""


def _templates(profile: str) -> list[Any]:
    if profile == "quick":
        return [Templates(seed, labels, pictures=2, **_QUICK) for seed, labels in product(QUICK_SEEDS, LABELS)]
    if profile == "paper":
        return [Templates(seed, labels) for seed, labels in product(SEEDS, LABELS)]
    return [
        Templates(seed, labels, network=network, **_FULL) for seed, network, labels in product(SEEDS, NETWORKS, LABELS)
    ]


def _widths(profile: str) -> list[Any]:
    changed = {"quick": _QUICK, "paper": {}, "full": _FULL}[profile]
    seeds = QUICK_SEEDS if profile == "quick" else SEEDS
    wide = replace(Templates(0, "true", "fashion_mnist", "mlp", pictures=0), **changed)
    return [
        replace(wide, seed=seed, labels=labels, width=width)
        for seed, labels, width in product(seeds, LABELS, WIDTHS[profile])
    ]


def _recipes(config: Templates) -> list[Recipe]:
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
]
