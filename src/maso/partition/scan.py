"""A continuous piecewise linear map along cut segments."""

from __future__ import annotations

import numpy as np

from maso.partition.bits import Array
from maso.partition.cut import Points
from maso.partition.threads import over_blocks

_NUMBERS = 1 << 18  # numbers that stay in cache


def scan(out: Array, points: Points, row: Array, jump: Array, direction: Array) -> None:
    """Values of a continuous piecewise linear map at the points of segments, in place.

    Along segment out[a] → out[b] the slope turns at parameter t_k by bend_k · jump[unit_k] · direction[row[unit_k]].
    """
    segment = np.repeat(np.arange(len(points.a)), points.count)
    wanted = np.bincount(segment[points.row >= 0], minlength=len(points.a))
    count = np.where(wanted > 0, points.count, 0)
    offset = np.cumsum(points.count) - points.count
    order = np.argsort(-count, kind="stable")[: int((count > 0).sum())]
    turn, which = points.bend * jump[points.unit], row[points.unit]
    step = max(64, _NUMBERS // out.shape[1])

    def block(at: slice) -> None:
        chosen = order[at]
        n, start = count[chosen], offset[chosen]
        longest = int(n[0])
        running = len(n) - np.searchsorted(n[::-1], np.arange(longest), "right")  # segments with more than k points
        value = out[points.a[chosen]]
        slope = out[points.b[chosen]]
        slope -= value
        for k in range(longest):  # slope of the first piece
            p = start[: running[k]] + k
            w = direction[which[p]]
            w *= (turn[p] * (1 - points.t[p]))[:, None]
            slope[: running[k]] -= w
        last = np.zeros(len(chosen))
        for k in range(longest):
            m = running[k]
            p = start[:m] + k
            value[:m] += slope[:m] * (points.t[p] - last[:m])[:, None]
            last[:m] = points.t[p]
            row_of = points.row[p]
            if (row_of >= 0).all():
                out[row_of] = value[:m]
            else:
                here = row_of >= 0
                out[row_of[here]] = value[:m][here]
            if k + 1 < longest:
                m = running[k + 1]
                p = p[:m]
                w = direction[which[p]]
                w *= turn[p][:, None]
                slope[:m] += w

    over_blocks(block, len(order), step)
