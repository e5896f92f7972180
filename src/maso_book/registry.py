"""Which experiments there are: those of the chapters' folders, and the front page's."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from maso.errors import MasoError
from maso_book.experiment import Experiment

HOME = Path(__file__).parent


def module_of(chapter: str, room: str) -> ModuleType | None:
    """A module of a chapter's folder, `maso_book.chNN.<room>`; None while the chapter has no folder.

    Args:
        chapter: `"01"`.
        room: `"experiments"` or `"verdicts"`: what every chapter's folder has.

    Raises:
        MasoError: the folder is there, and the module is not.
    """
    folder = HOME / f"ch{chapter}"
    if not folder.is_dir():
        return None
    if not (folder / f"{room}.py").is_file():
        raise MasoError(f"{folder} has no {room}.py: every chapter's folder has experiments.py and verdicts.py.")
    return importlib.import_module(f"maso_book.ch{chapter}.{room}")


@cache
def registry() -> dict[str, Experiment]:
    """Every experiment by name: the `EXPERIMENTS` of each chapter and of the front page.

    Raises:
        MasoError: a chapter's folder has no experiments, or two experiments have the same name.
    """
    from maso_book.front import experiments as front

    chapters = sorted(folder.name.removeprefix("ch") for folder in HOME.glob("ch[0-9][0-9]"))
    found = [*front.EXPERIMENTS, *(e for number in chapters for e in module_of(number, "experiments").EXPERIMENTS)]  # type: ignore[union-attr]
    names = [experiment.name for experiment in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MasoError(f"Two experiments have the name {', '.join(twice)}: rename one of them, and its records.")
    return dict(zip(names, found, strict=True))


def named(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        MasoError: there is none; the message lists those that there are.
    """
    known = registry()
    if name not in known:
        raise MasoError(f"There is no experiment {name!r}. There are: {', '.join(sorted(known)) or 'none yet'}.")
    return known[name]


def of_chapter(chapter: str) -> list[Experiment]:
    """The experiments of a chapter (`"01"`), none where it has none."""
    return [experiment for experiment in registry().values() if experiment.chapter == chapter]
