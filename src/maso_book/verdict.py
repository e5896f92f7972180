"""A verdict on a claim, and the way from records to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from maso_book.records import Record

Outcome = Literal["holds", "holds with conditions", "does not hold", "not tested"]


@dataclass(frozen=True)
class Verdict:
    """What the records say about one claim (`"01.1"`), by its criterion, and the numbers that decided it."""

    claim: str
    outcome: Outcome
    evidence: str


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
            found.append(judge(claim, *(results[name] for name in names)))
    return found
