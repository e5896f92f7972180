"""Chapter 01, MASO proof checks: is a network really a spline?

Seven experiments. In each the side that is believed is built without the code under test: formulas written down by
hand over rationals (`maso_book.ch01.formulas`), a solver (`maso_book.ch01.solver`), and PyTorch's own forward pass
with its kinks frozen (`maso_book.ch01.frozen`).
"""

from __future__ import annotations

from maso_book.ch01.networks import (
    DRAWS,
    FAMILIES,
    IMAGES,
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
from maso_book.experiment import Experiment, on_cpu, same_grid

FAST_FAMILIES = ("small_cnn", "resnet18", "squeezenet1_1")
CELLS = ((8, 16, 32, 64, 128, 256, 512), (8, 11, 16, 23, 32, 45))

EXPERIMENTS = [
    Experiment(
        name="01-rational",
        run=on_cpu(run_rational),
        grid=same_grid(
            quick=[Rational(seed=0, cases=12)],
            paper=[Rational(seed=seed, cases=250) for seed in range(5)],
        ),
    ),
    Experiment(
        name="01-proofs",
        run=on_cpu(run_proofs),
        grid=same_grid(quick=[Proofs(seed=0, networks=2)], paper=[Proofs(seed=0, networks=20)]),
    ),
    Experiment(
        name="01-families",
        run=run_families,
        grid=same_grid(
            quick=[Families(seed=0, families=FAST_FAMILIES, images=1)],
            paper=[Families(seed=seed, families=tuple(FAMILIES), images=2) for seed in range(3)],
        ),
    ),
    Experiment(
        name="01-rates",
        run=on_cpu(run_rates),
        grid=same_grid(
            quick=[Rates(seed=seed, cells=((8, 16, 32), (8, 11, 16)), points=1000) for seed in range(2)],
            paper=[Rates(seed=seed, cells=CELLS, points=10_000) for seed in range(10)],
        ),
    ),
    Experiment(
        name="01-closed-form",
        run=on_cpu(run_closed_form),
        grid=same_grid(quick=[ClosedForm(seed=0)], paper=[ClosedForm(seed=seed) for seed in range(5)]),
    ),
    Experiment(
        name="01-resnet",
        run=run_resnet,
        grid=same_grid(
            quick=[RealImages(seed=0, images=5, dataset="digits")],
            paper=[RealImages(seed=seed, images=IMAGES) for seed in range(DRAWS)],
        ),
    ),
    Experiment(
        name="01-not-maso",
        run=on_cpu(run_not_maso),
        grid=same_grid(
            quick=[NotMaso(seed=0, points=200, halvings=17)],
            paper=[NotMaso(seed=seed, points=2000, halvings=17) for seed in range(3)],
        ),
    ),
]
