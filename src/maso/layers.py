"""The MASO of a layer, or of any module whose outputs are maxima of affine functions of its input.

One reading of the graph carries, for every unit, its affine pieces {⟨a_r, x⟩ + b_r}.  An affine operator may combine
units that have one piece in any way, and units that have several with weights ≥ 0 (the pieces of a sum are all sums of
pieces); a convex gate multiplies the pieces by its slopes (all ≥ 0 unless the unit has one piece); a maximum unites
them.  Where one of these conditions fails the output is in general not convex, hence no MASO, and an error says so.
The same conditions are those of the convexity theorem (Mad Max, Theorem 5): a network whose later weights are ≥ 0 and
whose gates are convex and nondecreasing *is* one MASO, and `from_layer` constructs it.

Source: Mad Max, §2.3 and Propositions 1 to 4.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Node, Operator, Reading, like
from maso.operators import Gate, Selection
from maso.spline import MASO
from maso.tracing import trace

_MOST_PIECES = 4096


def from_layer(layer: nn.Module, input_shape: tuple[int, ...] | list[int] | int) -> MASO:
    """The MASO that equals a layer: inputs and outputs flattened.

    Args:
        layer: a layer, or a module of several, with outputs that are maxima of affine functions: linear, convolution,
            mean pool, BatchNorm in eval mode, ReLU, leaky ReLU, absolute value, max pool, maxout, any affine operator
            before one of these, max pool over ReLU, skip connections, concatenations.
        input_shape: shape of one input, without samples.

    Returns:
        `MASO` with A (K, R, D) and B (K, R); units with fewer than R pieces repeat their last one.

    Raises:
        MasoError: an output is not a maximum of affine functions; the message names the operator.
        NotPiecewiseAffine: an operator is not piecewise affine.

    Source:
        Mad Max, Propositions 1 to 4; skip connections: A Spline Theory of Deep Networks, eq. (14).

    Example:
        >>> m = from_layer(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (3,))
        >>> m
        MASO(K=4, R=2, D=3, torch.float32)
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    example = like(layer).new_zeros((1, *shape))
    graph = trace(layer, example)
    D = math.prod(shape)
    eye = torch.eye(D, dtype=example.dtype, device=example.device)
    units = [Unit(eye[i : i + 1], eye.new_zeros(1)) for i in range(D)]
    units = graph.read(layer, units, _Pieces(D))
    R = max(len(u.b) for u in units)
    padded = [torch.arange(R, device="cpu").clamp(max=len(u.b) - 1) for u in units]
    return MASO(
        torch.stack([u.A[i] for u, i in zip(units, padded, strict=True)]),
        torch.stack([u.b[i] for u, i in zip(units, padded, strict=True)]),
    )


@dataclass(frozen=True)
class Unit:
    """One output as max_r ⟨A[r], x⟩ + b[r]: A (R, D), b (R,)."""

    A: Tensor
    b: Tensor

    def distinct(self) -> Unit:
        """Without pieces that stand there already."""
        rows = torch.cat([self.A, self.b[:, None]], 1).tolist()
        keep = [i for i, row in enumerate(rows) if row not in rows[:i]]
        return self if len(keep) == len(rows) else Unit(self.A[keep], self.b[keep])


class _Pieces(Reading[list[Unit]]):
    """Values are lists of units: the affine pieces of every number of a tensor."""

    def __init__(self, D: int) -> None:
        self.D = D

    def affine(self, operator: Operator) -> list[Unit]:
        units = [u for value in operator.values for u in value]
        M, c = operator.matrix()
        several = torch.tensor([len(u.b) > 1 for u in units], device=M.device)
        if ((M < 0) & several).any():
            raise _not_convex(operator.node, "it has a negative weight on an output with a kink")
        single = M * ~several
        A0, b0 = torch.stack([u.A[0] for u in units]), torch.stack([u.b[0] for u in units])
        A, b = single @ A0, single @ b0 + c
        out = []
        for k in range(len(c)):
            terms = [(M[k, i], units[i]) for i in torch.nonzero(M[k]).flatten().tolist() if len(units[i].b) > 1]
            if math.prod(len(u.b) for _, u in terms) > _MOST_PIECES:
                raise MasoError(
                    f"operator {operator.node.op!r} in module {operator.node.path!r}: an output has more than "
                    f"{_MOST_PIECES} pieces: take the layers apart and call from_layer on each."
                )
            sums = itertools.product(*[[(w * a, w * o) for a, o in zip(u.A, u.b, strict=True)] for w, u in terms])
            pieces = [(sum((a for a, _ in s), A[k]), sum((o for _, o in s), b[k])) for s in sums]
            out.append(Unit(torch.stack([a for a, _ in pieces]), torch.stack([o for _, o in pieces])).distinct())
        return out

    def gate(self, node: Node, gate: Gate, value: list[Unit]) -> list[Unit]:
        like = value[0].b
        slopes, intercepts = (
            torch.stack(
                [torch.as_tensor(v, dtype=like.dtype, device=like.device).expand(node.shape).flatten() for v in vs]
            )
            for vs in (gate.slopes, gate.intercepts)
        )
        if (slopes[1:] < slopes[:-1]).any():
            raise _not_convex(node, "its slopes decrease, so it is not convex; it is the composition of two MASOs")
        out = []
        for k, unit in enumerate(value):
            if len(unit.b) > 1 and slopes[0, k] < 0:
                raise _not_convex(node, "it decreases somewhere, and acts on an output with a kink")
            A = slopes[:, k, None, None] * unit.A
            b = slopes[:, k, None] * unit.b + intercepts[:, k, None]
            out.append(Unit(A.reshape(-1, self.D), b.flatten()).distinct())
        return out

    def selection(self, node: Node, selection: Selection, values: list[Any]) -> list[Unit]:
        if selection.sign < 0:
            raise _not_convex(node, "a minimum is concave")
        units: list[Unit] = []
        like = next(v for v in values if isinstance(v, list))[0].A
        for value in values:
            if isinstance(value, Tensor):
                flat = value.to(like).expand(1, *node.shape).flatten()
                value = [Unit(like.new_zeros((1, self.D)), v[None]) for v in flat]
            units += value
        windows = [[units[i] for i in w if i >= 0] for w in selection.index.tolist()]
        return [Unit(torch.cat([u.A for u in w]), torch.cat([u.b for u in w])).distinct() for w in windows]


def _not_convex(node: Node, why: str) -> MasoError:
    return MasoError(
        f"operator {node.op!r} in module {node.path!r}: {why}: the output is in general not convex, "
        "hence not one MASO. Call from_layer on the layers one by one; the network is their composition."
    )
