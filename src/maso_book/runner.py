"""Runs chapters: a source notebook through papermill, in its own process, into a copy with outputs.

The run with the default parameters is the book's, `book/chapters/<chapter>.ipynb`; any other goes to
`_build/chapters/`. Times and paths are stripped, so a rerun gives the same bytes. A copy is put in place when the run
has ended, whole, also where it failed: then with the traceback, and without a marker.

A chapter is fresh when its marker `_build/state/<chapter>-<digest>.done` is there and names the copy as it is. The
digest covers the notebook, what its code may execute (`maso_book.meaning`), the records of its experiments, its claims
and the parameters, so freshness never depends on modification times.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

import maso_book.tree
from maso.errors import MasoError
from maso_book import meaning, records, registry
from maso_book.chapters import Chapter
from maso_book.claims import claims
from maso_book.locks import locked
from maso_book.parameters import check_values

# Parameters ---------------------------------------------------------------------------------------------------------


def defaults(which: Chapter) -> dict[str, Any]:
    """The parameters of a chapter and their defaults, from its cell tagged `parameters`.

    Raises:
        MasoError: the notebook has no such cell, or it holds something else than assignments of constants.
    """
    cells = [cell for cell in _read(which.source).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise MasoError(f"{which.source} has {len(cells)} cells tagged `parameters`: expected one.")
    found = {}
    for statement in meaning.parsed(cells[0].source, f"{which.source}, the `parameters` cell,").body:
        try:
            (target,) = statement.targets  # type: ignore[attr-defined]
            found[target.id] = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
        except (AttributeError, ValueError):
            text = ast.unparse(statement)
            raise MasoError(
                f"{which.source}: the `parameters` cell holds `{text}`: expected name = constant."
            ) from None
    return found


def check(which: Chapter, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that differ from the defaults.

    Raises:
        MasoError: the chapter has no such parameter, or as in `check_values`; the message lists the valid ones.
    """
    known = defaults(which)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise MasoError(
            f"Chapter {which.number} has no parameter {', '.join(unknown)}. Parameters: {', '.join(known)}."
        )
    check_values(parameters)
    return {name: value for name, value in parameters.items() if value != known[name]}


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        return notebook
    except Exception as error:  # nbformat and json each have their own
        raise MasoError(f"The notebook {path} cannot be read ({error}). Restore it from git.") from error


# Freshness ----------------------------------------------------------------------------------------------------------


def digest(which: Chapter, parameters: Mapping[str, Any] | None = None) -> str:
    """Digest of all that a run of this chapter depends on, 16 hexadecimal digits.

    Raises:
        MasoError: the chapter is broken: its notebook cannot be read, or code that it runs is no Python.
    """
    sources = [cell.source for cell in _read(which.source).cells if cell.cell_type == "code" and cell.source.strip()]
    cells = {
        f"{which.source}, code cell {number},": re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)
        for number, source in enumerate(sources, start=1)
    }
    for module in sorted((maso_book.tree.PACKAGE / f"ch{which.number}").glob("*.py")):
        meaning.parsed(module.read_bytes(), str(module))
    own = {"experiments": "EXPERIMENTS", "verdicts": "verdicts"}
    found = {room: registry.module_of(which.number, room) for room in own}
    also = [f"{module.__name__}.{own[room]}" for room, module in found.items() if module]
    executed = meaning.digest_of_cells(cells, also=[*also, "maso_book.runner.run"])
    files = [maso_book.tree.PACKAGE / "_papermill.py", *meaning.known_by_content()]
    for room in ("shared", f"ch{which.number}"):
        files += sorted(p for p in (maso_book.tree.PACKAGE / room).glob("*") if p.suffix in (".js", ".css"))
    folders = sorted(path for path in (which.root / "results").glob("*-*") if path.is_dir())
    text = "".join(sources)
    used = [folder for folder in folders if folder.name.startswith(f"{which.number}-") or folder.name in text]
    files += [path for folder in used for path in sorted(folder.glob("*.json"))]
    asked = json.dumps(dict(parameters or {}), sort_keys=True, default=str)
    claimed = repr([claim for claim in claims(which.root) if claim.chapter == which.number])
    parts = [part for file in files for part in (file.name.encode(), file.read_bytes())]
    return maso_book.tree.digest(
        [which.source.read_bytes(), executed.encode(), asked.encode(), claimed.encode(), *parts]
    )


def marker(which: Chapter) -> Path:
    """The file that says that the book's copy of this chapter is up to date."""
    return which.root / "_build" / "state" / f"{which.name}-{digest(which)}.done"


def is_fresh(which: Chapter) -> bool:
    """Whether the book's copy of this chapter is what a run would give; a marker that says otherwise is removed."""
    mark, copy = marker(which), which.output({})
    fresh = mark.is_file() and copy.is_file() and mark.read_text() == _sha256(copy)
    if not fresh:
        with contextlib.suppress(OSError):  # of a tree that cannot be written
            mark.unlink()
    return fresh


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Run ----------------------------------------------------------------------------------------------------------------


def run(which: Chapter, parameters: Mapping[str, Any] | None = None, *, output: Path | None = None) -> Path:
    """Run a chapter and put the copy with its outputs in place.

    Args:
        which: the chapter.
        parameters: values for its `parameters` cell.
        output: where the copy goes; by default `Chapter.output`.

    Returns:
        The copy with outputs.

    Raises:
        MasoError: an unknown parameter or profile (nothing is run), or the chapter failed (the copy is there, with
            the traceback).
    """
    changed = check(which, parameters or {})
    target = output or which.output(changed)
    if target != which.output({}):
        return _run(which, changed, target)
    with locked(which.root / "_build" / "locks" / which.name):  # a killed build may have left a run under way
        return _run(which, changed, target)


