"""Chapter 02, toy partitions: what do the cells look like, and how many are there?

Five experiments on exact partitions: the authors' toy net over its epochs (`maso_book.shared.toy`), the same as an
animation, counts at equal numbers of neurons (`maso_book.ch02.counts`), slices of image classifiers
(`maso_book.ch02.slices`), and the engine itself against another algorithm on random networks
(`maso_book.ch02.random`).
"""

from __future__ import annotations

from maso_book.ch02.counts import Counts, run_counts
from maso_book.ch02.random import Random, run_random
from maso_book.ch02.slices import Slices, run_slices
from maso_book.experiment import Experiment, on_cpu, same_grid
from maso_book.shared.toy import NEW_SEEDS, Film, Toy, run_film, run_toy

# Grids ---------------------------------------------------------------------------------------------------------------


EXPERIMENTS = [
    Experiment(
        "02-toy",
        run_toy,
        same_grid(
            [Toy(seed, biases, samples=2000, epochs=(0, 1, 10)) for seed in range(2) for biases in ("zero", "uniform")],
            [
                *(Toy(seed, "zero") for seed in range(20)),
                *(Toy(seed, "uniform") for seed in range(10)),
                *(Toy(seed, "zero") for seed in NEW_SEEDS),
            ],
        ),
    ),
    Experiment("02-film", run_film, same_grid([Film(0, samples=2000, epochs=(0, 1, 5, 20))], [Film(0)])),
    Experiment(
        "02-counts",
        run_counts,
        same_grid(
            [Counts(seed, neurons=(12, 24, 48), depths=(1, 2, 3), samples=1000, epochs=(0, 5)) for seed in range(2)],
            [Counts(seed) for seed in range(10)],
        ),
    ),
    Experiment(
        "02-slices",
        run_slices,
        same_grid(
            [Slices(0, "small conv net", half=None, dataset="digits", epochs=3, batch=50)],
            [
                Slices(0, "small conv net", half=None, epochs=3),
                Slices(0, "smallCNN", half=0.002, samples=20_000),
                Slices(0, "ResNet", half=0.001, samples=10_000),
            ],
        ),
    ),
    Experiment(
        "02-random-networks",
        on_cpu(run_random),
        same_grid([Random(0, networks=12)], [Random(seed) for seed in range(40)]),
    ),
]
