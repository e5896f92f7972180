"""Blocks of rows on several threads: numpy lets other threads run while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_pool)  # threads do not survive a fork


def over_blocks(work: Callable[[slice], None], rows: int, step: int) -> None:
    """Call work(slice) for blocks of `step` rows, on as many threads as torch uses; blocks must not share output."""
    global _pool
    blocks = [slice(i, min(i + step, rows)) for i in range(0, rows, step)]

    def each(share: list[slice]) -> None:
        for block in share:
            work(block)

    workers = min(torch.get_num_threads(), len(blocks) // 4)
    if workers < 2:
        each(blocks)
        return
    _pool = _pool or ThreadPoolExecutor(os.cpu_count())
    others = [_pool.submit(each, blocks[i::workers]) for i in range(1, workers)]
    each(blocks[::workers])
    for other in others:
        other.result()
