"""Chapter 07, VQ distance: are two pictures close to the network?

Six experiments.  Label agreement of the nearest pictures, layer by layer, as the first edition measured it: of small
networks (07-agreement) and of twins that learned true or permuted labels (07-labels; both in
`maso_book.ch07.agreement`).  The second edition's, deeper networks against stronger controls: twins (07-twins) and
networks that learned all images (07-all-images; both in `maso_book.ch07.depth`).  The axioms of a metric
(`maso_book.ch07.metric`), and how fast codes are compared (`maso_book.ch07.speed`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maso_book.ch07.agreement import LABELS, Agreement, run_agreement
from maso_book.ch07.depth import AugmentedDepth, Depth, run_depth
from maso_book.ch07.metric import Metric, run_metric
from maso_book.ch07.speed import Speed, run_speed
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.shared import twins
from maso_book.trained import Recipe, TrainedCell

# Grids ----------------------------------------------------------------------------------------------------------------

SEEDS = range(5)
QUICK: dict[str, Any] = {
    "dataset": "digits", "grey": True, "samples": 400, "keep": (0,), "queries": 100, "images": 400, "pairs": (50, 400),
}  # fmt: skip
QUICK_DEPTH: dict[str, Any] = {
    "dataset": "digits", "samples": 400, "epochs": 6, "keep": (0,), "queries": 100, "images": 400,
}  # fmt: skip
TWINS = ("large_cnn", "small_cnn", "small_resnet")
"""The networks of 07-twins: 8, 3 and 13 ReLU layers."""
ALL_IMAGES: dict[str, Any] = {"samples": None, "keep": (0,)}
"""Of the networks that learn all images: chapter 04's, to the letter, so that they are trained once."""


def _agreement(profile: str) -> list[Agreement]:
    if profile == "quick":
        return [Agreement(seed, epochs=6, shown=0 if seed else 2, **QUICK) for seed in (0, 1)]
    configs = [Agreement(seed) for seed in SEEDS]
    configs += [Agreement(seed, "fashion_mnist", epochs=4, keep=(0, 1, 2)) for seed in SEEDS]
    return [replace(configs[0], shown=2), *configs[1:]]


def _labels(profile: str) -> list[Agreement]:
    if profile == "quick":
        return [Agreement(seed, labels=labels, epochs=6, **QUICK) for seed in (0, 1) for labels in LABELS]
    base = Agreement(0, samples=5000, epochs=40, keep=(0, 5, 10, 20))
    return [replace(base, seed=s, labels=labels) for s in SEEDS for labels in LABELS]


def _twins(profile: str) -> list[Depth]:
    if profile == "quick":
        return [Depth(seed, labels, **QUICK_DEPTH) for seed in (0, 1) for labels in twins.LABELS]
    return [
        Depth(seed, labels, network, lr=twins.RATES[network])
        for seed in twins.SEEDS
        for network in TWINS
        for labels in twins.LABELS
    ]


def _all_images(profile: str) -> list[Depth]:
    if profile == "quick":
        return [Depth(seed, **QUICK_DEPTH) for seed in (0, 1)]
    return [
        config
        for seed in twins.SEEDS
        for config in (
            AugmentedDepth(seed, epochs=30, **ALL_IMAGES),
            Depth(seed, dataset="fashion_mnist", epochs=15, **ALL_IMAGES),
            AugmentedDepth(seed, network="large_cnn", lr=twins.RATES["large_cnn"], epochs=12, **ALL_IMAGES),
        )
    ]


def _speed(profile: str) -> list[Speed]:
    sizes = {"quick": (50, 500), "paper": (1000, 10_000), "full": (2000, 50_000)}
    queries, images = sizes[profile]
    return [Speed(0, queries=queries, images=images)]


def _recipes(config: TrainedCell) -> list[Recipe]:
    return [config.recipe]


EXPERIMENTS = [
    Experiment("07-agreement", run_agreement, _agreement, _recipes),
    Experiment("07-labels", run_agreement, _labels, _recipes),
    Experiment("07-twins", run_depth, _twins, _recipes, worth=9.44),
    Experiment("07-all-images", run_depth, _all_images, _recipes, worth=9.48),
    Experiment(
        "07-metric",
        on_cpu(run_metric),
        same_grid([Metric(0, points=120)], [Metric(seed) for seed in range(10)]),
    ),
    Experiment("07-speed", run_speed, _speed),
]
