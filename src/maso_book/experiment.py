"""What an experiment is.

An experiment is a grid of cells; a cell is a configuration (a frozen dataclass with at least `seed`), and running it
gives numbers and small arrays. It has a grid for each profile: `grid("quick")`, small and live; `grid("paper")`, for
a CPU; and `grid("full")`, the papers' sizes, for a GPU.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maso_book import meaning, records

if TYPE_CHECKING:
    from maso_book.trained import Recipe


Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The tables that an experiment gives: name → rows, each a mapping of columns to scalars."""


@dataclass(frozen=True)
class Experiment:
    """One experiment of a chapter.

    Args:
        name: `"01-rates"`: its folder in `results/`; the part before the dash is the chapter.
        run: configuration → (tables, arrays), as `maso_book.records` has them. It seeds itself with `config.seed` and
            works on `torch.get_default_device()`. Columns and arrays whose name ends in `seconds` are timings: `verify`
            does not compare them. It is defined by `def` at the top of a module: records of older code are known by it.
        grid: profile → configurations: frozen dataclasses with at least `seed: int`; see the module's text.
        recipes: configuration → the networks that `run` asks of `maso_book.trained`. They are trained before
            it, together with those of the cells to come where that is faster, and not counted in its seconds.
        trains: configuration → networks that take as long to train as those that `run` trains within itself; the queue
            for a GPU says by them how long a cell takes.
        worth: its place in the queue for a GPU (`maso_book.queue`), larger first; 0 where it needs none.
    """

    name: str
    run: Callable[[Any], tuple[Rows, dict[str, np.ndarray]]]
    grid: Callable[[str], list[Any]]
    recipes: Callable[[Any], list[Recipe]] | None = None
    trains: Callable[[Any], list[Recipe]] | None = None
    worth: float = 0.0

    @property
    def chapter(self) -> str:
        """Number of its chapter, two digits."""
        return self.name.partition("-")[0]

    def code(self, config: Any) -> str | None:
        """Digest of the code that a cell runs, `maso_book.meaning.digest`; None for a reader's own function.

        Args:
            config: a configuration, or that of a record.
        """
        run = inspect.unwrap(self.run)
        if run.__module__.partition(".")[0] not in meaning.PACKAGES:
            return None
        return meaning.digest(f"{run.__module__}.{run.__qualname__}", config=records.as_dict(config))


def on_cpu(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The experiment on the processor, whatever the default device is: it is exact, or small."""

    @functools.wraps(run)
    def inner(config: Any) -> Any:
        with torch.device("cpu"):
            return run(config)

    return inner


def same_grid(quick: list[Any], paper: list[Any]) -> Callable[[str], list[Any]]:
    """The same cells for `paper` and `full`: everything runs on a laptop."""
    return lambda profile: quick if profile == "quick" else paper
