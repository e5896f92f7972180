"""How the claims of chapter 00 are judged from its records."""

from __future__ import annotations

from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.tidy import as_table, enough, paired
from maso_book.verdict import Verdict, judged, outcome_of

LEAST = 0.05
"""The smallest effect of interest, as the claim has it."""


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone."""
    return judged(results, [("00.1", _judge_units, ["00-units"])])


def rise(records: list[Record]) -> Interval:
    """Share of units that are off in the last layer less that in the first, paired by seed."""
    layers = as_table(records)
    return interval(paired(layers, "off_share", by="layer", first=layers["layer"].max(), second=1))


def _judge_units(claim: str, records: list[Record]) -> Verdict:
    if not enough(as_table(records), seeds=5):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds.")

    effect = rise(records)
    evidence = f"Last layer less first layer: {effect:+.1%}."
    return Verdict(claim, outcome_of(effect, least=LEAST), evidence, effect=f"{effect:+.1%}")
