"""Several arms judged together: each with its interval over seeds, adjusted for the number of arms, and over images."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from maso_book.statistics import Interval, bootstrap, holm, interval, p_value

SIGNIFICANT = 0.05
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Effect:
    """What one of several arms shows.

    Attributes:
        seeds: mean and 95 % interval over seeds.
        adjusted: Student's p by Holm's method for all arms.
        images: the interval of a bootstrap over seeds and images; None where no images were drawn.
    """

    seeds: Interval
    adjusted: float
    images: Interval | None = None

    @property
    def above(self) -> bool:
        """Whether it lies above 0: over seeds, adjusted for the number of arms, and over seeds and images."""
        over_images = self.images is None or self.images.sign > 0
        return self.seeds.sign > 0 and self.adjusted < SIGNIFICANT and over_images

    def counts(self, least: float) -> bool:
        """Whether it lies above 0 and its mean reaches the smallest effect of interest."""
        return self.above and self.seeds.mean >= least


def effects(
    values: Mapping[Name, Sequence[float]], images: Mapping[Name, npt.ArrayLike] | None = None, *, of: int = 0
) -> dict[Name, Effect]:
    """The effects of arms that are judged together.

    Args:
        values: arm → one value for each seed.
        images: arm → one value for each seed and image, (seeds, images), for the arms that have them; an image that has
            none with some seed (NaN) is left out.
        of: how many arms are judged together, where some are missing from `values`.
    """
    found = [p_value(of_seeds) for of_seeds in values.values()]
    adjusted = holm(found + [1.0] * (of - len(found)))[: len(found)]
    arrays = {name: np.asarray(each, np.float64) for name, each in (images or {}).items()}
    drawn = {name: bootstrap(each[:, ~np.isnan(each).any(0)]) for name, each in arrays.items()}
    return {
        name: Effect(interval(of_seeds), p, drawn.get(name))
        for (name, of_seeds), p in zip(values.items(), adjusted, strict=True)
    }


def counted(found: Mapping[Name, Effect], least: float) -> dict[Name, bool]:
    """Which arms count."""
    return {name: effect.counts(least) for name, effect in found.items()}


def of_all(flags: Collection[bool]) -> str:
    """How many are true: "3 of 6"."""
    return f"{sum(flags)} of {len(flags)}"
