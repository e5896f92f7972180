"""Experiments: what the chapters measure, one module `chNN` per chapter, and the one function that gets its records.

An experiment is a grid of cells; a cell is a configuration (a frozen dataclass with at least `seed`), and running it
gives numbers and small arrays. `results` reads what is recorded and runs what is not, as the profile says:

- `paper`: records are read; a missing one is run live, and a visible line says so;
- `quick`: a small grid, everything live, nothing written;
- `full`: what is missing is run and each record written as it is finished, so a killed run resumes.

An experiment has a grid for each: `grid("quick")`, `grid("paper")` for a CPU, and `grid("full")`, the papers' sizes,
for a GPU. The profile `full` runs the grid of its device (`grid_of`); the profile `paper` shows the records of the
GPU's grid where all of them are there, else those of the CPU's (`shown`).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import sys
import time
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from maso import meaning, records
from maso.errors import MasoError
from maso.records import Record

if TYPE_CHECKING:
    from maso.experiments.trained import Recipe

PROFILES = ("quick", "paper", "full")
PARAMETERS = ("profile", "dataset", "seeds", "device", "recompute")

Outcome = Literal["holds", "holds with conditions", "does not hold", "not tested"]


@dataclass(frozen=True)
class Verdict:
    """What the records say about one claim (`"01.1"`), by its criterion, and the numbers that decided it."""

    claim: str
    outcome: Outcome
    evidence: str


@dataclass(frozen=True)
class Experiment:
    """One experiment of a chapter.

    Args:
        name: `"01-rates"`: its folder in `results/`; the part before the dash is the chapter.
        run: configuration → (metrics with a JSON form, arrays). It seeds itself with `config.seed` and works on
            `torch.get_default_device()`. Metrics and arrays whose name ends in `seconds` are timings: `verify` does
            not compare them. It is defined by `def` at the top of a module: records of older code are known by it.
        grid: profile → configurations: frozen dataclasses with at least `seed: int`; see the module's text.
        recipes: configuration → the networks that `run` asks of `maso.experiments.trained`. They are trained before
            it, together with those of the cells to come where that is faster, and not counted in its seconds.
    """

    name: str
    run: Callable[[Any], tuple[dict[str, Any], dict[str, np.ndarray]]]
    grid: Callable[[str], list[Any]]
    recipes: Callable[[Any], list[Recipe]] | None = None

    @property
    def chapter(self) -> str:
        """Number of its chapter, two digits."""
        return self.name.partition("-")[0]

    def code(self, config: Any) -> str | None:
        """Digest of the code that a cell runs, `maso.meaning.digest`; None for a reader's own function.

        Args:
            config: a configuration, or that of a record.
        """
        run = inspect.unwrap(self.run)
        if run.__module__.partition(".")[0] not in meaning.PACKAGES:
            return None
        return meaning.digest(f"{run.__module__}.{run.__qualname__}", config=records.as_dict(config))


# The registry -------------------------------------------------------------------------------------------------------


@cache
def registry() -> dict[str, Experiment]:
    """Every experiment by name: the `EXPERIMENTS` of the modules `ch01`, `ch02`, … of this package."""
    modules = sorted(file.stem for file in Path(__file__).parent.glob("ch[0-9][0-9].py"))
    found = [e for name in modules for e in importlib.import_module(f"{__name__}.{name}").EXPERIMENTS]
    return {experiment.name: experiment for experiment in found}


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


# What was asked for -------------------------------------------------------------------------------------------------


def check_profile(profile: object) -> None:
    """Refuse an unknown profile.

    Raises:
        MasoError: it is none of `PROFILES`.
    """
    if profile not in PROFILES:
        raise MasoError(f"There is no profile {profile!r}. Profiles: {', '.join(PROFILES)}.")


def check_parameters(namespace: Mapping[str, object]) -> None:
    """Refuse unknown parameters and profiles: the first call of a notebook, `check_parameters(globals())`.

    papermill itself only warns about a parameter that the notebook does not have, so this looks at the variables
    that are there when nothing but the `parameters` cell has run.

    Raises:
        MasoError: a variable is no parameter, or the profile is unknown; the message lists the valid ones.
    """
    ignored = {"In", "Out", "exit", "quit", "get_ipython", "open"}
    unknown = [
        name
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in ignored
        and name not in PARAMETERS
        and not isinstance(value, types.ModuleType | types.FunctionType | type)
    ]
    if unknown:
        raise MasoError(f"Unknown parameter {', '.join(unknown)}. Parameters: {', '.join(PARAMETERS)}.")
    check_profile(namespace.get("profile"))
    check_device(namespace.get("device"))


def check_device(device: object) -> str:
    """The device to run on, `"cpu"` where none is asked for.

    Raises:
        MasoError: it is neither `cpu` nor `cuda`, or this machine has no such device.
    """
    if device not in (None, "cpu", "cuda"):
        raise MasoError(f"There is no device {device!r}. Devices: cpu, cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise MasoError(
            "This machine has no CUDA device that this torch can use. Leave `device` out to run on the CPU."
        )
    return device or "cpu"


def cells(
    experiment: Experiment, profile: str, *, dataset: str | None = None, seeds: int | Sequence[int] | None = None
) -> list[Any]:
    """The configurations of one profile, without repetition, in the order of the grid.

    Args:
        experiment: whose grid.
        profile: `"quick"`, `"paper"` or `"full"`.
        dataset: replaces the configurations' field `dataset`.
        seeds: replaces `seed`: a number n for the seeds 0 … n − 1, or the seeds themselves.

    Raises:
        MasoError: an unknown profile or data set, or the configurations have no such field.
    """
    check_profile(profile)
    configs = experiment.grid(profile)
    if dataset is not None:
        configs = [_replace(experiment, config, dataset=_known_dataset(dataset)) for config in configs]
    if seeds is not None:
        chosen = range(seeds) if isinstance(seeds, int) else seeds
        if not isinstance(chosen, Sequence) or not chosen or not all(isinstance(seed, int) for seed in chosen):
            raise MasoError(f"seeds = {seeds!r}: expected a positive number of seeds or a list of integers.")
        configs = [_replace(experiment, config, seed=seed) for config in configs for seed in chosen]
    return list({records.content_hash(experiment.name, config): config for config in configs}.values())


def grid_of(device: str) -> str:
    """The profile whose grid this device runs for the record."""
    return "full" if device == "cuda" else "paper"


def shown(
    experiment: Experiment,
    *,
    dataset: str | None = None,
    seeds: int | Sequence[int] | None = None,
    root: Path | None = None,
) -> list[Any]:
    """The configurations whose records the book shows: the GPU's grid where it is recorded, else the CPU's.

    Args:
        experiment, dataset, seeds: as in `cells`.
        root: folder of all records.
    """
    large = cells(experiment, "full", dataset=dataset, seeds=seeds)
    if all(path_of(experiment, config, root).is_file() for config in large):
        return large
    return cells(experiment, "paper", dataset=dataset, seeds=seeds)


def path_of(experiment: Experiment, config: Any, root: Path | None = None) -> Path:
    """Where the record of this configuration is, or would be."""
    name = records.content_hash(experiment.name, config)
    return (root or records.results_folder()) / experiment.name / f"{name}.json"


def _replace(experiment: Experiment, config: Any, **change: Any) -> Any:
    fields = [field.name for field in dataclasses.fields(config)]
    if not set(change) <= set(fields):
        raise MasoError(
            f"The experiment {experiment.name} has no {', '.join(change)} to choose. Its configuration has: "
            f"{', '.join(fields)}."
        )
    return dataclasses.replace(config, **change)


def _known_dataset(name: str) -> str:
    from maso.datasets import CLASSES

    if name not in CLASSES:
        raise MasoError(f"There is no data set {name!r}. Data sets: {', '.join(CLASSES)}.")
    return name


def on_cpu(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The experiment on the processor, whatever the default device is: it is exact, or small."""

    @functools.wraps(run)
    def inner(config: Any) -> Any:
        with torch.device("cpu"):
            return run(config)

    return inner


