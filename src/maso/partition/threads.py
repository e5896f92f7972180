"""Blocks of rows on several threads: numpy and torch let other threads run while they compute.

The threads of numpy's matrix products wait busily for some time after each one, and so do torch's; on small operators
each would wait for the other's.  While a partition is computed, torch therefore keeps to one thread but for large
operators.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

_MANY = 1 << 18
_pool: ThreadPoolExecutor | None = None
_lent = 0  # threads that torch gave up


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # threads do not survive a fork


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
    blocks = [slice(i, min(i + step, rows)) for i in range(0, rows, step)]

    def each(share: list[slice]) -> None:
        for block in share:
            work(block)

    workers = max(1, min(_lent or torch.get_num_threads(), len(blocks) // 2))
    in_parallel(*(functools.partial(each, blocks[i::workers]) for i in range(workers)))


def in_parallel(*works: Callable[[], Any]) -> list[Any]:
    """Results of independent functions, each on a thread of its own, the last one on this thread."""
    global _pool
    if len(works) > 1 and _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))
    others = [_pool.submit(work) for work in works[:-1]] if _pool else []
    last = works[-1]()
    return [*(other.result() for other in others), last]
