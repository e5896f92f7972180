"""Chapter 03, power diagrams: what shape is a layer's code book?

Five experiments. In each the side that is believed comes from formulas written down by hand (`maso_book.ch03.hand`)
or from the corners of the exact cells alone, never from the functions of `maso.power`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maso_book.ch03.bends import Bends, Turning, run_bends, run_turning
from maso_book.ch03.cells import Laguerre, OneDiagram, run_laguerre, run_one
from maso_book.ch03.distance import Distance, ImageDistance, run_distance, run_images
from maso_book.experiment import Experiment, on_cpu, same_grid

# Grids ----------------------------------------------------------------------------------------------------------------

EPOCHS = (0, 1, 2, 5, 10, 20, 40, 80, 120)
WIDTHS = (8, 16, 32, 64)


_TABLE: list[tuple[str, Callable[[Any], Any], list[Any], list[Any]]] = [  # name, run, quick, paper
    ("03-laguerre", run_laguerre, [Laguerre(0, 1000, 5)], [Laguerre(seed, 70_000, 60) for seed in range(5)]),
    ("03-one", run_one, [OneDiagram(0, 1000, 5)], [OneDiagram(seed, 40_000, 60) for seed in range(5)]),
    ("03-bends", run_bends, [Bends(0)], [Bends(seed) for seed in range(20)]),
    (
        "03-turning",
        run_turning,
        [Turning(seed, (8, 16), 200, 60) for seed in range(2)],
        [Turning(seed, WIDTHS, 200, 500) for seed in range(10)],
    ),
    (
        "03-distance",
        run_distance,
        [Distance(seed, 40, (0, 1, 2, 5), 400) for seed in range(2)],
        [Distance(seed, 600, EPOCHS) for seed in range(10)],
    ),
    (
        "03-distance-images",
        run_images,
        [ImageDistance(seed, 10, (0, 1, 2), "digits", 300, (16, 16)) for seed in range(2)],
        [ImageDistance(seed, 100, EPOCHS[:7]) for seed in range(5)],
    ),
]
EXPERIMENTS = [Experiment(name, on_cpu(run), same_grid(quick, paper)) for name, run, quick, paper in _TABLE]
