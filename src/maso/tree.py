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
    if parts[0] != "maso" or "" in parts:
        return None
    base = PACKAGE.joinpath(*parts[1:])
    for file in (base / "__init__.py", base.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@cache
def _exports() -> dict[str, str]:
    """Where each name that `import maso` offers is defined: "maso.trace" is in the module "maso.tracing"."""
    face = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    found = [node for node in face.body if isinstance(node, ast.ImportFrom) and node.module != "maso"]
    return {f"maso.{alias.name}": str(node.module) for node in found for alias in node.names}


def _imports(source: str, module: str | None) -> set[str]:
    """Modules of this package that a source text imports or names, `module` being the text's own name.

    `maso.trace` stands for the module that defines it. The package itself, which offers everything, counts only
    where it is used as a whole.
    """
    names: set[str] = set()
    whole: set[str] = set()
    nodes = list(ast.walk(ast.parse(source)))
    bases = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
            whole.update(alias.name for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level and module is not None:
                file = _file_of(module)
                depth = node.level - (file is not None and file.name == "__init__.py")
                package = module.split(".")[: len(module.split(".")) - depth]
                base = ".".join([*package, *([base] if base else [])])
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
            whole.update({base} if any(alias.name == "*" for alias in node.names) else ())
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
        elif isinstance(node, ast.Name) and id(node) not in bases:
            whole.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("maso."):
            names.add(node.value)  # a module loaded by name
    parents = {".".join(name.split(".")[:n]) for name in names for n in range(2, name.count(".") + 2)}
    named = {_exports().get(name, name) for name in parents} | (whole & {"maso"})
    return {name for name in named if _file_of(name) is not None}


def files_used(modules: Iterable[str] = (), *, source: str = "") -> list[Path]:
    """Files of this package that these modules and this source text use, themselves included, sorted.

    Raises:
        MasoError: one of `modules` is not a module of this package.

    Example:
        >>> [file.name for file in files_used(["maso.codes"], source="import maso; maso.trace")]
        ['codes.py', 'errors.py', 'graph.py', 'operators.py', 'tracing.py']
    """
    todo = set(modules) | _imports(source, None)
    done: dict[str, Path] = {}
    while todo:
        module = todo.pop()
        file = _file_of(module)
        if file is None:
            raise MasoError(f"There is no module {module!r} in the package maso.")
        done[module] = file
        parents = {module.rpartition(".")[0]} - {"", "maso"}
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
