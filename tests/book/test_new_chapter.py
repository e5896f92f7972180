"""`maso new-chapter` in a copy of the tree: the chapter runs, is recorded, judged, built and tested as it stands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maso import MasoError
from maso_book import chapters, claims, tree
from maso_book.new_chapter import new_chapter

ROOT = tree.root()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The parts of the tree that a chapter touches, without records."""
    for name in ("src", "notebooks", "book"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "chapters", "generated")
        )
    for name in ("_config.yml", "Snakefile", "README.md", "CITATION.cff", "pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path


def command(root: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "MASO_ROOT": str(root)}
    run = subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
def test_a_new_chapter_runs_is_recorded_judged_and_tested(copy: Path) -> None:
    printed = command(copy, "-m", "maso", "new-chapter", "12", "Dead units")
    assert "notebooks/12-dead-units.ipynb" in printed.splitlines()
    command(copy, "-m", "ruff", "check", "src/maso_book/ch12", "tests/ch12", "notebooks/12-dead-units.ipynb")
    command(copy, "-m", "pytest", "-q", "tests/ch12")
    command(copy, "-m", "maso", "run", "12", "--profile", "quick")
    command(copy, "-m", "maso", "run", "12", "--profile", "full")
    assert len(list((copy / "results" / "12-units").glob("*.json"))) == 10
    command(copy, "-m", "maso", "run", "12")
    assert (copy / "book" / "chapters" / "12-dead-units.ipynb").is_file()
    say = "from maso_book import site, tree; print(site.chapter_verdicts('12', tree.root())[0].outcome)"
    assert command(copy, "-c", say).strip() in ("holds", "too small to matter", "does not hold", "not decided")
    assert "12-units: recorded: paper 10 of 10" in command(copy, "-m", "maso", "status")


@pytest.mark.slow
def test_a_new_chapter_is_built_into_the_site(copy: Path) -> None:
    """In a tree whose other chapters are fresh: only the new one is run, and the page shows its verdict."""
    if not (ROOT / "_build" / "html").is_dir():
        pytest.skip("the book is not built: python -m maso book")
    for name in ("results", "book/chapters", "_build/state"):
        shutil.copytree(ROOT / name, copy / name, dirs_exist_ok=True)
    command(copy, "-m", "maso", "new-chapter", "12", "Dead units")
    command(copy, "-m", "maso", "run", "12", "--profile", "full")
    printed = command(copy, "-m", "maso", "book")
    assert "Running 12-dead-units\n" in printed
    page = (copy / "_build" / "html" / "chapters" / "12-dead-units.html").read_text()
    assert "maso-badge" in page
    assert "12.1" in (copy / "_build" / "html" / "claims.html").read_text()


def test_its_words_stand_where_they_belong(copy: Path) -> None:
    new_chapter("12", "Dead units", copy)
    (line,) = [chapter for chapter in chapters.listed(copy) if chapter.number == "12"]
    assert (line.title, line.name) == ("Dead units", "12-dead-units")
    assert claims.claims(copy)[-1].id == "12.1"
    toc = (copy / "book" / "_toc.yml").read_text().splitlines()
    assert toc.index("      - file: chapters/12-dead-units") == 1 + max(
        n for n, text in enumerate(toc) if "chapters/0" in text
    )
    for path in [*(copy / "src/maso_book/ch12").iterdir(), *(copy / "notebooks").glob("12-*")]:
        assert not {"TITLE", "template", "00-", "chapter 00"} & {
            word for word in ("TITLE", "template", "00-", "chapter 00") if word in path.read_text()
        }, path


def test_a_planned_chapter_keeps_its_claims(copy: Path) -> None:
    before = claims.claims(copy)
    new_chapter("10", "Recurrent networks", copy)
    assert claims.claims(copy) == before
    names = [chapter.name for chapter in chapters.written(copy)]
    assert names == sorted(names)
    assert "10-recurrent-networks" in names


@pytest.mark.parametrize(
    ("number", "title", "message"),
    [
        ("1", "A", "no number of a chapter"),
        ("00", "A", "no number of a chapter"),
        ("12", "…", "is no title"),
        ("12", 'A "b"', "is no title"),
        ("05", "Again", "is there already"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(
    number: str, title: str, message: str, copy: Path
) -> None:
    before = sorted(copy.rglob("*"))
    with pytest.raises(MasoError, match=message):
        new_chapter(number, title, copy)
    assert sorted(copy.rglob("*")) == before