def _run(which: Chapter, changed: Mapping[str, Any], target: Path) -> Path:
    asked = digest(which)  # before the run: what is changed meanwhile makes it stale
    if target == which.output({}):
        for old in (which.root / "_build" / "state").glob(f"{which.name}-*.done"):
            old.unlink(missing_ok=True)
    short = "/tmp" if os.path.isdir("/tmp") else None  # a socket's path has about 100 characters
    with tempfile.TemporaryDirectory(prefix="maso-", dir=short) as folder:
        request = {"source": str(which.source), "copy": f"{folder}/copy.ipynb", "parameters": changed, "folder": folder}
        environment = os.environ | {
            "JUPYTER_RUNTIME_DIR": folder,
            "JUPYTER_PREFER_ENV_PATH": "1",
            "TMPDIR": folder,
            "MASO_ROOT": str(which.root),
            "PYTHONHASHSEED": "0",
        }
        command = [sys.executable, "-P", str(maso_book.tree.PACKAGE / "_papermill.py"), json.dumps(request)]
        # the pipe closes when this process ends, also where it is killed: what it started ends then
        with subprocess.Popen(command, cwd=which.root, env=environment, stdin=subprocess.PIPE) as child:
            child.wait()
        copy = Path(folder) / "copy.ipynb"
        if not copy.exists():
            raise MasoError(f"Chapter {which.number} could not be started: papermill ended with {child.returncode}.")
        notebook = _read(copy)
        problem = _problem(notebook, child.returncode)
        _clean(notebook, _read(which.source), {str(which.root): ".", folder: ".", sys.prefix: "<environment>"})
    records.write(target, (nbformat.writes(notebook) + "\n").encode())
    if problem:
        raise MasoError(f"Chapter {which.number} failed: {problem}. The traceback is in {target}.")
    if target == which.output({}):
        records.write(which.root / "_build" / "state" / f"{which.name}-{asked}.done", _sha256(target).encode())
    return target


def put_failure(which: Chapter, problem: str) -> None:
    """Put a page that says so in the place of the book's copy of a chapter that cannot be run."""
    notebook = nbformat.v4.new_notebook()
    text = f"# {which.title or which.name}\n\nThis chapter could not be run.\n\n```text\n{problem}\n```\n"
    notebook.cells = [nbformat.v4.new_markdown_cell(_neutral(text, {str(which.root): "."}), id="failed")]
    records.write(which.output({}), (nbformat.writes(notebook) + "\n").encode())


def _problem(notebook: nbformat.NotebookNode, code: int) -> str | None:
    """What went wrong, None where every code cell ran to its end; the cell in which the kernel died says so."""
    number = begun = 0
    last = nbformat.v4.new_code_cell()
    for cell in notebook.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        number += 1
        error = next((output for output in cell.outputs if output.output_type == "error"), None)
        if error is not None and "raises-exception" not in cell.metadata.get("tags", []):
            return f"code cell {number}: {error.ename}: {error.evalue}".strip().rstrip(".")
        if cell.metadata.get("papermill", {}).get("start_time"):
            begun, last = number, cell
    if begun == number and not code:
        return None
    reason = f"code cell {begun}: the kernel stopped in it" if begun else "the kernel stopped before the first cell"
    output = nbformat.v4.new_output("error", ename="MasoError", evalue=reason, traceback=[reason])
    last.outputs.append(output)
    return reason


def _clean(notebook: nbformat.NotebookNode, source: nbformat.NotebookNode, paths: Mapping[str, str]) -> None:
    """Take out what differs between two runs of the same chapter: times, paths, addresses, random ids."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    known = {cell.get("id") for cell in source.cells}
    for position, cell in enumerate(notebook.cells):
        if cell.get("id") not in known:
            cell.id = f"cell-{position}"
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if cell.cell_type != "code":
            continue
        cell.outputs = _merged(cell.outputs)
        for output in cell.outputs:
            for holder, key in ((output, "text"), (output, "evalue"), (output.get("data", {}), "text/plain")):
                if key in holder:
                    holder[key] = _neutral(holder[key], paths)
            if "traceback" in output:
                output.traceback = [_neutral(line, paths) for line in output.traceback]


def _merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs without progress bars, each run of streams as one piece of stdout, then one of stderr.

    How a kernel cuts its streams into pieces, and how it mixes the two, depends on the moment.
    """
    kept: list[nbformat.NotebookNode] = []
    for stream, group in itertools.groupby(outputs, lambda output: output.output_type == "stream"):
        if not stream:
            kept += group
            continue
        texts = {"stdout": "", "stderr": ""}
        for output in group:
            texts[output.name] += output.text
        texts["stderr"] = re.sub(r"[^\n]*\r[^\n]*\n?", "", texts["stderr"])
        pieces = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in texts.items()]
        kept += [piece for piece in pieces if piece.text.strip()]
    return kept


def _neutral(text: str, paths: Mapping[str, str]) -> str:
    for path, name in paths.items():
        text = text.replace(path, name)
    return re.sub(r"\b0x[0-9a-f]{6,}\b", "0x…", text)
