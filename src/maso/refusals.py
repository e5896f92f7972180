"""What one call of an operator of the table must not do: multiply two values that depend on the input, mix samples.

`maso.operators` says it of most operators in a row (`FACTORS`, `CONSTANT`, `AXES`); what depends on other arguments of
the call is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maso import operators
from maso.graph import Node, depends, nodes_in

_MIXED = "along the axis of the samples: samples must not mix"


def check(node: Node) -> None:
    """Raise ValueError, with the reason, where this call is not piecewise affine or mixes samples."""
    factors = [node.args[i] for i in operators.FACTORS.get(node.op, ())]
    if sum(n.dynamic for n in nodes_in(factors)) > 1:
        raise ValueError("it multiplies two values that both depend on the input")
    if node.op in operators.CONSTANT:
        position, does = operators.CONSTANT[node.op]
        if depends(node.args[position : position + 1]):
            raise ValueError(f"it {does} a value that depends on the input")
    if node.op in operators.AXES:
        _untouched(node.inputs[0], operators.AXES[node.op](*node.args, **node.kwargs), f"it acts {_MIXED}")
    if node.op in _CHECKS:
        _CHECKS[node.op](node)


def _untouched(value: Node, axes: Any, why: str) -> None:
    """Whether the samples of a value are on none of these axes (None: all)."""
    rank = len(value.shape) + 1
    axes = range(rank) if axes is None else axes if isinstance(axes, (list, tuple)) else [axes]
    if value.axis in [axis if axis >= 0 else max(axis + rank, 0) for axis in axes]:
        raise ValueError(why)


def _contraction(node: Node) -> None:
    """Matrix products sum over the last axis of the first factor and the last but one of the second."""
    left, right = (node.args[i] for i in operators.FACTORS[node.op])
    for factor, axis in ((left, -1), (right, -1 if node.op in ("linear", "inner") else -2)):
        if factor.dynamic:
            _untouched(factor, axis, f"it sums {_MIXED}")


def _tensordot(node: Node) -> None:
    for factor, axes in zip(node.args[:2], node.args[2:4], strict=True):
        if factor.dynamic:
            _untouched(factor, axes, f"it sums {_MIXED}")


def _einsum(node: Node) -> None:
    inputs, arrow, output = node.args[0].replace(" ", "").partition("->")
    if not arrow:
        output = "..." + "".join(c for c in inputs if inputs.count(c) == 1)
    for term, factor in zip(inputs.split(","), node.args[1], strict=True):
        if not factor.dynamic:
            continue
        head, _, tail = term.partition("...")
        letters = head + "." * (len(factor.shape) + 1 - len(head + tail)) + tail
        letter = letters[factor.axis]
        if letter not in output or (letter != "." and letters.count(letter) > 1):
            raise ValueError(f"it sums {_MIXED}")


def _batch_norm(node: Node) -> None:
    if node.args[5]:
        raise ValueError(operators.ADVICE["_native_batch_norm_legit_functional"])


def _dropout(node: Node) -> None:
    if node.args[2]:
        raise ValueError(operators.ADVICE["native_dropout"])


def _div(node: Node) -> None:
    if node.kwargs.get("rounding_mode"):
        raise ValueError("it rounds: not continuous")


def _scatter(node: Node) -> None:
    if "reduce" in node.kwargs:
        raise ValueError("only scatter and scatter_add are in the table, no other way to reduce")


def _pad(node: Node) -> None:
    mode = node.args[2] if len(node.args) > 2 else "constant"
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ValueError(f"padding mode {mode!r} is not in the table")


_CHECKS: dict[str, Callable[[Node], None]] = {
    **dict.fromkeys(["matmul", "mm", "bmm", "mv", "addmm", "baddbmm", "linear", "inner"], _contraction),
    "tensordot": _tensordot,
    "einsum": _einsum,
    "batch_norm": _batch_norm,
    **dict.fromkeys(["dropout", "feature_dropout"], _dropout),
    "div": _div,
    "scatter": _scatter,
    "pad": _pad,
}
