"""Nearest neighbours by VQ distance in one layer: the package's way against others, in one run.

    python benchmarks/codes.py [--queries 1000] [--images 10000] [--units 28800] [--threads 2] [--repeats 3]
                               [--device cpu] [--ways maso float32 packed faiss]

Random codes of one ReLU layer (28,800 units is the first one of smallCNN); the 15 nearest are found, all ways exact.

- `maso` is what `maso.neighbours` does (int8 where the processor multiplies it, else float32 a part at a time),
  `float32` the same product with codes kept in float32, `packed` bits in words counted by numpy.
- `faiss` is `IndexBinaryFlat` (packed bits, VPOPCNTDQ where the processor has it), where faiss is installed; ties in
  its order, so distances are compared.
- `floor` reads and writes the packed codes once: the memory traffic that no way avoids.

Encoding is timed apart from the search.  Ratios are to `maso`; `whole` extrapolates the search to 10,000 queries
against 50,000 images.  The forward pass that gives the codes is not in it.
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import numpy as np
import torch

from maso_book.ch07.speed import WAYS, Speed, floor, gates, timed

NAMES = dict(zip(("maso", "float32", "packed"), WAYS, strict=True))


def by_faiss(x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """Distances of the k nearest, (N, k)."""
    import faiss

    index = faiss.IndexBinaryFlat(8 * y.shape[1])
    index.add(y)
    return index.search(x, k)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--units", type=int, default=28_800)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ways", nargs="+", choices=[*NAMES, "faiss"], default=[*NAMES, "faiss"])
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    config = Speed(0, asked.queries, asked.images, asked.units, repeats=asked.repeats)
    with torch.device(asked.device):
        x, y = gates(config)
        rows = [_row(way, x, y, config) for way in asked.ways if way != "faiss"]
        floor_seconds = min(timed(lambda: floor(x, y), asked.repeats)[1])
    if "faiss" in asked.ways:
        if importlib.util.find_spec("faiss"):
            rows.append(_faiss(x, y, config, asked.threads))
        else:
            print("faiss is not installed: no row.")
    scale = 10_000 * 50_000 / (asked.queries * asked.images)
    print(f"{asked.queries:,} × {asked.images:,}, {asked.units:,} units, {asked.threads} threads, {asked.device}")
    print(f"{'way':10} {'encode s':>9} {'search s':>9} {'ratio':>7} {'whole s':>8}  sum of distances")
    for way, encoding, search, same in rows:
        print(f"{way:10} {encoding:9.2f} {search:9.3f} {search / rows[0][2]:7.1f} {search * scale:8.0f}  {same}")
    print(f"{'floor':10} {'':9} {floor_seconds:9.4f} {floor_seconds / rows[0][2]:7.3f}")


def _row(way: str, x: torch.Tensor, y: torch.Tensor, config: Speed) -> tuple[str, float, float, Any]:
    encode, search = WAYS[NAMES[way]]
    (a, b), encoding = timed(lambda: (encode(x), encode(y)), config.repeats)
    found, seconds = timed(lambda: search(a, b, config.k), config.repeats)
    return way, min(encoding), min(seconds), _distances(x, y, found)


def _distances(x: torch.Tensor, y: torch.Tensor, index: np.ndarray) -> int:
    """Sum of the distances of the neighbours of the first 100 queries: the same for every exact way."""
    at = torch.as_tensor(index[:100], device=y.device)
    return int((x[:100, None] != y[at]).sum())


def _faiss(x: torch.Tensor, y: torch.Tensor, config: Speed, threads: int) -> tuple[str, float, float, Any]:
    import faiss

    faiss.omp_set_num_threads(threads)
    pack = lambda code: np.packbits(code.cpu().numpy(), axis=1)  # noqa: E731
    (a, b), encoding = timed(lambda: (pack(x), pack(y)), config.repeats)
    found, seconds = timed(lambda: by_faiss(a, b, config.k), config.repeats)
    return "faiss", min(encoding), min(seconds), int(found[:100].sum())


if __name__ == "__main__":
    main()
