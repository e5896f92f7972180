"""Blocks of rows on several threads: numpy lets other threads run while it computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def over_blocks(work: Callable[[slice], None], rows: int, step: int) -> None:
    """Call work(slice) for blocks of `step` rows, on as many threads as torch uses; blocks must not share output."""
    blocks = [slice(i, min(i + step, rows)) for i in range(0, rows, step)]
    workers = min(torch.get_num_threads(), len(blocks))
    if workers < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, blocks):
            pass
