"""What a step of training frees stays at hand for the next one."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_NEVER = 2**31 - 1


def keep_freed() -> None:
    """Give no memory back to the system until the process ends, where the C library is glibc; elsewhere do nothing.

    Large tensors are otherwise fresh pages at every step, which the system has to clear first: a tenth to a third of
    the time of an epoch of smallCNN (`benchmarks/training.py`).
    """
    with contextlib.suppress(AttributeError, OSError):
        for what in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(what, _NEVER)
