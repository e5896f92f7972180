"""Records are whole or absent, read back as written, and refuse what is not theirs."""

import contextlib
import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import MADE, Config

from maso import MasoError
from maso_book import records, tree

PROVENANCE = MADE
TABLES = {"draws": [{"n": 1}]}
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
names = st.from_regex(records.COLUMN, fullmatch=True)


@st.composite
def tables(draw: st.DrawFn) -> dict:
    """Tables of up to three columns."""
    found = {}
    for name in draw(st.lists(names, unique=True, max_size=3)):
        columns = draw(st.lists(names, unique=True, max_size=3))
        found[name] = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, scalars)), max_size=3))
    return found


def save(root: Path, config: object = Config(0), **arrays: np.ndarray) -> records.Record:
    return records.save("01-toy", config, TABLES, arrays or {"x": np.arange(3)}, PROVENANCE, root=root)


def files(root: Path) -> set[str]:
    return {path.name.rpartition(".")[2] for path in root.rglob("*") if path.is_file()}


@settings(max_examples=25, deadline=None)
@given(tables=tables())
def test_what_is_saved_is_what_is_loaded(tables: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("results")
    arrays = {"a": np.linspace(0, 1, 4), "b": np.array([[True], [False]]), "c": np.array(["x", "yy"])}
    saved = records.save("01-toy", Config(3), tables, arrays, PROVENANCE, root=root)
    (loaded,) = records.find("01-toy", root)
    assert loaded.tables == tables
    assert loaded.config == {"seed": 3, "power": 2}
    assert loaded.hash == saved.hash == records.content_hash("01-toy", Config(3))
    assert all(np.array_equal(loaded.arrays[name], arrays[name]) for name in arrays)
    assert loaded.path == root / "01-toy" / f"{saved.hash}.json"
    assert records.verify(root) == []


def test_the_hash_depends_on_the_experiment_and_on_every_field() -> None:
    names = {records.content_hash(name, Config(*c)) for name in ("a", "b") for c in ((0, 1), (1, 0), (1, 1))}
    assert len(names) == 6
    assert records.content_hash("a", Config(0, 1)) == records.content_hash("a", {"power": 1, "seed": 0})


def test_the_same_record_has_the_same_bytes(tmp_path: Path) -> None:
    first = save(tmp_path / "one")
    second = save(tmp_path / "two")
    assert first.path is not None
    assert second.path is not None
    one, two = (
        {file.name: file.read_bytes() for file in folder.parent.iterdir()} for folder in (first.path, second.path)
    )
    assert one == two
    assert len(one) == 2


def test_a_record_without_arrays_has_no_npz_and_replaces_one_that_had(tmp_path: Path) -> None:
    save(tmp_path)
    again = records.save("01-toy", Config(0), {}, {}, PROVENANCE, root=tmp_path)
    assert again.arrays == {}
    assert files(tmp_path) == {"json"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"t": [{"x": float("nan")}]}, r"table 't', row 0\['x'\] is nan"),
        ({"t": [{"x": 1.0}, {"x": np.inf}]}, r"table 't', row 1\['x'\] is inf"),
        ({"t": [{"x": np.zeros(2)}]}, "of type ndarray, which has no JSON form"),
        ({"t": [{"x": object()}]}, "of type object, which has no JSON form"),
        ({"t": [{"x": [1, 2]}]}, "'x' holds a list, and a row holds scalars"),
        ({"t": [{"x": {"a": 1}}]}, "'x' holds a dict, and a row holds scalars"),
        ({"t": [{"x": 1}, {"y": 1}]}, r"row 1 has the columns \['y'\], the first one \['x'\]"),
        ({"t": [{"largest error": 1}]}, "'largest error' is no name for a table or a column"),
        ({"The table": [{"x": 1}]}, "'The table' is no name for a table or a column"),
        ([{"x": 1}], "a mapping of names to rows, not a list"),
    ],
)
def test_what_is_no_tidy_table_is_refused(tables: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(MasoError, match=message):
        records.save("01-toy", Config(0), tables, {}, PROVENANCE, root=tmp_path)
    assert files(tmp_path) == set()


def test_a_row_is_a_line(tmp_path: Path) -> None:
    rows = [{"n": number, "words": "a, [b]"} for number in range(3)]
    record = records.save("01-toy", Config(0), {"draws": rows, "none": []}, {}, PROVENANCE, root=tmp_path)
    assert record.path is not None
    lines = record.path.read_text().splitlines()
    assert [json.loads(line.strip().rstrip(",")) for line in lines if '"n":' in line] == rows
    assert record.tables == {"draws": rows, "none": []}


def test_names_of_arrays_are_words(tmp_path: Path) -> None:
    with pytest.raises(MasoError, match="'log prior': write its name in snake_case"):
        save(tmp_path, **{"log prior": np.zeros(1)})


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MasoError, match="without objects"):
        save(tmp_path, x=np.array([{}]))
    assert files(tmp_path) == set()


