"""Numbers that float64 cannot calculate with: infinity, NaN, and what lies beyond `constants.BEYOND`.

A mask of −∞ or a padding by the smallest float is meant for a comparison, and there it works exactly: it never wins, or
leaves its unit off.  So such numbers are kept at ±`HUGE`, where differences of them are finite, as long as operators
only move and kinks only compare them.  Anything else would be NaN in the network too, or rounding alone: it is refused,
and the message names the tensor that they come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from maso.errors import MasoError
from maso.graph import Graph, Node, ancestors
from maso.partition.constants import BEYOND, HUGE
from maso.partition.noise import Unresolved

MOVES = {
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "repeat", "tile"),
    *("permute", "transpose", "movedim", "swapaxes", "contiguous", "clone", "alias", "detach", "to", "_to_copy"),
    *("slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "getitem", "index_select", "index"),
    *("gather", "roll", "flip", "rot90", "diagonal", "dropout", "feature_dropout", "cat", "concat", "stack"),
    *("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad2d", "unfold", "masked_fill"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "pixel_shuffle", "channel_shuffle", "im2col"),
}


class NotFinite(Exception):
    """An operator gives NaN, or calculates with numbers beyond `BEYOND`.

    Attributes:
        node: which; `why` goes behind its name.
    """

    def __init__(self, node: Node, why: str) -> None:
        super().__init__(why)
        self.node, self.why = node, why


def tame(graph: Graph, node: Node, tensors: list[Tensor]) -> list[Tensor] | None:
    """The rows of a node's result, (rows, *shape) each, with what is huge in row 0 kept at ±`HUGE`; None if nothing is.

    Raises:
        NotFinite: it is NaN, or is calculated with.
    """
    for t in tensors:
        if not float(t[0].abs().max()) < BEYOND:
            break
    else:
        return None
    if any(t[0].isnan().any() for t in tensors):
        raise NotFinite(node, "gives NaN in the window")
    if node is graph.output:
        raise NotFinite(node, f"gives numbers beyond {BEYOND:g} as outputs")
    for user in graph.nodes:
        if node in user.inputs and user.kind == "affine" and user.op not in MOVES:
            raise NotFinite(user, f"calculates with numbers beyond {BEYOND:g}")
    return [torch.where(t[:1].abs() >= BEYOND, t[:1].sign() * HUGE, t) for t in tensors]


def refuse_number(graph: Graph, model: Any, error: NotFinite) -> MasoError:
    """What to say of an operator that numbers are too large for."""
    node = error.node
    where = f"operator {node.op!r} in module {node.path!r}" if node.path else f"operator {node.op!r}"
    line = f" [{node.line}]" if node.line else ""
    return MasoError(f"partition: {where} {error.why}: {blame(graph, model, node)}.{line}")


def explain_unresolved(graph: Graph, model: Any, error: Unresolved) -> str:
    """What to say of a unit in which numbers too large for the window meet."""
    assert error.layer is not None
    return (
        f"partition: layer {error.layer!r}: {error}: float64 does not say what the unit does there "
        f"({largest(graph, model, graph.kinks[error.layer])}). Use smaller constants, or a larger window with its "
        "origin inside."
    )


def blame(graph: Graph, model: Any, node: Node) -> str:
    """The tensor or number that a node depends on which is NaN, or else the largest ones."""
    found = sorted(
        _constants(graph, model, node), key=lambda entry: (math.isnan(entry[1]), abs(entry[1])), reverse=True
    )
    if not found:
        return "the window itself is to blame, no tensor of the network"
    name, value = found[0]
    if not math.isfinite(value):
        return f"{name} holds {'NaN' if math.isnan(value) else value}"
    return largest(graph, model, node)


def largest(graph: Graph, model: Any, node: Node) -> str:
    """The largest finite numbers that a node depends on: those that its rounding errors may come from."""
    found = sorted(_constants(graph, model, node), key=lambda entry: abs(entry[1]), reverse=True)
    finite = [(name, value) for name, value in found if math.isfinite(value)]
    return "the largest numbers that it depends on: " + ", ".join(f"{v:.3g} in {name}" for name, v in finite[:3])


def _constants(graph: Graph, model: Any, node: Node) -> Iterator[tuple[str, float]]:
    """The tensors and numbers that a node depends on, each with its largest entry, NaN where it has one."""
    before = ancestors([node], lambda n: n.operands)
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    names = {id(value): repr(name) for name, value in named}
    for source, value in graph.bind(model).items():
        if source in before and value.is_floating_point() and value.numel():
            entries = value.flatten()
            largest = float(entries[entries.abs().argmax()])
            yield names.get(id(value), f"a constant of the network ({source.name})"), largest
    for n in before:
        for a in (*n.args, *n.kwargs.values()):
            if isinstance(a, float):
                yield f"the arguments of operator {n.op!r} in module {n.path!r}", a
