"""The network that is to be partitioned: its graph, as far as some layers or one tensor, and its weights."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Graph, Node, ancestors, like, plain
from maso.partition.forward import Snapshot
from maso.partition.packed import double
from maso.partition.plane import Plane
from maso.tracing import trace

_doubled: weakref.WeakKeyDictionary[Graph, Graph] = weakref.WeakKeyDictionary()


def read_network(
    model: nn.Module, example: Tensor, layers: Sequence[str] | None = None, *, asked: str = "partition"
) -> tuple[Graph, Snapshot]:
    """The graph of a network for inputs like `example`, as far as some layers, and its weights, all in float64.

    Args:
        example: one input (*input_shape).
        asked: the function that asks, for messages.

    Raises:
        MasoError: layers that do not exist, or whose cells are not convex because earlier ones are missing.
        NotPiecewiseAffine: see `maso.trace`.
    """
    if not isinstance(model, nn.Module):
        raise MasoError(f"{asked}: expected a torch.nn.Module, got {type(model).__name__}.")
    model = plain(model)
    graph = _in_float64(trace(model, example[None].to(like(model))))
    if isinstance(layers, str):
        raise MasoError(f"{asked}: layers is the text {layers!r}; expected a list of paths: [{layers!r}].")
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


def read_on_plane(
    model: nn.Module, plane: Plane, layers: Sequence[str] | None = None, *, asked: str
) -> tuple[Graph, Snapshot]:
    """As `read_network`, for inputs on a plane.

    Raises:
        MasoError: also for a plane that is none.
    """
    if not isinstance(plane, Plane):
        raise MasoError(f"{asked}: the plane is a {type(plane).__name__}; expected a maso.Plane.")
    return read_network(model, plane.origin, layers, asked=asked)


def _in_float64(graph: Graph) -> Graph:
    """The graph of a network whose weights will be float64: its casts and constants are, too, and as they are now."""
    if graph not in _doubled:
        _doubled[graph] = double(graph)
    wide = _doubled[graph]
    now = [v.detach().clone() if isinstance(v, Tensor) else v for v in graph._bindings.values()]
    wide_now = [v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in now]
    return Graph(wide.nodes, wide.input, wide.output, dict(zip(wide._bindings, wide_now, strict=True)))


def up_to(graph: Graph, node: Node) -> Graph:
    """The graph as far as one tensor."""
    needed = ancestors([node], lambda n: n.inputs)
    return graph.part(graph.input, [n for n in graph.nodes if n in needed])
