"""The table of soft units: its derivation, and numbers against it (09-table)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor, nn

import maso
from maso_book.ch09.derivations import TABLE, derived, halfway
from maso_book.experiment import Rows

DIGITS = 60
LEAK = 0.1


@dataclass(frozen=True)
class Table:
    """Random inputs for every entry.

    Attributes:
        seed: of the inputs and mixtures.
        inputs: of every unit, normal with standard deviations of 0.1, 1 and 10 in turn.
        betas: at which β.
        mixtures: Gaussian mixtures of 2 to 5 components in 3 dimensions.
        others: weights that the derived ones are held against, for each of 100 problems.
    """

    seed: int
    inputs: int = 1000
    betas: tuple[float, ...] = (0.0, 0.1, 0.5, 0.7, 0.9, 0.999)
    mixtures: int = 200
    others: int = 100


class Absolute(nn.Module):
    """|x|."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.abs()


HARD: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "absolute value": Absolute,
    "leaky ReLU": lambda: nn.LeakyReLU(LEAK),
    "maximum of three": lambda: nn.MaxPool1d(3),
}


def by_formula(name: str, z: list[float], odds: Any) -> Any:
    """The table's entry at 60 digits: of the inputs z (one, or three for the maximum), with η."""
    values = [mpmath.mpf(each) for each in z]
    u = values[0]
    if name == "ReLU":
        return u / (1 + mpmath.exp(-odds * u))
    if name == "absolute value":
        return u * mpmath.tanh(odds * u)
    lines = [mpmath.mpf(LEAK) * u, u] if name == "leaky ReLU" else values
    top = max(odds * line for line in lines)
    raised = [mpmath.exp(odds * line - top) for line in lines]
    return mpmath.fdot(raised, lines) / mpmath.fsum(raised)


def run_table(config: Table) -> tuple[Rows, dict[str, np.ndarray]]:
    """What sympy derives, and how far numbers are from it.

    Tables:
        derived: a row for each entry: `entry`, and the columns of `derivations.derived`; and a row "SiLU" with those of
            `derivations.halfway` (null where not asked).
        numbers: a row for each entry and `beta`: `max_error` of `maso.soften` in float64, relative to the largest of 1
            and the inputs.
        optimum: a row for each number of `lines`: `problems`, `better`: how many of the other weights (half of them
            near the derived ones) had a larger objective than these.
        posterior: a row for each `function` ("sigmoid", "tanh", "softmax"): `max_error` in float64 from the
            posterior by Bayes' rule at 60 digits.
    """
    rng = np.random.default_rng(config.seed)
    with mpmath.workdps(DIGITS):
        return {
            "derived": _derived(),
            "numbers": _numbers(config, rng),
            "optimum": _optimum(config, rng),
            "posterior": _posterior(config, rng),
        }, {}


def _derived() -> list[dict[str, Any]]:
    found = {entry.name: derived(entry) for entry in TABLE} | {"SiLU": halfway()}
    columns = list(dict.fromkeys(column for facts in found.values() for column in facts))
    return [{"entry": name, **{c: facts.get(c) for c in columns}} for name, facts in found.items()]


def _numbers(config: Table, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for name, make in HARD.items():
        wide = 3 if name == "maximum of three" else 1
        z = rng.normal(size=(config.inputs, wide)) * np.array([0.1, 1.0, 10.0])[np.arange(config.inputs) % 3, None]
        x = torch.from_numpy(z)[:, None]  # (N, 1, wide)
        for beta in config.betas:
            soft = maso.soften(make(), beta, example=x)(x).flatten().tolist()
            odds = mpmath.mpf(beta) / (1 - mpmath.mpf(beta))
            errors = [
                abs(float(value - by_formula(name, own, odds))) / max(1.0, max(map(abs, own)))
                for value, own in zip(soft, z.tolist(), strict=True)
            ]
            rows.append({"entry": name, "beta": beta, "max_error": max(errors)})
    return rows


def _optimum(config: Table, rng: np.random.Generator, problems: int = 100) -> list[dict[str, Any]]:
    rows = []
    for lines in (2, 3, 9):
        ell, beta = rng.normal(size=(problems, 1, lines)) * 2, rng.uniform(0, 0.98, (problems, 1, 1))
        t = torch.from_numpy(beta / (1 - beta) * ell).softmax(2).numpy()
        other = rng.dirichlet(np.ones(lines), (problems, config.others))
        near = (t + 1e-3 * other) / (1 + 1e-3)

        def objective(t: np.ndarray, ell: np.ndarray = ell, beta: np.ndarray = beta) -> np.ndarray:
            return (beta * t * ell - (1 - beta) * t * np.log(np.maximum(t, 1e-300))).sum(2)

        better = sum(int((objective(each) > objective(t) + 1e-14).sum()) for each in (other, near))
        rows.append({"lines": lines, "problems": problems, "better": better})
    return rows


def _posterior(config: Table, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Bayes' rule for x | r ~ N(A_r, I), prior ∝ exp(B_r + ‖A_r‖² / 2)."""
    errors: dict[str, list[float]] = {"sigmoid": [], "tanh": [], "softmax": []}
    for _ in range(config.mixtures):
        for kind, found in errors.items():
            pieces = int(rng.integers(2, 6)) if kind == "softmax" else 2
            slopes, biases, x = rng.normal(size=(pieces, 3)), rng.normal(size=pieces), rng.normal(size=3) * 2
            if kind == "sigmoid":  # ReLU: the line 0
                slopes[0], biases[0] = 0, 0
            if kind == "tanh":  # the absolute value
                slopes[0], biases[0] = -slopes[1], -biases[1]
            t = _bayes(slopes, biases, x)
            values = slopes @ x + biases
            if kind == "softmax":
                soft = torch.from_numpy(values).softmax(0).tolist()
                found.append(max(abs(float(a - b)) for a, b in zip(t, soft, strict=True)))
            elif kind == "sigmoid":
                found.append(abs(float(t[1] - float(torch.sigmoid(torch.tensor(values[1], dtype=torch.float64))))))
            else:
                found.append(abs(float(t[1] - t[0] - math.tanh(values[1]))))
    return [{"function": kind, "max_error": max(e)} for kind, e in errors.items()]


def _bayes(slopes: np.ndarray, biases: np.ndarray, x: np.ndarray) -> list[Any]:
    """Posterior of each component at x, from prior and density."""
    joint = []
    for slope, bias in zip(slopes.tolist(), biases.tolist(), strict=True):
        prior = mpmath.exp(mpmath.mpf(bias) + mpmath.fsum(mpmath.mpf(a) ** 2 for a in slope) / 2)
        distance = mpmath.fsum((mpmath.mpf(c) - mpmath.mpf(a)) ** 2 for a, c in zip(slope, x.tolist(), strict=True))
        joint.append(prior * mpmath.exp(-distance / 2) / (2 * mpmath.pi) ** (mpmath.mpf(3) / 2))
    return [each / mpmath.fsum(joint) for each in joint]
