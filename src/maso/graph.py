"""A traced network as a flat graph of tensor operators, and readings of that graph.

Everything in the package is a `Reading`: the same walk over the graph with another meaning for its values (tensors,
frozen affine maps, rationals, solver terms, rows of a cell complex).  Parameters are looked up in the live model at
every reading, so training may go on in between.  `maso.tracing` makes the graph.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from maso import operators
from maso.errors import NotPiecewiseAffine
from maso.operators import Gate, Selection

Value = TypeVar("Value")


class _BatchSize:
    """Stands for the number of samples among the arguments of a node."""

    def __repr__(self) -> str:
        return "N"


BATCH = _BatchSize()


@dataclass(eq=False)
class Node:
    """One operator of the graph.

    Attributes:
        name: unique name.
        op: operator name in the table, such as "conv2d".
        kind: "input", "parameter", "constant" (does not depend on the input), "affine", "gate" or "selection".
        call: the PyTorch operator.
        args, kwargs: its arguments; other nodes stand for their values, `BATCH` for the number of samples.
        shape: shape of one sample of the result (of the first result, where there are several).
        axis: the axis of the result that runs over samples.
        dtype, device: of the result.
        path: module that called it, such as "layer1.0.relu"; "" for the network itself.
        line: source line.
    """

    name: str
    op: str
    kind: str
    call: Callable[..., Any] = field(repr=False)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    axis: int = 0
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    path: str = ""
    line: str = ""

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    @property
    def dynamic(self) -> bool:
        """Whether the value depends on the input."""
        return self.kind in ("input", "affine", "gate", "selection")

    @cached_property
    def operands(self) -> list[Node]:
        """All nodes among the arguments, in order; once they are asked for, the arguments stay."""
        return list(nodes_in((self.args, self.kwargs)))

    @cached_property
    def inputs(self) -> list[Node]:
        """The operands that depend on the input, in order."""
        return [n for n in self.operands if n.dynamic]

    @cached_property
    def selection(self) -> Selection:
        """The windows of a selection."""
        return operators.SELECTIONS[self.op](self)

    def gate(self, constants: dict[Node, Any]) -> Gate:
        """Thresholds and pieces of a gate, given the values of parameters and constants."""
        if self.op == "where":
            return _where_gate(self, constants)
        rest = (constants[a] if isinstance(a, Node) else a for a in self.args[1:])
        return operators.GATES[self.op](len(self.shape), *rest, **self.kwargs)


def nodes_in(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from nodes_in(v)
    elif isinstance(value, dict):
        yield from nodes_in(list(value.values()))


def depends(value: Any) -> bool:
    """Whether a node in a value, an argument or several, depends on the input."""
    return any(n.dynamic for n in nodes_in(value))


def ancestors(nodes: Iterable[Any], inputs: Callable[[Any], Iterable[Any]]) -> set[Any]:
    """Nodes and all that their values depend on, given the inputs of one node."""
    known, todo = set(nodes), list(nodes)
    while todo:
        new = set(inputs(todo.pop())) - known
        known |= new
        todo += new
    return known


def _each(fill: Callable[[Any], Any], value: Any) -> Any:
    """A value with everything in its lists, tuples and dictionaries filled in.

    No closure calls itself here: it would keep all tensors it sees until Python looks for cycles.
    """
    if isinstance(value, dict):
        return {k: _each(fill, v) for k, v in value.items()}
    return type(value)(_each(fill, v) for v in value) if isinstance(value, (list, tuple)) else fill(value)


def _zero(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros_like(value)
    return 0.0 if isinstance(value, (int, float)) else value


class Operator:
    """An affine operator of the graph with the values of its operands, ready to be called on tensors.

    Attributes:
        node: its node.
        values: the values of the operands that depend on the input, in order.
    """

    def __init__(self, node: Node, values: list[Any], constants: Callable[[int], dict[Node, Any]]) -> None:
        self.node, self.values, self._constants = node, values, constants

    def __call__(self, *tensors: Tensor, linear: bool = False) -> Tensor:
        """The operator on tensors, one for each operand that depends on the input, with the same number of samples.

        Args:
            tensors: in the place of `values`.
            linear: leave out what only shifts the result (biases and other constant operands).
        """
        node, at = self.node, iter(tensors)
        batch = tensors[0].shape[node.inputs[0].axis]
        constants = self._constants(batch)

        def fill(a: Any) -> Any:
            if isinstance(a, Node) and a.dynamic:
                return next(at)
            return batch if a is BATCH else constants[a] if isinstance(a, Node) else a

        def zero(a: Any) -> Any:
            return fill(a) if isinstance(a, Node) and a.dynamic else _zero(fill(a))

        shifts = operators.AFFINE[node.op] if linear else ()
        args = [_each(zero if i in shifts else fill, a) for i, a in enumerate(node.args)]
        image: Tensor = node.call(*args, **_each(fill, node.kwargs))
        return image

    def argument(self, i: int) -> Any:
        """The value of an argument that does not depend on the input, for one sample."""
        a = self.node.args[i]
        return self._constants(1)[a] if isinstance(a, Node) else a

    def matrix(self) -> tuple[Tensor, Tensor]:
        """The operator as y = M [x_1; x_2; …] + c, on flattened operands laid end to end.

        Returns:
            M (outputs, inputs) and c (outputs,).

        Entries are exact: the operator is applied to unit vectors, with its offsets left out.
        """
        node = self.node
        sizes = [math.prod(n.shape) for n in node.inputs]
        units = torch.eye(sum(sizes), dtype=node.dtype, device=node.device).split(sizes, 1)
        tensors = [u.reshape(-1, *n.shape).movedim(0, n.axis) for u, n in zip(units, node.inputs, strict=True)]
        with torch.no_grad():
            linear = flat(self(*tensors, linear=True).movedim(node.axis, 0))
            zeros = [torch.zeros_like(t.narrow(n.axis, 0, 1)) for t, n in zip(tensors, node.inputs, strict=True)]
            offset = self(*zeros).movedim(node.axis, 0).flatten()
        return linear.T.contiguous(), offset


class Reading(Generic[Value]):
    """What the values of a graph mean. Subclasses say what each kind of operator does with them."""

    def affine(self, operator: Operator) -> Any:
        """Value of an affine operator, given the values of its operands."""
        raise NotImplementedError

    def gate(self, node: Node, gate: Gate, value: Value) -> Value:
        """Value of a gate."""
        raise NotImplementedError

    def selection(self, node: Node, selection: Selection, values: list[Any]) -> Value:
        """Value of a selection between the entries of one or two operands; a constant operand is a tensor."""
        raise NotImplementedError


class Forward(Reading[Tensor]):
    """The network itself: values are tensors."""

    def affine(self, operator: Operator) -> Any:
        return operator(*operator.values)

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        return gate.apply(value, gate.piece(value))

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        z = entries(values)
        return selection.apply(z, selection.winner(z)).reshape(-1, *node.shape)


def entries(values: list[Tensor]) -> Tensor:
    """The entries that a selection chooses from, (N, entries): one tensor, or two laid end to end."""
    return torch.cat([flat(v) for v in torch.broadcast_tensors(*values)], 1)


def flat(values: Tensor) -> Tensor:
    """One row a sample, (N, *shape) → (N, numbers); a layer may have a single number."""
    return values.reshape(len(values), -1)


class Graph:
    """A traced network.

    Attributes:
        nodes: all operators in the order of evaluation.
        input, output: the nodes of the input and of the output.
        kinks: gates and selections by layer path, in order.
    """

    def __init__(self, nodes: list[Node], inputs: Node, output: Node, bindings: dict[Node, str | Tensor]) -> None:
        self.nodes, self.input, self.output, self._bindings = nodes, inputs, output, bindings
        self.kinks: dict[str, Node] = {}
        bending = [node for node in nodes if node.kind in ("gate", "selection")]
        taken = {node.path for node in bending}
        for node in bending:
            names = itertools.chain([node.path], (f"{node.path}_{i}" for i in itertools.count(1)))
            name = next(n for n in names if n not in self.kinks and (n == node.path or n not in taken))
            self.kinks[name] = node
        self.paths = {node: path for path, node in self.kinks.items()}
        last: dict[Node, int] = {output: len(nodes)}
        for i, node in enumerate(nodes):
            last |= {n: max(i, last.get(n, -1)) for n in node.operands}
        self.dying = [[n for n, at in last.items() if at == i] for i in range(len(nodes))]

    def bind(self, model: nn.Module) -> dict[Node, Tensor]:
        """Current values of the parameters, buffers and lifted constants."""
        model = plain(model)
        live = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
        bound = {node: live[v] if isinstance(v, str) else v for node, v in self._bindings.items()}
        if torch.is_inference_mode_enabled():
            return bound
        return {node: v.clone() if v.is_inference() else v for node, v in bound.items()}

    def part(self, source: Node, nodes: list[Node]) -> Graph:
        """The operators that lead from the tensor `source` to the last of `nodes`, as a graph of their own."""
        kept = {n for n in self.nodes if not n.dynamic} | set(nodes)
        return Graph([n for n in self.nodes if n in kept], source, nodes[-1], self._bindings)

    def read(
        self,
        model: nn.Module,
        value: Any,
        reading: Reading[Any],
        visit: Callable[[Node, dict[Node, Any]], None] | None = None,
    ) -> Any:
        """Evaluate the graph under a reading.

        Args:
            model: the traced network, for its parameters.
            value: the value of the input.
            reading: what values mean.
            visit: called after each node that depends on the input, with the values still needed.

        Returns:
            The value of the output.
        """
        bound = self.bind(model)
        known: dict[int, dict[Node, Any]] = {}

        def constants(batch: int) -> dict[Node, Any]:
            if batch not in known:
                known[batch] = values = dict(bound)

                def fill(a: Any) -> Any:
                    return batch if a is BATCH else values[a] if isinstance(a, Node) else a

                for node in self.nodes:
                    if node.kind == "constant":
                        values[node] = node.call(*_each(fill, node.args), **_each(fill, node.kwargs))
            return known[batch]

        env: dict[Node, Any] = {self.input: value}
        for node, dying in zip(self.nodes, self.dying, strict=True):
            if not node.dynamic:
                continue
            if node.kind == "affine":
                env[node] = reading.affine(Operator(node, [env[n] for n in node.inputs], constants))
            elif node.kind == "gate":
                env[node] = reading.gate(node, node.gate(constants(1)), env[node.inputs[0]])
            else:
                values = [env[n] if n.dynamic else constants(1)[n] for n in node.operands]
                env[node] = reading.selection(node, node.selection, values)
            if visit:
                visit(node, env)
            for n in dying:
                env.pop(n, None)
        return env[self.output]


def like(model: nn.Module) -> Tensor:
    """A number of the dtype and device of a model's weights; float64 on the CPU where it has none."""
    for p in model.parameters():
        if p.is_floating_point():
            return torch.zeros((), dtype=p.dtype, device=p.device)
    return torch.zeros((), dtype=torch.float64, device="cpu")


