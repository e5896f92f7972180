"""The book's working tree: where it is, and the digest of contents by which its parts are known to be up to date.

Modification times mean nothing after `git clone`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
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
