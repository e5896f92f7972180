"""How a chapter's notebook begins: one call checks its parameters, reads its records and judges its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.display import Markdown

import maso_book.tree
from maso.errors import MasoError
from maso_book import registry, results, style
from maso_book.claims import Claim, claims
from maso_book.parameters import check_parameters
from maso_book.records import Record
from maso_book.site import KINDS, badge, chip, cite, muted, words
from maso_book.tidy import as_table
from maso_book.verdict import Verdict, scale

if TYPE_CHECKING:
    import pandas as pd


FEW = 240
"""Characters of evidence that need no fold."""


@dataclass(frozen=True, eq=False, repr=False)
class Opened:
    """A chapter with its records; as the last line of a cell it shows the chapter's verdicts in one line.

    Attributes:
        number: `"05"`.
        records: experiment → its records, as the profile reads or runs them.
    """

    number: str
    records: dict[str, list[Record]]

    def __getitem__(self, experiment: str) -> list[Record]:
        """The records of an experiment."""
        if experiment not in self.records:
            raise MasoError(f"Chapter {self.number} has no experiment {experiment!r}: {', '.join(self.records)}.")
        return self.records[experiment]

    def table(self, experiment: str, of: str | None = None) -> pd.DataFrame:
        """What an experiment measured: one row a measurement, with its configuration (`maso_book.tidy.as_table`)."""
        return as_table(self[experiment], of)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on the chapter's claims, by its own rule."""
        judge = registry.module_of(self.number, "verdicts")
        if judge is None:
            raise MasoError(f"Chapter {self.number} has no folder, so no rule that judges its claims.")
        return judge.verdicts(self.records)

    @cached_property
    def claims(self) -> dict[str, Claim]:
        """The chapter's claims by their ids."""
        found = {claim.id: claim for claim in claims(maso_book.tree.root()) if claim.chapter == self.number}
        if not found:
            raise MasoError(f"There are no claims of chapter {self.number!r} in book/claims.yml.")
        return found

    def evidence(self, claim: str) -> Markdown:
        """The outcome of a claim with the numbers that decided it, folded where they are many."""
        verdict = next(v for v in self.verdicts if v.claim == claim)
        numbers = words(verdict.evidence)
        if len(numbers) <= FEW:
            return Markdown(f"{badge(verdict.outcome)} **{claim}.** {numbers}")
        fold = f"<details><summary>the numbers that decided it</summary>\n\n{numbers}\n\n</details>"
        return Markdown(f"**{claim}** {chip(verdict)}\n\n{fold}")

    def claim_box(self) -> Markdown:
        """What was found, in short, then the claims with their criteria, to stand before any code."""
        lines = [
            f"> **Claim {c.id}.** {words(c.statement)} {cite(c.source)} {KINDS[c.kind]}  \n"
            f"> *Criterion.* {words(c.criterion)}"
            + (f"  \n> *Smallest effect of interest.* {words(c.least)}" if c.least else "")
            for c in self.claims.values()
        ]
        return Markdown(self._in_short() + "\n\n" + "\n>\n".join(lines))

    def verdict_box(self) -> Markdown:
        """The verdicts, to stand at the chapter's end."""
        lines = [f"> {chip(v)}  \n> **{v.claim}** {words(self.claims[v.claim].statement)}" for v in self.verdicts]
        return Markdown("\n>\n".join(lines))

    def costs(self) -> Markdown:
        """Runs and time of each experiment with the device it ran on."""
        return Markdown(style.costs(self.records))

    def __repr__(self) -> str:
        return f"Opened({self.number!r}: {', '.join(self.records)})"

    def _repr_markdown_(self) -> str:
        return "**Verdict.** " + " · ".join(f"{v.claim} {badge(v.outcome)}" for v in self.verdicts)

    def _in_short(self) -> str:
        """Every claim with its outcome and effect, then how large the runs were and what they took."""
        lines = ['> <strong class="maso-short">In short</strong>']
        for v in self.verdicts:
            statement = words(self.claims[v.claim].statement)
            lines.append(f"> {badge(v.outcome)} {statement} {muted(v.claim, v.part, v.effect)}")
        runs = [record for records in self.records.values() for record in records]
        seconds = sum(r.provenance["seconds"] + r.provenance.get("training_seconds", 0.0) for r in runs)
        took = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:,.0f} seconds"
        lines.append(f"> {muted(f'{len(runs)} runs', scale(runs), f'{took} in all')}")
        return "  \n".join(lines)


def opened(number: str, parameters: Mapping[str, Any], *, seeds_of: Sequence[str] | None = None) -> Opened:
    """The chapter of a notebook: `chapter = opened("05", globals())`, the first call after the `parameters` cell.

    Args:
        number: of the chapter, `"05"`.
        parameters: the notebook's variables: `profile`, `dataset`, `seeds`, `device`, `recompute`.
        seeds_of: the experiments to which the parameter `seeds` applies; all where None. `dataset` applies to the
            experiments whose configuration has a field of that name.

    Raises:
        MasoError: a variable is no parameter, or as in `maso_book.results.results`.
    """
    check_parameters(parameters)
    profile, dataset, seeds = (parameters[name] for name in ("profile", "dataset", "seeds"))
    found = {}
    for experiment in registry.of_chapter(number):
        with_data = any(hasattr(config, "dataset") for config in experiment.grid(profile))
        found[experiment.name] = results.results(
            experiment.name,
            profile,
            dataset=dataset if with_data else None,
            seeds=seeds if seeds_of is None or experiment.name in seeds_of else None,
            device=parameters["device"],
            recompute=parameters["recompute"],
        )
    return Opened(number, found)
