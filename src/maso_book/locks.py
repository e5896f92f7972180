"""Locks between processes: files in `_build/locks`, held through `flock`, so that a killed process holds none."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Inside, this process holds the lock, alone or with others that share it.

    Args:
        path: the lock's file; it stays.
        wait: until it is free.
        shared: with others that ask for it so.

    Yields:
        Whether it is held: always, where it was waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
