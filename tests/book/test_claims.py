"""Claims as data: what is read, and what is refused by name."""

from pathlib import Path

import pytest

from maso import MasoError
from maso_book.claims import claims

GOOD = """
- id: "01.1"
  chapter: "01"
  kind: observation
  statement: A.
  criterion: B.
  least: 1 percentage point.
  corrects: The source says C.
  history:
    - {date: 2026-11-27, criterion: D., outcome: does not hold, reason: One network was dead.}
  source: [someone]
"""


def read(tmp_path: Path, text: str) -> list:
    (tmp_path / "book").mkdir(exist_ok=True)
    (tmp_path / "book" / "claims.yml").write_text(text)
    return claims(tmp_path)


def test_a_claim_with_all_its_fields(tmp_path: Path) -> None:
    (claim,) = read(tmp_path, GOOD)
    assert (claim.id, claim.kind, claim.least) == ("01.1", "observation", "1 percentage point.")
    (earlier,) = claim.history
    assert (earlier.date, earlier.outcome) == ("2026-11-27", "does not hold")
    assert claim.source == ("someone",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  criterion: B.\n", "", r"claim '01.1': missing \['criterion'\]"),
        ("  statement: A.", "  statement: A.\n  colour: red", r"unknown \['colour'\]"),
        ("kind: observation", "kind: guess", "kind 'guess' is none of theorem, observation"),
        ("kind: observation", "kind: theorem", "a theorem has no smallest effect"),
        (", reason: One network was dead.", "", "date, criterion, outcome and reason"),
        (GOOD, "- 3", "missing"),
        (GOOD, "- {", "is not valid YAML"),
    ],
)
def test_a_wrong_claim_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(MasoError, match=message):
        read(tmp_path, GOOD.replace(old, new))


def test_no_file_no_claims(tmp_path: Path) -> None:
    assert claims(tmp_path) == []
