"""A traced graph as plain data, so that a partition can be pickled and copied.

Nodes refer to each other by number, so that a deep network needs no deep recursion, and to PyTorch's operators by name.
"""

from __future__ import annotations

import dataclasses
from functools import reduce
from typing import Any

import torch

from maso.errors import MasoError
from maso.graph import BATCH, Graph, Node, _each


@dataclasses.dataclass(frozen=True)
class _Reference:
    """Stands for a node: its number; −1 for the number of samples."""

    number: int


@dataclasses.dataclass(frozen=True)
class _Called:
    """Stands for an operator of PyTorch: "aten.linear.default"."""

    name: str


def pack(graph: Graph) -> dict[str, Any]:
    """The graph as plain data.

    Raises:
        MasoError: it calls a function that has no name to find it by.
    """
    number = {node: i for i, node in enumerate(_all(graph))}

    def plain(value: Any) -> Any:
        if isinstance(value, Node):
            return _Reference(number[value])
        return _Reference(-1) if value is BATCH else value

    nodes = []
    for node in number:
        fields = {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
        fields |= {name: _each(plain, fields[name]) for name in ("args", "kwargs")}
        nodes.append(fields | {"call": _name(node)})
    return {
        "nodes": nodes,
        "order": [number[n] for n in graph.nodes],
        "output": number[graph.output],
        "bindings": {number[n]: value for n, value in graph._bindings.items()},
    }


def unpack(packed: dict[str, Any]) -> Graph:
    """The graph that `pack` was given."""
    nodes: list[Node] = []

    def filled(value: Any) -> Any:
        if isinstance(value, _Reference):
            return BATCH if value.number < 0 else nodes[value.number]
        return value

    for fields in packed["nodes"]:
        nodes.append(Node(**(fields | {"args": (), "kwargs": {}, "call": _found(fields["call"])})))
    for node, fields in zip(nodes, packed["nodes"], strict=True):
        node.args, node.kwargs = _each(filled, fields["args"]), _each(filled, fields["kwargs"])
    bindings = {nodes[i]: value for i, value in packed["bindings"].items()}
    return Graph([nodes[i] for i in packed["order"]], nodes[0], nodes[packed["output"]], bindings)


def _all(graph: Graph) -> list[Node]:
    """Every node once: the input, parameters and constants, then the operators in order."""
    return list(dict.fromkeys([graph.input, *graph._bindings, *graph.nodes]))


def _name(node: Node) -> Any:
    call = node.call
    if isinstance(call, torch._ops.OpOverload):
        return _Called(str(call))
    module, name = getattr(call, "__module__", None), getattr(call, "__qualname__", "<")
    if module is None or "<" in name:
        raise MasoError(
            f"partition: operator {node.op!r} in module {node.path!r} is a function without a name, so the partition "
            "cannot be copied or pickled: save its vertices, keys and values instead."
        )
    return call


def _found(call: Any) -> Any:
    if not isinstance(call, _Called):
        return call
    return reduce(getattr, call.name.split("."), torch.ops)


def double(graph: Graph) -> Graph:
    """The graph with every floating-point type of lower precision replaced by float64, but for values bound."""
    made: dict[Node, Node] = {}

    def wide(value: Any) -> Any:
        if isinstance(value, Node):
            return made[value]
        return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value

    for node in _all(graph):
        made[node] = dataclasses.replace(
            node, args=_each(wide, node.args), kwargs=_each(wide, node.kwargs), dtype=wide(node.dtype)
        )
    bindings = {made[n]: value for n, value in graph._bindings.items()}
    return Graph([made[n] for n in graph.nodes], made[graph.input], made[graph.output], bindings)
