"""A slot on a GPU, of any length: run what the queue holds, bring back what is done, go on another time.

`run` is what the machine executes: workers that share the queue through locks, each record written when it is
finished, everything packed again and again into a few files of limited size, so that a killed slot has lost a minute
at most.  `collect` takes these files in at home: records that are whole, trained networks, checkpoints of trainings
that were under way.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

import maso_book.tree
from maso.errors import MasoError
from maso_book import records, results, trained
from maso_book.locks import locked
from maso_book.queue import Queued, queue
from maso_book.training import OutOfTime

FILES, FILE_BYTES = 4, 15 * 2**20
"""How many files are brought back at most, and how large one of them is."""
BROKEN = 3
"""Exit code of a worker whose device answers no more: a new process takes its place."""
PACKING = 20.0
"""Seconds between two packings, and kept for the last one: of a short slot a sixth."""


def home() -> Path:
    """Where the workers of this tree keep their logs."""
    return maso_book.tree.root() / "_build" / "lease"


# Work ---------------------------------------------------------------------------------------------------------------


def work(profile: str, device: str, deadline: float, number: int) -> None:
    """Run cells of the queue until it is empty or the time is over; several processes may do so side by side.

    Args:
        profile: whose grids.
        device: "cpu" or "cuda".
        deadline: `time.monotonic()` by which to stop.
        number: of this worker; its log has it.
    """
    log = home() / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{number}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    tried: set[str] = set()
    waiting = False
    while True:
        done_one = False
        for cell in queue(profile):
            if cell.name in tried or _given_up(cell):
                continue
            if time.monotonic() > deadline:
                return
            ended = _settle(cell, device, deadline, log, wait=waiting)
            if ended is not None:
                tried.add(cell.name)
                done_one = True
                break  # look at the queue from its head again
        if not done_one:
            if waiting:
                return
            waiting = True  # what is left, others are at: wait for them, one by one


def _settle(cell: Queued, device: str, deadline: float, log: Path, *, wait: bool) -> str | None:
    """Run one cell; None where another process is at it or at one of its networks."""
    locks = maso_book.tree.root() / "_build" / "locks"
    with locked(locks / cell.name.replace("/", "-"), wait=wait) as held:
        if not held or not (wait or _free(cell, device)):
            return None
        if cell.path.is_file():
            return "there"
        started = time.monotonic()
        try:
            live = results.compute(cell.experiment, cell.config, device=device, deadline=deadline)
            records.save(cell.experiment.name, cell.config, live.tables, live.arrays, live.provenance)
            ended, problem = "recorded", ""
        except OutOfTime:
            ended, problem = "out of time", ""
        except Exception:  # the other cells go on
            ended, problem = "failed", traceback.format_exc()
            with _failure(cell).open("a") as file:
                file.write("x")
        _note(log, cell.name, ended, time.monotonic() - started, problem)
        if "CUDA error" in problem:
            sys.exit(BROKEN)
        if device == "cuda":
            torch.cuda.empty_cache()
        return ended


def _failure(cell: Queued) -> Path:
    """The file that says how often the cell failed here, a letter each time."""
    return home() / f"{cell.name.replace('/', '-')}.failed"


def _given_up(cell: Queued) -> bool:
    """Whether the cell failed twice here: once may be the fault of a neighbour on the same device."""
    file = _failure(cell)
    return file.is_file() and file.stat().st_size > 1


def _free(cell: Queued, device: str) -> bool:
    """Whether no other process trains one of the cell's networks now."""
    with torch.device(device):
        return all(trained.is_ready(recipe) or not trained.is_under_way(recipe) for recipe in cell.recipes)


def _note(log: Path, name: str, ended: str, seconds: float, problem: str) -> None:
    line = {"end": datetime.now(UTC).isoformat(timespec="seconds"), "cell": name, "ended": ended}
    with log.open("a") as file:
        file.write(json.dumps(line | {"seconds": round(seconds, 2), "problem": problem}) + "\n")


# Run ----------------------------------------------------------------------------------------------------------------


