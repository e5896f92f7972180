"""Whether a re-run of a cell found what its record says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from maso_book.records import Record

RELATIVE, ABSOLUTE = 1e-3, 1e-6  # how far a re-run may be from its record, on another machine or version of torch


def differences(recorded: Record, again: Record) -> list[str]:
    """What a re-run found otherwise than its record: one line for each value, timings left out."""
    found: list[str] = []
    _compare("tables", recorded.tables, again.tables, found)
    _compare("arrays", recorded.arrays, again.arrays, found)
    return found


def _compare(name: str, old: Any, new: Any, found: list[str]) -> None:
    if name.endswith("seconds"):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            _compare(f"{name}.{key}", old.get(key), new.get(key), found)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (item, other) in enumerate(zip(old, new, strict=True)):
            _compare(f"{name}[{number}]", item, other, found)
    elif not _same(np.asarray(old), np.asarray(new)):
        found.append(f"{name}: recorded {_short(old)}, now {_short(new)}")


def _same(old: np.ndarray, new: np.ndarray) -> bool:
    if old.shape != new.shape or {old.dtype.kind, new.dtype.kind} & set("fc") == set():
        return np.array_equal(old, new)
    if {old.dtype.kind, new.dtype.kind} <= set("biufc"):
        return bool(np.allclose(old, new, RELATIVE, ABSOLUTE, equal_nan=True))
    return False


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "…"
