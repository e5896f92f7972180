"""Windows of two-dimensional planes in the input space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maso.errors import MasoError


@dataclass(frozen=True, eq=False)
class Plane:
    """The points  origin + s u + t v  with (s, t) in a window.

    Attributes:
        origin: a point of the input space, of the shape of one input.
        u, v: directions, of the same shape, linearly independent.
        bounds: (s_min, s_max, t_min, t_max).

    Raises:
        MasoError: shapes that differ, parallel directions, an empty window, entries that are not finite.

    Example:
        >>> Plane.square(-1, 1).points([[0.5, -1.0]]).tolist()
        [[0.5, -1.0]]
    """

    origin: Tensor
    u: Tensor
    v: Tensor
    bounds: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("origin", "u", "v"):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                value = value.detach()
            object.__setattr__(self, name, torch.as_tensor(value, dtype=torch.float64, device="cpu"))
        object.__setattr__(self, "bounds", tuple(float(b) for b in self.bounds))
        if not (self.origin.shape == self.u.shape == self.v.shape):
            raise MasoError(
                f"Plane: origin, u and v have shapes {tuple(self.origin.shape)}, {tuple(self.u.shape)} and "
                f"{tuple(self.v.shape)}; all three must have the shape of one input."
            )
        numbers = torch.cat([self.origin.flatten(), self.u.flatten(), self.v.flatten()])
        if not numbers.isfinite().all() or not all(map(math.isfinite, self.bounds)) or len(self.bounds) != 4:
            raise MasoError("Plane: every entry of origin, u and v and the four bounds must be finite.")
        s0, s1, t0, t1 = self.bounds
        if not (s0 < s1 and t0 < t1):
            raise MasoError(f"Plane: bounds {self.bounds} are empty; expected s_min < s_max and t_min < t_max.")
        (uu, uv), (_, vv) = self._gram().tolist()
        if uu * vv - uv * uv <= 1e-20 * uu * vv or uu == 0 or vv == 0:
            raise MasoError("Plane: u and v are parallel or zero; they must span a plane.")

    def _gram(self) -> Tensor:
        basis = torch.stack([self.u.flatten(), self.v.flatten()])
        return basis @ basis.T

    @classmethod
    def square(cls, low: float = -1.0, high: float = 1.0) -> Plane:
        """The square [low, high]² of a two-dimensional input space."""
        right, up = torch.eye(2, device="cpu")
        return cls(0 * right, right, up, (low, high, low, high))

    @classmethod
    def through(cls, x0: Tensor, x1: Tensor, x2: Tensor, *, margin: float = 0.25) -> Plane:
        """The plane through three inputs, in orthogonal coordinates of one scale (no distortion), window [−1, 1]².

        Args:
            x0, x1, x2: three inputs, not on one line; they lie at distance `margin` or more from the window's border.
            margin: 0 ≤ margin < 1.
        """
        points = torch.stack([torch.as_tensor(x, dtype=torch.float64, device="cpu").detach() for x in (x0, x1, x2)])
        middle = points.mean(0)
        a, b = points[1] - points[0], points[2] - points[0]
        a = a / a.norm().clamp(min=1e-300)
        b = b - (a * b).sum() * a
        if b.norm() <= 1e-9 * (points[2] - points[0]).norm() or not a.any():
            raise MasoError("Plane.through: the three inputs lie on one line; choose another.")
        b = b / b.norm()
        if not 0 <= margin < 1:
            raise MasoError(f"Plane.through: margin is {margin}; expected 0 ≤ margin < 1.")
        reach = max(float(((p - middle) * d).sum().abs()) for p in points for d in (a, b)) / (1 - margin)
        return cls(middle, reach * a, reach * b)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.origin.shape)

    @property
    def area(self) -> float:
        """Area of the window in the coordinates (s, t)."""
        s0, s1, t0, t1 = self.bounds
        return (s1 - s0) * (t1 - t0)

    def window(self, s_min: float, s_max: float, t_min: float, t_max: float) -> Plane:
        """Another window of the same plane."""
        return Plane(self.origin, self.u, self.v, (s_min, s_max, t_min, t_max))

    def points(self, coordinates: Any) -> Tensor:
        """The inputs with the given coordinates: (N, 2) → (N, *shape) float64."""
        c = torch.from_numpy(np.asarray(coordinates, dtype=np.float64)).reshape(-1, 2, *[1] * self.origin.ndim)
        return self.origin + c[:, 0] * self.u + c[:, 1] * self.v

    def coordinates(self, x: Tensor | Sequence[Any]) -> np.ndarray[Any, Any]:
        """Coordinates of the orthogonal projections of inputs onto the plane: (N, *shape) → (N, 2)."""
        d = (
            torch.as_tensor(x, dtype=torch.float64, device="cpu").detach().reshape(-1, self.origin.numel())
            - self.origin.flatten()
        )
        basis = torch.stack([self.u.flatten(), self.v.flatten()])
        coordinates: np.ndarray[Any, Any] = torch.linalg.solve(self._gram(), basis @ d.T).T.numpy()
        return coordinates
