"""Chapters run whole or say where they stopped; reruns are byte-identical; freshness follows contents."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
import toy

from maso import MasoError
from maso_book import chapters, records, runner

GOOD = [
    toy.CHECK,
    "import os, sys, time\nprint(profile, seeds)\nprint(os.getcwd(), file=sys.stderr)\nobject()",
    "from tqdm import tqdm\nfor _ in tqdm(range(2)): time.sleep(0.01)",
]
BAD = ["print('before')", "1 / 0", "print('after')"]


def texts(path: Path) -> str:
    return "".join(json.dumps(cell.get("outputs", "")) for cell in nbformat.read(path, as_version=4).cells)


def test_a_chapter_runs_to_the_same_bytes_without_times_and_paths(tmp_path: Path) -> None:
    chapter = chapters.find("1", toy.tree(tmp_path, n01_good=GOOD))
    assert not runner.is_fresh(chapter)
    output = runner.run(chapter)
    assert output == tmp_path / "book" / "chapters" / "01-good.ipynb"
    assert runner.is_fresh(chapter)
    first = output.read_bytes()
    assert "paper None" in texts(output)
    for trace in (str(tmp_path), "papermill", "start_time", "iopub", "it/s"):
        assert trace not in first.decode()
    runner.run(chapter)
    assert output.read_bytes() == first

    os.utime(chapter.source)  # modification times play no part
    assert runner.is_fresh(chapter)
    output.write_bytes(first + b" ")
    assert not runner.is_fresh(chapter)  # the copy is not as the run left it

    quick = runner.run(chapter, {"profile": "quick", "seeds": [1, 2]})
    assert quick == tmp_path / "_build" / "chapters" / "01-good-quick.ipynb"
    assert "quick [1, 2]" in texts(quick)
    assert output.read_bytes() == first + b" "
    again = quick.read_bytes()
    assert runner.run(chapter, {"profile": "quick", "seeds": [1, 2]}).read_bytes() == again


def test_streams_lose_progress_bars_and_the_accident_of_their_pieces() -> None:
    def stream(name: str, text: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_output("stream", name=name, text=text)

    picture = nbformat.v4.new_output("display_data", data={"text/plain": "picture"})
    outputs = [
        stream("stderr", "warned\n\r  0%|  | 0/2"),
        stream("stdout", "a"),
        stream("stderr", "\r100%|##| 2/2"),
        stream("stderr", "\n"),
        stream("stdout", "b\n"),
        picture,
        stream("stderr", "\n"),
    ]
    assert runner._merged(outputs) == [stream("stdout", "ab\n"), stream("stderr", "warned\n"), picture]


def test_a_failing_chapter_keeps_its_traceback_and_is_not_fresh(tmp_path: Path) -> None:
    chapter = chapters.find("02-bad", toy.tree(tmp_path, n02_bad=BAD))
    with pytest.raises(MasoError, match="Chapter 02 failed: code cell 3: ZeroDivisionError"):
        runner.run(chapter)
    output = texts(chapter.output({}))
    assert "before" in output
    assert "ZeroDivisionError" in output
    assert "after" not in output
    assert not runner.is_fresh(chapter)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("ending", "said"),
    [("raise SystemExit", "SystemExit"), ("import os; os.kill(os.getpid(), 9)", "the kernel stopped in it")],
)
def test_a_chapter_that_stops_early_has_failed(ending: str, said: str, tmp_path: Path) -> None:
    chapter = chapters.find("3", toy.tree(tmp_path, n03_stops=["print('before')", ending, "print('after')"]))
    with pytest.raises(MasoError, match=f"Chapter 03 failed: code cell 3: {said}"):
        runner.run(chapter)
    cells = nbformat.read(chapter.output({}), as_version=4).cells
    errors = [number for number, cell in enumerate(cells, start=1) if any("ename" in o for o in cell.outputs)]
    assert errors == [3]
    assert "after" not in texts(chapter.output({}))


def test_papermill_kernel_and_folder_end_with_a_killed_run(tmp_path: Path) -> None:
    said = "import os; print(os.getpid(), os.getppid(), os.environ['TMPDIR'], file=open('kernel', 'w'))"
    root = toy.tree(tmp_path, n01_slow=[said, "import time\ntime.sleep(60)"])
    command = [sys.executable, "-m", "maso", "run", "01"]
    running = subprocess.Popen(command, env=os.environ | {"MASO_ROOT": str(root)}, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60

    def wait_for(seen: Callable[[], bool]) -> None:
        while not seen():
            assert time.monotonic() < until
            time.sleep(0.05)

    wait_for(lambda: len((root / "kernel").read_text().split()) == 3 if (root / "kernel").is_file() else False)
    running.kill()
    running.wait()
    kernel, papermill, folder = (root / "kernel").read_text().split()
    wait_for(lambda: not any(alive(int(number)) for number in (kernel, papermill)))
    wait_for(lambda: not Path(folder).exists())


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_two_runs_of_a_chapter_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chapter = chapters.find("1", toy.tree(tmp_path, n01_good=[]))
    asked: list[Path] = []

    @contextlib.contextmanager
    def watched(path: Path) -> Iterator[bool]:
        asked.append(path)
        yield True

    monkeypatch.setattr(runner, "locked", watched)
    monkeypatch.setattr(runner, "_run", lambda which, changed, target: target)
    runner.run(chapter)
    runner.run(chapter, {"profile": "quick"})
    assert asked == [tmp_path / "_build" / "locks" / "01-good"]


def test_unknown_parameters_and_profiles_are_refused_before_the_run(tmp_path: Path) -> None:
    chapter = chapters.find("1", toy.tree(tmp_path, n01_good=GOOD))
    with pytest.raises(MasoError, match=r"no parameter profil. Parameters: profile, dataset, seeds, device, recompute"):
        runner.run(chapter, {"profil": "quick"})
    with pytest.raises(MasoError, match=r"no profile 'fast'. Profiles: quick, paper, full"):
        runner.run(chapter, {"profile": "fast"})
    with pytest.raises(MasoError, match=r"no chapter '7'. Chapters: 01-good"):
        chapters.find("7", tmp_path)
    assert not (tmp_path / "_build").exists()
    assert not (tmp_path / "book" / "chapters").exists()


def test_a_full_disk_keeps_the_older_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chapter = chapters.find("1", toy.tree(tmp_path, n01_good=["print(1)"]))
    before = runner.run(chapter).read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MasoError, match="disk is full"):
        runner.run(chapter)
    assert chapter.output({}).read_bytes() == before
    assert not list((tmp_path / "book").rglob("*.tmp"))


def test_the_digest_follows_notebook_records_claims_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chapter = chapters.find("1", toy.tree(tmp_path, n01_good=["import maso.spline"]))
    seen = [runner.digest(chapter)]

    def changed() -> bool:
        seen.append(runner.digest(chapter))
        return seen[-1] != seen[-2]

    assert not changed()
    toy.write_notebook(chapter.source, ["import maso.spline", "1"])
    assert changed()
    record = records.save("01-powers", {"seed": 0}, {}, {}, toy.MADE, root=tmp_path / "results")
    assert changed()
    assert record.path is not None
    record.path.write_text(record.path.read_text() + " ")
    assert changed()
    records.save("02-other", {"seed": 0}, {}, {}, toy.MADE, root=tmp_path / "results")
    assert not changed()
    claims = tmp_path / "book" / "claims.yml"
    about = "kind: theorem, statement: A., criterion: B., source: []"
    claims.write_text(f"[{{id: '02.1', chapter: '02', {about}}}]")
    assert not changed()  # another chapter's
    claims.write_text(f"[{{id: '01.1', chapter: '01', {about}}}]")
    assert changed()
    assert runner.digest(chapter, {"seeds": 1}) != seen[-1]
    toy.write_notebook(chapter.source, ["import maso.spline", "maso.spline.MASO"])
    assert changed()


@pytest.mark.parametrize("cell", ["profile = open('x')", "import os"])
def test_a_parameters_cell_holds_constants(cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "PARAMETERS", cell)
    with pytest.raises(MasoError, match="expected name = constant"):
        runner.defaults(chapters.find("1", toy.tree(tmp_path, n01_good=[])))


def test_a_broken_notebook_is_named(tmp_path: Path) -> None:
    chapter = chapters.Chapter("01", toy.tree(tmp_path), "01-good")
    chapter.source.write_text("{")
    with pytest.raises(MasoError, match=r"01-good.ipynb cannot be read"):
        runner.run(chapter)