def edit(path: Path, **change: object) -> None:
    """A record with another content, sealed anew."""
    path.write_text(records.sealed(json.loads(path.read_text()) | change))


def arrays_of(path: Path) -> Path:
    (npz,) = path.parent.glob(f"{path.stem}-*.npz")
    return npz


def corrupt(path: Path, how: str) -> None:
    content = json.loads(path.read_text())
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:40])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a list":
        path.write_text("[1]")
    elif how == "no tables":
        del content["tables"]
        path.write_text(json.dumps(content))
    elif how == "one number":
        path.write_text(path.read_text().replace('{"n": 1}', '{"n": 2}'))
    elif how == "NaN":
        path.write_text(path.read_text().replace('{"n": 1}', '{"n": NaN}'))
    elif how == "twice":
        path.write_text(path.read_text().replace('{"n": 1}', '{"n": 1, "n": 1}'))
    elif how == "no provenance":
        edit(path, provenance={})
    elif how == "extra":
        edit(path, more=1)
    elif how == "another schema":
        edit(path, schema=99)
    elif how == "edited":
        edit(path, config={"seed": 7, "power": 2})
    elif how == "renamed":
        path.rename(path.with_name("0123456789abcdef.json"))
    elif how == "npz changed":
        arrays_of(path).write_bytes(b"PK")
    elif how == "npz gone":
        arrays_of(path).unlink()
    elif how == "wrong type":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tables": 3}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "corrupt: it is not JSON"),
        ("empty", "corrupt: it is not JSON"),
        ("a list", "not a record of this book"),
        ("no tables", r"missing or wrong \['tables'\]"),
        ("wrong type", r"missing or wrong \['tables'\]"),
        ("one number", "its seal is not that of its content"),
        ("NaN", "NaN is no number of JSON"),
        ("twice", "a key stands twice"),
        ("no provenance", "The provenance lacks code, commit"),
        ("extra", r"unexpected \['more'\]"),
        ("another schema", "schema 99, this version of maso reads 2"),
        ("edited", "does not belong there"),
        ("renamed", "does not belong there"),
        ("npz changed", "checksum is not the recorded one"),
        ("npz gone", "cannot be read"),
    ],
)
def test_corrupt_and_foreign_records_are_refused_and_found_by_verify(how: str, message: str, tmp_path: Path) -> None:
    path = save(tmp_path).path
    assert path is not None
    corrupt(path, how)
    with pytest.raises(MasoError, match=message) as caught:
        records.find("01-toy", tmp_path)
    assert str(caught.value) in records.verify(tmp_path)


