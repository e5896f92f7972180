"""Chapter 01, MASO proof checks: is a network really a spline?

Seven experiments. In each the side that is believed is built without the code under test: formulas written down by
hand over rationals (`maso_book.ch01.formulas`), a solver (`maso_book.ch01.solver`), and PyTorch's own forward pass
with its kinks frozen (`maso_book.ch01.frozen`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maso_book.ch01.networks import (
    FAMILIES,
    ClosedForm,
    Families,
    RealImages,
    run_closed_form,
    run_families,
    run_resnet,
)
from maso_book.ch01.rates import Rates, run_rates
from maso_book.ch01.rational import Rational, run_rational
from maso_book.ch01.refused import NotMaso, run_not_maso
from maso_book.ch01.solver import Proofs, run_proofs
from maso_book.ch01.verdicts import DRAWS, IMAGES
from maso_book.experiment import Experiment, on_cpu, same_grid

# Grids ----------------------------------------------------------------------------------------------------------------

FAST_FAMILIES = ("small_cnn", "resnet18", "squeezenet1_1")
CELLS = ((8, 16, 32, 64, 128, 256, 512), (8, 11, 16, 23, 32, 45))


_TABLE: list[tuple[str, Callable[[Any], Any], bool, list[Any], list[Any]]] = [  # name, run, on the CPU, quick, paper
    ("01-rational", run_rational, True, [Rational(0, 12)], [Rational(seed, 250) for seed in range(5)]),
    ("01-proofs", run_proofs, True, [Proofs(0, 2)], [Proofs(0, 20)]),
    (
        "01-families",
        run_families,
        False,
        [Families(0, FAST_FAMILIES, 1)],
        [Families(seed, tuple(FAMILIES), 2) for seed in range(3)],
    ),
    (
        "01-rates",
        run_rates,
        True,
        [Rates(seed, ((8, 16, 32), (8, 11, 16)), 1000) for seed in range(2)],
        [Rates(seed, CELLS, 10_000) for seed in range(10)],
    ),
    ("01-closed-form", run_closed_form, True, [ClosedForm(0)], [ClosedForm(seed) for seed in range(5)]),
    (
        "01-resnet",
        run_resnet,
        False,
        [RealImages(0, 5, "digits")],
        [RealImages(seed, IMAGES) for seed in range(DRAWS)],
    ),
    ("01-not-maso", run_not_maso, True, [NotMaso(0, 200, 17)], [NotMaso(seed, 2000, 17) for seed in range(3)]),
]
EXPERIMENTS = [
    Experiment(name, on_cpu(run) if cpu else run, same_grid(quick, paper)) for name, run, cpu, quick, paper in _TABLE
]
