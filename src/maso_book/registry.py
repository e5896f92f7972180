"""Which experiments there are: those of the chapters' folders, and the front page's.

A chapter whose code cannot be loaded costs that chapter alone: its experiments are left out here, `broken` says why,
and whoever asks for it is told so.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from maso.errors import MasoError
from maso_book.experiment import Experiment
from maso_book.parameters import PROFILES

HOME = Path(__file__).parent


def module_of(chapter: str, room: str) -> ModuleType | None:
    """A module of a chapter's folder, `maso_book.chNN.<room>`; None while the chapter has no folder.

    Args:
        chapter: `"01"`.
        room: `"experiments"` or `"verdicts"`: what every chapter's folder has.

    Raises:
        MasoError: the folder is there, and the module is not, or cannot be loaded.
    """
    folder = HOME / f"ch{chapter}"
    if not folder.is_dir():
        return None
    if not (folder / f"{room}.py").is_file():
        raise MasoError(f"{folder} has no {room}.py: every chapter's folder has experiments.py and verdicts.py.")
    with _loading(chapter, f"maso_book.ch{chapter}.{room}") as name:
        return importlib.import_module(name)


@contextlib.contextmanager
def _loading(chapter: str, module: str) -> Iterator[str]:
    """Whatever its author wrote ends as a message that names the chapter."""
    try:
        yield module
    except Exception as error:
        raise MasoError(
            f"Chapter {chapter} is broken: {module} cannot be loaded, {type(error).__name__}: {error}. "
            f"`python -c 'import {module}'` may show where."
        ) from error


def _experiments(chapter: str) -> list[Experiment]:
    """What a chapter's folder lists as `EXPERIMENTS`, all of whose grids are there.

    Raises:
        MasoError: it cannot be loaded, or a name is not of this chapter, or there twice.
    """
    module = module_of(chapter, "experiments")
    with _loading(chapter, f"maso_book.ch{chapter}.experiments"):
        found = list(module.EXPERIMENTS)  # type: ignore[union-attr]
        names = [experiment.name for experiment in found]
        for name in names:
            if not re.fullmatch(rf"{chapter}-[\w-]+", name) or names.count(name) > 1:
                raise ValueError(f'an experiment has the name {name!r}: expected "{chapter}-…", each name once')
        for experiment in found:
            for profile in PROFILES:
                experiment.grid(profile)
    return found


@cache
def _all() -> tuple[dict[str, Experiment], dict[str, MasoError]]:
    from maso_book.front import experiments as front

    found, failed = list(front.EXPERIMENTS), {}
    for chapter in sorted(folder.name.removeprefix("ch") for folder in HOME.glob("ch[0-9][0-9]")):
        try:
            found += _experiments(chapter)
        except MasoError as error:
            failed[chapter] = error
    return {experiment.name: experiment for experiment in found}, failed


def registry() -> dict[str, Experiment]:
    """Every experiment by name: the `EXPERIMENTS` of each chapter that can be loaded, and of the front page."""
    return _all()[0]


def broken() -> dict[str, MasoError]:
    """The chapters whose experiments cannot be loaded, by number, and why."""
    return _all()[1]


def named(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        MasoError: there is none, or its chapter is broken; the message lists those that there are.
    """
    known = registry()
    if name not in known:
        _whole(name.partition("-")[0])
        raise MasoError(f"There is no experiment {name!r}. There are: {', '.join(sorted(known)) or 'none yet'}.")
    return known[name]


def of_chapter(chapter: str) -> list[Experiment]:
    """The experiments of a chapter (`"01"`), none where it has none.

    Raises:
        MasoError: the chapter is broken.
    """
    _whole(chapter)
    return [experiment for experiment in registry().values() if experiment.chapter == chapter]


def _whole(chapter: str) -> None:
    if chapter in broken():
        raise broken()[chapter]
