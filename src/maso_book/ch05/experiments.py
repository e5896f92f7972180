"""Chapter 05, memorization: does the template become the picture?

Four experiments: free templates with and without a budget against optimisers (`maso_book.ch05.optimum`), and the
templates of trained networks with true and permuted labels, for some architectures and over widths
(`maso_book.ch05.templates`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maso_book.ch05.optimum import Growth, Optimum, run_growth, run_optimum
from maso_book.ch05.templates import Templates, recipe, run_templates
from maso_book.ch05.verdicts import LABELS
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.trained import Recipe

# Grids ----------------------------------------------------------------------------------------------------------------

SEEDS = range(5)
WIDTHS = (32, 64, 128, 256, 512)
FULL_WIDTHS = (32, 128, 512, 2048, 8192)
_SMALL = Templates(0, "true", "digits", samples=250, epochs=2, keep=(0,), points=100, pictures=2)
_WIDE = Templates(0, "true", "fashion_mnist", "mlp", pictures=0)
_FULL: dict[str, Any] = {"samples": None, "epochs": 55, "lr": 5e-4, "schedule": "constant", "keep": (0, 1, 5, 10, 20)}


def _templates(profile: str) -> list[Any]:
    if profile == "quick":
        return [replace(_SMALL, seed=seed, labels=labels) for seed in (0, 1) for labels in LABELS]
    if profile == "paper":
        return [Templates(seed, labels) for seed in SEEDS for labels in LABELS]
    networks = ("small_cnn", "large_cnn", "small_resnet")
    return [Templates(seed, labels, network=n, **_FULL) for seed in SEEDS for n in networks for labels in LABELS]


def _widths(profile: str) -> list[Any]:
    if profile == "quick":
        small = replace(_SMALL, network="mlp", pictures=0)
        return [
            replace(small, seed=seed, labels=labels, width=width)
            for seed in (0, 1)
            for labels in LABELS
            for width in (8, 32)
        ]
    base, widths = (_WIDE, WIDTHS) if profile == "paper" else (replace(_WIDE, **_FULL), FULL_WIDTHS)
    return [replace(base, seed=seed, labels=labels, width=w) for seed in SEEDS for labels in LABELS for w in widths]


def _recipes(config: Templates) -> list[Recipe]:
    return [recipe(config)]


EXPERIMENTS = [
    Experiment(
        "05-optimum",
        on_cpu(run_optimum),
        same_grid([Optimum(0, 20, (2, 10), steps=1000)], [Optimum(seed, 200) for seed in SEEDS]),
    ),
    Experiment(
        "05-growth",
        on_cpu(run_growth),
        same_grid([Growth(0)], [Growth(seed, classes) for seed in SEEDS for classes in (2, 10)]),
    ),
    Experiment("05-templates", run_templates, _templates, _recipes),
    Experiment("05-widths", run_templates, _widths, _recipes),
]
