"""A working tree in a temporary folder, with a toy experiment and toy notebooks: what the machinery is tested on."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from maso_book import chapters, records
from maso_book.experiment import Experiment

PARAMETERS = 'profile = "paper"\ndataset = None\nseeds = None\ndevice = None\nrecompute = False'
CHECK = "from maso_book.parameters import check_parameters\ncheck_parameters(globals())"


@dataclass(frozen=True)
class Config:
    seed: int
    power: int = 2


@dataclass(frozen=True)
class Drawn:
    seed: int
    dataset: str = "digits"


MADE = dict.fromkeys(sorted(records.MADE), None) | {"seconds": 1.0, "device": "cpu", "device_name": "Some Processor",
                                                     "start": "2026-01-31T12:00:00+00:00"}  # fmt: skip
"""A provenance."""


def measure(config: Config) -> tuple[dict, dict]:
    x = np.random.default_rng(config.seed).normal(size=5)
    return {"draws": [{"mean": float((x**config.power).mean()), "kind": "toy", "seconds": 0.1}]}, {"x": x}


def draw(config: Drawn) -> tuple[dict, dict]:
    return {"draws": [{"n": config.seed}]}, {}


def grid(profile: str) -> list[Config]:
    return [Config(seed) for seed in range({"quick": 1, "paper": 2, "full": 3}[profile])]


POWERS = Experiment("01-powers", measure, grid)


def named(name: str, **change: Any) -> Experiment:
    """The toy experiment under another name."""
    return dataclasses.replace(POWERS, name=name, **change)


def chapter(root: Path, number: str) -> chapters.Chapter:
    """A chapter of a tree."""
    return chapters.find(number, root)


def tree(folder: Path, **notebooks: list[str]) -> Path:
    """A working tree with these notebooks, each a list of code cells after the `parameters` cell."""
    (folder / "notebooks").mkdir()
    (folder / "results").mkdir()
    (folder / "book").mkdir()
    (folder / "_config.yml").touch()
    for name, cells in notebooks.items():
        write_notebook(folder / "notebooks" / f"{name.replace('_', '-').lstrip('n')}.ipynb", cells)
    return folder


def arrays(side: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Ten small images, what a data set's file holds."""
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (6, side, side, 3), dtype=np.uint8),
        "y_train": np.arange(6, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8),
        "y_test": np.arange(4, dtype=np.uint8),
    }


def write_dataset(path: Path, seed: int = 0) -> None:
    """A data set of one's own: six letters."""
    np.savez(path, classes=np.array(list("abcdef")), **arrays(seed=seed))


def write_notebook(path: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(text, id=f"c{n}") for n, text in enumerate([PARAMETERS, *cells])]
    notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, path)
