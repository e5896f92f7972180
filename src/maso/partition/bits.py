"""64-bit words: packed signs, and region keys.

A region's *key* is a sum of 64-bit tokens, one for each choice its kinks make (a gate above a threshold, the winner of
a window).  Two regions have equal keys iff they have equal codes, up to a collision of probability about F² / 2⁶⁵ for
F regions.  Tokens depend only on the network, so keys agree between windows, tiles and forwarded points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from maso.partition.constants import RADIX
from maso.partition.threads import threads_for

Array = np.ndarray[Any, Any]

GAMMA = 1e-13
"""|z| ≤ GAMMA × the size of the numbers that have met in z counts as zero: some hundred times the rounding errors that
they leave, and never more for numbers that meet elsewhere (see `noise`)."""


def mix(numbers: Any) -> Array:
    """A random-looking 64-bit number for every integer (splitmix64)."""
    with np.errstate(over="ignore"):
        a = np.asarray(numbers).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        a = (a ^ (a >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        a = (a ^ (a >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (a ^ (a >> np.uint64(31))).astype(np.int64)


def gate_tokens(kink: int, threshold: int, units: int) -> Array:
    """Tokens of the units of a gate that lie above its threshold number `threshold`: (units,)."""
    return mix(mix((kink << 8) + threshold + 1) + np.arange(units))


def winner_tokens(kink: int, windows: Array, entries: Array) -> Array:
    """Tokens of windows of a selection won by the given entries."""
    return mix(mix(mix((kink << 8) + 255) + np.asarray(windows)) + entries)


def pack(mask: Array) -> Array:
    """(rows, n) bool → (rows, ⌈n/64⌉) uint64."""
    out = np.zeros((mask.shape[0], (mask.shape[1] + 63) // 64 * 8), np.uint8)
    out[:, : (mask.shape[1] + 7) // 8] = np.packbits(mask, axis=1, bitorder="little")
    return out.view(np.uint64)


def unpack(words: Array, n: int) -> Array:
    """The inverse of `pack`: (rows, words) uint64 → (rows, n) bool."""
    return np.unpackbits(words.view(np.uint8), axis=1, count=n, bitorder="little").astype(bool)


def set_bits(words: Array) -> tuple[Array, Array]:
    """Row and column of every bit that is set, in row-major order."""
    width = words.shape[1]
    full = np.flatnonzero(words != 0)
    octets = np.ascontiguousarray(words.ravel()[full]).view(np.uint8)
    bits = np.flatnonzero(np.unpackbits(octets, bitorder="little").view(bool))  # fast for bool alone
    word = full[bits >> 6]
    row = word // width
    return row, (word - row * width) * 64 + (bits & 63)


def entry(values: Array, row: Array, column: Array) -> Array:
    """Single entries of a matrix: values[row, column]."""
    entries: Array = values.reshape(-1).take(row * values.shape[1] + column)
    return entries


def bit(words: Array, row: Array, column: Array) -> Array:
    """Single bits as int8."""
    octets = entry(words.view(np.uint8), row, column >> 3)
    return ((octets >> (column & 7).astype(np.uint8)) & 1).astype(np.int8)


_BITS_OF_BYTE = ((np.arange(256)[:, None] >> np.arange(8)) & 1).astype(np.int64)


def sum_tokens(words: Array, tokens: Array) -> Array:
    """Sum of the tokens of the set bits of every row, by tables of 256 entries: (rows,) int64."""
    if len(words) < 128:  # no table pays
        sums: Array = (unpack(words, len(tokens)) * tokens).sum(1)
        return sums
    padded = np.zeros((len(tokens) + 7) // 8 * 8, np.int64)
    padded[: len(tokens)] = tokens
    tables = padded.reshape(-1, 8) @ _BITS_OF_BYTE.T
    total = np.zeros(len(words), np.int64)
    for table, octets in zip(tables, words.view(np.uint8).T, strict=False):
        total += table.take(octets)
    return total


def order_of(keys: Array) -> tuple[Array, Array]:
    """A stable permutation that sorts 64-bit keys, and the keys sorted: `argsort`, two to four times as fast.

    Many are sorted by their digits.  Of few the low bits give way to the place, and the numbers themselves are sorted.
    """
    if len(keys) >= RADIX // 2:
        filled = np.full(max(RADIX, len(keys)), np.iinfo(np.int64).max)
        filled[: len(keys)] = keys
        with threads_for(len(filled)):
            found, places = torch.sort(torch.from_numpy(filled), stable=True)
        return places.numpy()[: len(keys)], found.numpy()[: len(keys)]
    low = np.int64((1 << len(keys).bit_length()) - 1)
    order = (keys & ~low) | np.arange(len(keys))
    order.sort()
    order &= low
    sorted_keys = keys.take(order)
    if (sorted_keys[1:] < sorted_keys[:-1]).any():  # two keys agree in their high bits
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys.take(order)
    return order, sorted_keys


def order_along(segment: Array, t: Array) -> Array:
    """A permutation that sorts points by segment, then by parameter 0 < t < 1."""
    if not len(t):
        return np.arange(0)
    fine = 62 - int(segment.max()).bit_length()
    order, _ = order_of((segment << fine) + (t * (1 << fine)).astype(np.int64))
    s, a = segment.take(order), t.take(order)
    wrong = np.flatnonzero((s[1:] == s[:-1]) & (a[1:] < a[:-1]))  # agree in all the bits of t that were left
    if len(wrong):
        whole = np.flatnonzero(np.isin(s, s[wrong]))
        order[whole] = order[whole][np.lexsort((a[whole], s[whole]))]
    return order


def runs(keys: Array) -> tuple[Array, Array]:
    """Where each new key begins in sorted keys, and how often it is there."""
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    return first, np.diff(first, append=len(keys))


def span(values: Array) -> tuple[Array, Array]:
    """Smallest and largest value of every column: (V, n) → (n,), (n,)."""
    return values.min(0), values.max(0)
