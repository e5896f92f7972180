"""The network over the rationals and over solver terms: proofs, not samples.

Stored weights are floating-point numbers, hence rationals, so the very network that runs has an exact meaning.  Two
readings of the graph use it: `evaluate` computes with `fractions.Fraction`, `terms` builds the outputs as z3 terms in
real variables, so that `prove` decides a statement for *all* inputs (linear real arithmetic is decidable).

What is exact and what is not: sums, products by weights, maxima and comparisons are exact.  Mean pooling divides by its
exact count.  Weights that PyTorch computes are taken as the floating-point numbers it finds: BatchNorm's scale
γ/√(σ² + ε) and shift, the weights of an interpolation, products of constants, the slope 1/6 of a hard sigmoid.

Source: Mad Max, §2 (the statements); the proofs are machine checks of instances.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Node, Operator, Reading, like
from maso.operators import AVERAGES, Gate, Selection
from maso.spline import MASO
from maso.tracing import trace


def fractions(values: Any) -> np.ndarray:
    """Numbers (floats, ints, tensor, arrays, nested lists) as exact rationals: an object array of the same shape."""
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, dtype=object)
    out = np.empty(array.shape, dtype=object)
    for i, v in np.ndenumerate(array):
        if isinstance(v, (float, np.floating)) and not math.isfinite(v):
            raise MasoError("a rational number cannot be NaN or infinity; every entry must be finite.")
        out[i] = Fraction(v) if isinstance(v, Fraction) else Fraction(v.item() if isinstance(v, np.generic) else v)
    return out


def evaluate(model: nn.Module, x: Any) -> np.ndarray:
    """The network over the rationals, without rounding.

    Args:
        model: a piecewise-affine network, small (its layers are multiplied out as matrices).
        x: one input, without samples: nested lists or array of numbers or `Fraction`s, (*input_shape).

    Returns:
        Object array of `Fraction`, shape of one output.

    Raises:
        NotPiecewiseAffine: the model has an operator that is not piecewise affine.

    Example:
        >>> net = nn.Sequential(nn.AvgPool1d(3), nn.ReLU())
        >>> evaluate(net, [[1, 1, 2]]).tolist()
        [[Fraction(4, 3)]]
    """
    x = fractions(x)
    graph = trace(model, _example(model, x.shape))
    out = graph.read(model, list(x.flat), _Exact(lambda v: v, _pick_number, max))
    return np.array(out, dtype=object).reshape(graph.output.shape)


def maso_value(m: MASO, x: Any) -> np.ndarray:
    """The formula max_r ⟨A[k, r], x⟩ + B[k, r] over the rationals.

    Args:
        m: a MASO.
        x: D numbers or `Fraction`s (any shape, flattened).

    Returns:
        Object array (K,) of `Fraction`.
    """
    return np.array(_formula(m, list(fractions(x).flat), lambda v: v, max), dtype=object)


def terms(model: nn.Module, input_shape: Sequence[int], *, name: str = "x") -> tuple[list[Any], list[Any]]:
    """The network as solver terms.

    Args:
        model: a piecewise-affine network, small.
        input_shape: shape of one input.
        name: the variables are called name0, name1, ….

    Returns:
        Input variables (z3 reals) and output terms, both flattened.
    """
    import z3

    inputs = [z3.Real(f"{name}{i}") for i in range(math.prod(input_shape))]
    return inputs, at(model, input_shape, inputs)


def at(model: nn.Module, input_shape: Sequence[int], inputs: Sequence[Any]) -> list[Any]:
    """Output terms of the network at given input terms (the midpoint of two inputs, say)."""
    graph = trace(model, _example(model, tuple(input_shape)))
    outputs: list[Any] = graph.read(model, list(inputs), _Exact(_real, _pick_term, _largest_term))
    return outputs


def maso_terms(m: MASO, inputs: Sequence[Any]) -> list[Any]:
    """The formula max_r ⟨A[k, r], x⟩ + B[k, r] as solver terms."""
    return _formula(m, list(inputs), _real, _largest_term)


@dataclass(frozen=True)
class Proof:
    """What the solver found.

    Attributes:
        holds: the statement is true for all values of its variables.
        seconds: time the solver took.
        counterexample: otherwise, values for which it is false.
    """

    holds: bool
    seconds: float
    counterexample: dict[str, Fraction] | None


def prove(statement: Any, *, timeout: float = 600.0) -> Proof:
    """Decide a statement about reals for all values of its variables.

    Args:
        statement: a z3 Boolean term, such as `z3.And([a == b for a, b in zip(outputs, formula)])`.
        timeout: seconds.

    Returns:
        `Proof`.

    Raises:
        MasoError: the solver gave up within the time.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
        >>> x, y = terms(net, (1,))
        >>> prove(y[0] >= 0).holds
        True
    """
    import z3

    solver = z3.Solver()
    solver.set("timeout", int(timeout * 1000))
    solver.add(z3.Not(statement))
    start = time.perf_counter()
    answer = solver.check()
    seconds = time.perf_counter() - start
    if answer == z3.unknown:
        raise MasoError(f"prove: no answer within {timeout:g} s ({solver.reason_unknown()}): use a smaller network.")
    if answer == z3.unsat:
        return Proof(True, seconds, None)
    model = solver.model()
    values = {d.name(): _fraction(model[d]) for d in model.decls()}
    return Proof(False, seconds, values)


# ---------------------------------------------------------------- the reading


class _Exact(Reading[list[Any]]):
    """Values are flat lists of scalars (rationals, or solver terms)."""

    def __init__(
        self, number: Callable[[Fraction], Any], pick: Callable[..., Any], largest: Callable[[list[Any]], Any]
    ) -> None:
        self.number, self.pick, self.largest = number, pick, largest

    def affine(self, operator: Operator) -> list[Any]:
        x = [v for value in operator.values for v in value]
        M, c = (t.double().cpu().numpy() for t in operator.matrix())
        divisor = None
        if operator.node.op == "div":
            divisor = fractions(
                torch.as_tensor(operator.argument(1), device="cpu").expand(1, *operator.node.shape).flatten()
            )

        def weight(i: int, entry: float) -> Fraction:
            if divisor is not None:
                inverse: Fraction = 1 / divisor[i]
                return inverse
            return Fraction(1, round(1 / entry)) if operator.node.op in AVERAGES else Fraction(entry)

        return [
            _combine([(weight(i, row[j]), x[j]) for j in np.flatnonzero(row)], Fraction(offset), self.number)
            for i, (row, offset) in enumerate(zip(M.tolist(), c.tolist(), strict=True))
        ]

    def gate(self, node: Node, gate: Gate, value: list[Any]) -> list[Any]:
        def each(v: float | Tensor) -> np.ndarray:
            return fractions(torch.as_tensor(v, dtype=torch.float64, device="cpu").expand(node.shape).flatten())

        thresholds = [each(t) for t in gate.thresholds]
        slopes, intercepts = [each(s) for s in gate.slopes], [each(i) for i in gate.intercepts]
        out = []
        for k, z in enumerate(value):
            pieces = [_combine([(s[k], z)], i[k], self.number) for s, i in zip(slopes, intercepts, strict=True)]
            out.append(self.pick(z, [self.number(t[k]) for t in thresholds], pieces))
        return out

    def selection(self, node: Node, selection: Selection, values: list[Any]) -> list[Any]:
        z: list[Any] = []
        for value in values:
            if isinstance(value, Tensor):
                value = [self.number(v) for v in fractions(value.expand(1, *node.shape).flatten())]
            z += value
        sign = selection.sign
        windows = [[sign * z[i] for i in w if i >= 0] for w in selection.index.tolist()]
        return [sign * self.largest(w) for w in windows]


def _combine(weighted: list[tuple[Fraction, Any]], offset: Fraction, number: Callable[[Fraction], Any]) -> Any:
    total = number(offset)
    for w, v in weighted:
        if w:
            total = total + (v if w == 1 else number(w) * v)
    return total


def _formula(
    m: MASO, x: list[Any], number: Callable[[Fraction], Any], largest: Callable[[list[Any]], Any]
) -> list[Any]:
    if len(x) != m.D:
        raise MasoError(f"the MASO has {m.D} inputs, x has {len(x)} numbers.")
    A, B = fractions(m.A), fractions(m.B)
    return [
        largest([_combine(list(zip(A[k, r], x, strict=True)), B[k, r], number) for r in range(m.R)]) for k in range(m.K)
    ]


def _example(model: nn.Module, shape: Sequence[int]) -> Tensor:
    return like(model).new_zeros((1, *shape))


def _pick_number(z: Fraction, thresholds: list[Fraction], pieces: list[Fraction]) -> Fraction:
    return pieces[sum(z > t for t in thresholds)]


def _real(value: Fraction) -> Any:
    import z3

    return z3.RealVal(value)


def _pick_term(z: Any, thresholds: list[Any], pieces: list[Any]) -> Any:
    import z3

    out = pieces[0]
    for threshold, piece in zip(thresholds, pieces[1:], strict=True):
        out = z3.If(z > threshold, piece, out)
    return out


def _largest_term(values: list[Any]) -> Any:
    import z3

    out = values[0]
    for v in values[1:]:
        out = z3.If(v > out, v, out)
    return out


def _fraction(value: Any) -> Fraction:
    return Fraction(value.numerator_as_long(), value.denominator_as_long())
