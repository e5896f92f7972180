"""The book's working tree: where it is, which of the package's files a piece of code uses, and their digest.

Modification times mean nothing after `git clone`, so "is this still up to date?" is always answered by a digest
of contents. What a notebook or an experiment uses is the closure of its imports inside `maso`, read from the
source without running it.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from maso.errors import MasoError

PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The folder that holds `notebooks/` and `_config.yml`.

    Looked for in the environment variable `MASO_ROOT`, then from the current folder upwards, then beside the
    package's own source (an editable install).

    Raises:
        MasoError: there is no such folder (the package is installed on its own).
    """
    named = os.environ.get("MASO_ROOT")
    if named is not None:
        candidates = [Path(named)]
    else:
        here = Path.cwd()
        candidates = [here, *here.parents, PACKAGE.parents[1]]
    for folder in candidates:
        if (folder / "notebooks").is_dir() and (folder / "_config.yml").is_file():
            return folder.resolve()
    where = f"MASO_ROOT={named}" if named is not None else "the current folder or above it"
    raise MasoError(
        f"The book's working tree was not found at {where}: expected a folder with notebooks/ and _config.yml. "
        "Clone the repository, then run this inside it or set MASO_ROOT to its folder."
    )


@cache
def _file_of(module: str) -> Path | None:
    """The file of a module of this package, None where there is none."""
    parts = module.split(".")
    if parts[0] != "maso":
        return None
    base = PACKAGE.joinpath(*parts[1:])
    for file in (base / "__init__.py", base.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def _imports(source: str, module: str | None) -> set[str]:
    """Modules of this package that a source text imports or names, `module` being the text's own name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level and module is not None:
                file = _file_of(module)
                depth = node.level - (file is not None and file.name == "__init__.py")
                package = module.split(".")[: len(module.split(".")) - depth]
                base = ".".join([*package, *([base] if base else [])])
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("maso."):
            names.add(node.value)  # a module loaded by name
    parents = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
    return {name for name in parents if _file_of(name) is not None}


def files_used(modules: Iterable[str] = (), *, source: str = "") -> list[Path]:
    """Files of this package that these modules and this source text use, themselves included, sorted.

    Raises:
        MasoError: one of `modules` is not a module of this package.

    Example:
        >>> {"errors.py", "__init__.py"} <= {file.name for file in files_used(["maso.errors"])}
        True
    """
    todo = set(modules) | _imports(source, None)
    done: dict[str, Path] = {}
    while todo:
        module = todo.pop()
        file = _file_of(module)
        if file is None:
            raise MasoError(f"There is no module {module!r} in the package maso.")
        done[module] = file
        parents = {module.rpartition(".")[0]} - {""}
        todo |= (_imports(file.read_text(encoding="utf-8"), module) | parents) - set(done)
    return sorted(done.values())


def digest(parts: Iterable[bytes]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of these byte strings, order and boundaries included.

    Example:
        >>> digest([b"ab", b"c"]) == digest([b"a", b"bc"])
        False
    """
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]


def code_digest(modules: Iterable[str]) -> str:
    """Digest of the code that these modules use: names and contents of their files."""
    files = files_used(modules)
    return digest(part for file in files for part in (file.relative_to(PACKAGE).as_posix().encode(), file.read_bytes()))
