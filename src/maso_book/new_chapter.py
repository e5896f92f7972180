"""`maso new-chapter 12 "Dead units"`: a chapter that runs, builds and is tested, from `maso_book/template`."""

from __future__ import annotations

import re
from pathlib import Path

from maso.errors import MasoError
from maso_book import records
from maso_book.chapters import listed
from maso_book.claims import claims
from maso_book.tree import PACKAGE

TEMPLATE = PACKAGE / "template"
CODE = ("__init__.py", "experiments.py", "units.py", "verdicts.py", "figures.py")
IMPORTS = re.compile(r'(?:^ *"?from maso_book.*\n)+', re.MULTILINE)
LINES_OF_CHAPTERS = re.compile(r"(?:^ *- file: chapters/.*\n)+", re.MULTILINE)


def new_chapter(number: str, title: str, root: Path) -> list[Path]:
    """Write a chapter from the template: all of its files, or none.

    Args:
        number: two digits, `"12"`.
        title: `"Dead units"`.
        root: the working tree.

    Returns:
        The files that were written or changed.

    Raises:
        MasoError: the number or the title is none, or something of that number is there.
    """
    slug = "-".join(re.findall(r"[a-z0-9]+", title.lower()))
    if not re.fullmatch(r"\d\d", number) or number == "00":
        raise MasoError(f"{number!r} is no number of a chapter: expected two digits, 01 to 99.")
    if not slug or '"' in title or "\n" in title:
        raise MasoError(f"{title!r} is no title: expected words, without quotation marks.")

    def filled(name: str) -> str:
        text = (TEMPLATE / name).read_text(encoding="utf-8")
        for old, new in (
            ("maso_book.template", f"maso_book.ch{number}"),
            ("maso_book/template", f"maso_book/ch{number}"),
            ("chapter 00", f"chapter {number}"),
            ("Chapter 00", f"Chapter {number}"),
            ("run 00", f"run {number}"),
            ("# 00 ", f"# {number} "),
            ("00-", f"{number}-"),
            ("00.1", f"{number}.1"),
            ('"00', f'"{number}'),
            ("TITLE", title),
        ):
            text = text.replace(old, new)
        return IMPORTS.sub(lambda lines: "".join(sorted(lines[0].splitlines(keepends=True))), text)

    folder = root / "src" / "maso_book" / f"ch{number}"
    new = {folder / name: filled(name) for name in CODE}
    new[root / "tests" / f"ch{number}" / f"test_ch{number}.py"] = filled("test_template.py")
    new[root / "notebooks" / f"{number}-{slug}.ipynb"] = filled("notebook.ipynb")
    there = [folder, *(root / "notebooks").glob(f"{number}-*"), root / "tests" / f"ch{number}"]
    taken = [path for path in there if path.exists()]
    if taken:
        raise MasoError(f"Chapter {number} is there already: {taken[0]}. Choose another number.")

    book = root / "book"
    changed = {book / "_toc.yml": _with_line(book / "_toc.yml", f"- file: chapters/{number}-{slug}")}
    if not any(chapter.number == number for chapter in listed(root)):  # a planned one keeps its words
        line = f'"{number}": {{title: "{title}", question: "What is asked?"}}\n'
        changed[book / "chapters.yml"] = (book / "chapters.yml").read_text(encoding="utf-8") + line
    if not any(claim.chapter == number for claim in claims(root)):
        changed[book / "claims.yml"] = _with_claims(book / "claims.yml", number, filled("claims.yml"))
    for path, text in {**new, **changed}.items():
        records.write(path, text.encode())
    return [*new, *changed]


def _with_line(toc: Path, line: str) -> str:
    """The table of contents with one more chapter, in the order of their numbers."""
    text = toc.read_text(encoding="utf-8")
    lines = LINES_OF_CHAPTERS.search(text)
    if lines is None:
        raise MasoError(f"{toc} lists no chapters: expected lines `- file: chapters/NN-title`.")
    indent = lines[0][: lines[0].index("-")]
    return text.replace(lines[0], "".join(sorted([*lines[0].splitlines(keepends=True), f"{indent}{line}\n"])))


def _with_claims(path: Path, number: str, added: str) -> str:
    """The claims with those of one more chapter, before those of the next one."""
    text = path.read_text(encoding="utf-8")
    later = [match.start() for match in re.finditer(r"^# (\d\d) ", text, re.MULTILINE) if match[1] > number]
    if not later:
        return text + added
    return text[: later[0]] + added.lstrip("\n") + "\n" + text[later[0] :]