def test_verify_names_strange_files_and_arrays_without_a_record(tmp_path: Path) -> None:
    path = save(tmp_path).path
    assert path is not None
    path.unlink()
    (tmp_path / "01-toy" / "notes.txt").touch()
    first, second = records.verify(tmp_path)
    assert "belongs to no record" in first
    assert "notes.txt is not a record" in second


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(MasoError, match="There is no record"):
        records.load(tmp_path / "x.json")
    assert records.find("01-nothing", tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("there_before", [False, True])
def test_a_full_disk_leaves_nothing_half_written(
    call: str, there_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there_before:
        save(tmp_path)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(MasoError, match="disk is full"):
        save(tmp_path, x=np.arange(9))
    monkeypatch.undo()
    assert files(tmp_path) == ({"json", "npz"} if there_before else set())
    assert records.verify(tmp_path) == []


def test_a_file_size_limit_leaves_nothing_half_written(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(MasoError, match="disk is full"):
            save(tmp_path, x=np.random.default_rng(0).normal(size=4000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == set()


def test_results_that_cannot_be_written_are_named_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(MasoError, match="Make this folder writable"):
        records.check_writable("01-toy", root=tmp_path / "results")
    with pytest.raises(MasoError, match="Make this folder writable"):
        save(tmp_path / "results")


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from maso_book import records

def save(root, n):
    tables, arrays = {"draws": [{"n": n}]}, {"x": np.arange(n)}
    records.save("01-toy", {"seed": 0, "power": 2}, tables, arrays, dict.fromkeys(records.MADE), root=root)

def die_at(step):
    def counted(function):
        def call(*args, **kwargs):
            nonlocal step
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            step -= 1
            return function(*args, **kwargs)
        return call
    os.fsync, os.replace, Path.unlink = counted(os.fsync), counted(os.replace), counted(Path.unlink)

for before in ("none", "old"):
    for step in range(15):
        root = Path(sys.argv[1], f"{before}-{step}")
        if before == "old":
            save(root, 1)
        child = os.fork()
        if child == 0:
            die_at(step)
            save(root, 2)
            os._exit(0)
        print(root.name, os.waitpid(child, 0)[1])
"""


def test_a_killed_run_leaves_a_whole_record_or_none(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True, capture_output=True, text=True)
    ended = dict(line.split() for line in ran.stdout.splitlines())
    killed = [name for name, status in ended.items() if status == str(int(signal.SIGKILL))]
    assert len(killed) >= 10
    assert set(ended.values()) == {str(int(signal.SIGKILL)), "0"}
    for name in ended:
        found = [record.tables["draws"][0]["n"] for record in records.find("01-toy", tmp_path / name)]
        kept = ([1], [2]) if name.startswith("old") else ([], [2])  # what was there is never lost
        assert found in kept if name in killed else found == [2]
        assert save(tmp_path / name).tables == TABLES  # whatever was left behind, running it again works
        records.sweep("01-toy", root=tmp_path / name)
        assert records.verify(tmp_path / name) == []


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record with a bit of everything."""
    root = tmp_path_factory.mktemp("results")
    tables = {
        "draws": [{"n": n, "share": n / 7, "word": "ä b", "whole": n > 1, "none": None} for n in range(4)],
        "no": [],
    }
    record = records.save("01-toy", Config(3), tables, {"x": np.arange(3.0)}, MADE, root=root)
    assert record.path is not None
    return record.path


@settings(max_examples=1000, deadline=None)
@given(data=st.data())
def test_every_edit_of_one_character_shows(data: st.DataObject, sample: Path) -> None:
    text = sample.read_text()
    place = data.draw(st.integers(0, len(text) - 1))
    likely = st.sampled_from(["", *'0123456789abcdef {}[],:"e.-+\n', text[place] * 2])
    new = data.draw(likely | st.characters(codec="utf-8"))
    edited = text[:place] + new + text[place + 1 :]
    if edited != text:
        with pytest.raises(MasoError):
            records._unsealed(edited.encode(), sample)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 10**6), new=st.binary(max_size=6), cut=st.booleans())
def test_arrays_of_garbage_are_named_also_where_they_are_sealed(
    place: int, new: bytes, cut: bool, sample: Path
) -> None:
    """Somebody who seals anew what was garbled gets a message at the worst."""
    text, npz = sample.read_text(), arrays_of(sample)
    packed = npz.read_bytes()
    at = place % len(packed)
    garbage = packed[:at] + new + (b"" if cut else packed[at + len(new) :])
    checksum = hashlib.sha256(garbage).hexdigest()
    other = npz.with_name(f"{sample.stem}-{checksum[:8]}.npz")
    other.write_bytes(garbage)
    sample.write_text(records.sealed(json.loads(text) | {"arrays": checksum}))
    with contextlib.suppress(MasoError):  # what else is raised fails the test
        records.load(sample)
    sample.write_text(text)
    if other != npz:
        other.unlink()


def test_left_overs_are_reported_and_swept(tmp_path: Path) -> None:
    record = save(tmp_path)
    assert record.path is not None
    left = [record.path.with_name(name) for name in (f"{record.hash}-00000000.npz", f"{record.hash}.json.17.tmp")]
    for path in left:
        path.write_bytes(b"x")
    (problem,) = records.verify(tmp_path)
    assert "belongs to no record" in problem
    records.sweep("01-toy", root=tmp_path)
    assert records.verify(tmp_path) == []
    assert not any(path.exists() for path in left)
    assert records.load(record.path).tables == TABLES


def test_the_arrays_of_a_corrupt_record_are_not_swept(tmp_path: Path) -> None:
    record = save(tmp_path)
    assert record.path is not None
    whole = record.path.read_text()
    record.path.write_text(whole[:40])
    records.sweep("01-toy", root=tmp_path)
    record.path.write_text(whole)
    assert records.verify(tmp_path) == []


def test_a_reader_beside_a_writer_sees_the_old_record_or_the_new_one(tmp_path: Path) -> None:
    writer = """
import sys, numpy as np
from pathlib import Path
from maso_book import records
for n in range(60):
    config, made = {"seed": 0, "power": 2}, dict.fromkeys(records.MADE)
    records.save("01-toy", config, {"draws": [{"n": 1}]}, {"x": np.arange(n + 1)}, made, root=Path(sys.argv[1]))
"""
    first = save(tmp_path)
    assert first.path is not None
    running = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path)])
    seen = set()
    while running.poll() is None:
        seen.add(len(records.load(first.path).arrays["x"]))
    assert running.returncode == 0
    assert len(seen) > 1


