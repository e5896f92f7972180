"""How the claims of chapter 08 are judged from its records."""

from __future__ import annotations

from collections.abc import Mapping

from maso_book.records import Record
from maso_book.verdict import Verdict, judged


def verdicts(results: Mapping[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone."""
    return judged(results, [])
