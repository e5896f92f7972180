"""Chapter 00, TITLE: which runs there are."""

from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.template.units import Units, run_units

EXPERIMENTS = [
    Experiment(
        "00-units",
        run=on_cpu(run_units),
        grid=same_grid(
            quick=[Units(seed, width=16, points=100) for seed in range(2)], paper=[Units(seed) for seed in range(10)]
        ),
    ),
]