def run(out: Path, *, minutes: float, workers: int = 1, device: str = "cuda", profile: str = "full") -> int:
    """Work for so many minutes and pack what is done into `out`, again and again.

    Args:
        out: folder that the files to bring back are written to.
        minutes: how long.
        workers: processes side by side.
        device: "cpu" or "cuda".
        profile: whose grids.

    Returns:
        The number of cells recorded.
    """
    start = time.monotonic()
    pause = min(PACKING, 10 * minutes)
    deadline = start + 60 * minutes - pause
    for old in home().glob("*.failed"):
        old.unlink()
    before = {path: path.stat().st_mtime_ns for path in _records()}
    command = [sys.executable, "-m", "maso_book", "lease", "work", "--profile", profile, "--device", device]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def begin(number: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, "--deadline", str(deadline), "--number", str(number)], env=environment)

    processes = [begin(number) for number in range(workers)]
    packed = time.monotonic()
    while any(process.poll() in (None, BROKEN) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.2)
        for number, process in enumerate(processes):
            if process.poll() == BROKEN:
                processes[number] = begin(number)
        if time.monotonic() - packed > pause:
            pack_back(out, before)
            packed = time.monotonic()
    left = start + 60 * minutes - pause / 2
    for process in processes:
        try:
            process.wait(max(0.0, left - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()  # its records are whole, its trainings have checkpoints
    return pack_back(out, before)


def _records() -> list[Path]:
    return sorted(records.results_folder().glob("*/*.json"))


def pack_back(out: Path, before: dict[Path, int]) -> int:
    """Pack the records and logs that are new, then networks, small ones first, into files of limited size.

    Returns:
        The number of new records.
    """
    root = maso_book.tree.root()
    new = [path for path in _records() if before.get(path) != path.stat().st_mtime_ns]
    files = [file for path in new for file in (path, *path.parent.glob(f"{path.stem}-*.npz"))]
    files += sorted(home().glob("*.jsonl"))
    networks = root / "_build" / "networks"
    weights = [path for path in networks.glob("*/*") if path.suffix in (".npz", ".json")]
    finished: list[Path] = []
    under_way: list[Path] = []
    for path in weights:
        (finished if (path.parent / "history.npz").is_file() else under_way).append(path)
    last = [path for path in finished if path.stem in ("history", "made", _last(path.parent))]
    rest = [path for path in finished if path not in set(last)]
    out.mkdir(parents=True, exist_ok=True)
    order = [*_by_size(last), *_by_size(under_way), *_by_size(rest)]
    for number, part in enumerate(_portions(root, [*files, *order])):
        if number == FILES:
            break
        aside = out / f"part-{number}.tmp"
        aside.write_bytes(part)
        os.replace(aside, out / f"part-{number}.tar.gz")
    return len(new)


def _last(folder: Path) -> str:
    epochs = [int(path.stem) for path in folder.glob("*.npz") if path.stem.isdigit()]
    return str(max(epochs, default=0))


def _by_size(paths: Iterable[Path]) -> list[Path]:
    """The files of the smallest networks first, those of one network together."""
    sizes: dict[Path, int] = {}
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a checkpoint whose training has ended meanwhile
            sizes[path.parent] = sizes.get(path.parent, 0) + path.stat().st_size
            found.append(path)
    return sorted(found, key=lambda path: (sizes[path.parent], path))


def _portions(root: Path, files: Iterable[Path]) -> Iterator[bytes]:
    """Archives of these files in this order, none larger than `FILE_BYTES`."""
    portion: list[tuple[str, bytes]] = []
    size = 0
    for path in files:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # a checkpoint whose training has ended meanwhile
        if portion and size + len(content) > FILE_BYTES:
            yield _archive(portion)
            portion, size = [], 0
        if len(content) <= FILE_BYTES:
            portion.append((str(path.relative_to(root)), content))
            size += len(content) + 1024
    if portion:
        yield _archive(portion)


def _archive(portion: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        for name, content in portion:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


# Collect --------------------------------------------------------------------------------------------------------------


def collect(folder: Path) -> dict[str, int]:
    """Take in what `run` packed: records that are whole and new, networks and checkpoints.

    Returns:
        How many files of each kind were taken.

    Raises:
        MasoError: a file is no such archive, or records in it are not whole, which are named; all others are taken.
    """
    root = maso_book.tree.root()
    taken = {"records": 0, "networks": 0, "logs": 0}
    with tempfile.TemporaryDirectory() as aside:
        for part in sorted(folder.glob("part-*.tar.gz")):
            for name, content in _contents(part).items():
                kind = _kind(Path(name))
                if kind is None:
                    raise MasoError(f"{part} holds {name!r}, which is no record, network or log.")
                if kind != "records":
                    records.write(root / name, content)
                    taken[kind] += 1
                elif not (root / name).is_file():
                    records.write(Path(aside) / name, content)  # its arrays may be in the next part
        broken = []
        for path in sorted(Path(aside).glob("results/*/*.json")):
            try:
                records.load(path)
            except MasoError as error:
                broken.append(str(error).replace(f"{aside}/", ""))
                continue
            for file in (*path.parent.glob(f"{path.stem}-*.npz"), path):  # arrays first: a record names its own
                records.write(root / file.relative_to(aside), file.read_bytes())
            taken["records"] += 1
    if broken:
        raise MasoError(f"{len(broken)} records did not come back whole and were left out: {' '.join(broken)}")
    return taken


def _contents(part: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(part) as archive:
            return {entry.name: file.read() for entry in archive if (file := archive.extractfile(entry)) is not None}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise MasoError(f"{part} cannot be read ({error}). Bring it back again.") from error


def _kind(name: Path) -> str | None:
    """What a file of an archive is, by its place; None for what `run` does not pack."""
    if name.is_absolute() or ".." in name.parts:
        return None
    match name.parts:
        case ("results", _, file) if file.endswith((".json", ".npz")):
            return "records"
        case ("_build", "networks", _, file) if file.endswith((".json", ".npz")):
            return "networks"
        case ("_build", "lease", file) if file.endswith(".jsonl"):
            return "logs"
    return None
