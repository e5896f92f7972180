"""How the claims of chapter 09 are judged from its records."""

from __future__ import annotations

from maso_book.records import Record
from maso_book.verdict import Verdict, judged


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone."""
    return judged(results, [])
