"""A working tree in a temporary folder, with a toy experiment and toy notebooks: what the machinery is tested on."""

from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np

from maso_book import records
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


def tree(folder: Path, **notebooks: list[str]) -> Path:
    """A working tree with these notebooks, each a list of code cells after the `parameters` cell."""
    (folder / "notebooks").mkdir()
    (folder / "results").mkdir()
    (folder / "book").mkdir()
    (folder / "_config.yml").touch()
    for name, cells in notebooks.items():
        write_notebook(folder / "notebooks" / f"{name.replace('_', '-').lstrip('n')}.ipynb", cells)
    return folder


def write_notebook(path: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(text, id=f"c{n}") for n, text in enumerate([PARAMETERS, *cells])]
    notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, path)
