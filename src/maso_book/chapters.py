"""The chapters of the book: their numbers and words, their source notebooks, and where the copies with outputs go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import maso_book.tree
from maso.errors import MasoError
from maso_book.claims import read_yaml


@dataclass(frozen=True)
class Chapter:
    """A chapter.

    Attributes:
        number: `"01"`.
        root: the working tree.
        name: `"01-maso-proof-checks"`, its notebook's name; empty while it has none.
        title, question: as ``book/chapters.yml`` has them; empty for a notebook that is not listed there.
    """

    number: str
    root: Path
    name: str = ""
    title: str = ""
    question: str = ""

    @property
    def source(self) -> Path:
        """The source notebook."""
        return self.root / "notebooks" / f"{self.name}.ipynb"

    def output(self, parameters: Mapping[str, Any]) -> Path:
        """Where the run with these parameters goes."""
        if not parameters:
            return self.root / "book" / "chapters" / f"{self.name}.ipynb"
        profile = parameters.get("profile", "other")
        return self.root / "_build" / "chapters" / f"{self.name}-{profile}.ipynb"


def listed(root: Path) -> list[Chapter]:
    """All chapters, also those that are planned and not written, in the order of their numbers.

    Raises:
        MasoError: ``book/chapters.yml`` is no list of chapters.
    """
    about = read_yaml(root / "book" / "chapters.yml") or {}
    names = {file.stem[:2]: file.stem for file in sorted((root / "notebooks").glob("[0-9][0-9]-*.ipynb"))}
    try:
        return [Chapter(n, root, names.get(n, ""), **about.get(n, {})) for n in sorted({*about, *names})]
    except (TypeError, AttributeError) as error:
        raise MasoError(
            f'book/chapters.yml: a line is "NN": {{title: …, question: …}}, its number in quotation marks ({error}).'
        ) from error


def written(root: Path | None = None) -> list[Chapter]:
    """The chapters that have a notebook, in the order of their numbers."""
    return [chapter for chapter in listed(root or maso_book.tree.root()) if chapter.name]


def find(name: str, root: Path | None = None) -> Chapter:
    """The chapter of this number (`"01"`, `"1"`) or name (`"01-maso-proof-checks"`).

    Raises:
        MasoError: there is none; the message lists those that there are.
    """
    known = written(root)
    for candidate in known:
        if name in (candidate.name, candidate.number, candidate.number.lstrip("0")):
            return candidate
    words = ", ".join(candidate.name for candidate in known) or "none yet"
    raise MasoError(f"There is no chapter {name!r}. Chapters: {words}.")
