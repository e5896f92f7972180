"""The one way to the records of an experiment.

`results` reads what is recorded and runs what is not, as the profile says:

- `paper`: records are read; a missing one is run live, and a visible line says so, or left out where it waits for a
  GPU (`recorded`);
- `quick`: a small grid, everything live, nothing written;
- `full`: what is missing is run and each record written as it is finished, so a killed run resumes.

The profile `full` runs the grid of its device (`grid_of`); the profile `paper` shows the records of the GPU's grid
where all of them are there, else those of the CPU's (`shown`).
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from maso.errors import MasoError
from maso_book import datasets, records, registry
from maso_book.experiment import Experiment
from maso_book.locks import locked
from maso_book.memory import keep_freed
from maso_book.parameters import check_device, check_profile, check_seeds
from maso_book.progress import watched
from maso_book.records import Record
from maso_book.tidy import as_table

if TYPE_CHECKING:
    import pandas as pd


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
        configs = [_replace(experiment, config, dataset=datasets.checked(dataset)) for config in configs]
    if seeds is not None:
        chosen = check_seeds(seeds)
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


FEWEST = 5
"""Seeds that an experiment which waits for a GPU must have whole, or of an arm, before the book shows them."""


def recorded(
    experiment: Experiment,
    *,
    dataset: str | None = None,
    seeds: int | Sequence[int] | None = None,
    root: Path | None = None,
) -> list[Any]:
    """The configurations that the book shows as far as they have a record.

    All of them, or, while an experiment waits for a GPU (it has some worth in the queue), those seeds of which every
    cell is recorded, where there are at least `FEWEST`; else those arms (cells that differ in their seed alone).

    Args:
        experiment, dataset, seeds, root: as in `shown`.
    """
    asked = shown(experiment, dataset=dataset, seeds=seeds, root=root)
    missing = [config for config in asked if not path_of(experiment, config, root).is_file()]
    if missing and not experiment.worth:
        return []
    whole = {config.seed for config in asked} - {config.seed for config in missing}
    if not missing or len(whole) >= FEWEST:
        return [config for config in asked if config.seed in whole]
    arms = {config: dataclasses.replace(config, seed=0) for config in asked}
    seeds_of, lacking = Counter(arms.values()), {arms[config] for config in missing}
    return [config for config, arm in arms.items() if arm not in lacking and seeds_of[arm] >= FEWEST]


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
    keep_freed()
    networks = {}
    if experiment.recipes is not None:
        from maso_book import trained

        recipes = experiment.recipes(config)
        with torch.device(device):
            later = [recipe for other in along for recipe in experiment.recipes(other)]
            trained.prepare(recipes, along=later, deadline=deadline)
            networks = trained.provenance(recipes)
    started, clock = datetime.now(UTC), time.perf_counter()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with torch.device(device):
        tables, arrays = experiment.run(config)
    data = getattr(config, "dataset", None)
    provenance = records.provenance(
        started=started,
        seconds=time.perf_counter() - clock,
        device=device,
        code=experiment.code(config),
        dataset=None if data is None else datasets.checksum_of(data),
    )
    asked = records.as_dict(config)
    name = records.content_hash(experiment.name, config)
    return Record(experiment.name, asked, records.tidy(tables), arrays, provenance | networks, name)


def table(name: str, of: str | None = None, profile: str = "paper", **options: Any) -> pd.DataFrame:
    """What an experiment measured, as a `pandas.DataFrame`: one row a measurement, with its configuration.

    Args:
        name: the experiment, `"05-templates"`.
        of: which of its tables; not needed where it has one.
        profile, options: as in `results`.

    Example:
        >>> table("01-rates").groupby("target")["largest"].min().index.tolist()  # doctest: +SKIP
    """
    return as_table(results(name, profile, **options), of)


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
    from maso_book.training import OutOfTime

    folder, order = root or records.results_folder(), list(configs)
    places = [path_of(experiment, config, folder) for config in order]
    before = {path: path.read_bytes() if path.is_file() else None for path in places}
    missing = [config for config, path in zip(order, places, strict=True) if recompute or before[path] is None]
    locks = folder.parent / "_build" / "locks"
    done: dict[Path, Record] = {}
    late: set[Path] = set()
    slowest = 0.0

    def settle(config: Any, path: Path, *, wait: bool) -> None:
        nonlocal slowest
        with locked(locks / f"{experiment.name}-{path.stem}", wait=wait) as held:
            if not held:
                return  # another process runs this cell: come back to it
            if path.is_file() and (not recompute or path.read_bytes() != before[path]):
                done[path] = records.load(path)
                return
            if deadline is not None and time.monotonic() + slowest > deadline:
                late.add(path)
                return
            records.check_writable(experiment.name, root=folder)
            try:
                live = compute(experiment, config, device=device, along=missing, deadline=deadline)
            except OutOfTime:
                late.add(path)
                return
            slowest = max(slowest, live.provenance["seconds"])
            done[path] = records.save(experiment.name, config, live.tables, live.arrays, live.provenance, root=folder)

    records.sweep(experiment.name, root=folder)
    with tqdm(total=len(order), desc=experiment.name, unit="cell", disable=not watched()) as bar:
        for wait in (False, True):
            for config, path in zip(order, places, strict=True):
                if path not in done and path not in late:
                    settle(config, path, wait=wait)
                    bar.update(path in done)
    return [done[path] for path in places if path in done], len(late)


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
    experiment = registry.named(name)
    where = check_device(device)
    if profile == "full":
        configs = cells(experiment, grid_of(where), dataset=dataset, seeds=seeds)
        return run_missing(experiment, configs, device=where, recompute=recompute, root=root)[0]
    if profile == "paper" and not recompute:
        configs = shown(experiment, dataset=dataset, seeds=seeds, root=root)
        there = [config for config in configs if path_of(experiment, config, root).is_file()]
        if experiment.worth and len(there) < len(configs):
            print(
                f"{name}: {len(there)} of {len(configs)} cells are recorded; the others wait for a GPU "
                f"(`python -m maso queue`)."
            )
            configs = recorded(experiment, dataset=dataset, seeds=seeds, root=root)
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
