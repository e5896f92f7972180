"""From records to verdicts: which records a judge needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from maso.experiments import Verdict
from maso.records import Record

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
