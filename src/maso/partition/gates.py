"""What a gate asks of a cut: which units meet a threshold inside the window, and what the others are.

A gate in four steps: its inputs at the vertices (`Inputs`), the units that are on both sides of a threshold
(`Meetings`), the cut by these, and the outputs as new rows.  The frame makes the first and the last; this module
decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maso.operators import Gate
from maso.partition.bits import GAMMA, Array, gate_tokens
from maso.partition.blocks import Bend
from maso.partition.noise import check_resolved


@dataclass(frozen=True, eq=False)
class Pieces:
    """A gate, spelled out for every unit of one sample.

    Attributes:
        thresholds: (T, size).
        slopes, intercepts: (T + 1, size).
    """

    thresholds: Array
    slopes: Array
    intercepts: Array

    @classmethod
    def of(cls, gate: Gate, shape: tuple[int, ...]) -> Pieces:
        """The gate on samples of a shape."""
        parts = (gate.thresholds, gate.slopes, gate.intercepts)
        return cls(*(np.stack([_spread(value, shape) for value in values]) for values in parts))

    @property
    def at_zero(self) -> bool:
        """Whether there is one threshold, and it is zero for every unit."""
        return len(self.thresholds) == 1 and not self.thresholds.any()

    def bend(self, columns: Array) -> Bend:
        """The function of some units."""
        return Bend.of(self.thresholds[:, columns], self.slopes[:, columns], self.intercepts[:, columns])


def _spread(value: float | Tensor, shape: tuple[int, ...]) -> Array:
    """A number or a tensor that broadcasts against one sample, for every unit: (size,)."""
    if not isinstance(value, Tensor):
        return np.full(math.prod(shape), float(value))
    numbers: Array = value.detach().to(torch.float64).cpu().numpy()
    return np.broadcast_to(numbers[0] if numbers.ndim > len(shape) else numbers, shape).flatten()


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a gate.

    Attributes:
        columns: (m,) units that may meet a threshold, sorted.
        z: (V, m) their values at the vertices.
        low, high, scale: (size,) of every unit, bounds of its values and what its rounding errors are relative to.
        everywhere: whether to cut by all units without asking for their ranges: the cut fills in `low` and `high`.
    """

    columns: Array
    z: Array
    low: Array
    high: Array
    scale: Array
    everywhere: bool

    def slack(self, threshold: Array) -> Array:
        """What counts as on a threshold of every unit, (size,) → (size,)."""
        return GAMMA * (self.scale + np.abs(threshold))


@dataclass(frozen=True, eq=False)
class Meetings:
    """Pairs of a unit and a threshold that its values lie on both sides of; threshold after threshold.

    Attributes:
        unit, threshold, token, tolerance: (n,) of every pair; tokens of the regions above, and what counts as on the
            threshold.
        piece: (size,) the piece of every unit that is on one side of all thresholds.
        constant: sum of the tokens that these have in all regions.
    """

    unit: Array
    threshold: Array
    token: Array
    tolerance: Array
    piece: Array
    constant: int


def meetings(pieces: Pieces, inputs: Inputs, kink: int) -> Meetings:
    """The units that are not on one side of a threshold; only touching it counts: they may be zero on a whole cell.

    A value is on a threshold if it is as near as `GAMMA` times the threshold and the numbers that met in that unit:
    so far their rounding may have moved it.

    Args:
        kink: number of the gate among the network's kinks.
    """
    size = len(inputs.scale)
    piece, always = np.zeros(size, np.int64), np.zeros(size, np.int64)
    parts = []
    for i, threshold in enumerate(pieces.thresholds):
        slack = inputs.slack(threshold)
        token = gate_tokens(kink, i, size)
        above = inputs.high - threshold > slack
        both = above & (inputs.low - threshold <= slack)
        if inputs.everywhere:
            above = both = np.ones(size, bool)

        always += np.where(above & ~both, token, 0)
        piece += above
        parts.append((np.flatnonzero(both), threshold[both], token[both], slack[both]))
    unit, level, token, tolerance = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Meetings(unit, level, token, tolerance, piece, int(always.sum()))


def outlook(pieces: Pieces, inputs: Inputs, varies: Array, cutting: Array) -> tuple[Array, Array]:
    """The noise and the variation that a gate adds to its outputs, (size,) and (size,), see `noise`; once it has cut.

    Args:
        varies: (size,) variation of the inputs.
        cutting: units whose outputs become rows of their own.

    Raises:
        Unresolved: float64 does not say on which side of a threshold a unit is.
    """
    low, high, scale = inputs.low, inputs.high, inputs.scale
    for threshold in pieces.thresholds:
        reach = np.maximum(high - threshold, threshold - low)
        check_resolved(reach, inputs.slack(threshold), varies, np.arange(len(reach)))

    # a unit hands on what has met in it by the steepest piece that it reaches: nothing where it is always off
    steepest, offset, last = np.zeros(len(scale)), np.zeros(len(scale)), len(pieces.thresholds)
    for p, (slope, intercept) in enumerate(zip(pieces.slopes, pieces.intercepts, strict=True)):
        reached = high > pieces.thresholds[p - 1] if p else low <= pieces.thresholds[0]
        if 0 < p < last:
            reached &= low <= pieces.thresholds[p]
        steepest, offset = (
            np.maximum(steepest, reached * np.abs(slope)),
            np.maximum(offset, reached * np.abs(intercept)),
        )
    offset *= steepest > 0
    half = high / 2 - low / 2
    size, reach = steepest * np.maximum(high, -low) + offset, steepest * half
    size[cutting] = (steepest * scale + offset)[cutting]
    reach[cutting] = (steepest * (half + varies))[cutting]
    return size, reach