def test_git_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=str(tree.root()))

    monkeypatch.setattr(records.subprocess, "run", run)
    records.git_commit.__wrapped__()
    assert len(asked) == 3
    assert all(command[:2] == ["git", "--no-optional-locks"] for command in asked)


def test_nothing_is_swept_while_a_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = records.write

    def slowly(path: Path, data: bytes) -> None:
        write(path, data)
        written.append(path)
        records.sweep("01-toy", root=tmp_path)  # as another process would

    monkeypatch.setattr(records, "write", slowly)
    assert save(tmp_path).tables == TABLES
    assert [path.suffix for path in written] == [".npz", ".json"]


def test_the_commit_is_that_of_this_repository_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "another repository"]):
        subprocess.run([*git, *words], check=True)
    inside = tmp_path / "unpacked"
    for folder in (tmp_path, inside):
        (folder / "notebooks").mkdir(parents=True)
        (folder / "_config.yml").touch()
    monkeypatch.setenv("MASO_ROOT", str(inside))
    assert records.git_commit.__wrapped__() is None
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    assert len(records.git_commit.__wrapped__()) == 40


def test_provenance_says_how_it_was_made() -> None:
    made = records.provenance(started=datetime(2026, 1, 2, tzinfo=UTC), seconds=1.23456, code="c", dataset="d")
    assert made["start"] == "2026-01-02T00:00:00+00:00"
    assert made["seconds"] == 1.235
    assert made["device"] == "cpu"
    assert made["device_name"]
    assert made["peak_memory_mb"] > 0
    assert {"maso", "commit", "code", "python", "torch", "numpy", "torchvision", "cuda", "dataset"} <= set(made)
