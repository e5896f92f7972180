"""`python -m maso`: what it prints, what it returns, and what it refuses."""

import dataclasses
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from toy import POWERS, Config

from maso import MasoError
from maso_book import chapters, datasets, experiment, records, registry, results, runner, trained
from maso_book.__main__ import OUT_OF_TIME, main
from maso_book.trained import Recipe
from maso_book.training import Training


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": POWERS})
    return toy.tree(tmp_path, n01_good=["print('good')"], n02_bad=["1 / 0"])


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    """Calls of `runner.run`, which does nothing."""
    calls: list[tuple[str, dict]] = []

    def run(which: chapters.Chapter, parameters: dict) -> Path:
        calls.append((which.number, parameters))
        return which.output(parameters)

    monkeypatch.setattr(runner, "run", run)
    return calls


def test_run_hands_the_profile_and_the_parameters_to_the_notebook(root: Path, ran: list) -> None:
    assert main(["run", "1", "--profile", "quick", "-p", "seeds", "[1, 2]", "-p", "recompute", "true"]) == 0
    assert ran == [("01", {"seeds": [1, 2], "recompute": True, "profile": "quick"})]
    assert main(["run"]) == 0
    assert [number for number, _ in ran[1:]] == ["01", "02"]


def test_the_other_chapters_finish_and_the_failed_one_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "02", "01"]) == 1
    printed = capsys.readouterr()
    assert "01-good: done" in printed.out
    assert "Chapter 02 failed: code cell 2: ZeroDivisionError" in printed.err
    assert "maso: failed: 02\n" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "9"], "no chapter '9'. Chapters: 01-good, 02-bad"),
        (["run", "1", "9"], "no chapter '9'"),
        (["run", "--profile", "fast"], "no profile 'fast'. Profiles: quick, paper, full"),
        (
            ["run", "1", "-p", "sedes", "3"],
            "no parameter sedes. Parameters: dataset, seeds",
        ),
        (["run", "1", "-p", "profile", "quick"], "chosen with --profile"),
        (["run", "1", "--budget", "9m"], "belong to --profile full"),
        (["run", "1", "--profile", "full", "-p", "sedes", "3"], "no parameter sedes. Parameters: dataset, seeds"),
        (["run", "1", "--profile", "full", "-p", "device", "tpu"], "no device 'tpu'"),
        (["run", "1", "--profile", "full", "-p", "dataset", "mnist"], "None of 01-powers has a data set"),
        (["run", "1", "--profile", "full", "--record", "01-powers/0"], "No cell of the grid"),
        (["run", "9", "--profile", "full"], "no chapter '9'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_runs(
    arguments: list[str], message: str, root: Path, ran: list, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert ran == []
    assert records.find("01-powers", root / "results") == []


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--budget", "soon"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_full_records_the_grid_and_status_counts_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = records.content_hash("01-powers", Config(1))
    assert main(["run", "1", "--profile", "full", "--record", f"01-powers/{name}"]) == 0
    assert [record.hash for record in records.find("01-powers", root / "results")] == [name]
    assert main(["run", "1", "--profile", "full", "--budget", "0s"]) == OUT_OF_TIME
    assert "1 cells left" in capsys.readouterr().out
    assert main(["status"]) == 0
    assert "01-powers: recorded: paper 1 of 2, full 1 of 3" in capsys.readouterr().out
    assert main(["run", "1", "--profile", "full", "--budget", "5m"]) == 0
    assert main(["status"]) == 0
    printed = capsys.readouterr().out
    assert "01-good: to be run" in printed
    assert "01-powers: recorded: paper 2 of 2, full 2 of 3\n" in printed

    records.save("01-powers", Config(8), {}, {}, toy.MADE | {"code": "older"}, root=root / "results")
    broken = root / "results" / "01-powers" / f"{name}.json"
    broken.write_text("{")
    assert main(["status"]) == 0
    printed = capsys.readouterr().out
    assert "1 outside the grid" in printed
    assert "1 made by older code" in printed
    assert "corrupt" in printed


def test_a_failing_experiment_is_named_and_the_others_finish(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = dataclasses.replace(POWERS, name="01-broken", run=lambda config: 1 / 0)
    monkeypatch.setattr(registry, "registry", lambda: {"01-broken": broken, "01-powers": POWERS})
    assert main(["run", "01", "--profile", "full"]) == 1
    printed = capsys.readouterr()
    assert "ZeroDivisionError" in printed.err
    assert "maso: failed: 01-broken\n" in printed.err
    assert "01-powers: 2 of 2 cells recorded" in printed.out


def test_a_data_set_is_chosen_where_there_is_one_to_choose(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = experiment.Experiment("01-drawn", toy.draw, lambda profile: [toy.Drawn(0)])
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": POWERS, "01-drawn": drawn})
    assert main(["run", "01", "--profile", "full", "-p", "dataset", "mnist", "-p", "seeds", "1"]) == 0
    (record,) = records.find("01-drawn", root / "results")
    assert (record.config, record.provenance["dataset"]) == (
        {"seed": 0, "dataset": "mnist"},
        datasets.CHECKSUMS["mnist"],
    )
    assert len(records.find("01-powers", root / "results")) == 1


def result_of(change: Callable[[dict, dict], tuple[dict, dict]]) -> experiment.Experiment:
    return dataclasses.replace(POWERS, run=lambda config: change(*toy.measure(config)))


def test_verify_rehashes_and_runs_one_cell_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--rerun"]) == 0
    assert "nothing recorded" in capsys.readouterr().out
    assert main(["run", "1", "--profile", "full"]) == 0
    assert main(["verify", "--rerun"]) == 0
    assert "the same" in capsys.readouterr().out

    other = result_of(lambda tables, arrays: ({"draws": [tables["draws"][0] | {"mean": 7.0}]}, {"x": np.zeros(2)}))
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": other})
    assert main(["verify", "--rerun"]) == 1
    printed = capsys.readouterr()
    assert "2 values differ" in printed.out
    assert "tables.draws[0].mean: recorded" in printed.err

    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": POWERS})
    (root / "results" / "01-powers" / "notes.txt").touch()
    assert main(["verify", "--rerun"]) == 1
    assert "notes.txt is not a record" in capsys.readouterr().err


def _let_powers_train(monkeypatch: pytest.MonkeyPatch, *, width: int) -> None:
    """The toy experiment needs a trained network of this width."""
    recipe = Recipe("digits", "mlp", Training(1), grey=True, samples=100, width=width)
    learning = dataclasses.replace(POWERS, recipes=lambda config: [recipe])
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": learning})


def test_verify_compares_no_networks_that_another_machine_trained(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _let_powers_train(monkeypatch, width=4)
    assert main(["run", "1", "--profile", "full", "-p", "seeds", "1"]) == 0
    assert main(["verify", "--rerun"]) == 0
    assert "the same" in capsys.readouterr().out
    (record,) = records.find("01-powers", root / "results")

    def saved(**change: object) -> None:
        records.save("01-powers", record.config, {}, {}, record.provenance | change, root=root / "results")

    saved(networks="of another machine")
    assert main(["verify", "--rerun"]) == 0
    assert "not compared: its networks" in capsys.readouterr().out
    saved(training_seconds=1000.0)
    monkeypatch.setattr(trained, "is_ready", lambda recipe: False)
    assert main(["verify", "--rerun"]) == 0
    assert "its quickest cell takes 1000 s" in capsys.readouterr().out
    if not torch.cuda.is_available():
        saved(device="cuda")
        assert main(["verify", "--rerun"]) == 0
        assert "no CUDA device" in capsys.readouterr().out


def test_without_a_working_tree_it_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "maso", "status"]
    environment = {"MASO_ROOT": str(tmp_path), "PATH": ""}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Clone the repository" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_snakemake_runs_what_is_not_fresh_and_only_that(root: Path) -> None:
    """The same flags as `python -m maso book` gives; a broken chapter is left out."""
    (root / "notebooks" / "03-broken.ipynb").write_text("{")
    (root / "Snakefile").symlink_to(Path(__file__).parents[2] / "Snakefile")
    command = [sys.executable, "-m", "snakemake", "chapters", "--cores", "2", "--keep-going", "--nolock",
               "--rerun-triggers", "mtime"]  # fmt: skip
    first = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert first.returncode == 1
    assert "Chapter 02 failed" in first.stderr
    assert "03-broken.ipynb cannot be read" in first.stderr
    assert runner.is_fresh(chapters.find("1"))
    (root / "notebooks" / "02-bad.ipynb").unlink()
    (root / "notebooks" / "01-good.ipynb").touch()
    second = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "Nothing to be done" in second.stderr + second.stdout


def test_book_builds_once_names_the_failed_chapter_and_says_where_to_open_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import maso_book.__main__
    import maso_book.site

    commands: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(Path(command[0]).name if "snakemake" not in command else "snakemake")
        if commands[-1] == "jupyter-book":
            pages = root / command[command.index("--path-output") + 1] / "_build" / "html"
            pages.mkdir(parents=True)
            (pages / "index.html").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(maso_book.__main__.subprocess, "run", run)
    monkeypatch.setattr(maso_book.site, "write_generated", lambda folder: {})
    monkeypatch.setattr(runner, "is_fresh", lambda chapter: chapter.number == "01")
    assert main(["book"]) == 1
    printed = capsys.readouterr()
    assert "maso: failed: 02" in printed.err
    assert f"Open {(root / '_build' / 'html' / 'index.html').as_uri()}" in printed.out
    assert commands == ["snakemake", "jupyter-book"]

    monkeypatch.setattr(runner, "is_fresh", lambda chapter: True)
    assert main(["book"]) == 0
    assert commands[2:] == []  # nothing changed
    (root / "book" / "index.md").write_text("# New")
    assert main(["book"]) == 0
    assert commands[2:] == ["jupyter-book"]


@pytest.mark.parametrize("missing", ["maso_book", "yaml"])
def test_without_the_books_packages_the_door_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from maso.__main__ import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"maso: {missing} is not installed" in ended.stderr
    assert "pip install -e '.[book]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_verify_alone_hashes_and_runs_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "1", "--profile", "full"]) == 0
    monkeypatch.setattr(results, "compute", None)
    capsys.readouterr()
    assert main(["verify"]) == 0
    assert "2 records, 0 problems" in capsys.readouterr().out
    record = next((root / "results" / "01-powers").glob("*.json"))
    record.write_text(record.read_text().replace("toy", "tok"))
    assert main(["verify"]) == 1
    assert "its seal is not that of its content" in capsys.readouterr().err


def test_two_builds_at_once_are_refused_and_a_failed_one_leaves_the_site(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maso_book.locks import locked

    (root / "_build" / "html").mkdir(parents=True)
    (root / "_build" / "html" / "index.html").write_text("the site of yesterday")
    monkeypatch.setattr(runner, "is_fresh", lambda chapter: True)
    with locked(root / "_build" / "locks" / "book"):
        assert main(["book"]) == 1
    assert "Another process builds the book" in capsys.readouterr().err
    (root / "book" / "chapters.yml").write_text("{")
    assert main(["book"]) == 1
    assert "is not valid YAML" in capsys.readouterr().err
    assert (root / "_build" / "html" / "index.html").read_text() == "the site of yesterday"


def test_processes_side_by_side_share_the_work_and_lose_nothing(root: Path) -> None:
    """Three processes record the same cells: each cell is run once, and nobody sees half a record."""
    code = """
import sys, time
import toy
from pathlib import Path
from maso_book import results
def run(config):
    with open("ran", "a") as file:
        file.write(f"{config.seed}\\n")
    time.sleep(0.05)
    return toy.measure(config)
import dataclasses
experiment = dataclasses.replace(toy.POWERS, run=run)
done, left = results.run_missing(experiment, [toy.Config(seed) for seed in range(12)], root=Path("results"))
assert len(done) == 12 and left == 0
"""
    environment = {**os.environ, "PYTHONPATH": f"{Path(toy.__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, cwd=root, env=environment) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert sorted((root / "ran").read_text().split(), key=int) == [str(seed) for seed in range(12)]
    assert records.verify(root / "results") == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dataset", "[1]", "There is no data set [1]. Data sets: cifar10"),
        ("dataset", "../mnist", "There is no data set '../mnist'"),
        ("seeds", "[-1]", "seeds = [-1]: expected a positive number of seeds, or a list of whole numbers"),
        ("seeds", "true", "seeds = True: expected"),
        ("seeds", "[true]", "seeds = [True]: expected"),
        ("seeds", "{a: 1}", "seeds = {'a': 1}: expected"),
        ("seeds", "[1", "-p takes NAME and VALUE, a value as YAML writes it"),
        ("recompute", "3", "recompute = 3: expected true or false"),
        ("device", "[cpu]", "There is no device ['cpu']"),
    ],
)
@pytest.mark.parametrize("profile", ["paper", "full"])
def test_a_wrong_value_of_a_parameter_is_refused_before_anything_runs(
    name: str, value: str, message: str, profile: str, root: Path, ran: list, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--profile", profile, "-p", name, value]) == 1
    assert f"maso: {message}" in capsys.readouterr().err
    assert ran == []
    assert not (root / "_build").exists()


def test_a_reader_that_has_seen_enough_is_no_error(root: Path) -> None:
    """`maso status | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "maso", "status"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["status"], ["run", "1"], ["run", "1", "--profile", "full"], ["book"]])
def test_a_tree_that_cannot_be_written_is_named(
    arguments: list[str], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for name in ("mkdir", "unlink", "write_bytes", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    assert main(arguments) == (0 if arguments == ["status"] else 1)
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    if arguments != ["status"]:
        assert "Read-only file system. Make this folder writable, or work in a copy" in printed


def test_a_full_disk_while_a_network_is_written_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _let_powers_train(monkeypatch, width=64)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        assert main(["run", "1", "--profile", "full"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    printed = capsys.readouterr().err
    assert "The disk is full (or a quota is used up): free some space" in printed
    assert "Traceback" not in printed
    assert not list(root.rglob("*.tmp"))
    assert main(["run", "1", "--profile", "full"]) == 0


def test_verify_names_what_is_no_experiments_folder(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "results" / "99-nothing").mkdir()
    (root / "results" / "notes.txt").touch()
    assert main(["verify"]) == 1
    printed = capsys.readouterr().err
    for name in ("99-nothing", "notes.txt"):
        assert f"results/{name} is no experiment's folder" in printed


def test_records_of_other_data_than_their_names_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A published name stands for the published data; a data set of one's own for what is in its file today."""
    drawn = experiment.Experiment("01-drawn", toy.draw, lambda profile: [toy.Drawn(0)])
    monkeypatch.setattr(registry, "registry", lambda: {"01-drawn": drawn})
    with pytest.raises(MasoError, match="was made of other data than digits"):
        records.save("01-drawn", toy.Drawn(0), {}, {}, toy.MADE | {"dataset": "0" * 64}, root=root / "results")
    assert main(["verify"]) == 1
    assert "was made of other data than digits" in capsys.readouterr().err

    monkeypatch.setenv("MASO_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    run = ["run", "1", "--profile", "full", "-p", "dataset", "letters"]
    assert main(run) == 1
    assert "There is no data set 'letters'" in capsys.readouterr().err
    toy.write_dataset(tmp_path / "data" / "letters.npz", seed=0)
    assert main(run) == 0
    assert main(run) == 0
    toy.write_dataset(tmp_path / "data" / "letters.npz", seed=1)
    capsys.readouterr()
    assert main(run) == 1
    assert "was made of other data than letters" in capsys.readouterr().err
    assert main([*run, "-p", "recompute", "true"]) == 0
    assert main(run) == 0
