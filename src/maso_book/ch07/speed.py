"""How fast are codes compared? (07-speed, and `benchmarks/codes.py`)

The k nearest of M random codes of one ReLU layer for each of N, all ways exact: the product of `maso.neighbours`, the
same with codes that are kept in float32, and bits packed into words with the exclusive or counted by numpy.  The floor
reads and writes the packed codes once: no way can do with less memory traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maso.codes import BLOCK, Signatures, nearest, signs


@dataclass(frozen=True)
class Speed:
    """N = `queries` codes against M = `images` of `units` units each; every way is timed `repeats` times."""

    seed: int
    queries: int = 1000
    images: int = 10_000
    units: int = 28_800
    k: int = 15
    repeats: int = 3


def run_speed(config: Speed) -> tuple[dict[str, list[dict[str, Any]]], dict[str, np.ndarray]]:
    """How long each way takes, and whether it finds the same neighbours.

    Tables:
        timings: a row for each way and repeat.  `way`: a key of `WAYS`, or `FLOOR`; `repeat`; `encoding_seconds`, null
            for the floor; `search_seconds`.
        ways: a row for each way.  `other_neighbours`: in how many places its neighbours are not those of the first.
    """
    x, y = gates(config)
    timings: list[dict[str, Any]] = []
    ways: list[dict[str, Any]] = []
    expected = None
    for way, (encode, search) in WAYS.items():
        (a, b), encoding = timed(lambda encode=encode: (encode(x), encode(y)), config.repeats)  # type: ignore[misc]
        nearest, seconds = timed(lambda search=search, a=a, b=b: search(a, b, config.k), config.repeats)  # type: ignore[misc]
        timings += _timings(way, encoding, seconds)

        expected = nearest if expected is None else expected
        ways.append({"way": way, "other_neighbours": int((nearest != expected).sum())})

    _, seconds = timed(lambda: floor(x, y), config.repeats)
    timings += _timings(FLOOR, [None] * config.repeats, seconds)
    return {"timings": timings, "ways": ways}, {}


def _timings(way: str, encoding: Sequence[float | None], search: Sequence[float]) -> list[dict[str, Any]]:
    """The rows of one way."""
    return [
        {"way": way, "repeat": repeat, "encoding_seconds": before, "search_seconds": seconds}
        for repeat, (before, seconds) in enumerate(zip(encoding, search, strict=True))
    ]


def gates(config: Speed) -> tuple[Tensor, Tensor]:
    """Random gates, (N, units) and (M, units) bool, on the default device."""
    device = torch.get_default_device()
    generator = torch.Generator(device).manual_seed(config.seed)
    x, y = (
        torch.randint(0, 2, (n, config.units), dtype=torch.int8, device=device, generator=generator).bool()
        for n in (config.queries, config.images)
    )
    return x, y


def timed(run: Callable[[], Any], repeats: int) -> tuple[Any, list[float]]:
    """The last result of some runs and the seconds of each."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        if torch.get_default_device().type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return result, seconds


class Floats(Signatures):
    """±1 in float32: exact up to 2²⁴ units."""

    def differences(self, other: Signatures) -> Tensor:
        """(N, M) int32."""
        return ((self.units - self.vectors @ other.vectors.T) / 2).int()


def integers(code: Tensor) -> list[Signatures]:
    """Gates (N, units) as `maso.neighbours` encodes them."""
    return [Signatures.of([signs(part, 2)], code.shape[1], 2) for part in code.split(BLOCK)]


def floats(code: Tensor) -> list[Signatures]:
    """The same in float32."""
    return [Floats(part.float().mul_(2).sub_(1), len(part), code.shape[1], 2) for part in code.split(BLOCK)]


def by_product(x: list[Signatures], y: list[Signatures], k: int) -> np.ndarray:
    """The search of `maso.neighbours`."""
    total, numbers = sum(part.samples for part in y), []
    for rows in x:
        start, keys = 0, None
        for part in y:
            keys = nearest(rows, part, k, start=start, total=total, before=keys)
            start += part.samples
        assert keys is not None
        numbers.append(keys % total)
    return torch.cat(numbers).cpu().numpy()


def words(code: Tensor) -> np.ndarray:
    """Gates as bits in 64-bit words, (N, units) → (N, words)."""
    bits = np.packbits(code.cpu().numpy(), axis=1)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)


def by_words(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """Exclusive or, `numpy.bitwise_count` and a sum; 32 rows of b at a time, so that they stay in the cache."""
    count = np.empty((len(a), len(b)), np.int64)
    for start in range(0, len(b), 32):
        part = b[start : start + 32]
        differ = np.empty_like(part)
        for row, word in zip(count[:, start : start + 32], a, strict=True):
            np.bitwise_xor(word, part, out=differ)
            row[:] = np.bitwise_count(differ).sum(1, dtype=np.int64)
    key = count * len(b) + np.arange(len(b))
    return np.sort(np.partition(key, k - 1, axis=1)[:, :k], axis=1) % len(b)


def floor(x: Tensor, y: Tensor) -> None:
    """As many bytes as the packed codes have, read and written once."""
    size = (len(x) + len(y)) * (x.shape[1] // 8)
    torch.zeros(size, dtype=torch.uint8).clone()


FLOOR = "floor: packed codes read and written once"

Way = tuple[Callable[[Tensor], Any], Callable[[Any, Any, int], np.ndarray]]
WAYS: dict[str, Way] = {
    "`maso.neighbours`": (integers, by_product),
    "float32 product": (floats, by_product),
    "packed bits, numpy": (words, by_words),
}
"""How gates are encoded, and how the nearest are found."""
