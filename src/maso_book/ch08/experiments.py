"""Chapter 08, augmentation as a Hessian penalty: which runs there are.

Networks trained one way or another (`maso_book.ch08.arms`): on CIFAR-10, on CIFAR-100, and with explicit penalties;
the size of the input alone (`crops`); the identity of the Taylor terms (`taylor`); what a step costs (`cost`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from maso_book.ch08.arms import Arm, run_arm
from maso_book.ch08.cost import Cost, run_cost
from maso_book.ch08.crops import Crop, run_crop
from maso_book.ch08.taylor import Identity, run_identity
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.trained import Recipe
from maso_book.training import Training

SEEDS = range(5)
QUICK_SEEDS = range(2)

PIXEL_NOISE, AUGMENTATION_NOISE = 0.087, 0.28
"""Noise that moves an image as far in the mean as a shift by one pixel (4.8), and as far as the augmentation (15.6)."""

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "augmented": {"augment": True},
    "noise, a pixel": {"noise": PIXEL_NOISE},
    "noise, augmentation": {"noise": AUGMENTATION_NOISE},
    "none, squared": {"loss": "squared"},
    "augmented, squared": {"loss": "squared", "augment": True},
}
PENALISED: dict[str, dict[str, Any]] = {
    "rugosity, weak": {"penalty": "rugosity", "strength": 0.003},
    "rugosity, strong": {"penalty": "rugosity", "strength": 0.03},
    "relative, weak": {"penalty": "relative_rugosity", "strength": 0.1},
    "relative, strong": {"penalty": "relative_rugosity", "strength": 1.0},
    "TangentProp": {"penalty": "tangent_prop", "strength": 0.1},
}

_QUICK: dict[str, Any] = {
    "dataset": "digits", "samples": 150, "epochs": 2, "keep": (0, 1), "points": 4, "images": 1,
}  # fmt: skip
_CIFAR100: dict[str, Any] = {"dataset": "cifar100", "projections": 8}
_RESNET: dict[str, Any] = {"network": "small_resnet", "epochs": 16, "keep": (0, 1, 2, 4, 6, 9, 12)}


def _arm(seed: int, way: str, **settings: Any) -> Arm:
    pictured = seed == 0 and way in ("none", "augmented")
    return Arm(seed, way, **({"pictures": 4 if pictured else 0} | {**WAYS, **PENALISED}[way] | settings))


def _cifar10() -> list[Any]:
    return [_arm(seed, way) for seed, way in product(SEEDS, WAYS)]


def _cifar100() -> list[Any]:
    cells = []
    for seed in SEEDS:
        cells += [_arm(seed, way, **_CIFAR100, **_RESNET) for way in ("none", "augmented", "noise, a pixel")]
        cells += [_arm(seed, way, **_CIFAR100) for way in ("none", "augmented")]
    return [replace(cell, pictures=0) for cell in cells]


def _quick(*ways: str, seeds: Iterable[int] = QUICK_SEEDS, **settings: Any) -> list[Any]:
    cells = [_arm(seed, way, **_QUICK, **settings) for seed, way in product(seeds, ways)]
    return [replace(cell, pictures=min(cell.pictures, 2)) for cell in cells]


def _on_gpu(quick: list[Any], full: list[Any]) -> Callable[[str], list[Any]]:
    """No cells for a CPU: the book shows the records of a GPU, or that there are none."""
    return lambda profile: {"quick": quick, "paper": [], "full": full}[profile]


def _like(config: Crop) -> list[Recipe]:
    """The network of a cell, on whole images."""
    return [Recipe(config.dataset, config.network, Training(config.epochs), samples=config.samples)]


def _recipes(config: Arm) -> list[Recipe]:
    return [config.recipe]


EXPERIMENTS = [
    Experiment("08-identity", run=on_cpu(run_identity), grid=same_grid(
        quick=[Identity(0, networks=3)], paper=[Identity(seed) for seed in SEEDS],
    )),
    Experiment("08-cifar10", run=run_arm, recipes=_recipes, worth=9.6, grid=same_grid(
        quick=_quick(*(way for way in WAYS if way != "noise, augmentation")), paper=_cifar10(),
    )),
    Experiment("08-cifar100", run=run_arm, recipes=_recipes, worth=9.2, grid=_on_gpu(
        quick=_quick("none", "augmented", seeds=(0,), network="small_resnet", projections=2),
        full=_cifar100(),
    )),
    Experiment("08-explicit", run=run_arm, recipes=_recipes, worth=9.1, grid=_on_gpu(
        quick=_quick("rugosity, strong", "relative, strong", seeds=(0,)),
        full=[_arm(seed, way) for seed, way in product(SEEDS, PENALISED)],
    )),
    Experiment("08-crops", run=run_crop, trains=_like, worth=5, grid=_on_gpu(
        quick=[Crop(seed, size, "digits", samples=250, epochs=2, points=16) for seed in (0, 1) for size in (28, 32)],
        full=[Crop(seed, size) for seed, size in product(SEEDS, (28, 32))],
    )),
    Experiment("08-cost", run=run_cost, grid=_on_gpu(
        quick=[Cost(0, batch=8, repeats=2, draws=2, dataset="digits")], full=[Cost(seed) for seed in range(3)],
    )),
    Experiment("08-cost-cpu", run=on_cpu(run_cost), grid=same_grid(
        quick=[Cost(0, batch=8, repeats=2, draws=2, dataset="digits")],
        paper=[Cost(seed, repeats=5, draws=20) for seed in range(3)],
    )),
]  # fmt: skip
