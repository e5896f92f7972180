"""Maxima over windows, as rounds of cuts between two entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from maso.partition.bits import GAMMA, Array, mix, span, sum_tokens, unpack, winner_tokens
from maso.partition.complex import Complex, Degenerate
from maso.partition.noise import check_resolved
from maso.partition.split import Split

_GAME = 254  # in the place of a threshold's number: tokens of games are those of no gate
_WINNERS = 1 << 22  # winners of regions and columns found together: some tens of megabytes


class Frame(Protocol):
    """The rest of the state at the vertices, which goes along when a tournament cuts the complex or merges regions."""

    cells: Complex

    def cut(self, z: Array, tokens: Array, tolerance: Array) -> list[Split]:
        """Cut the complex by units with these values (V, n), tokens (n,) and tolerances (n,)."""

    def follow(self, splits: list[Split]) -> None:
        """Extend it to the vertices of new cuts."""

    def keep(self, vertices: Array) -> None:
        """Leave all but these vertices."""

    def report(self, more: int) -> None:
        """Say how much is held, with `more` numbers besides its own."""


@dataclass(frozen=True, eq=False)
class Round:
    """The games of one round that cut: n maxima of two earlier columns.

    Attributes:
        earlier, later: (n,) the columns; ties go to the earlier.
        token, tolerance: (n,) of the cut between them.
        result: (n,) the columns that hold the maxima.
    """

    earlier: Array
    later: Array
    token: Array
    tolerance: Array
    result: Array


class Tournament:
    """Rounds of pairwise maxima for all windows at once.

    Columns are the entries of the windows, then the games that cut.

    Attributes:
        values: (V, columns) at the vertices.
        scale, varies: (columns,) what their rounding errors are relative to, and how far they vary, see `noise`.
        same: (columns,) the column whose value each has: not its own where a game only touches a tie.
        rounds: the games that cut.
    """

    def __init__(self, frame: Frame, values: Array, scale: Array, varies: Array, kink: int) -> None:
        self.frame, self.values, self.scale, self.varies, self.kink = frame, values, scale, varies, kink
        self.same = np.arange(values.shape[1])
        self.rounds: list[Round] = []

    def play(self, entrants: Array) -> Array:
        """Final column of every window: (W,), given its entries in order, (W, k) with −1 for none."""
        while len(entrants) and (entrants >= 0).sum(1).max() > 1:
            width = int((entrants >= 0).sum(1).max())
            to_the_left = np.argsort(entrants < 0, axis=1, kind="stable")
            entrants = np.take_along_axis(entrants, to_the_left, 1)[:, :width]
            if width % 2:
                entrants = np.concatenate([entrants, np.full((len(entrants), 1), -1)], 1)

            earlier, later = entrants[:, 0::2].copy(), entrants[:, 1::2]
            both = later >= 0  # the others go on to the next round
            names, which = np.unique(earlier[both] * len(self.scale) + later[both], return_inverse=True)
            earlier[both] = self._maxima(*np.divmod(names, len(self.scale)))[which]
            entrants = earlier
        return entrants.max(1) if len(entrants) else np.zeros(0, np.int64)

    def _maxima(self, earlier: Array, later: Array) -> Array:
        """Columns that hold the maxima of pairs of columns: (games,); new ones where the complex had to be cut.

        Two entries are equal where they differ by no more than the rounding of the numbers that met in these two.
        """
        z = self.values.take(later, 1) - self.values.take(earlier, 1)
        low, high = span(z)
        tolerance = GAMMA * (self.scale[earlier] + self.scale[later])
        varies = np.maximum(self.varies[earlier], self.varies[later])
        check_resolved(np.maximum(high, -low), tolerance, varies, earlier)
        result = np.where(high > tolerance, later, earlier)
        cutting = np.flatnonzero((high > tolerance) & (low <= tolerance))
        new = len(self.scale) + np.arange(len(cutting))
        result[cutting] = new

        games = Round(
            earlier=earlier[cutting],
            later=later[cutting],
            token=mix(mix((self.kink << 8) + _GAME) + new),
            tolerance=tolerance[cutting],
            result=new,
        )
        splits = self.frame.cut(z.take(cutting, 1), games.token, games.tolerance)
        self.frame.follow(splits)
        for split in splits:
            self.values = split.extend(self.values)

        touching = low[cutting] >= -games.tolerance  # the value is the later one's, the key is not
        self.same = np.append(self.same, np.where(touching, self.same[games.later], new))
        self.rounds.append(games)
        largest = np.maximum(self.values.take(games.earlier, 1), self.values.take(games.later, 1))
        self.values = np.concatenate([self.values, largest], 1)
        self.scale = np.append(self.scale, np.maximum(self.scale[games.earlier], self.scale[games.later]))
        self.varies = np.append(self.varies, varies[cutting])
        self.frame.report(self.values.size)
        return result

    def merge(self, columns: Array, windows: Array, finals: Array) -> None:
        """Regions take the tokens of their winners in place of those of the games; regions of equal key become one.

        Args:
            columns: (entries,) the number among all entries of each column that is one.
            windows, finals: (W,) windows that were decided by games that cut, and their final columns.
        """
        cells = self.frame.cells
        earlier, later, token, tolerance = (
            np.concatenate([getattr(games, name) for games in self.rounds])
            for name in ("earlier", "later", "token", "tolerance")
        )
        z = self.values.take(later, 1) - self.values.take(earlier, 1)
        later_wins, earlier_wins = cells.any_bits(z > tolerance, z < -tolerance)
        if (later_wins & earlier_wins).any():
            raise Degenerate("a region is still cut")

        with np.errstate(over="ignore"):
            key = cells.regions()[0] - sum_tokens(later_wins, token)
            step = max(64, _WINNERS // len(self.scale))
            for i in range(0, len(key), step):
                winner = self._winners(unpack(later_wins[i : i + step], len(token)), columns)
                key[i : i + step] += winner_tokens(self.kink, windows, winner[:, finals]).sum(1)

        before = len(cells.x)
        kept = cells.rekey(key)
        if len(kept) < before:
            self.values = self.values.take(kept, 0)
            self.frame.keep(kept)

    def _winners(self, later_wins: Array, columns: Array) -> Array:
        """The entry that has won each column, (regions, columns), from who wins each game, (regions, games) bool."""
        winner = np.empty((len(later_wins), len(self.scale)), np.int64)
        winner[:, : len(columns)] = columns
        done = 0
        for games in self.rounds:  # one after the other: a round's players are the results of those before
            wins = later_wins[:, done : done + len(games.result)]
            winner[:, games.result] = np.where(wins, winner[:, games.later], winner[:, games.earlier])
            done += len(games.result)
        return winner


def prune(
    rows: Tensor, index: Array, varies: Array, bounds: Callable[[Tensor], tuple[Array, Array, Array]]
) -> tuple[Array, Array, Array, tuple[Array, Array, Array]]:
    """What bounds alone decide of the windows of a selection.

    The slack of a comparison is that of the two entries compared: a mask of −10¹⁵ or the padding has no say in how far
    apart the others must be.  An entry goes where it is below another one by more than that; and where it is never
    above one that comes before it, since of equal entries the first wins.

    Args:
        rows: (HEAD + r, entries).
        index: (W, k) entries of every window, −1: none.
        varies: (entries,) how far each varies, see `noise`.
        bounds: (low, high, rounding scale), each (n,), of flat tensors (HEAD + r, n).

    Returns:
        The winner of every window, (W,), as far as it is decided; the windows still open, (O,); their candidates,
        (O, k), −1: none; and the bounds of every entry.

    Raises:
        Unresolved: float64 does not say which of two entries is larger.
    """
    low, high, scale = bounds(rows)
    padding = index < 0
    top, bottom = np.where(padding, -np.inf, high[index]), np.where(padding, -np.inf, low[index])
    slack = GAMMA * np.where(padding, 0, scale[index])
    best = bottom.argmax(1)[:, None]
    candidate = ~padding & (top >= np.take_along_axis(bottom, best, 1) - slack - np.take_along_axis(slack, best, 1))
    constant = (top == bottom) & (varies[index] == 0)
    equal = np.where(candidate, constant & (top == top.max(1)[:, None]), True).all(1)  # the first wins
    still_open = np.flatnonzero((candidate.sum(1) > 1) & ~equal)
    winner = _first(index, candidate)

    candidates = np.where(candidate[still_open], index[still_open], -1)
    if len(still_open):  # out: an entry never above the likely winner, by the bounds of the difference
        lead = np.where(candidates >= 0, (low / 2 + high / 2)[candidates], -np.inf).argmax(1)
        window, place = np.nonzero((candidates >= 0) & (np.arange(candidates.shape[1]) != lead[:, None]))
        leader, rival = candidates[window, lead[window]], candidates[window, place]
        one, other = (torch.from_numpy(entry).to(rows.device) for entry in (leader, rival))
        least, most, _ = bounds(rows[:, one] - rows[:, other])
        slack = GAMMA * (scale[leader] + scale[rival])
        check_resolved(np.maximum(most, -least), slack, np.maximum(varies[leader], varies[rival]), rival)
        # an earlier entry loses only if strictly below, by more than the rounding of both
        out = np.where(lead[window] < place, least >= 0, least > slack)
        candidates[window[out], place[out]] = -1
        winner[still_open] = _first(candidates, candidates >= 0)
    several = (candidates >= 0).sum(1) > 1
    return winner, still_open[several], candidates[several], (low, high, scale)


def _first(entries: Array, mask: Array) -> Array:
    """The first entry of every row that the mask has: (W, k), (W, k) bool → (W,)."""
    first: Array = entries[np.arange(len(entries)), mask.argmax(1)]
    return first
