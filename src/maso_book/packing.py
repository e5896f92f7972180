"""What a leased machine is sent: data sets as pictures, and trainings that were under way.

A data set travels as lossless WebP mosaics of 10,000 images each, half the size of the arrays; `Pillow` reads them
anywhere.  A machine that takes only so many bytes a call gets them in several calls.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import maso_book.tree
from maso.errors import MasoError
from maso_book import datasets, records, trained
from maso_book.queue import Queued, queue, timetable
from maso_book.training.checkpoint import read_arrays, write_arrays

PART, ROW = 10_000, 100
"""Images of a mosaic, and of one of its rows."""


@dataclass(frozen=True)
class Plan:
    """What is sent, call by call: folders to carry, in this order, and the cells that should be done with it."""

    commit: str | None
    minutes: float
    calls: list[str]
    cells: list[str]


def pack(folder: Path, *, minutes: float, workers: int = 1, limit: int = 50 * 2**20) -> Plan:
    """Write what the next cells of the queue need into folders `call-1`, `call-2`, …, none larger than `limit`.

    Args:
        folder: emptied first.
        minutes: how long the slot is.
        workers: processes side by side.
        limit: bytes that travel in one call, besides the tree.

    Returns:
        The plan, also written to `folder/plan.json`.

    Raises:
        MasoError: nothing is missing, or a data set is not here.
    """
    missing = queue()
    if not missing:
        raise MasoError("The queue is empty: every cell of the grids for a GPU has a record.")
    cells = [cell for cell, _, fits in timetable(missing, minutes, workers) if fits] or missing[:1]
    shutil.rmtree(folder, ignore_errors=True)
    aside = folder / "aside"
    names = dict.fromkeys(each.dataset for cell in cells for each in (*cell.recipes, *cell.trained_within))
    files = [path for name in names if name != "digits" for path in _pictures(name, aside / "data")]
    files += _trainings(cells, aside / "networks")
    calls: list[tuple[int, list[Path]]] = []
    for path in files:
        size = path.stat().st_size
        if not calls or calls[-1][0] + size > limit:
            calls.append((0, []))
        calls[-1] = (calls[-1][0] + size, [*calls[-1][1], path])
    for number, (_, paths) in enumerate(calls, start=1):
        for path in paths:
            target = folder / f"call-{number}" / path.relative_to(aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    shutil.rmtree(aside, ignore_errors=True)
    commit = records.git_commit()
    if commit and calls:
        records.write(folder / "call-1" / "commit", commit.encode())
    plan = Plan(commit, minutes, [f"call-{n}" for n in range(1, len(calls) + 1)], [cell.name for cell in cells])
    records.write(folder / "plan.json", json.dumps(dataclasses.asdict(plan), indent=1).encode())
    return plan


def unpack(folders: Iterable[Path]) -> None:
    """Put what `pack` wrote where it belongs, once all of it is there: data sets, unfinished trainings, the commit.

    Raises:
        MasoError: a part of a data set has not come.
    """
    root = maso_book.tree.root()
    parts: dict[str, list[Path]] = {}
    for folder in folders:
        for path in sorted((folder / "data").glob("*")):
            parts.setdefault(path.name.partition("-")[0], []).append(path)
        if (folder / "commit").is_file():
            records.write(root / "_build" / "lease" / "commit", (folder / "commit").read_bytes())
        if (folder / "networks").is_dir():
            shutil.copytree(folder / "networks", root / "_build" / "networks", dirs_exist_ok=True)
    for name, paths in parts.items():
        target = datasets.data_directory() / f"{name}.npz"
        if not target.is_file():
            write_arrays(target, _arrays(name, paths))


def _pictures(name: str, folder: Path) -> list[Path]:
    """The parts of a data set, labels first."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = datasets.load(name)
    labels = folder / f"{name}-labels.npz"
    write_arrays(labels, {"y_train": whole.y_train, "y_test": whole.y_test})
    made = [labels]
    for split, images in (("train", whole.x_train), ("test", whole.x_test)):
        for number, start in enumerate(range(0, len(images), PART)):
            path = folder / f"{name}-{split}-{number}.webp"
            mosaic(images[start : start + PART]).save(path, lossless=True, quality=30, method=0)
            made.append(path)
    return made


def mosaic(images: np.ndarray) -> Image.Image:
    """Images (N, height, width, channels) uint8 as one picture, in rows of `ROW`."""
    n, height, width, _ = images.shape
    rows = -(-n // ROW)
    whole = np.zeros((rows * ROW, height, width, 3), np.uint8)
    whole[:n] = images  # one channel fills all three
    return Image.fromarray(
        whole.reshape(rows, ROW, height, width, 3).swapaxes(1, 2).reshape(rows * height, ROW * width, 3)
    )


def tiles(picture: Image.Image, n: int, shape: Sequence[int]) -> np.ndarray:
    """The n images of a mosaic, each of shape (height, width, channels)."""
    height, width, channels = shape
    pixels = np.asarray(picture.convert("RGB"))
    rows = pixels.shape[0] // height
    images = pixels.reshape(rows, height, ROW, width, 3).swapaxes(1, 2).reshape(rows * ROW, height, width, 3)
    return np.ascontiguousarray(images[:n, ..., :channels])


def _arrays(name: str, paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """The arrays of a data set from all of its parts."""
    found = {path.name: path for path in paths}
    labels = found.get(f"{name}-labels.npz")
    if labels is None:
        raise MasoError(f"The labels of {name} have not come: carry every folder of the plan.")
    arrays = read_arrays(labels)
    grey = name in ("mnist", "fashion_mnist")
    side = 28 if grey else 32
    for split in ("train", "test"):
        total, images = len(arrays[f"y_{split}"]), []
        for number, start in enumerate(range(0, total, PART)):
            part = found.get(f"{name}-{split}-{number}.webp")
            if part is None:
                raise MasoError(f"Part {number} of {name}, {split}, has not come: carry every folder of the plan.")
            with Image.open(part) as picture:
                images.append(tiles(picture, min(PART, total - start), (side, side, 1 if grey else 3)))
        arrays[f"x_{split}"] = np.concatenate(images)
    return arrays


def _trainings(cells: Sequence[Queued], folder: Path) -> list[Path]:
    """Copies of the networks that serve these cells and are in files here, finished or under way."""
    homes = {home for cell in cells for recipe in cell.recipes for home in trained.files_of(recipe)}
    made = []
    for home in sorted(homes):
        for path in sorted(home.glob("*.*")):
            target = folder / home.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            made.append(target)
    return made
