"""Chapter 07, VQ distance: are two pictures close to the network?

Four experiments: label agreement of the nearest pictures, layer by layer (07-agreement), the same for twins that
learned true or permuted labels (07-labels; both in `maso_book.ch07.agreement`), the axioms of a metric
(`maso_book.ch07.metric`), and how fast codes are compared (`maso_book.ch07.speed`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maso_book.ch07.agreement import LABELS, Agreement, run_agreement
from maso_book.ch07.metric import Metric, run_metric
from maso_book.ch07.speed import Speed, run_speed
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.trained import Recipe

# Grids ----------------------------------------------------------------------------------------------------------------

SEEDS = range(5)
QUICK: dict[str, Any] = {
    "dataset": "digits", "grey": True, "samples": 400, "keep": (0,), "queries": 100, "images": 400, "pairs": (50, 400),
}  # fmt: skip
FULL: dict[str, Any] = {"samples": None, "queries": 10_000, "images": 45_000, "pairs": (1000, 5000)}
EPOCHS = (0, 1, 2, 5, 10, 20)


def _agreement(profile: str) -> list[Agreement]:
    if profile == "quick":
        return [Agreement(seed, epochs=6, shown=0 if seed else 2, **QUICK) for seed in (0, 1)]
    if profile == "full":
        images = ("cifar10", "fashion_mnist", "mnist")
        configs = [Agreement(seed, dataset, epochs=40, keep=EPOCHS, **FULL) for dataset in images for seed in SEEDS]
        configs += [Agreement(seed, network="large_cnn", epochs=40, keep=(0,), lr=1e-3, **FULL) for seed in SEEDS]
    else:
        configs = [Agreement(seed) for seed in SEEDS]
        configs += [Agreement(seed, "fashion_mnist", epochs=4, keep=(0, 1, 2)) for seed in SEEDS]
    return [replace(configs[0], shown=2), *configs[1:]]


def _labels(profile: str) -> list[Agreement]:
    if profile == "quick":
        return [Agreement(seed, labels=labels, epochs=6, **QUICK) for seed in (0, 1) for labels in LABELS]
    if profile == "full":
        base = Agreement(0, epochs=55, keep=(0, 1, 5, 10, 20), lr=5e-4, schedule="constant", **FULL)
        bases = [replace(base, network=network) for network in ("small_cnn", "large_cnn", "small_resnet")]
    else:
        bases = [Agreement(0, samples=5000, epochs=40, keep=(0, 5, 10, 20))]
    return [replace(base, seed=s, labels=labels) for base in bases for s in SEEDS for labels in LABELS]


def _speed(profile: str) -> list[Speed]:
    sizes = {"quick": (50, 500), "paper": (1000, 10_000), "full": (2000, 50_000)}
    queries, images = sizes[profile]
    return [Speed(0, queries=queries, images=images)]


def _recipes(config: Agreement) -> list[Recipe]:
    return [config.recipe]


EXPERIMENTS = [
    Experiment("07-agreement", run_agreement, _agreement, _recipes),
    Experiment("07-labels", run_agreement, _labels, _recipes),
    Experiment(
        "07-metric",
        on_cpu(run_metric),
        same_grid([Metric(0, points=120)], [Metric(seed) for seed in range(10)]),
    ),
    Experiment("07-speed", run_speed, _speed),
]
