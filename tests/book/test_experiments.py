"""Profiles, the grid that resumes, and what is refused before anything runs."""

import dataclasses
import itertools
import math
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import toy
from toy import POWERS, Config

from maso import MasoError
from maso_book import parameters, records, registry, results, trained
from maso_book.differences import differences
from maso_book.experiment import Experiment
from maso_book.trained import Recipe
from maso_book.training import Training


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Experiment("02-drawn", toy.draw, lambda profile: [toy.Drawn(0)])
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": POWERS, "02-drawn": drawn})


def counted(ran: list[int], fails: int | None = None) -> Experiment:
    def run(config: Config) -> tuple[dict, dict]:
        if config.seed == fails:
            raise ZeroDivisionError
        ran.append(config.seed)
        return toy.measure(config)

    return dataclasses.replace(POWERS, run=run)


def test_quick_runs_live_and_writes_nothing(tmp_path: Path) -> None:
    (record,) = results.results("01-powers", "quick", root=tmp_path)
    assert record.path is None
    assert record.config == {"seed": 0, "power": 2}
    assert record.tables["draws"][0]["mean"] == pytest.approx((record.arrays["x"] ** 2).mean())
    assert record.provenance["code"] is None  # a function that is not of this tree
    assert not list(tmp_path.iterdir())


def test_full_writes_each_record_of_the_grid_of_its_device_and_paper_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [results.grid_of(device) for device in ("cpu", "cuda")] == ["paper", "full"]
    full = results.results("01-powers", "full", root=tmp_path)
    assert len(full) == len(records.find("01-powers", tmp_path)) == 2
    paper = results.results("01-powers", "paper", root=tmp_path)
    assert [record.hash for record in paper] == [record.hash for record in full]
    assert capsys.readouterr().out == ""


def test_the_large_grid_is_shown_once_all_of_it_is_recorded(tmp_path: Path) -> None:
    def seeds() -> list[int]:
        return [record.config["seed"] for record in results.results("01-powers", root=tmp_path)]

    large = toy.grid("full")
    results.run_missing(POWERS, large[:2], root=tmp_path)
    assert seeds() == [0, 1]
    results.run_missing(POWERS, large, root=tmp_path)
    assert seeds() == [0, 1, 2]
    assert results.shown(POWERS, root=tmp_path) == large
    live = results.results("01-powers", recompute=True, root=tmp_path)
    assert [record.path for record in live] == [None, None]


def test_paper_runs_what_is_missing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.run_missing(POWERS, [Config(1)], root=tmp_path)
    first, second = results.results("01-powers", root=tmp_path)
    assert (first.path, second.path is None) == (None, False)
    assert "1 of 2 cells have no record and are run now" in capsys.readouterr().out
    assert len(records.find("01-powers", tmp_path)) == 1


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    ran: list[int] = []
    with pytest.raises(ZeroDivisionError):
        results.run_missing(counted(ran, fails=1), toy.grid("full"), root=tmp_path)
    done, left = results.run_missing(counted(ran), toy.grid("full"), root=tmp_path)
    assert ran == [0, 1, 2]
    assert ([record.config["seed"] for record in done], left) == ([0, 1, 2], 0)
    results.run_missing(counted(ran), toy.grid("full"), root=tmp_path, recompute=True)
    assert ran == [0, 1, 2, 0, 1, 2]


def test_no_cell_starts_after_the_deadline(tmp_path: Path) -> None:
    done, left = results.run_missing(POWERS, toy.grid("full"), root=tmp_path, deadline=time.monotonic() - 1)
    assert (done, left) == ([], 3)