def same_grid(quick: list[Any], paper: list[Any]) -> Callable[[str], list[Any]]:
    """The same cells for `paper` and `full`: everything runs on a laptop."""
    return lambda profile: quick if profile == "quick" else paper


# Run ----------------------------------------------------------------------------------------------------------------


def compute(
    experiment: Experiment,
    config: Any,
    *,
    device: str = "cpu",
    along: Sequence[Any] = (),
    deadline: float | None = None,
) -> Record:
    """Run one cell live; nothing is written, but the networks it trains.

    Args:
        experiment: what to run.
        config: its cell.
        device: `"cpu"` or `"cuda"`.
        along: cells that are run too: their networks may train together with this cell's.
        deadline: `time.monotonic()` by which training stops.

    Raises:
        OutOfTime: the deadline came before the networks were trained; the same call goes on from there.
    """
    networks = {}
    if experiment.recipes is not None:
        from maso.experiments import trained

        recipes = experiment.recipes(config)
        with torch.device(device):
            later = [recipe for other in along for recipe in experiment.recipes(other)]
            trained.prepare(recipes, along=later, deadline=deadline)
            networks = trained.provenance(recipes)
    started, clock = datetime.now(UTC), time.perf_counter()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device):
        metrics, arrays = experiment.run(config)
    provenance = records.provenance(
        started=started,
        seconds=time.perf_counter() - clock,
        device=device,
        code=experiment.code(config),
        dataset=_checksum(getattr(config, "dataset", None)),
    )
    asked = records.as_dict(config)
    name = records.content_hash(experiment.name, config)
    return Record(experiment.name, asked, records.plain(metrics, "metrics"), arrays, provenance | networks, name)


