"""Records: what one run of an experiment found, kept as `results/<experiment>/<hash>.json` (+ `<hash>-<…>.npz`).

A record's name is the content hash of what was asked for: the first 16 hexadecimal digits of the SHA-256 of the
canonical JSON of `{"experiment": …, "config": …}`. The JSON file holds `schema`, `experiment`, `config`, `tables`,
`provenance`, `arrays` (the SHA-256 of the npz file, whose name ends in its first digits; null where there is none) and
`seal`, the SHA-256 of all the rest. A file that is not, byte for byte, what `save` writes is refused: an edit of one
character anywhere shows. Nothing reads pickle.

What was measured is tidy: a table is a list of rows, one measurement each, and a row holds a number, a word, a truth
value or null under each of the table's columns, whose names are snake_case, with their unit where they have one.

Files are written under another name, synced and renamed, arrays first. The rename of the JSON file is the only commit:
a run killed at any moment leaves the old record whole, or the new one. `root` is everywhere the folder of all records,
by default `results/` of the working tree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import maso
import maso_book.tree
from maso.errors import MasoError
from maso_book import datasets
from maso_book.locks import locked

SCHEMA = 2
FIELDS = {"schema", "experiment", "config", "tables", "provenance", "arrays", "seal"}
MADE = {"maso", "commit", "code", "python", "torch", "numpy", "device", "device_name", "start", "seconds", "dataset"}
"""What a provenance holds at least."""
COLUMN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

DEVICES = {"cpu": "CPU", "cuda": "GPU"}

Scalar = str | bool | int | float | None
Tables = dict[str, list[dict[str, Scalar]]]
"""The tables of a record by name; an experiment whose rows are all of one kind has one table."""


@dataclass(frozen=True)
class Record:
    """One run: what was asked for (`config`), what was found (`tables`, `arrays`) and how (`provenance`).

    `path` is the JSON file, None for a live run that was not written.
    """

    experiment: str
    config: dict[str, Any]
    tables: Tables
    arrays: dict[str, np.ndarray]
    provenance: dict[str, Any]
    hash: str
    path: Path | None = None


def results_folder() -> Path:
    """`results/` of the working tree."""
    return maso_book.tree.root() / "results"


def as_dict(config: Any) -> dict[str, Any]:
    """A configuration (a dataclass or a mapping) as the plain JSON object that is hashed and stored.

    Raises:
        MasoError: a value has no exact JSON form.

    Example:
        >>> as_dict({"seed": 0, "widths": (2, 3)})
        {'seed': 0, 'widths': [2, 3]}
    """
    fields = config if isinstance(config, Mapping) else dataclasses.asdict(config)
    return plain(dict(fields), "the configuration")


def content_hash(experiment: str, config: Any) -> str:
    """Name of the record of this configuration of this experiment: 16 hexadecimal digits.

    Example:
        >>> content_hash("01-rates", {"seed": 0})
        'df5e8bad27fc864e'
    """
    canonical = json.dumps(
        {"experiment": experiment, "config": as_dict(config)}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def plain(value: Any, what: str) -> Any:
    """`value` as JSON would give it back (tuples as lists, numpy numbers as Python's).

    Raises:
        MasoError: it, or something in it, has no exact JSON form; the message calls it `what`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise MasoError(f"{what} has the key {key!r}: keys of a record are strings.")
        return {key: plain(item, f"{what}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{what}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise MasoError(f"{what} is {value}: a record holds finite numbers. Store None, or a word that says why.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise MasoError(
        f"{what} is of type {type(value).__name__}, which has no JSON form. Use numbers, strings, lists and dicts; "
        "numpy arrays go into `arrays`."
    )


def tidy(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Tables:
    """These tables as JSON would give them back, checked.

    Raises:
        MasoError: a name is not snake_case, the rows of a table differ in their columns, or a value is no scalar.
    """
    if not isinstance(tables, Mapping):
        raise MasoError(f"The tables of a record are a mapping of names to rows, not a {type(tables).__name__}.")
    found: Tables = {}
    for name, rows in tables.items():
        columns = list(rows[0]) if rows else []
        for wrong in (word for word in (name, *columns) if not COLUMN.fullmatch(word)):
            raise MasoError(f"Table {name!r}: {wrong!r} is no name for a table or a column: write it in snake_case.")
        for number, row in enumerate(rows):
            if set(row) != set(columns):
                raise MasoError(f"Table {name!r}: row {number} has the columns {list(row)}, the first one {columns}.")
        ordered = [{column: row[column] for column in columns} for row in rows]
        found[name] = [plain(row, f"table {name!r}, row {number}") for number, row in enumerate(ordered)]
        for number, row in enumerate(found[name]):
            for column, value in row.items():
                if isinstance(value, list | dict):
                    kind = type(value).__name__
                    raise MasoError(
                        f"Table {name!r}, row {number}: {column!r} holds a {kind}, and a row holds scalars: "
                        "make a row of each, or put them into `arrays`."
                    )
    return found


# Provenance ---------------------------------------------------------------------------------------------------------


@cache
def git_commit() -> str | None:
    """Commit of the working tree, with `+dirty` where the package differs from it; None without git.

    A copy of the tree on a leased machine is told it by the file `_build/lease/commit`.
    """
    try:
        folder = maso_book.tree.root()
        told = folder / "_build" / "lease" / "commit"
        if told.is_file():
            return told.read_text().strip()
        git = ["git", "--no-optional-locks", "-C", str(folder)]
        top, commit = (
            subprocess.run([*git, "rev-parse", what], capture_output=True, text=True, check=True).stdout.strip()
            for what in ("--show-toplevel", "HEAD")
        )
        if Path(top).resolve() != folder:
            return None  # the tree was unpacked inside another repository
        changed = subprocess.run([*git, "status", "--porcelain", "--", "src"], capture_output=True, text=True).stdout
    except (MasoError, OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+dirty" if changed.strip() else "")


@cache
def device_name(kind: str) -> str:
    """Name of this machine's processor (`"cpu"`) or graphics card (`"cuda"`)."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def provenance(
    *, started: datetime, seconds: float, device: str = "cpu", code: str | None = None, dataset: str | None = None
) -> dict[str, Any]:
    """How a run was made, as a record keeps it.

    Args:
        started: when it began, in UTC.
        seconds: how long it took.
        device: `"cpu"` or `"cuda"`.
        code: digest of the code it used, `maso_book.meaning.digest`.
        dataset: checksum of the data set, None where there is none.
    """
    try:
        torchvision: str | None = version("torchvision")
    except PackageNotFoundError:
        torchvision = None
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return {
        "maso": maso.__version__,
        "commit": git_commit(),
        "code": code,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "torchvision": torchvision,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "device": device,
        "device_name": device_name(device),
        "start": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(peak),
        "dataset": dataset,
    }


# Write --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(action: str, path: Path) -> Iterator[None]:
    """Turn the operating system's errors into ones that say what to do."""
    try:
        yield
    except OSError as error:
        raise MasoError(f"Cannot {action} {path}: {reason(error)}") from error


def reason(error: OSError) -> str:
    """What the operating system says, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "The disk is full (or a quota is used up): free some space and run the same command again."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        advice = "Make this folder writable, or work in a copy of the repository that is."
    else:
        advice = "Nothing was changed; run the same command again once this is put right."
    return f"{error.strerror or error}. {advice}"


def write_aside(path: Path, data: bytes) -> Path:
    """Write `data` beside `path`, synced to disk; renaming the file that is returned puts it in place.

    Raises:
        MasoError: it cannot be written (nothing is left behind).
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with _explained("write", path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
    return aside


def write(path: Path, data: bytes) -> None:
    """Put `data` at `path` atomically: whole or not at all.

    Raises:
        MasoError: it cannot be written (what was there before stays).
    """
    aside = write_aside(path, data)
    try:
        with _explained("write", path):
            os.replace(aside, path)
            _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(experiment: str, *, root: Path | None = None) -> None:
    """Find out before a long run, not after it, that its record could not be written.

    Raises:
        MasoError: the experiment's folder cannot be written.
    """
    probe = (root or results_folder()) / experiment / "probe"
    write_aside(probe, b"x").unlink(missing_ok=True)


def save(
    experiment: str,
    config: Any,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    arrays: Mapping[str, np.ndarray],
    provenance: Mapping[str, Any],
    *,
    root: Path | None = None,
) -> Record:
    """Write one record and read it back; an older record of the same configuration is replaced.

    Args:
        experiment: its name, which is its folder.
        config: a dataclass or a mapping with a JSON form.
        tables: name → rows, see the module's text.
        arrays: name → array of numbers, booleans or strings.
        provenance: see `provenance`.
        root: folder of all records.

    Raises:
        MasoError: a value cannot be stored, or the file cannot be written. Nothing is half written.
    """
    folder = (root or results_folder()) / experiment
    name = content_hash(experiment, config)
    path, packed = folder / f"{name}.json", _pack(arrays)
    content = {
        "schema": SCHEMA,
        "experiment": experiment,
        "config": as_dict(config),
        "tables": tidy(tables),
        "provenance": plain(provenance, "provenance"),
        "arrays": hashlib.sha256(packed).hexdigest() if packed else None,
    }
    _check_provenance(content["provenance"])
    npz = _npz(path, content["arrays"])
    new = bool(packed) and not npz.exists()
    with _explained("write", path), locked(_lock(folder), shared=True):  # nobody sweeps between the two files
        if packed:
            write(npz, packed)
        try:
            write(path, sealed(content).encode())
        except MasoError:
            if new:
                npz.unlink(missing_ok=True)
            raise
        for old in folder.glob(f"{name}*.npz"):
            if old != npz:
                old.unlink(missing_ok=True)
    return load(path)


def _lock(folder: Path) -> Path:
    """Shared by those who write records of an experiment, held alone by who sweeps its folder."""
    return folder.parents[1] / "_build" / "locks" / folder.name


def _npz(path: Path, checksum: str | None) -> Path:
    """The file of a record's arrays, named by what it holds; one that is not there where there are none."""
    return path.with_name(f"{path.stem}-{(checksum or '')[:8]}.npz")


def trained_elsewhere(made: Mapping[str, Any]) -> str:
    """Of a provenance: the other device that its networks were trained on, "GPU"; empty where there is none."""
    return " and ".join(DEVICES[device] for device in made.get("trained_on", []) if device != made["device"])


def _check_provenance(provenance: Mapping[str, Any]) -> None:
    lacking = sorted(MADE - set(provenance))
    if lacking:
        raise MasoError(f"The provenance lacks {', '.join(lacking)}: it says how a record was made.")


def sealed(content: Mapping[str, Any]) -> str:
    """The text of a record's JSON file: a line for each row of a table, and the seal."""
    unsealed = {name: value for name, value in content.items() if name != "seal"}
    return _as_text({**unsealed, "seal": hashlib.sha256(_as_text(unsealed).encode()).hexdigest()})


def _as_text(content: Mapping[str, Any]) -> str:
    tables = [
        f"  {json.dumps(name)}: [\n"
        + ",\n".join(f"   {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in rows)
        + "\n  ]"
        for name, rows in content["tables"].items()
    ]
    held = json.dumps({**content, "tables": {}}, indent=1, ensure_ascii=False, allow_nan=False)
    return held.replace('\n "tables": {}', '\n "tables": {\n' + ",\n".join(tables) + "\n }", 1) + "\n"


def _pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The npz file of these arrays (the same bytes for the same arrays); empty where there are none."""
    for name, array in arrays.items():
        if not re.fullmatch(r"[\w.]+", name):
            raise MasoError(f"The array {name!r}: write its name in snake_case.")
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            kind = getattr(array, "dtype", type(array).__name__)
            raise MasoError(f"The array {name!r} is of type {kind}: records hold numpy arrays without objects.")
    if not arrays:
        return b""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()


# Read ---------------------------------------------------------------------------------------------------------------


def load(path: Path) -> Record:
    """Read and check one record.

    Raises:
        MasoError: it does not exist, is corrupt, is no record, or is another version's or another run's.
    """
    for _ in range(2):  # between the two files another process may have put a newer record in place
        try:
            return _load(path)
        except _Replaced:
            continue
    return _load(path)


class _Replaced(MasoError):
    """The arrays that a record names are gone, and the record is no longer the one that was read."""


ADVICE = "Restore it from git, or delete it and run its chapter again with `--profile full`."


def _load(path: Path) -> Record:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise MasoError(f"There is no record {path}.") from None
    except OSError as error:
        raise MasoError(f"Cannot read the record {path}: {error.strerror}.") from error
    content = _unsealed(text, path)
    try:
        arrays = _unpack(_npz(path, content["arrays"]), content["arrays"], ADVICE)
    except MasoError:
        if path.is_file() and path.read_bytes() != text:
            raise _Replaced(str(path)) from None
        raise
    return Record(
        content["experiment"],
        content["config"],
        content["tables"],
        arrays,
        content["provenance"],
        path.stem,
        path,
    )


def _unsealed(text: bytes, path: Path) -> dict[str, Any]:
    """The content of a record's JSON file, all of it checked.

    Raises:
        MasoError: it is not what `save` writes at this place.
    """
    advice = ADVICE
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_constant=_refused)
    except ValueError as error:
        raise MasoError(f"The record {path} is corrupt: it is not JSON ({error}). {advice}") from None
    if not isinstance(content, dict) or "schema" not in content:
        raise MasoError(f"{path} is not a record of this book: it has no `schema`. Move it out of the results folder.")
    if content["schema"] != SCHEMA:
        raise MasoError(
            f"The record {path} has schema {content['schema']!r}, this version of maso reads {SCHEMA}. "
            "Use the version of maso that wrote it, or run its chapter again with `--profile full`."
        )
    kinds = {"experiment": str, "config": dict, "tables": dict, "provenance": dict, "arrays": str | None, "seal": str}
    wrong = sorted(k for k, kind in kinds.items() if k not in content or not isinstance(content[k], kind))
    if wrong or set(content) != FIELDS:
        extra = sorted(set(content) - FIELDS)
        raise MasoError(f"The record {path} is corrupt: missing or wrong {wrong}, unexpected {extra}. {advice}")
    experiment, config = content["experiment"], content["config"]
    name = content_hash(experiment, config)
    if name != path.stem or experiment != path.parent.name:
        raise MasoError(
            f"The record {path} does not belong there: its content is that of {experiment}/{name}.json "
            f"(it was edited, renamed or copied). {advice}"
        )
    try:
        whole = sealed(content).encode() == text
    except (ValueError, TypeError, AttributeError):  # a number that overflows, tables of another form
        whole = False
    if not whole:
        raise MasoError(f"The record {path} is corrupt: its seal is not that of its content (it was edited). {advice}")
    _check_provenance(content["provenance"])
    _check_data(config.get("dataset"), content["provenance"]["dataset"], path)
    return content


def _check_data(name: Any, checksum: Any, path: Path) -> None:
    """Refuse a record of other data than those of its data set's name, where these are known here."""
    try:
        known = None if name is None else datasets.checksum_of(name)
    except MasoError:
        return  # somebody's own data set
    if known != checksum:
        raise MasoError(
            f"The record {path} was made of other data than {name}, whose checksum is {str(known)[:16]}…, not "
            f"{str(checksum)[:16]}…. Give data that changed another name, or run it again with `-p recompute true`."
        )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, each key once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _unpack(npz: Path, checksum: str | None, advice: str) -> dict[str, np.ndarray]:
    if checksum is None:
        return {}
    try:
        packed = npz.read_bytes()
    except OSError as error:
        raise MasoError(f"The record's arrays {npz} cannot be read: {error.strerror}. {advice}") from None
    if hashlib.sha256(packed).hexdigest() != checksum:
        raise MasoError(f"The record's arrays {npz} are corrupt: their checksum is not the recorded one. {advice}")
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # numpy, zipfile and zlib each have their own
        raise MasoError(f"The record's arrays {npz} are corrupt ({error}). {advice}") from None


def find(experiment: str, root: Path | None = None) -> list[Record]:
    """All records of an experiment, in the order of their names; none where there is no such folder.

    Raises:
        MasoError: one of them is corrupt or foreign.
    """
    return [load(path) for path in sorted(((root or results_folder()) / experiment).glob("*.json"))]


def verify(root: Path | None = None) -> list[str]:
    """Re-hash every record below `root`.

    Returns:
        One message for each thing wrong: corrupt and foreign records, arrays without a record.
    """
    folder = root or results_folder()
    problems: list[str] = []
    named: set[Path] = set()
    for path in sorted(folder.glob("*/*.json")):
        try:
            load(path)
        except MasoError as error:
            problems.append(str(error))
        named |= _arrays_of(path)
    for path in sorted(folder.glob("*/*")):
        if path.suffix == ".npz" and path not in named:
            problems.append(f"{path} belongs to no record: a run was killed. The next run of it removes the file.")
        elif path.suffix not in (".json", ".npz", ".tmp"):
            problems.append(f"{path} is not a record. Move it out of the results folder.")
    return problems


def _arrays_of(path: Path) -> set[Path]:
    """The arrays that a record's file names; all that may be its own where it cannot be read or they are not there."""
    possible = set(path.parent.glob(f"{path.stem}-*.npz"))
    try:
        checksum = json.loads(path.read_bytes())["arrays"]
    except (OSError, ValueError, KeyError, TypeError):
        return possible
    return set() if checksum is None else {_npz(path, str(checksum))} & possible or possible


def sweep(experiment: str, *, root: Path | None = None) -> None:
    """Remove what killed runs left in an experiment's folder: files under another name, arrays that no record names.

    Nothing is done while another process writes a record there.
    """
    folder = (root or results_folder()) / experiment
    with locked(_lock(folder), wait=False) as alone:
        if not alone:
            return
        named = {arrays for path in folder.glob("*.json") for arrays in _arrays_of(path)}
        for path in [*folder.glob("*.tmp"), *folder.glob("*.npz")]:
            if path not in named:
                path.unlink(missing_ok=True)
