"""Leases: what is missing is run in slots of any length, and nothing is lost or run twice."""

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import leased
import numpy as np
import pytest
import toy
from PIL import Image
from torch import nn

from maso import MasoError
from maso_book import datasets, lease, packing, queue, records, registry
from maso_book.__main__ import main
from maso_book.trained import Recipe, data
from maso_book.training import Training
from maso_book.training.checkpoint import write_arrays

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "registry", lambda: {"01-cells": leased.CELLS})


def command(root: Path, *arguments: str) -> subprocess.Popen:
    """`python -m maso_book lease …` in a tree, with the toy cells for experiments."""
    site = root / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text("import leased\n\nleased.install()\n")
    paths = [str(site), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MASO_ROOT": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "maso_book", "lease", *arguments], cwd=root, env=environment)


def run(root: Path, *arguments: str) -> None:
    assert command(root, *arguments).wait() == 0


def squares(root: Path) -> dict[int, float]:
    return {
        record.config["seed"]: record.tables["weights"][0]["square"]
        for record in records.find("01-cells", root / "results")
    }


def lend(home: Path, machine: Path, tmp_path: Path, minutes: float, kill_after: float | None = None) -> int:
    """One lease: a fresh tree with what is packed at home; what it packed is taken in. How many records there are."""
    shutil.rmtree(machine, ignore_errors=True)
    machine.mkdir()
    toy.tree(machine)
    shutil.copytree(home / "results", machine / "results", dirs_exist_ok=True)
    run(home, "pack", str(tmp_path / "sent"), "--minutes", "1")
    calls = json.loads((tmp_path / "sent" / "plan.json").read_text())["calls"]
    if calls:
        run(machine, "unpack", *(str(tmp_path / "sent" / call) for call in calls))
    back = tmp_path / "back"
    shutil.rmtree(back, ignore_errors=True)
    process = command(machine, "run", str(back), "--minutes", str(minutes), "--workers", "2", "--device", "cpu")
    if kill_after is None:
        assert process.wait() == 0
    else:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(back.glob("part-*.gz")):
            time.sleep(0.05)
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for worker in _workers(machine):
            os.kill(worker, signal.SIGKILL)
    run(home, "collect", str(back))
    return len(squares(home))


def _workers(machine: Path) -> list[int]:
    """The processes that a killed lease has left behind."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(machine).encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_three_leases_one_of_them_killed_give_the_records_of_a_run_without(tmp_path: Path, monkeypatch) -> None:
    home, alone, machine = tmp_path / "home", tmp_path / "alone", tmp_path / "machine"
    for folder in (home, alone):
        folder.mkdir()
        toy.tree(folder)
    counts = [lend(home, machine, tmp_path, 0.2), lend(home, machine, tmp_path, 1.0, kill_after=0.5)]
    counts.append(lend(home, machine, tmp_path, 2.0))
    assert counts == sorted(counts)
    assert counts[-1] == 5
    run(alone, "run", str(tmp_path / "unused"), "--minutes", "2", "--workers", "2", "--device", "cpu")
    assert squares(home) == squares(alone)
    assert records.verify(home / "results") == []
    logs = (home / "_build" / "lease").glob("*.jsonl")
    lines = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    recorded = [line["cell"] for line in lines if line["ended"] == "recorded"]
    assert len(recorded) == len(set(recorded))
    monkeypatch.setenv("MASO_ROOT", str(home))
    with pytest.raises(MasoError, match="queue is empty"):
        packing.pack(tmp_path / "nothing", minutes=1)


def test_the_queue_says_what_is_missing_and_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASO_ROOT", str(toy.tree(tmp_path)))
    found = list(queue.timetable(queue.queue(), minutes=1))
    assert [cell.config.seed for cell, _, _ in found] == [0, 1, 2, 3, 4]
    assert all(0 < seconds < 60 and fits for _, seconds, fits in found)
    assert not any(fits for _, _, fits in queue.timetable(queue.queue(), minutes=0))


def test_the_queue_lists_what_is_missing_without_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(recipe: object) -> float:
        raise MasoError("Data set 'cifar10' is not here.")

    monkeypatch.setenv("MASO_ROOT", str(toy.tree(tmp_path)))
    monkeypatch.setattr(queue, "seconds", seconds)
    assert main(["queue"]) == 0
    *cells, last = capsys.readouterr().out.splitlines()
    assert len(cells) == 5
    assert last == "5 cells are missing. How long they take is not known here: Data set 'cifar10' is not here."


def test_the_limit_of_the_device_is_below_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """One linear layer by hand: two operations a multiplication, three passes, two bytes a number."""
    recipe = Recipe("digits", "small_cnn", Training(epochs=2, batch=100))
    monkeypatch.setattr(queue, "network", lambda _: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10, bias=False)))
    steps = 2 * -(-len(data(recipe).x) // 100)
    memory = 2 * queue.PASSES * (3072 + 10) * 100 / 3e12
    assert queue.floor(recipe) == pytest.approx(steps * memory)
    assert queue.floor(recipe) < queue.seconds(recipe) == pytest.approx(steps * 2 * 8 * queue.LAUNCH)
    monkeypatch.setattr(queue, "MEMORY", math.inf)
    assert queue.floor(recipe) == pytest.approx(steps * 6 * 30_720 * 100 / 800e12)


def test_a_network_of_two_cells_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASO_ROOT", str(toy.tree(tmp_path)))
    first, *_ = queue.queue()
    (_, once, _), (_, again, _) = queue.timetable([first, first], minutes=1)
    assert once > 0
    assert again == 0


@pytest.mark.parametrize("shape", [(8, 8, 3), (5, 7, 1)])
def test_images_come_back_from_a_mosaic_as_they_were(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (203, *shape), dtype=np.uint8)
    stream = io.BytesIO()
    packing.mosaic(images).save(stream, "webp", lossless=True, quality=30, method=0)
    assert (packing.tiles(Image.open(stream), 203, shape) == images).all()


def test_a_data_set_travels_in_parts_and_none_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    made = {
        f"{kind}_{split}": rng.integers(0, 10 if kind == "y" else 256, (n, *shape), dtype=np.uint8)
        for split, n in (("train", 250), ("test", 120))
        for kind, shape in (("x", (28, 28, 1)), ("y", ()))
    }
    monkeypatch.setattr(packing, "PART", 100)
    monkeypatch.setattr(datasets, "CHECKSUMS", {})
    write_arrays(tmp_path / "home" / "mnist.npz", made)
    monkeypatch.setenv("MASO_DATA", str(tmp_path / "home"))
    parts = packing._pictures("mnist", tmp_path / "call" / "data")
    assert len(parts) == 1 + 3 + 2
    monkeypatch.setenv("MASO_DATA", str(tmp_path / "there"))
    root = toy.tree(tmp_path)
    monkeypatch.setenv("MASO_ROOT", str(root))
    (tmp_path / "call" / "commit").write_text("0123abc")
    packing.unpack([tmp_path / "call"])
    assert (root / "_build" / "lease" / "commit").read_text() == "0123abc"  # the one that `records.git_commit` tells
    with np.load(tmp_path / "there" / "mnist.npz") as found:
        assert all((found[name] == value).all() for name, value in made.items())
    (tmp_path / "there" / "mnist.npz").unlink()
    parts[2].unlink()
    with pytest.raises(MasoError, match="Part 1 of mnist, train, has not come"):
        packing.unpack([tmp_path / "call"])


def test_what_comes_back_fits_into_files_of_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = toy.tree(tmp_path / "tree") if (tmp_path / "tree").mkdir() is None else tmp_path
    monkeypatch.setenv("MASO_ROOT", str(root))
    monkeypatch.setattr(lease, "FILE_BYTES", 100_000)
    rng = np.random.default_rng(0)
    records.save("01-powers", toy.Config(3), *toy.measure(toy.Config(3)), toy.MADE)
    for name, size in (("aa", 5_000), ("bb", 500), ("cc", 50_000)):
        write_arrays(root / "_build" / "networks" / name / "2.npz", {"w": rng.normal(size=size)})
        write_arrays(root / "_build" / "networks" / name / "history.npz", {"diverged": np.array(False)})
    assert lease.pack_back(tmp_path / "out", {}) == 1
    names = []
    for part in sorted((tmp_path / "out").glob("part-*")):
        assert part.stat().st_size < 110_000
        with tarfile.open(part) as archive:
            names += archive.getnames()
    assert [Path(name).suffix for name in names[:2]] == [".json", ".npz"]
    assert [Path(name).parent.name for name in names[2:] if name.endswith("2.npz")] == ["bb", "aa"]  # cc is too large


@pytest.mark.parametrize("name", ["../elsewhere.json", "src/maso/__init__.py", "/etc/passwd", "results/x.json"])
def test_an_archive_may_hold_records_networks_and_logs_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    monkeypatch.setenv("MASO_ROOT", str(toy.tree(tmp_path / "tree")))
    (tmp_path / "part-0.tar.gz").write_bytes(lease._archive([(name, b"x")]))
    with pytest.raises(MasoError, match="no record, network or log"):
        lease.collect(tmp_path)
    (tmp_path / "part-0.tar.gz").write_bytes(b"no archive")
    with pytest.raises(MasoError, match="cannot be read"):
        lease.collect(tmp_path)


def test_a_record_that_did_not_come_back_whole_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree").mkdir()
    root = toy.tree(tmp_path / "tree")
    monkeypatch.setenv("MASO_ROOT", str(root))
    for n in (3, 4):
        records.save("01-powers", toy.Config(n), *toy.measure(toy.Config(n)), toy.MADE)
    paths = sorted((root / "results" / "01-powers").glob("*.json"))
    whole, cut = [[path, *path.parent.glob(f"{path.stem}-*.npz")] for path in paths]
    sent = [(str(file.relative_to(root)), file.read_bytes()) for file in (*whole, *cut)]
    for file in (*whole, *cut):
        file.unlink()
    (tmp_path / "part-0.tar.gz").write_bytes(lease._archive(sent[:1]))  # its arrays come in the next part
    (tmp_path / "part-1.tar.gz").write_bytes(lease._archive(sent[1:-1]))
    with pytest.raises(MasoError, match=f"1 records did not come back whole.*results/01-powers/{paths[1].stem}"):
        lease.collect(tmp_path)
    assert [path.is_file() for path in paths] == [True, False]
