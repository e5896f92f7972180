"""When does the joint inference of a layer split into its units? (09-factorial)

The layer as one mixture: a code t = (t_1, …, t_K), a piece for each of K units, has mean Σ_k A_{k,t_k}, unit
covariance, and prior ∝ Π_k exp(B_{k,t_k} + ½ ‖A_{k,t_k}‖²).  Its log posterior is, up to what no t changes,

    Σ_k (⟨A_{k,t_k}, x⟩ + B_{k,t_k}) − Σ_{k<l} ⟨A_{k,t_k}, A_{l,t_l}⟩.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from maso_book.experiment import Rows

SLOPES = {"ReLU": (0.0, 1.0), "leaky ReLU": (0.1, 1.0), "absolute value": (-1.0, 1.0)}
"""The slopes of a unit with two pieces, multiples of its filter."""
COSINES = (0.03, 0.1, 0.3)
"""The cosine between filters that are nearly orthogonal."""


@dataclass(frozen=True)
class Factorial:
    """One layer of each kind.

    Attributes:
        seed: of filters, biases and inputs.
        units: K.
        dimensions: D, at least two for each unit.
        inputs: from the normal distribution, standard deviation 2.
    """

    seed: int
    units: int = 4
    dimensions: int = 8
    inputs: int = 10_000


def run_factorial(config: Factorial) -> tuple[Rows, dict[str, np.ndarray]]:
    """How often the joint arg-max is that of the units one by one.

    Table `agreement`, a row for each kind of layer: `unit`, `filters` ("orthogonal", "orthogonal differences", "cosine
    0.1", "random"); `largest_cosine` between slope differences of two units; of the inputs, `agreement` with every
    unit's own biases, and `agreement_shifted` with the biases B_{k,r} − Σ_{l≠k} ⟨A_{k,r}, A_{l,1}⟩.
    """
    rng = np.random.default_rng(config.seed)
    K, D = config.units, config.dimensions
    x = 2 * rng.normal(size=(config.inputs, D))
    rows = []
    for unit, filters, A in _layers(config, rng):
        B = rng.normal(size=A.shape[:2]) * 0.5
        joint = _joint(A, B, x)
        shift = np.einsum("krd,ld->krl", A, A[:, 0])
        shift[np.arange(K), :, np.arange(K)] = 0
        rows.append({
            "unit": unit, "filters": filters, "largest_cosine": _largest_cosine(A),
            "agreement": float((joint == _units(A, B, x)).all(1).mean()),
            "agreement_shifted": float((joint == _units(A, B - shift.sum(2), x)).all(1).mean()),
        })  # fmt: skip
    return {"agreement": rows}, {}


def _layers(config: Factorial, rng: np.random.Generator) -> list[tuple[str, str, np.ndarray]]:
    """Kinds of layers with slopes A (K, R, D)."""
    K, D = config.units, config.dimensions
    frame = np.linalg.qr(rng.normal(size=(D, D)))[0]
    lengths = rng.uniform(0.5, 2, size=(K, 1))
    layers = [
        (name, "orthogonal", np.multiply.outer(slopes, lengths * frame[:K]).swapaxes(0, 1))
        for name, slopes in SLOPES.items()
    ]
    own = frame[: 2 * K].reshape(K, 2, D)  # a plane for each unit
    apart = np.einsum("krp,kpd->krd", rng.normal(size=(K, 3, 2)), own)
    layers.append(("maxout", "orthogonal differences", apart + rng.normal(size=(K, 1, D))))
    relu = SLOPES["ReLU"]
    for cosine in COSINES:
        mixed = np.linalg.cholesky((1 - cosine) * np.eye(K) + cosine) @ frame[:K]
        layers.append(("ReLU", f"cosine {cosine}", np.multiply.outer(relu, lengths * mixed).swapaxes(0, 1)))
    random = rng.normal(size=(K, D))
    layers.append(("ReLU", "random", np.multiply.outer(relu, random).swapaxes(0, 1)))
    layers.append(("maxout", "random", rng.normal(size=(K, 3, D))))
    return layers


def _joint(A: np.ndarray, B: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The code of highest posterior among all, (N, D) → (N, K), from means and priors as they stand."""
    K, R, _ = A.shape
    codes = np.array(list(itertools.product(range(R), repeat=K)))
    means = A[np.arange(K), codes].sum(1)  # (codes, D)
    prior = (B + (A**2).sum(2) / 2)[np.arange(K), codes].sum(1)
    return codes[(x @ means.T - (means**2).sum(1) / 2 + prior).argmax(1)]


def _units(A: np.ndarray, B: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The largest line of each unit, (N, D) → (N, K)."""
    return (np.einsum("krd,nd->nkr", A, x) + B).argmax(2)


def _largest_cosine(A: np.ndarray) -> float:
    K = len(A)
    rise = (A - A[:, :1])[:, 1:]
    rise = rise / np.linalg.norm(rise, axis=2, keepdims=True)
    between = np.abs(np.einsum("krd,lsd->klrs", rise, rise)).max((2, 3))
    return float(between[~np.eye(K, dtype=bool)].max())
