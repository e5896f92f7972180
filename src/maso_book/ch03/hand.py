"""What chapter 03 believes: the power diagram of a layer, written down by hand.

For a fully connected network with gates of slopes ν and 1 the network up to layer l is, on the cell of an upstream
code, A x + b, a product of weights with some rows scaled by ν.  The units of layer l then have the pieces
ν ⟨W_k, ·⟩ + ν c_k and ⟨W_k, ·⟩ + c_k, and every code r = (r_1, …, r_K) the centroid and squared radius

    μ_r = Σ_k A_{k,r_k},    τ_r = ‖μ_r‖² + 2 Σ_k B_{k,r_k}

in the layer's own input, or, pulled back to the network's input through A x + b,

    μ = Aᵀ μ_r,    τ = ‖μ‖² + 2 ⟨μ_r, b⟩ + 2 Σ_k B_{k,r_k}.

The cell of r is where the Laguerre distance ‖x − μ‖² − τ is smallest.  All R^K codes are written out, and every
distance is computed: nothing here uses that the sum over units separates.

Source: Balestriero, Cosentino, Aazhang, Baraniuk, "The Geometry of Deep Networks: Power Diagram Subdivision", §3.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

_DISTANCES = 1 << 20  # distances held at a time


def illustration(seed: int, slope: float = 0.1) -> nn.Sequential:
    """The authors' illustration, 2-9-9-9-9-1 with leaky ReLUs, to be seen on [−7, 7]².

    Weights and biases are normal, over √7 in the first layer and over √12 in the others; double precision.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = (2, 9, 9, 9, 9, 1)
    model = nn.Sequential()
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        layer = nn.Linear(inputs, outputs).double()
        scale = (7 if i == 0 else 12) ** -0.5
        with torch.no_grad():
            for value in (layer.weight, layer.bias):
                value.copy_(scale * torch.randn(value.shape, generator=generator, dtype=torch.float64))
        model.extend([layer, nn.LeakyReLU(slope)] if outputs > 1 else [layer])
    return model


@dataclass(frozen=True)
class Dense:
    """One layer σ(W z + c) with slopes `slope` and 1: W (K, n), c (K,)."""

    W: np.ndarray
    c: np.ndarray
    slope: float

    @property
    def pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """The layer's MASO: A (K, 2, n) and B (K, 2)."""
        slopes = np.array([self.slope, 1.0])
        return slopes[:, None] * self.W[:, None, :], slopes * self.c[:, None]


def dense_layers(model: nn.Sequential) -> list[Dense]:
    """The hidden layers of a fully connected network with ReLUs or leaky ReLUs."""
    pairs = itertools.pairwise(model)
    return [
        Dense(
            linear.weight.detach().cpu().double().numpy(),
            linear.bias.detach().cpu().double().numpy(),
            float(getattr(gate, "negative_slope", 0.0)),
        )
        for linear, gate in pairs
        if isinstance(linear, nn.Linear)
    ]


@dataclass(frozen=True)
class Upstream:
    """What comes before one layer at points: its input is A x + b there, and its pre-activations G x + g.

    Attributes:
        A, b: (N, n, D) and (N, n).
        G, g: (N, K, D) and (N, K).
        code: 0 or 1 of every unit of the layer at the points, (N, K).
    """

    A: np.ndarray
    b: np.ndarray
    G: np.ndarray
    g: np.ndarray
    code: np.ndarray


def upstream(layers: list[Dense], x: np.ndarray) -> list[Upstream]:
    """The affine maps before every layer at the points x (N, D), multiplied out."""
    n, d = x.shape
    A, b = np.broadcast_to(np.eye(d), (n, d, d)), np.zeros((n, d))
    maps = []
    for layer in layers:
        G, g = layer.W @ A, b @ layer.W.T + layer.c
        code = np.einsum("nkd,nd->nk", G, x) + g > 0
        maps.append(Upstream(A, b, G, g, code.astype(np.uint8)))
        slope = np.where(code, 1.0, layer.slope)
        A, b = slope[..., None] * G, slope * g
    return maps


def all_codes(units: int, pieces: int = 2) -> np.ndarray:
    """All R^K codes, (R^K, K); row i spells i with the first unit as the last digit."""
    return np.array(list(itertools.product(range(pieces), repeat=units)), np.uint8)[:, ::-1]


def number(code: np.ndarray, pieces: int = 2) -> np.ndarray:
    """The row of `all_codes` of every code: (N, K) → (N,)."""
    return code.astype(np.int64) @ pieces ** np.arange(code.shape[1])


def diagram(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (R^K, D) and Σ_k B_{k,r_k} (R^K,) of a layer, over all codes."""
    units = np.arange(len(A))
    codes = all_codes(len(A), A.shape[1])
    return np.stack([A[units, code].sum(0) for code in codes]), B[units, codes].sum(1)


def pulled_back(centroids: np.ndarray, B: np.ndarray, A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroids (R^K, D) and squared radii (R^K,) in the network's input, on the upstream cell with map A x + b."""
    mu = centroids @ A
    return mu, (mu**2).sum(1) + 2 * centroids @ b + 2 * B


def nearest(x: np.ndarray, mu: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Index of the smallest Laguerre distance ‖x − μ‖² − τ, (N, D) and (M, D), (M,) → (N,)."""
    step = max(1, _DISTANCES // len(mu))
    indices = []
    for part in (x[i : i + step] for i in range(0, len(x), step)):
        distance = np.broadcast_to(-tau, (len(part), len(tau))).copy()
        for coordinate, centre in zip(part.T, mu.T, strict=True):
            distance += (coordinate[:, None] - centre) ** 2
        indices.append(distance.argmin(1))
    return np.concatenate(indices)
