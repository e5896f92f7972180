"""Claims and chapters as data: `book/claims.yml` and `book/chapters.yml`, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from maso.errors import MasoError

Kind = Literal["theorem", "observation"]
FIELDS = {"id", "chapter", "kind", "statement", "criterion", "least", "corrects", "history", "source"}
NEEDED = FIELDS - {"least", "corrects", "history"}


@dataclass(frozen=True)
class Earlier:
    """A criterion that a claim had before, with the verdict it gave.

    Attributes:
        date: until when, as ISO date.
        criterion: what counted as evidence then.
        outcome: the verdict by it.
        reason: why it was revised.
    """

    date: str
    criterion: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """A claim of the book.

    Attributes:
        id: "NN.k".
        chapter: "NN".
        kind: "theorem" (proved here or cited: numbers can only find an error) or "observation".
        statement: one sentence, Markdown with mathematics.
        criterion: what counts as evidence, fixed before the run.
        source: keys of ``book/references.bib``; empty for a claim of the book's own.
        least: of an observation, the smallest effect of interest with its unit, written before the run; "" where a
            chapter was judged before the book had it.
        corrects: what the source says, where the book refutes it; "" elsewhere.
        history: earlier criteria with their verdicts; a revised criterion is judged on new seeds.
    """

    id: str
    chapter: str
    kind: Kind
    statement: str
    criterion: str
    source: tuple[str, ...]
    least: str = ""
    corrects: str = ""
    history: tuple[Earlier, ...] = ()


def claims(root: Path) -> list[Claim]:
    """All claims of the book in order.

    Raises:
        MasoError: the file is no list of claims; the message names the claim and what is wrong with it.
    """
    path = root / "book" / "claims.yml"
    return [_claim(entry, path) for entry in read_yaml(path) or []]


def _claim(entry: Any, path: Path) -> Claim:
    name = f"{path}: claim {entry.get('id', '?')!r}" if isinstance(entry, dict) else f"{path}: {entry!r}"
    if not isinstance(entry, dict) or not NEEDED <= set(entry) <= FIELDS:
        given = set(entry) if isinstance(entry, dict) else set()
        missing, unknown = sorted(NEEDED - given), sorted(given - FIELDS)
        raise MasoError(f"{name}: missing {missing}, unknown {unknown}. A claim has {', '.join(sorted(FIELDS))}.")
    if entry["kind"] not in get_args(Kind):
        raise MasoError(f"{name}: kind {entry['kind']!r} is none of {', '.join(get_args(Kind))}.")
    if entry["kind"] == "theorem" and entry.get("least"):
        raise MasoError(f"{name}: a theorem has no smallest effect of interest; `least` belongs to observations.")
    try:
        history = tuple(
            Earlier(**{key: str(value) for key, value in each.items()}) for each in entry.get("history", ())
        )
    except (TypeError, AttributeError):
        raise MasoError(f"{name}: an entry of `history` has date, criterion, outcome and reason.") from None
    return Claim(**{**entry, "source": tuple(entry["source"]), "history": history})


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; None where there is none.

    Raises:
        MasoError: it is not valid YAML.
    """
    if not path.is_file():
        return None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MasoError(f"{path} is not valid YAML: {error}") from error
