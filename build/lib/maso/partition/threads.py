"""Work on several threads: numpy and torch let other threads run while they compute.

The threads of numpy's matrix products wait busily for some time after each one, and so do torch's; on small operators
each would wait for the other's.  While a partition is computed, torch therefore keeps to one thread but for large
operators, and matrix products are torch's, in blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")

_MANY = 1 << 18
_lent = 0  # threads that torch gave up


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


@contextmanager
def lend_threads() -> Iterator[None]:
    """Give torch's threads to `over_blocks`, torch itself keeps one; nested calls change nothing."""
    global _lent
    if _lent:
        yield
        return
    _lent = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_lent)
        _lent = 0


@contextmanager
def threads_for(numbers: int) -> Iterator[None]:
    """Give torch its threads back for work on that many numbers, if that pays."""
    if not _lent or numbers < _MANY:
        yield
        return
    torch.set_num_threads(_lent)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def over_blocks(work: Callable[[slice], None], rows: int, step: int) -> None:
    """Call work(slice) for blocks of `step` rows, on as many threads as torch uses; blocks must not share output."""
    blocks = iter([slice(i, min(i + step, rows)) for i in range(0, rows, step)])

    def share() -> None:
        for block in blocks:
            work(block)

    in_parallel(*[share] * max(1, min(_threads(), rows // (2 * step))))


def in_parallel(*works: Callable[[], T], numbers: float = math.inf) -> list[T]:
    """Results of independent functions, each on a thread of its own if that pays, the last one on this thread."""
    others = [later(work, numbers) for work in works[:-1]]
    last = works[-1]()
    return [*(wait() for wait in others), last]


def later(work: Callable[[], T], numbers: float = math.inf) -> Callable[[], T]:
    """Begin a function on another thread, if there is one; the function returned waits for its result.

    What no thread has begun by then is done by the one that waits, so that no thread waits in vain; so is work on so
    few numbers that another thread does not pay.
    """
    if _threads() == 1 or numbers < _MANY:
        return cache(work)
    future = _pool(_threads()).submit(work)
    return cache(lambda: work() if future.cancel() else future.result())


def _threads() -> int:
    return _lent or torch.get_num_threads()
