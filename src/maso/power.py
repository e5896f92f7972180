"""Power diagrams: the cells of a MASO as cells of a Laguerre–Voronoi diagram.

A power diagram with centroids μ_q and squared radii τ_q has the cells

    ω_q = {x : q = argmin_q' ‖x − μ_q'‖² − τ_q'}.

The cells of unit k of a MASO are one, with centroids A[k, r] and radii 2 B[k, r] + ‖A[k, r]‖², since
‖x − a‖² − (2 b + ‖a‖²) = ‖x‖² − 2 (⟨a, x⟩ + b).  So are the cells of a whole layer, with code r:

    μ_r = Σ_k A[k, r_k],        τ_r = ‖μ_r‖² + 2 Σ_k B[k, r_k],

and, in a cell of the layers before with x ↦ A x + b, those of the next layer pulled back:
Aᵀ μ_r and ‖Aᵀ μ_r‖² + 2 ⟨μ_r, b⟩ + 2 Σ_k B[k, r_k].  Centroids are unique only up to a common shift, and need not lie
in their cells.

Source: Balestriero, Cosentino, Aazhang & Baraniuk, "The Geometry of Deep Networks: Power Diagram Subdivision".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.partition import forward
from maso.partition.bits import Array
from maso.partition.network import read_network, read_on_plane, up_to
from maso.partition.plane import Plane
from maso.partition.run import compute
from maso.partition.tiles import Limits, default_bytes
from maso.spline import MASO
from maso.tracing import check_input


@dataclass(frozen=True, eq=False)
class PowerDiagram:
    """Centroids and squared radii of the units of a layer.

    Attributes:
        centroids: (K, R, D).
        radii: squared radii, (K, R); they may be negative.
    """

    centroids: Tensor
    radii: Tensor

    def distance(self, x: Tensor) -> Tensor:
        """Laguerre distances ‖x − μ‖² − τ to the cells of every unit: (N, D) → (N, K, R)."""
        if x.ndim != 2 or x.shape[1] != self.centroids.shape[2]:
            raise MasoError(f"PowerDiagram: x has shape {tuple(x.shape)}; expected (N, {self.centroids.shape[2]}).")
        return ((x[:, None, None] - self.centroids) ** 2).sum(3) - self.radii

    def code(self, x: Tensor) -> Tensor:
        """Nearest cell of every unit, the first of equally near ones: (N, D) → (N, K) int64."""
        return self.distance(x).argmin(2)

    def cell(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Centroid and squared radius of the layer's cells.

        Args:
            code: (N, K) int64.

        Returns:
            μ (N, D) and τ (N,).
        """
        units = torch.arange(len(self.centroids), device=self.centroids.device)
        each = self.centroids[units, code]
        offsets = (self.radii[units, code] - (each**2).sum(2)).sum(1)  # 2 Σ_k B[k, r_k]
        centroid = each.sum(1)
        return centroid, (centroid**2).sum(1) + offsets

    def pulled_back(self, A: Tensor, b: Tensor) -> PowerDiagram:
        """The diagram of this layer in a cell where its input is A x + b.

        Args:
            A: (D, n).
            b: (D,).
        """
        offsets = self.radii - (self.centroids**2).sum(2) + 2 * self.centroids @ b
        centroids = self.centroids @ A
        return PowerDiagram(centroids, (centroids**2).sum(2) + offsets)


def power_diagram(maso: MASO) -> PowerDiagram:
    """The power diagram of a MASO: centroids A[k, r], squared radii 2 B[k, r] + ‖A[k, r]‖².

    Args:
        maso: a layer, as from `maso.from_layer`.

    Source:
        Power Diagram Subdivision, Theorem 1.

    Example:
        >>> relu = MASO(torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 2))
        >>> power_diagram(relu).code(torch.tensor([[-2.0], [3.0]])).flatten().tolist()
        [0, 1]
    """
    return PowerDiagram(maso.A, 2 * maso.B + (maso.A**2).sum(2))


