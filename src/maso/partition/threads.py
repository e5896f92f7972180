"""Work on several threads: numpy and torch let other threads run while they compute.

The threads of numpy's matrix products wait busily for some time after each one, and so do torch's; on small operators
each would wait for the other's.  While a partition is computed, torch therefore keeps to one thread but for large
operators, and matrix products are torch's, in blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache

import torch

_MANY = 1 << 18  # numbers from which on an operator is worth torch's threads
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

    helpers = max(1, min(_threads(), rows // (2 * step))) - 1  # each has two blocks to do, or it does not pay
    futures = [_pool(_threads()).submit(share) for _ in range(helpers)]
    try:
        share()
    finally:  # what no thread has begun by now is done
        begun = [future for future in futures if not future.cancel()]
        wait(begun)
    for future in begun:
        future.result()


def _threads() -> int:
    return _lent or torch.get_num_threads()
