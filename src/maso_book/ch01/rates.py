"""Two MASOs that approximate any continuous function: a constructive proof, run.

Cut the box [−1, 1]^D into cubes of side h and every cube into D! simplices, one per order of the coordinates (Kuhn's
triangulation), and interpolate the target f linearly on each simplex.  The interpolant f_I is continuous and piecewise
affine but not convex.  Add c φ with

    φ(x) = Σ_i Σ_m |x_i + 1 − m h| + Σ_{i<j} Σ_m |x_i − x_j − m h|,

convex, affine on every simplex, and bent by 2 or more across every facet between two of them.  For c ≥ max ‖∇f_I‖ both
g = f_I + c φ and c φ are convex, hence max-affine, with one piece per simplex: the first MASO has the two outputs
(g, c φ), the second is the affine map g − c φ = f_I.  At a point f_I is a mean of values of f at the corners of its
simplex, whose diameter is √D h: |f_I − f| ≤ ω(√D h), with ω the modulus of continuity of f, and f_I → f uniformly.

The number of pieces is R = D! (2/h)^D.  The error is O(h²) = O(R^(−2/D)) where f has bounded second derivatives, and
O(h^α) = O(R^(−α/D)) where f is only Hölder continuous with exponent α.

These are the rates of a uniform grid.  On the line nothing above needs equal steps, and knots that crowd towards a cusp
do better: between a² and b² the chord of √t is off by at most (b − a)² / (4 (a + b)), so with the knots t_i = L (i/n)^4
each piece is off by less than √L / (2 n²), as for a smooth target.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from maso.spline import MASO
from maso_book.experiment import Rows
from maso_book.tidy import arms

if TYPE_CHECKING:
    import pandas as pd

Function = Callable[[np.ndarray], np.ndarray]
TWO, ONE = "two MASOs", "one MASO, tangent planes"
"""The methods: the construction above, and for comparison tangent planes below a convex target."""
GRADED = "two MASOs, graded knots"
"""The construction on knots that crowd towards the cusp of the non-smooth target, on the line."""

TARGETS: dict[str, tuple[Function, float]] = {
    "smooth convex": (lambda x: np.exp(x).sum(1), 2.0),
    "smooth non-convex": (lambda x: np.sin(np.pi * x).prod(1), 2.0),
    "non-smooth": (lambda x: np.sqrt(np.linalg.norm(x, axis=1)), 0.5),
}
"""Functions (N, D) → (N,), each with the α of the theory's rate R^(−α/D); the last one has a cusp at 0."""

MODULI: dict[str, Callable[[pd.Series, pd.Series], pd.Series]] = {
    "smooth convex": lambda distance, dimension: np.exp(1.5) * np.sqrt(dimension) * distance,
    "smooth non-convex": lambda distance, dimension: np.pi * distance,
    "non-smooth": lambda distance, dimension: np.sqrt(distance),
}
"""How much each target can change over a distance on [−1, 1]^D, shifted by up to ½ along each axis."""