def boundary_distance(model: nn.Module, x: Tensor) -> Tensor:
    """Distance of every input to the boundary of its joint cell, min over units (l, k) of `|z| / ‖∇_x z‖`, exactly.

    A cell is a convex polytope, so the nearest wall decides; for a maximum, z is the lead of the winner over another
    entry.  It costs one forward pass for each number of an input.

    Args:
        model: a piecewise-affine network, in eval mode.
        x: (N, *input_shape).

    Returns:
        (N,) float64; infinite where the network has no kink.

    Source:
        Power Diagram Subdivision, §4.
    """
    check_input(model, x)
    graph, snapshot = read_network(model, x[0])
    return torch.from_numpy(forward.boundary_distance(graph, snapshot, x.detach().double()))


@dataclass(frozen=True)
class Bends:
    """Where the boundaries of one layer's units cross walls of the layers before, and bend.

    Attributes:
        unit: (M,) unit of the layer.
        regions: (M, 2) the regions of the layers before, on the two sides of the wall, by index in the partition there.
        point: (M, 2) the place, in plane coordinates.
        gradient: (M, 2, 2) ∇z of the unit on the two sides, in plane coordinates.
        length: (M,) the shorter of the two pieces of boundary that meet.
        measured: (M,) angle between these pieces, from their end points.
    """

    unit: Array
    regions: Array
    point: Array
    gradient: Array
    length: Array
    measured: Array

    @property
    def angle(self) -> Array:
        """Dihedral angle between the two pieces: cos θ = ⟨∇_u, ∇_v⟩ / (‖∇_u‖ ‖∇_v‖), (M,) in [0, π]."""
        return _angle(self.gradient[:, 0], self.gradient[:, 1])

    @property
    def bound(self) -> Array:
        """Largest angle that the jump allows: arcsin(‖∇_u − ∇_v‖ / max(‖∇_u‖, ‖∇_v‖)), π where that is > 1."""
        u, v = self.gradient[:, 0], self.gradient[:, 1]
        size = np.maximum(np.hypot(*u.T), np.hypot(*v.T))
        ratio = np.hypot(*(u - v).T) / size
        return np.where(ratio < 1, np.arcsin(np.minimum(ratio, 1)), np.pi)


def bends(model: nn.Module, plane: Plane, layer: str) -> Bends:
    """All bends of the boundaries {z = 0} of a layer's units at the walls of the layers before it.

    Args:
        model: a piecewise-affine network, in eval mode.
        plane: the window; angles are those in its coordinates.
        layer: path of a gate, as in `Partition.layers`.

    Raises:
        MasoError: no such gate, or as `maso.partition`.

    Source:
        Power Diagram Subdivision, §4 (decision boundary curvature).
    """
    graph, snapshot = read_on_plane(model, plane, asked="bends")
    node = graph.kinks.get(layer)
    if node is None or node.kind != "gate":
        gates = [path for path, n in graph.kinks.items() if n.kind == "gate"]
        raise MasoError(f"bends: no gate {layer!r}; the gates are {gates}.")
    before = compute(up_to(graph, node.inputs[0]), snapshot, plane, Limits(2_000_000, default_bytes()))
    region, unit, edge, ends = before.zero_chords()
    # an end is named by its edge and unit; walls between two regions have two
    name = edge * before.values.shape[1] + unit[:, None]
    order = np.argsort(name.ravel(), kind="stable")
    sorted_names = name.ravel()[order]
    pair = np.flatnonzero(sorted_names[1:] == sorted_names[:-1])
    a, b = order[pair], order[pair + 1]
    flat = ends.reshape(-1, 2)
    point = flat[a]
    arriving, leaving = point - flat[a ^ 1], flat[b ^ 1] - point
    chord = np.stack([a // 2, b // 2], 1)
    slopes = before.slopes
    return Bends(
        unit=unit[chord[:, 0]],
        regions=region[chord],
        point=point,
        gradient=slopes[region[chord], unit[chord[:, :1]]],
        length=np.minimum(np.hypot(*arriving.T), np.hypot(*leaving.T)),
        measured=_angle(arriving, leaving),
    )


def _angle(a: Array, b: Array) -> Array:
    """Angle between vectors (M, 2), accurate for small ones."""
    angle: np.ndarray = np.abs(np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(1)))
    return angle