def plain(model: nn.Module) -> nn.Module:
    """The module inside a compiled or data-parallel one."""
    if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
        return plain(inner)
    return plain(model.module) if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else model


Line = tuple[Any, Any]
"""Slope and intercept of an affine function of one number."""


def _line(branch: Any, source: Node, constants: dict[Node, Any]) -> Line:
    """A branch of `where` as an affine function of its source."""
    if branch is source:
        return 1.0, 0.0
    if not depends(branch):
        value = constants[branch] if isinstance(branch, Node) else branch
        return 0.0, value[0] if isinstance(value, Tensor) and value.ndim > len(source.shape) else value
    (s, i), (t, j) = (_line(a, source, constants) for a in (*branch.args, 0.0)[:2])
    alpha = branch.kwargs.get("alpha", 1)
    if branch.op == "mul":
        return (s * j, i * j) if depends(branch.args[0]) else (t * i, j * i)
    if branch.op == "div":
        return s / j, i / j
    if branch.op == "neg":
        return -s, -i
    if branch.op == "add":
        return s + alpha * t, i + alpha * j
    if branch.op == "sub":
        return s - alpha * t, i - alpha * j
    if branch.op == "rsub":
        return t - alpha * s, j - alpha * i
    return s, i  # what only copies


def _where_gate(node: Node, constants: dict[Node, Any]) -> Gate:
    source, threshold, above, below = node.args
    threshold = constants[threshold] if isinstance(threshold, Node) else float(threshold)
    lines = [_line(branch, source, constants) for branch in (below, above)]
    below_there, above_there = (torch.as_tensor(s * threshold + i, dtype=torch.float64, device="cpu") for s, i in lines)
    if not torch.allclose(*torch.broadcast_tensors(below_there, above_there)):
        raise NotPiecewiseAffine(
            f"operator 'where' in module {node.path!r}: its branches differ at the threshold, "
            f"so it jumps: not continuous. [{node.line}]"
        )
    slopes, intercepts = zip(*lines, strict=True)
    return Gate((threshold,), tuple(map(_number, slopes)), tuple(map(_number, intercepts)))


def _number(value: Any) -> float | Tensor:
    return value if isinstance(value, Tensor) else float(value)