def two_masos(f: Function, cells: int, dimension: int) -> tuple[MASO, Tensor]:
    """The interpolant of f as a MASO with two outputs, and the weights of the second, affine one.

    Args:
        f: (N, D) → (N,).
        cells: cubes along each axis of [−1, 1]^D.
        dimension: D.

    Returns:
        The first MASO, K = 2, R = D! cells^D; and the weights (1, −1), (2,).
    """
    h = 2 / cells
    corners = -1 + h * np.array(list(itertools.product(range(cells), repeat=dimension)))  # (cubes, D)
    lines, diagonals = -1 + h * np.arange(cells + 1), h * np.arange(1 - cells, cells)

    def phi(x: np.ndarray) -> np.ndarray:
        total = sum(np.abs(x[:, [i]] - lines).sum(1) for i in range(dimension))
        pairs = itertools.combinations(range(dimension), 2)
        return sum((np.abs(x[:, [i]] - x[:, [j]] - diagonals).sum(1) for i, j in pairs), total)

    def pieces(values: Function) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (R, D) and offset (R,) of the interpolant on every simplex."""
        slopes, offsets = [], []
        for order in itertools.permutations(range(dimension)):
            vertex, slope = corners, np.zeros_like(corners)
            for axis in order:
                following = vertex + h * np.eye(dimension)[axis]
                slope[:, axis] = (values(following) - values(vertex)) / h
                vertex = following
            slopes.append(slope)
            offsets.append(values(corners) - (slope * corners).sum(1))
        return np.concatenate(slopes), np.concatenate(offsets)

    (af, bf), (aphi, bphi) = pieces(f), pieces(phi)
    c = np.linalg.norm(af, axis=1).max()
    A = np.stack([af + c * aphi, c * aphi])
    B = np.stack([bf + c * bphi, c * bphi])
    return MASO(torch.from_numpy(A), torch.from_numpy(B)), torch.tensor([1.0, -1.0], dtype=torch.float64, device="cpu")


def graded_knots(cusp: float, pieces: int) -> np.ndarray:
    """Knots of [−1, 1] that crowd towards a cusp from both sides, cusp ± L (i/n)^4 with n = R/2.

    Args:
        cusp: inside of the interval; L is how far it is to the ends.
        pieces: R, even.

    Returns:
        (R + 1,), ascending.
    """
    steps = (np.arange(1, pieces // 2 + 1) / (pieces // 2)) ** 4
    return np.concatenate([cusp - (1 + cusp) * steps[::-1], [cusp], cusp + (1 - cusp) * steps])


def on_knots(f: Function, knots: np.ndarray) -> tuple[MASO, Tensor]:
    """What `two_masos` gives, on the line with knots of any distances, (R + 1,)."""

    def pieces(values: Function) -> tuple[np.ndarray, np.ndarray]:
        """Slope and offset (R,) of the interpolant between two knots each."""
        height = values(knots[:, None])
        slope = np.diff(height) / np.diff(knots)
        return slope, height[:-1] - slope * knots[:-1]

    (af, bf), (aphi, bphi) = pieces(f), pieces(lambda x: np.abs(x - knots).sum(1))
    c = np.abs(af).max()
    A = np.stack([af + c * aphi, c * aphi])[..., None]
    B = np.stack([bf + c * bphi, c * bphi])
    return MASO(torch.from_numpy(A), torch.from_numpy(B)), torch.tensor([1.0, -1.0], dtype=torch.float64, device="cpu")


def graded(table: pd.DataFrame) -> pd.DataFrame:
    """The largest errors on graded knots for the cusps and the numbers of pieces of one input in the table `errors`.

    Between the knots at √|x − cusp| = a and b the error is largest at (a + b)/2: there it is taken, in every piece.

    Args:
        table: rows of the table `errors`.

    Returns:
        Rows of `seed`, `dimension`, `target`, `method`, `pieces` and `largest_error`.
    """
    import pandas as pd

    target = "non-smooth"
    rows = []
    for (seed, R), _ in arms(table[table["dimension"] == 1], "seed", "pieces"):
        (cusp,) = np.random.default_rng(seed).uniform(-0.5, 0.5, 1)  # the first that `run_rates` draws
        knots = graded_knots(cusp, R)
        root = np.sqrt(np.abs(knots - cusp))
        side = np.sign((knots[1:] + knots[:-1]) / 2 - cusp)
        worst = cusp + side * ((root[1:] + root[:-1]) / 2) ** 2
        f = partial(_shifted, TARGETS[target][0], np.array([cusp]))
        largest, _ = errors(f, *on_knots(f, knots), worst[:, None])
        arm = {"seed": seed, "dimension": 1, "target": target, "method": GRADED}
        rows.append(arm | {"pieces": R, "largest_error": largest})
    return pd.DataFrame(rows)


def tangents(shift: np.ndarray, pieces: int, rng: np.random.Generator) -> MASO:
    """One MASO below the smooth convex target: its tangent planes at the centres of a k-means code book.

    Args:
        shift: (D,): the target is x ↦ f(x − shift).
        pieces: R.
        rng: draws the points of [−1, 1]^D that are clustered, 40 for every piece.

    Returns:
        K = 1, R = `pieces`.
    """
    f, _ = TARGETS["smooth convex"]
    points = rng.uniform(-1, 1, (40 * pieces, len(shift)))
    sites = points[:pieces].copy()
    for _ in range(20):
        nearest = cKDTree(sites).query(points)[1]
        count = np.bincount(nearest, minlength=pieces)
        total = np.stack([np.bincount(nearest, points[:, d], pieces) for d in range(len(shift))], 1)
        sites[count > 0] = (total / np.maximum(count, 1)[:, None])[count > 0]
    slopes = np.exp(sites - shift)  # the gradient of Σ exp(x_i − shift_i)
    offsets = f(sites - shift) - (slopes * sites).sum(1)
    return MASO(torch.from_numpy(slopes[None]), torch.from_numpy(offsets[None]))


def errors(f: Function, first: MASO, second: Tensor, points: np.ndarray) -> tuple[float, float]:
    """Largest and root-mean-square error of `first(x) @ second` at `points` (N, D)."""
    chunks = np.array_split(points, max(1, len(points) // 500))  # what is evaluated at once stays small
    values = np.concatenate([(first(torch.from_numpy(chunk)) @ second).numpy() for chunk in chunks])
    difference = np.abs(values - f(points))
    return float(difference.max()), math.sqrt(float((difference**2).mean()))


@dataclass(frozen=True)
class Rates:
    """Cubes along each axis for one and for two inputs, and points at which the error is measured."""

    seed: int
    cells: tuple[tuple[int, ...], tuple[int, ...]]
    points: int


def run_rates(config: Rates) -> tuple[Rows, dict[str, np.ndarray]]:
    """Errors of the three targets, shifted at random, and of tangent planes below the convex one.

    Table `errors`, a row for each target, method and number of pieces: `dimension` D; `target`; `method`; `pieces`, R
    of the first MASO; `largest_error` and `rms_error` over the points.
    """
    rng = np.random.default_rng(config.seed)
    rows = []
    for dimension, sizes in enumerate(config.cells, 1):
        shift = rng.uniform(-0.5, 0.5, dimension)
        points = np.concatenate([shift[None], rng.uniform(-1, 1, (config.points, dimension))])  # the cusp among them

        for cells, (target, (plain, _)) in itertools.product(sizes, TARGETS.items()):
            f = partial(_shifted, plain, shift)
            first, second = two_masos(f, cells, dimension)
            methods = {TWO: (first, second)}
            if target == "smooth convex":
                methods[ONE] = (tangents(shift, first.R, rng), second[:1])

            for method, (m, weights) in methods.items():
                largest, rms = errors(f, m, weights, points)
                rows.append(
                    {
                        "dimension": dimension,
                        "target": target,
                        "method": method,
                        "pieces": m.R,
                        "largest_error": largest,
                        "rms_error": rms,
                    }
                )
    return {"errors": rows}, {}


def _shifted(f: Function, shift: np.ndarray, x: np.ndarray) -> np.ndarray:
    return f(x - shift)


def allowed(table: pd.DataFrame) -> pd.Series:
    """What the proof allows as the largest error, ω(√D h), for rows of the table `errors` of the two MASOs."""
    import pandas as pd

    dimension = table["dimension"]
    cells = (table["pieces"] / dimension.map(math.factorial)) ** (1 / dimension)
    diameter = np.sqrt(dimension) * 2 / cells
    return pd.concat(
        [MODULI[target](diameter[rows.index], dimension[rows.index]) for target, rows in arms(table, "target")]
    )


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """The slope of log(largest error) against log R, by least squares, and the theory's.

    Args:
        table: rows of the table `errors` with their seeds.

    Returns:
        One row for each `dimension`, `target`, `method` and `seed`, with `slope` and `theory`.
    """
    import pandas as pd

    rows = []
    for (dimension, target, method, seed), curve in arms(table, "dimension", "target", "method", "seed"):
        slope = statistics.linear_regression(np.log(curve["pieces"]), np.log(curve["largest_error"])).slope
        theory = -2.0 if method == GRADED else -TARGETS[target][1] / dimension
        rows.append(
            {
                "dimension": dimension,
                "target": target,
                "method": method,
                "seed": seed,
                "slope": float(slope),
                "theory": theory,
            }
        )
    return pd.DataFrame(rows)
