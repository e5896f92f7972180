"""Blocks of coefficients, and the outputs of a gate as functions of its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maso.partition.bits import Array, span


@dataclass(frozen=True, eq=False)
class Bend:
    """The outputs of n units of a gate as a function of their inputs: on piece p, between thresholds p − 1 and p,
    z ↦ slopes[p] z + intercepts[p].

    Attributes:
        thresholds: (T, n).
        slopes, intercepts: (T + 1, n).
        relu: whether the function is max(z, 0), which numpy has faster.
    """

    thresholds: Array
    slopes: Array
    intercepts: Array
    relu: bool

    @classmethod
    def of(cls, thresholds: Array, slopes: Array, intercepts: Array) -> Bend:
        """With `relu` found out."""
        ramp = len(thresholds) == 1 and (slopes[0] == 0).all() and (slopes[1] == 1).all()
        return cls(thresholds, slopes, intercepts, bool(ramp and not (thresholds.any() or intercepts.any())))

    def __call__(self, z: Array) -> Array:
        """Outputs for inputs (V, n)."""
        if self.relu:
            return np.maximum(z, 0.0)
        out: Array = z * self.slopes[0] + self.intercepts[0]
        for threshold, slope, intercept in zip(self.thresholds, self.slopes[1:], self.intercepts[1:], strict=True):
            out = np.where(z > threshold, z * slope + intercept, out)
        return out

    def image(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Smallest and largest outputs for all inputs between low and high: (n,), (n,)."""
        if self.relu:
            return self(low), self(high)
        ends = np.concatenate([low[None], np.clip(self.thresholds, low, high), high[None]])
        begin, end = ends[:-1], ends[1:]  # of each piece's share of the interval
        at_ends = np.stack([begin * self.slopes + self.intercepts, end * self.slopes + self.intercepts])
        used = begin < end
        smallest = np.where(used, at_ends.min(0), np.inf).min(0)
        largest = np.where(used, at_ends.max(0), -np.inf).max(0)
        point, value = low == high, self(low[None])[0]
        return np.where(point, value, smallest), np.where(point, value, largest)


class Block:
    """Coefficients of k rows at all vertices.

    Attributes:
        values: (V, k); with a `bend`, the inputs of a gate whose outputs are the coefficients.
        scale: (k,) what the coefficients' rounding errors are relative to.
        bend: see `values`.
    """

    def __init__(
        self,
        values: Array,
        *,
        limits: tuple[Array, Array] | None = None,
        scale: Array | None = None,
        bend: Bend | None = None,
    ) -> None:
        self.values, self._limits, self.bend = values, limits, bend
        self.scale = np.maximum(-self.limits[0], self.limits[1]) if scale is None else scale

    @property
    def limits(self) -> tuple[Array, Array]:
        """Smallest and largest coefficient of each row, (k,) and (k,).

        Interpolation never leaves them, so they are found once; and only if asked for, since a cut by all units finds
        them on its way.
        """
        if self._limits is None:
            self._limits = span(self.values)
        return self._limits

    @property
    def width(self) -> int:
        """Number of rows k."""
        return int(self.values.shape[1])

    def part(self, at: slice) -> Array:
        """The coefficients at some vertices: (n, k)."""
        return self.values[at] if self.bend is None else self.bend(self.values[at])

    def moved(self, values: Array) -> Block:
        """The same rows at other vertices of the same window."""
        return Block(values, limits=self._limits, scale=self.scale, bend=self.bend)
