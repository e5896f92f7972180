"""Memorization: the templates that would be best for one input, and how near those of a network come to them.

Templates A_1, …, A_C classify an input x of class y by softmax(⟨A_c, x⟩).  If they were free, for this input alone,
the cross-entropy

    ℓ(A) = log Σ_c exp⟨A_c, x⟩ − ⟨A_y, x⟩

would make them multiples of x: A_y a positive one, the others negative ones.  `optimal_templates` is that optimum with
a budget for all templates together, `optimal_templates_per_class` with a budget for each of them.  `compare` measures
the same two marks, the signs and the direction, on the templates A[x] of any piecewise-affine network.

Source: Mad Max, §4 on templates and memorization; the proofs are in chapter 05.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from maso.affine import AffineMap
from maso.errors import MasoError


def optimal_templates(x: Tensor, y: Tensor, classes: int, budget: Tensor) -> Tensor:
    """The templates of smallest loss with Σ_c ‖A_c‖² ≤ K: A_y = √((C−1)K/C) x/‖x‖, A_c = −√(K/(C(C−1))) x/‖x‖.

    Args:
        x: inputs other than 0, (N, D) floating point.
        y: classes, (N,) int64.
        classes: their number C ≥ 2.
        budget: K > 0 of each input, (N,).

    Returns:
        The templates, (N, C, D).

    Raises:
        MasoError: shapes or values that do not fit.
    """
    _check_problem(x, y, classes, budget)
    false = -torch.sqrt(budget / (classes * (classes - 1)))
    return _multiples(x, y, classes, -(classes - 1) * false, false)


def optimal_templates_per_class(x: Tensor, y: Tensor, classes: int, budget: Tensor) -> Tensor:
    """The templates of smallest loss with ‖A_c‖² ≤ K for each class: A_y = √K x/‖x‖, A_c = −√K x/‖x‖.

    Args, Returns, Raises: as for `optimal_templates`.
    """
    _check_problem(x, y, classes, budget)
    return _multiples(x, y, classes, torch.sqrt(budget), -torch.sqrt(budget))


def _check_problem(x: Tensor, y: Tensor, classes: int, budget: Tensor) -> None:
    if x.ndim != 2 or y.shape != x.shape[:1] or budget.shape != x.shape[:1] or classes < 2:
        raise MasoError(
            f"Inputs {tuple(x.shape)}, classes {tuple(y.shape)}, budgets {tuple(budget.shape)}, C = {classes}: "
            "expected (N, D), (N,), (N,) and at least 2 classes."
        )
    if not bool((budget > 0).all()) or not bool((x.norm(dim=1) > 0).all()):
        raise MasoError("Every budget must be positive and every input other than 0: else there is no one optimum.")


def _multiples(x: Tensor, y: Tensor, classes: int, true: Tensor, false: Tensor) -> Tensor:
    own = torch.nn.functional.one_hot(y, classes).bool()
    factor = torch.where(own, true[:, None], false[:, None])
    directions: Tensor = x / x.norm(dim=1, keepdim=True)
    return factor[:, :, None] * directions[:, None]


def smallest_loss(length: float, classes: int, budget: float) -> float:
    """ℓ at the optimum of `optimal_templates`: log(1 + (C−1) exp(−‖x‖ √(CK/(C−1)))), for ‖x‖ = `length`."""
    return math.log1p((classes - 1) * math.exp(-length * math.sqrt(classes * budget / (classes - 1))))


# Networks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Comparison:
    """N inputs against the templates of their own, and those of the other inputs of their class.

    Attributes:
        inner: ⟨A[x]_c, x − o⟩, (N, C), o being the origin.
        bias: b[x]_c + ⟨A[x]_c, o⟩, (N, C): what is left of the output.
        pattern: whether ⟨A[x]_y, x − o⟩ > 0 > ⟨A[x]_c, x − o⟩ for all c ≠ y, (N,) bool.
        pattern_others: the same of A[x'] at x, as a share of the other inputs x' of the class, (N,).
        cosine: between A[x]_y and x − o, (N,).
        cosine_others: between A[x]_y and x' − o, the mean over the other inputs x' of the class, (N,).
        alignment: cosine between all templates A[x] and those of `optimal_templates` for x − o, as arrays of C × D
            numbers, (N,): 1 only where they are that optimum, for some budget.

    Where an input is the only one of its class the two means over others are NaN.
    """

    inner: Tensor
    bias: Tensor
    pattern: Tensor
    pattern_others: Tensor
    cosine: Tensor
    cosine_others: Tensor
    alignment: Tensor


def compare(templates: AffineMap, x: Tensor, y: Tensor, *, origin: Tensor | None = None) -> Comparison:
    """How much of the free optimum's signs and directions the templates of a network have.

    Args:
        templates: `affine_map(model, x)`, all C outputs.
        x: inputs, (N, *input_shape).
        y: the class of each, (N,) int64.
        origin: o, (*input_shape), by default 0. Another origin only moves ⟨A[x], o⟩ between inner product and bias.

    Returns:
        `Comparison`.

    Raises:
        MasoError: shapes that do not fit.

    Example:
        >>> from maso import affine_map
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        >>> x, y = torch.randn(9, 2), torch.arange(9) % 3
        >>> compare(affine_map(net, x), x, y).inner.shape
        torch.Size([9, 3])
    """
    if templates.A.shape[:1] + templates.A.shape[2:] != x.shape or y.shape != x.shape[:1]:
        raise MasoError(
            f"Templates {tuple(templates.A.shape)}, inputs {tuple(x.shape)}, classes {tuple(y.shape)}: expected "
            "(N, C, *input_shape), (N, *input_shape) and (N,)."
        )
    A, b, inputs = templates.A.flatten(2), templates.b, x.flatten(1)
    if origin is not None:
        b = b + torch.einsum("ncd,d->nc", A, origin.flatten())
        inputs = inputs - origin.flatten()
    inner = torch.einsum("ncd,nd->nc", A, inputs)
    pattern = sign_pattern(inner, y)
    cosine, pattern_others, cosine_others = (x.new_full(y.shape, torch.nan) for _ in range(3))
    direction = torch.nn.functional.normalize(inputs, dim=1)
    optimum = _multiples(inputs, y, A.shape[1], x.new_tensor([A.shape[1] - 1.0]), x.new_tensor([-1.0]))
    alignment = torch.nn.functional.cosine_similarity(A.flatten(1), optimum.flatten(1))
    for label in y.unique():
        (members,) = torch.where(y == label)
        products = torch.einsum("jcd,id->jic", A[members], inputs[members])  # template of j, input i
        shown = sign_pattern(products, label.expand(products.shape[:2])).to(x.dtype)
        cosines = torch.nn.functional.normalize(A[members, label], dim=1) @ direction[members].T
        cosine[members] = cosines.diagonal()
        others = len(members) - 1
        if others:
            pattern_others[members] = (shown.sum(0) - shown.diagonal()) / others
            cosine_others[members] = (cosines.sum(1) - cosines.diagonal()) / others
    return Comparison(inner, b, pattern, pattern_others, cosine, cosine_others, alignment)


def sign_pattern(values: Tensor, y: Tensor) -> Tensor:
    """Whether the value of the true class is positive and all others are negative: (…, C), (…) int64 → (…) bool."""
    own = torch.nn.functional.one_hot(y, values.shape[-1]).bool()
    return torch.where(own, values, -values).gt(0).all(-1)


def balanced(templates: AffineMap) -> AffineMap:
    """The templates and biases less their mean over the classes: the same softmax, with templates that sum to zero."""
    return AffineMap(templates.A - templates.A.mean(1, keepdim=True), templates.b - templates.b.mean(1, keepdim=True))
