"""A verdict on a claim, and the way from records to verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from maso_book.records import DEVICES, Record, trained_elsewhere
from maso_book.statistics import Interval

Outcome = Literal[
    "holds",
    "holds in part",
    "holds with conditions",
    "too small to matter",
    "does not hold",
    "not decided",
    "not tested",
]
"""`holds with conditions` is that of chapters judged before there was `holds in part`, until they are judged anew."""


@dataclass(frozen=True)
class Verdict:
    """What the records say about one claim, by its criterion.

    Attributes:
        claim: `"01.1"`.
        outcome: one of `Outcome`.
        evidence: the numbers that decided it, in sentences.
        effect: the deciding effect in a few words: `"ρ = 0.81 [0.79, 0.83]"`.
        part: of an outcome "holds in part", which part.
        scale: how large the run was, in a few words; `judged` says it.
        finding: one sentence with its numbers for the front page, of the few claims that belong there.
    """

    claim: str
    outcome: Outcome
    evidence: str
    effect: str = ""
    part: str = ""
    scale: str = ""
    finding: str = ""


def outcome_of(effect: Interval, *, least: float) -> Outcome:
    """The outcome for an effect that is claimed to be positive.

    Args:
        effect: its mean and interval over seeds.
        least: the smallest effect of interest.

    Returns:
        "holds" where the interval lies above 0 and the mean is at least `least`; "too small to matter" where the whole
        interval lies within ±`least`; "does not hold" where it lies below `least`; else, and where the interval has no
        width, "not decided".
    """
    if effect.low == effect.high:
        return "not decided"
    if effect.low > 0 and effect.mean >= least:
        return "holds"
    if -least < effect.low and effect.high < least:
        return "too small to matter"
    return "does not hold" if effect.high < least else "not decided"


Judge = tuple[str, Callable[..., Verdict], Sequence[str]]
"""A claim, the function (claim, records of each experiment) → verdict, and the experiments it needs."""


def judged(results: Mapping[str, list[Record]], judges: Sequence[Judge]) -> list[Verdict]:
    """The verdicts in the order of the judges; "not tested" where an experiment has no records."""
    found = []
    for claim, judge, names in judges:
        missing = [name for name in names if not results.get(name)]
        if missing:
            found.append(Verdict(claim, "not tested", f"No record of {', '.join(missing)}."))
        else:
            verdict = judge(claim, *(results[name] for name in names))
            used = [record for name in names for record in results[name]]
            found.append(dataclasses.replace(verdict, scale=verdict.scale or scale(used)))
    return found


def scale(records: Iterable[Record]) -> str:
    """Seeds, training images, epochs and device of these runs in a few words.

    Example:
        >>> config = {"seed": 0, "dataset": "mnist", "samples": 5000, "epochs": 8}
        >>> scale([Record("01-x", config, {}, {}, {"device": "cpu"}, "")])
        '1 seed · 5,000 images · 8 epochs · CPU'
    """
    runs = list(records)
    seeds = len({run.config["seed"] for run in runs if "seed" in run.config})
    samples = [run.config["samples"] for run in runs if "dataset" in run.config and "samples" in run.config]
    epochs = [_last(run.config["epochs"]) for run in runs if "epochs" in run.config]
    devices = sorted({_device(run.provenance) for run in runs})
    some = [number for number in samples if number is not None]
    images = f"{min(some):,} to all images" if some else "all images"
    words = [
        _count(seeds, "seed"),
        images if None in samples else _range(samples, "image"),
        _range(epochs, "epoch"),
        ", ".join(devices),
    ]
    return " · ".join(filter(None, words))


def _device(made: Mapping[str, Any]) -> str:
    elsewhere = trained_elsewhere(made)
    return (elsewhere and f"trained on a {elsewhere} and measured on a ") + DEVICES[made["device"]]


def _last(epochs: Any) -> int:
    """The last of the epochs looked at, or the number of them."""
    return max(epochs) if isinstance(epochs, list | tuple) else int(epochs)


def _range(numbers: Sequence[int], noun: str) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return _count(low, noun) if low == high else f"{low:,} to {_count(high, noun)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