@cache
def _checksum(dataset: str | None) -> str | None:
    if dataset is None:
        return None
    from maso.datasets import load

    return load(dataset).checksum


def run_missing(
    experiment: Experiment,
    configs: Iterable[Any],
    *,
    device: str = "cpu",
    recompute: bool = False,
    deadline: float | None = None,
    root: Path | None = None,
) -> tuple[list[Record], int]:
    """Run the cells that have no record and write each one as it is finished; running it again resumes.

    Args:
        experiment: what to run.
        configs: its cells.
        device: `"cpu"` or `"cuda"`.
        recompute: run also the cells that have a record, and replace these.
        deadline: `time.monotonic()` at which no further cell may be under way, judged by the slowest one so far. The
            training of a cell's networks stops there, too, and the next call goes on with it.
        root: folder of all records.

    Returns:
        The records there now are, in the order of the cells, and the number of cells left for lack of time.

    Raises:
        MasoError: the records cannot be read or written. An error in a cell is raised after the cells before it
            were written.
    """
    from maso.training import OutOfTime

    folder, order = root or records.results_folder(), list(configs)
    missing = [config for config in order if recompute or not path_of(experiment, config, folder).exists()]
    done: list[Record] = []
    left, slowest = 0, 0.0
    for config in tqdm(order, desc=experiment.name, unit="cell", disable=not watched()):
        if config not in missing:
            done.append(records.load(path_of(experiment, config, folder)))
            continue
        if deadline is not None and time.monotonic() + slowest > deadline:
            left += 1
            continue
        records.check_writable(experiment.name, root=folder)
        try:
            live = compute(experiment, config, device=device, along=missing, deadline=deadline)
        except OutOfTime:
            left += 1
            continue
        slowest = max(slowest, live.provenance["seconds"])
        done.append(records.save(experiment.name, config, live.metrics, live.arrays, live.provenance, root=folder))
    return done, left


def watched() -> bool:
    """Whether somebody sees a progress bar: a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def results(
    name: str,
    profile: str = "paper",
    *,
    dataset: str | None = None,
    seeds: int | Sequence[int] | None = None,
    device: str | None = None,
    recompute: bool = False,
    root: Path | None = None,
) -> list[Record]:
    """The records of an experiment, read or run as the profile says (see the module's text).

    Args:
        name: the experiment, `"01-rates"`.
        profile: `"quick"`, `"paper"` or `"full"`.
        dataset: replaces the configurations' data set.
        seeds: replaces their seeds: a number n for 0 … n − 1, or the seeds themselves.
        device: where to run what is run, `"cpu"` (the default) or `"cuda"`.
        recompute: run also what has a record. Only `full` replaces the record.
        root: folder of all records, by default `results/` of the working tree.

    Returns:
        One record for each cell, in the order of the grid.

    Raises:
        MasoError: unknown experiment, profile, data set or device, no such field to replace, or a corrupt record.
    """
    experiment = named(name)
    where = check_device(device)
    if profile == "full":
        configs = cells(experiment, grid_of(where), dataset=dataset, seeds=seeds)
        return run_missing(experiment, configs, device=where, recompute=recompute, root=root)[0]
    if profile == "paper" and not recompute:
        configs = shown(experiment, dataset=dataset, seeds=seeds, root=root)
    else:
        configs = cells(experiment, profile, dataset=dataset, seeds=seeds)
    have = [profile == "paper" and not recompute and path_of(experiment, config, root).exists() for config in configs]
    if profile == "paper" and not recompute and not all(have):
        print(
            f"{name}: {have.count(False)} of {len(have)} cells have no record and are run now, on this machine. "
            f"`python -m maso run {experiment.chapter} --profile full` records them."
        )
    return [
        records.load(path_of(experiment, config, root)) if recorded else compute(experiment, config, device=where)
        for recorded, config in zip(have, tqdm(configs, desc=name, unit="cell", disable=not watched()), strict=True)
    ]
