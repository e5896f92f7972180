"""The talk as data: `book/talk.yml`, read and checked. What its slides say, and what its listeners asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from maso.errors import MasoError
from maso_book.claims import read_yaml

Word = Literal["reproduced", "corrected", "extended", "not treated"]


@dataclass(frozen=True, kw_only=True)
class Slide:
    """What a slide says, and what the book does with it; texts are Markdown.

    Attributes:
        title: what it is about.
        says: its statement, in the book's words.
        word: what became of it.
        here: how; of what is not treated, why.
        slide: its number, or from which to which; "" where that is not known.
        figures: names of the figures that show it.
        claims: ids of the claims that test it.
    """

    title: str
    says: str
    word: Word
    here: str
    slide: str = ""
    figures: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a listener asked, and the answer; `figures` and `claims` as in `Slide`."""

    asked: str
    answer: str
    figures: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()


def talk(root: Path) -> tuple[list[Slide], list[Question]]:
    """The slides and the questions, in the order of the page.

    Raises:
        MasoError: ``book/talk.yml`` has an entry with a missing or unknown field, or an unknown word.
    """
    path = root / "book" / "talk.yml"
    found = read_yaml(path) or {}
    slides = [_entry(Slide, entry, path) for entry in found.get("slides", ())]
    for slide in slides:
        if slide.word not in get_args(Word):
            raise MasoError(f"{path}: {slide.title!r}: {slide.word!r} is none of {', '.join(get_args(Word))}.")
    return slides, [_entry(Question, entry, path) for entry in found.get("questions", ())]


def _entry(kind: type[Any], entry: dict[str, Any], path: Path) -> Any:
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else str(value) for key, value in entry.items()})
    except TypeError as error:
        raise MasoError(f"{path}: {entry}: {error}") from None
