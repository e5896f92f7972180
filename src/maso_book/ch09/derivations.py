"""The table of soft units, derived with sympy from the β-VQ objective.

For lines ℓ_1, …, ℓ_R the weights t maximise β Σ t_r ℓ_r − (1 − β) Σ t_r log t_r over the simplex.  The objective is
strictly concave for β < 1, so where its gradient is the same for every r (Lagrange), the maximum is, and only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp

u = sp.Symbol("u", real=True)
u1, u2, u3 = sp.symbols("u1 u2 u3", real=True)
nu = sp.Symbol("nu", real=True)
beta = sp.Symbol("beta", positive=True)
eta = sp.Symbol("eta", positive=True)


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: of the hard unit.
        lines: its lines.
        formula: what the table says that β-VQ gives out, with η = β / (1 − β).
        probability: what the table says of the weights at β = ½; of which combination of them, `weights` says.
        weights: the coefficients of t_1, …, t_R in that combination.
    """

    name: str
    lines: tuple[sp.Expr, ...]
    formula: sp.Expr
    probability: sp.Expr
    weights: tuple[int, ...]


def sigmoid(z: sp.Expr) -> sp.Expr:
    """1 / (1 + e^−z)."""
    return 1 / (1 + sp.exp(-z))


_leaky = (nu * sp.exp(eta * nu * u) + sp.exp(eta * u)) / (sp.exp(eta * nu * u) + sp.exp(eta * u))
_pool = [sp.exp(eta * each) for each in (u1, u2, u3)]
TABLE = (
    Entry("ReLU", (sp.Integer(0), u), u * sigmoid(eta * u), sigmoid(u), (0, 1)),
    Entry("absolute value", (-u, u), u * sp.tanh(eta * u), sp.tanh(u), (-1, 1)),
    Entry("leaky ReLU", (nu * u, u), u * _leaky, sigmoid((1 - nu) * u), (0, 1)),
    Entry(
        "maximum of three",
        (u1, u2, u3),
        sum(w * each for w, each in zip(_pool, (u1, u2, u3), strict=True)) / sum(_pool),
        sp.exp(u1) / (sp.exp(u1) + sp.exp(u2) + sp.exp(u3)),
        (1, 0, 0),
    ),
)


def weights(lines: Sequence[sp.Expr], odds: sp.Expr = eta) -> list[sp.Expr]:
    """The candidate: t_r = exp(η ℓ_r) / Σ exp(η ℓ_s)."""
    raised = [sp.exp(odds * line) for line in lines]
    return [each / sum(raised) for each in raised]


def is_stationary(lines: Sequence[sp.Expr]) -> bool:
    """Whether the gradient of the objective is the same in every direction at `weights`, with η = β / (1 − β)."""
    t = sp.symbols(f"t1:{len(lines) + 1}", positive=True)
    objective = sum(beta * each * line - (1 - beta) * each * sp.log(each) for each, line in zip(t, lines, strict=True))
    odds = beta / (1 - beta)
    total = sp.Symbol("Z", positive=True)  # Σ exp(η ℓ_s), the same for all
    at = {each: sp.exp(odds * line) / total for each, line in zip(t, lines, strict=True)}
    slopes = [sp.expand_log(sp.diff(objective, each).subs(at), force=True) for each in t]
    return all(sp.simplify(slope - slopes[0]) == 0 for slope in slopes)


def is_concave(pieces: int) -> bool:
    """Whether the Hessian of the objective is −(1 − β) diag(1 / t): negative definite for β < 1."""
    t = sp.symbols(f"t1:{pieces + 1}", positive=True)
    entropy = -(1 - beta) * sum(each * sp.log(each) for each in t)
    return sp.hessian(entropy, t) == sp.diag(*[-(1 - beta) / each for each in t])


def expected(lines: Sequence[sp.Expr], odds: sp.Expr = eta) -> sp.Expr:
    """Σ t_r ℓ_r."""
    return sum(t * line for t, line in zip(weights(lines, odds), lines, strict=True))


def is_zero(difference: sp.Expr) -> bool:
    """Whether an expression in exponentials vanishes identically."""
    return sp.simplify(sp.expand(sp.together(difference.rewrite(sp.exp)).as_numer_denom()[0])) == 0


def derived(entry: Entry) -> dict[str, bool]:
    """What is shown of a row: each is whether two expressions are the same.

    Returns:
        `stationary`, `concave`: the weights solve the problem; `formula`: Σ t_r ℓ_r is the table's entry;
        `probability`: the weights at β = ½ are; `linear`: at β = 0 the output is the mean of the lines.
    """
    combined = sum(w * t for w, t in zip(entry.weights, weights(entry.lines, sp.Integer(1)), strict=True))
    return {
        "stationary": is_stationary(entry.lines),
        "concave": is_concave(len(entry.lines)),
        "formula": is_zero(expected(entry.lines) - entry.formula),
        "probability": is_zero(combined - entry.probability),
        "linear": sp.simplify(entry.formula.subs(eta, 0) - sum(entry.lines) / len(entry.lines)) == 0,
    }


def halfway() -> dict[str, bool]:
    """Where SiLU stands: the facts of claim 09.2.

    Returns:
        `silu_at_half`: β-VQ of ReLU is u σ(u) exactly at β = ½; `linear_at_zero`: u / 2 at β = 0; `hard_at_one`:
        max(u, 0) in the limit β → 1; `spans_all`: η = β / (1 − β) grows from 0 to ∞ over 0 ≤ β < 1.
    """
    odds = beta / (1 - beta)
    swish = u * sigmoid(odds * u)
    positive, negative = sp.Symbol("p", positive=True), sp.Symbol("n", negative=True)
    return {
        "silu_at_half": sp.solve(sp.Eq(odds, 1), beta) == [sp.Rational(1, 2)]
        and sp.simplify(swish.subs(beta, sp.Rational(1, 2)) - u * sigmoid(u)) == 0,
        "linear_at_zero": sp.simplify(swish.subs(beta, 0) - u / 2) == 0,
        "hard_at_one": sp.limit((u * sigmoid(eta * u)).subs(u, positive), eta, sp.oo) == positive
        and sp.limit((u * sigmoid(eta * u)).subs(u, negative), eta, sp.oo) == 0,
        "spans_all": sp.simplify(sp.diff(odds, beta) - 1 / (1 - beta) ** 2) == 0
        and odds.subs(beta, 0) == 0
        and sp.limit(odds, beta, 1, "-") == sp.oo,
    }
