"""Chapter 03, power diagrams: what shape is a layer's code book?

Six experiments. In each the side that is believed comes from formulas written down by hand (`maso_book.ch03.hand`)
or from the corners of the exact cells alone, never from the functions of `maso.power`.
"""

from __future__ import annotations

from maso_book.ch03.bends import Bends, Turning, run_bends, run_turning
from maso_book.ch03.cells import Laguerre, OneDiagram, run_laguerre, run_one
from maso_book.ch03.distance import Distance, ImageDistance, run_distance, run_images
from maso_book.experiment import Experiment, on_cpu, same_grid

# Grids ----------------------------------------------------------------------------------------------------------------

EPOCHS = (0, 1, 2, 5, 10, 20, 40, 80, 120)
WIDTHS = (8, 16, 32, 64)

SEEDS = range(10)
NEW_SEEDS = range(200, 210)
"""Seeds that claim 03.4 is judged on, run after its criterion was fixed."""

EXPERIMENTS = [
    Experiment(
        "03-laguerre",
        run=on_cpu(run_laguerre),
        grid=same_grid(
            quick=[Laguerre(seed=0, points=1000, epochs=5)],
            paper=[Laguerre(seed=seed, points=70_000, epochs=60) for seed in SEEDS[:5]],
        ),
    ),
    Experiment(
        "03-one",
        run=on_cpu(run_one),
        grid=same_grid(
            quick=[OneDiagram(seed=0, points=1000, epochs=5)],
            paper=[OneDiagram(seed=seed, points=40_000, epochs=60) for seed in SEEDS[:5]],
        ),
    ),
    Experiment(
        "03-bends",
        run=on_cpu(run_bends),
        grid=same_grid(quick=[Bends(seed=0)], paper=[Bends(seed=seed) for seed in range(20)]),
    ),
    Experiment(
        "03-turning",
        run=on_cpu(run_turning),
        grid=same_grid(
            quick=[Turning(seed=seed, widths=(8, 16), samples=200, epochs=60) for seed in SEEDS[:2]],
            paper=[Turning(seed=seed, widths=WIDTHS, samples=200, epochs=500) for seed in SEEDS],
        ),
    ),
    Experiment(
        "03-distance",
        run=on_cpu(run_distance),
        grid=same_grid(
            quick=[Distance(seed=seed, points=40, epochs=(0, 1, 2, 5), samples=400) for seed in SEEDS[:2]],
            paper=[Distance(seed=seed, points=600, epochs=EPOCHS) for seed in NEW_SEEDS],
        ),
    ),
    Experiment(
        "03-distance-images",
        run=on_cpu(run_images),
        grid=same_grid(
            quick=[
                ImageDistance(seed, points=10, epochs=(0, 1, 2), dataset="digits", samples=300, widths=(16, 16))
                for seed in SEEDS[:2]
            ],
            paper=[ImageDistance(seed=seed, points=100, epochs=EPOCHS[:7]) for seed in NEW_SEEDS[:5]],
        ),
    ),
]
