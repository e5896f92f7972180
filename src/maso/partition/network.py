"""The network that is to be partitioned: its graph, as far as some layers or one tensor, and its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Graph, Node, ancestors, plain
from maso.partition.forward import Snapshot
from maso.tracing import trace


def read_network(model: nn.Module, example: Tensor, layers: Sequence[str] | None = None) -> tuple[Graph, Snapshot]:
    """The graph of a network for inputs like `example` (*input_shape), as far as some layers, and its weights.

    Raises:
        MasoError: layers that do not exist, or whose cells are not convex because earlier ones are missing.
        NotPiecewiseAffine: see `maso.trace`.
    """
    if not isinstance(model, nn.Module):
        raise MasoError(f"partition: expected a torch.nn.Module, got {type(model).__name__}.")
    model = plain(model)
    some = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(1))
    graph = trace(model, example[None].to(some))
    if layers is not None:
        unknown = [layer for layer in layers if layer not in graph.kinks]
        if unknown or not layers:
            raise MasoError(f"partition: no layer {unknown or 'named'}; the layers are {list(graph.kinks)}.")
        wanted = [graph.kinks[layer] for layer in layers]
        needed = ancestors(wanted, lambda n: n.inputs)
        missing = [path for path, node in graph.kinks.items() if node in needed and node not in wanted]
        if missing:
            raise MasoError(
                f"partition: layers {missing} come before {list(layers)} and bend them, so their cells alone are not "
                f"convex: name them too, and ask the result for pullback({', '.join(map(repr, layers))})."
            )
        graph = graph.part(graph.input, [n for n in graph.nodes if n in needed])
    return graph, Snapshot(model)


def up_to(graph: Graph, node: Node) -> Graph:
    """The graph as far as one tensor."""
    needed = ancestors([node], lambda n: n.inputs)
    return graph.part(graph.input, [n for n in graph.nodes if n in needed])