def test_the_networks_of_a_cell_are_trained_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together with those of the cells to come, within the time there is, and the record says so."""
    monkeypatch.setenv("MASO_ROOT", str(toy.tree(tmp_path)))
    recipes = {
        seed: Recipe("digits", "mlp", Training(2, seed=seed), grey=True, samples=100, width=4) for seed in range(3)
    }
    asked: list[tuple[list[Recipe], list[Recipe]]] = []
    prepare = trained.prepare

    def watched(wanted: list[Recipe], *, along: list[Recipe], deadline: float | None) -> None:
        asked.append((list(wanted), list(along)))
        prepare(wanted, along=along, deadline=deadline)

    monkeypatch.setattr(trained, "prepare", watched)
    learning = dataclasses.replace(POWERS, recipes=lambda config: [recipes[config.seed]])
    ticks = itertools.chain([0.0], itertools.repeat(math.inf))
    monkeypatch.setattr("maso_book.training.settings.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    done, left = results.run_missing(learning, toy.grid("full"), deadline=time.monotonic() + 600)
    assert ([record.config["seed"] for record in done], left) == ([], 3)
    monkeypatch.undo()
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    monkeypatch.setattr(trained, "prepare", watched)
    asked.clear()
    done, left = results.run_missing(learning, toy.grid("full"), deadline=time.monotonic() + 600)
    assert ([record.config["seed"] for record in done], left) == ([0, 1, 2], 0)
    assert asked[0] == ([recipes[0]], [recipes[0], recipes[1], recipes[2]])
    assert done[0].provenance["training_seconds"] > 0
    assert done[0].provenance["networks"] != done[1].provenance["networks"]


def test_results_that_cannot_be_written_stop_the_run_before_it_begins(tmp_path: Path) -> None:
    ran: list[int] = []
    (tmp_path / "01-powers").touch()
    with pytest.raises(MasoError, match="Cannot write"):
        results.run_missing(counted(ran), toy.grid("full"), root=tmp_path)
    assert ran == []


def test_seeds_and_data_set_replace_the_fields() -> None:
    assert [c.seed for c in results.cells(POWERS, "full", seeds=2)] == [0, 1]
    assert [c.seed for c in results.cells(POWERS, "paper", seeds=[5])] == [5]
    (cell,) = results.cells(registry.named("02-drawn"), "paper", dataset="mnist")
    assert cell.dataset == "mnist"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "07-none"}, "no experiment '07-none'. There are: 01-powers, 02-drawn"),
        ({"profile": "fast"}, "no profile 'fast'. Profiles: quick, paper, full"),
        ({"device": "tpu"}, "no device 'tpu'. Devices: cpu, cuda"),
        ({"dataset": "imagenet"}, "no data set 'imagenet'. Data sets: .*cifar10"),
        ({"dataset": "mnist"}, "01-powers has no dataset to choose. Its configuration has: seed, power"),
        ({"seeds": 0}, "expected a positive number"),
        ({"seeds": 1.5}, "expected a positive number"),
        ({"seeds": ["a"]}, "expected a positive number"),
    ],
)
def test_what_does_not_exist_is_an_error_that_lists_what_does(choice: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(MasoError, match=message):
        results.results(**({"name": "01-powers", "profile": "full", "root": tmp_path} | choice))
    assert not list(tmp_path.iterdir())


def test_a_record_keeps_the_checksum_of_its_data_set() -> None:
    (record,) = results.results("02-drawn", "quick")
    assert len(record.provenance["dataset"]) == 64


def test_check_parameters_knows_the_parameters_and_nothing_else() -> None:
    good = {"profile": "quick", "seeds": None, "_": 1, "In": [], "np": np, "check_parameters": len.__class__}
    parameters.check_parameters(good)
    with pytest.raises(MasoError, match=r"Unknown parameter profil. Parameters: profile, dataset"):
        parameters.check_parameters(good | {"profil": "quick"})
    with pytest.raises(MasoError, match=r"no profile 'fast'"):
        parameters.check_parameters(good | {"profile": "fast"})


def test_differences_see_values_and_not_timings() -> None:
    record = results.compute(POWERS, Config(0))
    (row,) = record.tables["draws"]
    changed = dataclasses.replace(
        record,
        tables={"draws": [row | {"seconds": 99.0, "kind": "other", "mean": row["mean"] * (1 + 1e-9)}]},
        arrays={"x": record.arrays["x"] + 1},
    )
    assert differences(record, record) == []
    found = differences(record, changed)
    assert [line.partition(":")[0] for line in found] == ["tables.draws[0].kind", "arrays.x"]
    nested = dataclasses.replace(record, tables={"rows": [{"a": 1, "b": None}, {"a": 1, "b": 1.0}]})
    other = dataclasses.replace(record, tables={"rows": [{"a": 2, "b": None}, {"a": 1, "b": "x"}]})
    assert len(differences(nested, other)) == 2


def test_what_waits_for_a_gpu_is_left_out_until_enough_seeds_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = Experiment("01-powers", toy.measure, lambda profile: [Config(s, p) for s in range(6) for p in (2, 3)])
    waiting = dataclasses.replace(waiting, worth=1.0)
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": waiting})
    results.run_missing(waiting, [Config(s, p) for s in range(4) for p in (2, 3)] + [Config(4)], root=tmp_path)
    assert results.results("01-powers", root=tmp_path) == []
    assert "9 of 12 cells are recorded; the others wait for a GPU" in capsys.readouterr().out
    results.run_missing(waiting, [Config(4, 3)], root=tmp_path)
    found = results.results("01-powers", root=tmp_path)
    assert sorted({record.config["seed"] for record in found}) == [0, 1, 2, 3, 4]
    assert len(found) == 10
    assert results.recorded(dataclasses.replace(waiting, worth=0.0), root=tmp_path) == []


def test_an_arm_that_is_whole_is_shown_while_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Experiment("01-powers", toy.measure, lambda profile: [Config(s, p) for s in range(5) for p in (2, 3)])
    waiting = dataclasses.replace(waiting, worth=1.0)
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": waiting})
    results.run_missing(waiting, [Config(s, p) for s in range(4) for p in (2, 3)] + [Config(4, 3)], root=tmp_path)
    assert results.recorded(waiting, root=tmp_path) == [Config(s, 3) for s in range(5)]
