"""Chapter 06, orthogonal templates: does the penalty help, and is it the orthogonality?

The shift that softmax ignores, on frames and random weights (06-frames, on the CPU); the tuning of the baseline
(06-tuning); every arm on CIFAR-10 (06-penalties) and more λ for its curve (06-strengths); squared loss, augmentation
and Fashion-MNIST (06-cases); CIFAR-100 with larger networks (06-cifar100); what a step costs (06-cost).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maso_book.ch06.cost import Cost, run_cost
from maso_book.ch06.frames import Frames, run_frames
from maso_book.ch06.penalised import NONE, Penalised, Tuning, run_penalised, run_tuning
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.trained import Recipe

SEEDS = tuple(range(10))
FIRST = SEEDS[:5]
"""The seeds that have every λ; λ is chosen by their validation accuracy."""
STRENGTHS = (0.003, 0.03, 0.1, 0.5, 2.0)
MORE_STRENGTHS = (0.01, 0.25, 1.0)
"""Between those of 06-penalties, for the curve over λ alone: λ was chosen before they were run."""
DECIDING = ("orthogonality", "quartic norm")
OTHER_STRENGTHS = {"published": (1.0,), "templates": (0.03, 1.0)}
"""The authors' form at the λ of their curves; it and the template penalty are means over C² pairs, not sums."""
TUNING_SEEDS = (100, 101, 102)
CASE_STRENGTHS = (0.03, 0.5)

CIFAR100: dict[str, Any] = {
    "dataset": "cifar100", "rates": (2e-3, 5e-3), "decays": (0.0, 0.1), "tuning_seeds": (100,), "points": 200,
}  # fmt: skip

_QUICK: dict[str, Any] = {"dataset": "digits", "samples": 150, "rates": (5e-3, 1e-2), "decays": (0.0,)}
_QUICK_CELL: dict[str, Any] = {**_QUICK, "epochs": 2, "tuning_epochs": 2, "tuning_seeds": (100,), "points": 30}


def _penalties(strengths: tuple[float, ...], first: tuple[int, ...], later: tuple[int, ...], **how: Any) -> list[Any]:
    """Every arm with every λ on the first seeds, then the chosen λ on the later ones; any prefix is of use."""
    base = Penalised(0, beside=(*first, *later), **how)
    cells = [replace(base, seed=seed, pictured=seed == 0) for seed in (*first, *later)]
    for seed in first:
        cells += _arms(base, seed, dict.fromkeys(DECIDING, strengths))
    chosen = replace(base, strength=None, strengths=strengths, strength_seeds=first)
    cells += [replace(chosen, seed=seed, penalty=penalty) for seed in later for penalty in DECIDING]
    for penalty, values in OTHER_STRENGTHS.items():
        cells += [cell for seed in first for cell in _arms(base, seed, {penalty: values})]
        chosen = replace(base, penalty=penalty, strength=values[0])
        if len(values) > 1:
            chosen = replace(chosen, strength=None, strengths=values, strength_seeds=first)
        cells += [replace(chosen, seed=seed) for seed in later]
    return cells + [replace(base, seed=seed, epochs=2 * base.epochs, beside=first) for seed in first]


def _arms(base: Penalised, seed: int, strengths: dict[str, tuple[float, ...]]) -> list[Any]:
    return [
        replace(base, seed=seed, penalty=penalty, strength=strength, pictured=seed == 0)
        for penalty, values in strengths.items()
        for strength in values
    ]


def _cases(*cases: dict[str, Any]) -> list[Any]:
    """Case after case, in each seed after seed: what is cut off is a whole case, or whole seeds of one."""
    cells = []
    for how in cases:
        base = Penalised(0, beside=FIRST, **how)
        for seed in FIRST:
            cells += [replace(base, seed=seed), *_arms(base, seed, dict.fromkeys(DECIDING, CASE_STRENGTHS))]
    return [replace(cell, pictured=False) for cell in cells]


def _main_grid(profile: str) -> list[Any]:
    if profile == "quick":
        return _penalties((0.03, 0.5), (0, 1), (2,), **_QUICK_CELL)
    return _penalties(STRENGTHS, FIRST, SEEDS[len(FIRST) :])


def _case_grid(profile: str) -> list[Any]:
    """Nothing on a CPU, where these networks take hours."""
    if profile == "quick":
        arms = (NONE, *DECIDING)
        return [
            Penalised(seed, penalty, 0.5 if penalty else 0.0, "squared", **_QUICK_CELL)
            for seed in (0, 1)
            for penalty in arms
        ]
    if profile != "full":
        return []
    return _cases(
        {"dataset": "fashion_mnist", "epochs": 10, "tuning_epochs": 10}, {"loss": "squared"}, {"augment": True}
    )


def _strength_grid(profile: str) -> list[Any]:
    """Nothing on a CPU."""
    if profile == "quick":
        return [Penalised(seed, penalty, 0.1, **_QUICK_CELL) for seed in (0, 1) for penalty in DECIDING]
    if profile != "full":
        return []
    base = Penalised(0)
    cells = [cell for seed in FIRST for cell in _arms(base, seed, dict.fromkeys(DECIDING, MORE_STRENGTHS))]
    return [replace(cell, pictured=False) for cell in cells]


def _cifar100_grid(profile: str) -> list[Any]:
    """Nothing on a CPU."""
    if profile == "quick":
        how = {**_QUICK_CELL, "network": "small_resnet"}
        return [
            Penalised(seed, penalty, 0.5 if penalty else 0.0, **how)
            for seed in (0, 1)
            for penalty in (NONE, DECIDING[0])
        ]
    if profile != "full":
        return []
    small = {**CIFAR100, "network": "small_resnet"}
    return _cases(small, {**small, "augment": True}, {**CIFAR100, "network": "large_cnn"})


def _tuning_recipes(config: Tuning) -> list[Recipe]:
    return list(config.grid().values())


def _like(config: Penalised) -> list[Recipe]:
    """The network of a cell but for its rates and its λ, which are chosen by others."""
    return [replace(config, strength=0.0).recipe]


EXPERIMENTS = [
    Experiment(
        "06-frames",
        run=on_cpu(run_frames),
        grid=same_grid(quick=[Frames(0, (3, 10), problems=10, starts=3)], paper=[Frames(0)]),
    ),
    Experiment(
        "06-tuning",
        run=run_tuning,
        grid=same_grid(
            quick=[Tuning(100, epochs=2, **_QUICK)],
            paper=[
                *(Tuning(seed) for seed in TUNING_SEEDS),
                *(Tuning(seed, "fashion_mnist", epochs=10) for seed in TUNING_SEEDS),
            ],
        ),
        recipes=_tuning_recipes,
        worth=11,
    ),
    Experiment(
        "06-penalties",
        run=run_penalised,
        grid=_main_grid,
        trains=_like,
        worth=9.5,
    ),
    Experiment(
        "06-cases",
        run=run_penalised,
        grid=_case_grid,
        trains=_like,
        worth=9.0,
    ),
    Experiment(
        "06-strengths",
        run=run_penalised,
        grid=_strength_grid,
        trains=_like,
        worth=8.0,
    ),
    Experiment(
        "06-cifar100",
        run=run_penalised,
        grid=_cifar100_grid,
        trains=_like,
        worth=7.0,
    ),
    Experiment("06-cost", run=run_cost, grid=same_grid(quick=[Cost(0, batch=32, rounds=3)], paper=[Cost(0)])),
]
