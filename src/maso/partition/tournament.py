"""Maxima over windows, as rounds of cuts between two entries."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from maso.partition.bits import GAMMA, Array, mix, span, sum_tokens, unpack, winner_tokens
from maso.partition.complex import Complex, Degenerate
from maso.partition.cut import cut
from maso.partition.split import Split


class Frame(Protocol):
    """The rest of the state at the vertices, which goes along when a tournament cuts the complex or merges regions."""

    cells: Complex
    most: int

    def follow(self, splits: list[Split]) -> None:
        """Extend it to the vertices of new cuts."""

    def keep(self, vertices: Array) -> None:
        """Leave all but these vertices."""

    def report(self, more: int) -> None:
        """Say how much is held, with `more` numbers besides its own."""


class Tournament:
    """Rounds of pairwise maxima for all windows at once.

    values: (V, entries + games) of the entries, then of the games that cut; same[i]: entry whose value game i has.
    """

    def __init__(self, frame: Frame, values: Array, scale: Array, kink: int) -> None:
        self.frame, self.values, self.scale, self.kink = frame, values, scale, kink
        self.same = np.arange(values.shape[1])
        self.played: list[tuple[Array, Array, Array, Array, Array]] = []  # earlier, later, token, tolerance, result

    def play(self, ids: Array) -> Array:
        """Final entry or game of every window, given its entries in order (−1: none)."""
        frame = self.frame
        while len(ids) and (ids >= 0).sum(1).max() > 1:
            width = int((ids >= 0).sum(1).max())
            ids = np.take_along_axis(ids, np.argsort(ids < 0, axis=1, kind="stable"), 1)[:, :width]
            if width % 2:
                ids = np.concatenate([ids, np.full((len(ids), 1), -1)], 1)
            first, second = ids[:, 0::2].copy(), ids[:, 1::2]
            both = second >= 0
            columns = self.values.shape[1]
            names, which = np.unique(first[both] * columns + second[both], return_inverse=True)
            games = np.stack(np.divmod(names, columns), 1)
            z = self.values.take(games[:, 1], 1) - self.values.take(games[:, 0], 1)
            low, high = span(z)
            tolerance = GAMMA * self.scale[games].sum(1)
            result = np.where(high > tolerance, games[:, 1], games[:, 0])
            open_games = np.flatnonzero((high > tolerance) & (low <= tolerance))
            result[open_games] = columns + np.arange(len(open_games))
            a, b = games[open_games].T
            token = mix(mix((self.kink << 8) + 254) + result[open_games])
            z = z.take(open_games, 1)
            splits = cut(frame.cells, z, token, tolerance[open_games], frame.most)
            frame.follow(splits)
            for split in splits:
                self.values = split.extend(self.values)
            touching = low[open_games] >= -tolerance[open_games]  # the value is the later one's, the key is not
            self.same = np.append(self.same, np.where(touching, self.same[b], result[open_games]))
            self.played.append((a, b, token, tolerance[open_games], result[open_games]))
            largest = np.maximum(self.values.take(a, 1), self.values.take(b, 1))
            self.values = np.concatenate([self.values, largest], 1)
            frame.report(self.values.size)
            self.scale = np.append(self.scale, np.maximum(self.scale[a], self.scale[b]))
            first[both] = result[which]
            ids = first
        return ids.max(1) if len(ids) else np.zeros(0, np.int64)

    def merge(self, columns: Array, windows: Array, finals: Array) -> None:
        """Regions take the tokens of their winners in place of those of the games; regions of equal key become one."""
        frame, cells = self.frame, self.frame.cells
        a, b, token, tolerance, _ = (np.concatenate(v) for v in zip(*self.played, strict=True))
        z = self.values.take(b, 1) - self.values.take(a, 1)
        later, earlier = cells.any_bits(z > tolerance, z < -tolerance)
        if (later & earlier).any():
            raise Degenerate("a region is still cut")
        with np.errstate(over="ignore"):
            key = cells.regions()[0] - sum_tokens(later, token)
            step = max(64, (1 << 22) // self.values.shape[1])
            for i in range(0, len(key), step):
                won = unpack(later[i : i + step], len(token))
                winner = np.empty((len(won), self.values.shape[1]), np.int64)
                winner[:, : len(columns)] = columns
                done = 0
                for games in self.played:  # one round after the other
                    n = len(games[0])
                    winner[:, games[4]] = np.where(won[:, done : done + n], winner[:, games[1]], winner[:, games[0]])
                    done += n
                key[i : i + step] += winner_tokens(self.kink, windows, winner[:, finals]).sum(1)
        before = len(cells.x)
        kept = cells.rekey(key)
        if len(kept) < before:
            self.values = self.values.take(kept, 0)
            frame.keep(kept)
