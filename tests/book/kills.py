"""Kills with signal 9, and what is left: `python kills.py FOLDER SEED recompute 100 beside 60 book 60`.

`test_kills.py` plays a few, without `book`, which takes as long as so many builds of a site.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import toy

import maso_book.__main__ as door
from maso_book import records, registry, runner, site
from maso_book.__main__ import main
from maso_book.experiment import Experiment

CELLS = 6
RUN = ("run", "77", "--profile", "full")


@dataclass(frozen=True)
class Config:
    seed: int


def measure(config: Config) -> tuple[dict, dict]:
    """Other numbers at each run, so that a record is never replaced by its like."""
    x = np.random.default_rng().normal(size=2000)
    with Path("ran").open("a") as file:
        file.write(f"{config.seed}\n")
    return {"draws": [{"n": config.seed, "first": float(x[0])}]}, {"x": x}


def forked(*arguments: str) -> int:
    """A process that runs this command, started in no time."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(arguments))
    return child


def ended(child: int) -> int:
    """Exit code, −9 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def whole(results: Path) -> int:
    """How many records there are; all of them are whole, and their arrays those that they were saved with."""
    found = records.find("77-cells", results)
    assert all(record.arrays["x"][0] == record.tables["draws"][0]["first"] for record in found)
    assert not [problem for problem in records.verify(results) if "belongs to no record" not in problem]
    return len(found)


def recompute(root: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """A run that replaces records is killed: each record is the old one or the new one."""
    assert main(RUN) == 0
    start = time.monotonic()
    assert ended(forked(*RUN, "-p", "recompute", "true")) == 0
    lasts, killed = time.monotonic() - start, 0
    while killed < kills:
        child = forked(*RUN, "-p", "recompute", "true")
        time.sleep(rng.uniform(0, lasts))
        os.kill(child, signal.SIGKILL)
        killed += ended(child) == -9
        assert whole(root / "results") == CELLS
    assert main(RUN) == 0
    assert records.verify(root / "results") == []
    return {"kills": killed}


def beside(root: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """Three processes share the cells and one is killed: the others run what it leaves, and nothing twice."""
    start = time.monotonic()
    assert ended(forked(*RUN)) == 0
    lasts, killed, runs, rounds = time.monotonic() - start, 0, 0, 0
    while killed < kills:
        shutil.rmtree(root / "results" / "77-cells")
        (root / "ran").unlink()
        first, *others = [forked(*RUN) for _ in range(3)]
        time.sleep(rng.uniform(0, lasts))
        os.kill(first, signal.SIGKILL)
        died = ended(first) == -9
        assert [ended(child) for child in others] == [0, 0]
        assert whole(root / "results") == CELLS
        ran = len((root / "ran").read_text().split())
        assert CELLS <= ran <= CELLS + died  # the cell that was under way
        killed, runs, rounds = killed + died, runs + ran, rounds + 1
    assert main(RUN) == 0
    assert records.verify(root / "results") == []
    return {"kills": killed, "cells": CELLS * rounds, "runs": runs}


def book(root: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """A build is killed, alone or with all that it started: the site and the chapter are whole, old or new."""
    html, chapter = root / "_build" / "html", root / "book" / "chapters" / "77-good.ipynb"

    def change(number: int) -> None:
        (root / "book" / "index.md").write_text(f"# Edition {number}\n\nWords.\n")
        source = root / "notebooks" / "77-good.ipynb"
        toy.write_notebook(aside := source.with_suffix(".tmp"), [f"print('edition {number} runs')"])
        notebook = nbformat.read(aside, as_version=4)
        notebook.cells.insert(0, nbformat.v4.new_markdown_cell("# Good", id="title"))
        nbformat.write(notebook, aside)
        os.replace(aside, source)  # a chapter that a killed build began may read it now

    def begin() -> subprocess.Popen:
        command = [sys.executable, "-m", "maso", "book"]
        return subprocess.Popen(command, cwd=root, start_new_session=True, stdout=subprocess.DEVNULL)

    change(0)
    start = time.monotonic()
    assert begin().wait() == 0
    lasts, killed, built = time.monotonic() - start, 0, 0
    while killed < kills:
        change(killed + 1)
        building = begin()
        time.sleep(rng.uniform(0, 1.1 * lasts))
        if building.poll() is None:
            (os.killpg if rng.random() < 0.5 else os.kill)(building.pid, signal.SIGKILL)
        code = building.wait()
        assert code in (0, -9)
        killed, built = killed + (code == -9), built + (code == 0)
        there = html if html.is_dir() else html.with_name("html.old")
        assert "Edition" in (there / "index.html").read_text()
        assert any("runs" in str(cell.get("outputs")) for cell in json.loads(chapter.read_text())["cells"])
        assert records.verify(root / "results") == []
    change(killed + 1)
    assert begin().wait() == 0
    assert f"Edition {killed + 1}" in (html / "index.html").read_text()
    return {"kills": killed, "built between": built}


def swap(root: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """A build is killed before each of its steps on files, without the programs that it calls: the site is whole."""
    html, index = root / "_build" / "html", root / "book" / "index.md"

    def called(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        pages = root / command[command.index("--path-output") + 1] / "_build" / "html"
        pages.mkdir(parents=True)
        for page in ("index.html", "last.html"):
            (pages / page).write_text(index.read_text())
        return subprocess.CompletedProcess(command, 0)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*args, **kwargs)

        return call

    left = -1
    runner.is_fresh, site.write_generated, door.subprocess.run = (lambda which: True), (lambda folder: {}), called
    os.replace, shutil.rmtree, Path.unlink = counted(os.replace), counted(shutil.rmtree), counted(Path.unlink)
    index.write_text("Edition -1")
    assert main(["book"]) == 0
    for step in range(kills):
        left = step
        index.write_text(f"Edition {step}")
        code = ended(forked("book"))
        left = -1
        there = html if html.is_dir() else html.with_name("html.old")
        editions = {(there / page).read_text() for page in ("index.html", "last.html")}
        assert editions <= {f"Edition {step - 1}", f"Edition {step}"}
        assert len(editions) == 1
        if code == 0:
            return {"kills": step}
        assert main(["book"]) == 0
        assert (html / "index.html").read_text() == f"Edition {step}"
        assert not html.with_name("html.old").exists()
    raise AssertionError(f"after {kills} steps there were more")


def prepared(root: Path) -> None:
    """A working tree of one chapter, with what the site needs."""
    toy.tree(root, n77_good=["print('runs')"])
    here = Path(__file__).parents[2]
    for name in ("_config.yml", "Snakefile"):
        shutil.copy(here / name, root)
    shutil.copytree(here / "results" / "00-front", root / "results" / "00-front")
    for name, text in {
        "_toc.yml": "format: jb-book\nroot: index\nchapters:\n- file: chapters/77-good\n",
        "chapters.yml": '"77": {title: Good, question: "Is it?"}\n',
        "claims.yml": "[]\n",
        "references.bib": "",
    }.items():
        (root / "book" / name).write_text(text)
    shutil.copytree(here / "book" / "_static", root / "book" / "_static")


if __name__ == "__main__":
    folder, random_numbers = Path(sys.argv[1]).resolve(), random.Random(int(sys.argv[2]))
    experiment = Experiment("77-cells", measure, lambda profile: [Config(seed) for seed in range(CELLS)])
    found = {}
    for kind, number in zip(sys.argv[3::2], sys.argv[4::2], strict=True):
        root = folder / kind
        root.mkdir(parents=True)
        prepared(root)
        os.environ["MASO_ROOT"] = str(root)
        os.chdir(root)
        registry.registry, registry.broken = lambda: {"77-cells": experiment}, dict
        play = {"recompute": recompute, "beside": beside, "book": book, "swap": swap}[kind]
        found[kind] = play(root, int(number), random_numbers)
    print(json.dumps(found))
