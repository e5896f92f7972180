"""A network traced once into a flat graph of tensor operators, and readings of that graph.

`trace(model, example)` exports the network, checks every operator against the table in `maso.operators` and keeps the
graph with the model: the second call costs nothing, and parameters are looked up in the live model at every reading, so
training may go on in between.  Everything else in the package is a `Reading`: the same walk over the graph with another
meaning for its values (tensors, frozen affine maps, rationals, solver terms, rows of a cell complex).
"""

from __future__ import annotations

import inspect
import math
import re
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from maso import operators
from maso.errors import MasoError, NotPiecewiseAffine
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
    call: Callable = field(repr=False)
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    axis: int = 0
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    path: str = ""
    line: str = ""

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    @property
    def dynamic(self) -> bool:
        """Whether the value depends on the input."""
        return self.kind in ("input", "affine", "gate", "selection")

    @property
    def operands(self) -> list[Node]:
        """All nodes among the arguments, in order."""
        return list(_nodes((self.args, self.kwargs)))

    @property
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


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _nodes(v)
    elif isinstance(value, dict):
        yield from _nodes(list(value.values()))


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
        """The operator on tensors (one for each operand that depends on the input), all with the same number of samples.

        Args:
            tensors: in the place of `values`.
            linear: leave out what only shifts the result (biases and other constant operands).
        """
        node, at = self.node, iter(tensors)
        batch = tensors[0].shape[node.inputs[0].axis]
        constants = self._constants(batch)

        def fill(a: Any, zero: bool) -> Any:
            if isinstance(a, Node) and a.dynamic:
                return next(at)
            if isinstance(a, (list, tuple)):
                return type(a)(fill(v, zero) for v in a)
            value = batch if a is BATCH else constants[a] if isinstance(a, Node) else a
            return _zero(value) if zero else value

        shifts = operators.AFFINE[node.op] if linear else ()
        args = [fill(a, i in shifts) for i, a in enumerate(node.args)]
        return node.call(*args, **{k: fill(v, False) for k, v in node.kwargs.items()})

    def argument(self, i: int) -> Any:
        """The value of an argument that does not depend on the input, for one sample."""
        a = self.node.args[i]
        return self._constants(1)[a] if isinstance(a, Node) else a

    def matrix(self) -> tuple[Tensor, Tensor]:
        """The operator as y = M [x_1; x_2; …] + c on flattened operands laid end to end: M (outputs, inputs), c (outputs,).

        Entries are exact: the operator is applied to unit vectors, with its offsets left out.
        """
        node = self.node
        sizes = [math.prod(n.shape) for n in node.inputs]
        units = torch.eye(sum(sizes), dtype=node.dtype, device=node.device).split(sizes, 1)
        tensors = [u.reshape(-1, *n.shape).movedim(0, n.axis) for u, n in zip(units, node.inputs, strict=True)]
        with torch.no_grad():
            linear = self(*tensors, linear=True).movedim(node.axis, 0).flatten(1)
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
    return torch.cat([v.flatten(1) for v in torch.broadcast_tensors(*values)], 1)


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
        seen: Counter[str] = Counter()
        for node in nodes:
            if node.kind in ("gate", "selection"):
                seen[node.path] += 1
                self.kinks[node.path + (f"_{seen[node.path] - 1}" if seen[node.path] > 1 else "")] = node
        self.paths = {node: path for path, node in self.kinks.items()}
        last: dict[Node, int] = {output: len(nodes)}
        for i, node in enumerate(nodes):
            last |= {n: max(i, last.get(n, -1)) for n in node.operands}
        self.dying = [[n for n, at in last.items() if at == i] for i in range(len(nodes))]

    def bind(self, model: nn.Module) -> dict[Node, Tensor]:
        """Current values of the parameters, buffers and lifted constants."""
        live = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
        return {node: live[v] if isinstance(v, str) else v for node, v in self._bindings.items()}

    def part(self, source: Node, nodes: list[Node]) -> Graph:
        """The operators that lead from the tensor `source` to the last of `nodes`, as a graph of their own."""
        kept = {n for n in self.nodes if not n.dynamic} | set(nodes)
        return Graph([n for n in self.nodes if n in kept], source, nodes[-1], self._bindings)

    def read(
        self,
        model: nn.Module,
        value: Any,
        reading: Reading,
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
                    if isinstance(a, (list, tuple)):
                        return type(a)(map(fill, a))
                    return batch if a is BATCH else values[a] if isinstance(a, Node) else a

                for node in self.nodes:
                    if node.kind == "constant":
                        values[node] = node.call(*fill(node.args), **{k: fill(v) for k, v in node.kwargs.items()})
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


# ---------------------------------------------------------------- tracing

_graphs: weakref.WeakKeyDictionary[nn.Module, dict[Any, Graph]] = weakref.WeakKeyDictionary()


def trace(model: nn.Module, example: Tensor) -> Graph:
    """The graph of a network, traced once per structure, training flags, input shape, dtype and device.

    Args:
        model: any module of one tensor argument that `torch.export` can trace into operators of the table.
        example: (N, *input_shape); only its shape, dtype and device matter.

    Raises:
        NotPiecewiseAffine: an operator that is not piecewise affine or not in the table, named with its module path
            and source line.
        MasoError: a model or input that does not fit.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> [node.op for node in trace(net, torch.zeros(1, 2)).nodes]
        ['linear', 'relu', 'linear']
    """
    if not isinstance(model, nn.Module):
        raise MasoError(f"trace: expected a torch.nn.Module, got {type(model).__name__}.")
    check_input(model, example)
    key = (
        tuple(example.shape[1:]),
        example.dtype,
        example.device,
        tuple((name, type(m), m.training, m.extra_repr()) for name, m in model.named_modules()),
        tuple((name, p.shape) for name, p in model.named_parameters(remove_duplicate=False)),
    )
    graphs = _graphs.setdefault(model, {})
    if key not in graphs:
        graphs[key] = _build(model, example)
    return graphs[key]


def check_input(model: nn.Module, x: Tensor) -> None:
    """Refuse an input that no reading can use: not floating point, no batch axis, another device or dtype, not finite."""
    if not isinstance(x, Tensor):
        raise MasoError(f"x is a {type(x).__name__}; expected a torch.Tensor of shape (N, *input_shape).")
    if x.ndim < 2 or len(x) == 0:
        raise MasoError(
            f"x has shape {tuple(x.shape)}; expected (N, *input_shape) with N ≥ 1: use x[None] for one sample."
        )
    if not x.is_floating_point():
        raise MasoError(f"x is {x.dtype}; expected floating point: use x.double().")
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    if first is not None and first.device != x.device:
        raise MasoError(f"the model is on {first.device} and x on {x.device}: use x.to({str(first.device)!r}).")
    if first is not None and first.dtype != x.dtype:
        raise MasoError(f"the model is {first.dtype} and x {x.dtype}: use model.double() and x.double().")
    if not x.isfinite().all():
        raise MasoError("x holds NaN or infinity; every entry must be finite.")


def _export(model: nn.Module, example: Tensor, *, decompose: bool) -> torch.export.ExportedProgram:
    two = torch.zeros((2, *example.shape[1:]), dtype=example.dtype, device=example.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(model, (two,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
            return program.run_decompositions(dict(operators.COMPOSITES)) if decompose else program
        except NotImplementedError as error:
            raise NotPiecewiseAffine(f"{type(model).__name__}: {error}.") from error
        except Exception as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            control_flow = (
                "data-dependent" in str(error).lower() or "guardondatadependent" in type(error).__name__.lower()
            )
            if control_flow:
                raise NotPiecewiseAffine(
                    f"{type(model).__name__}: its control flow depends on the data ({first}): rewrite it with torch.where "
                    "on a sign, or analyse its branches one by one."
                ) from error
            if _runs(model, two):
                raise MasoError(
                    f"{type(model).__name__} cannot be traced by torch.export: {first}. "
                    "Pass a plain module whose forward takes one tensor, not a compiled or scripted one."
                ) from error
            raise MasoError(
                f"{type(model).__name__} does not accept an input of shape (N, {', '.join(map(str, example.shape[1:]))}): {first}"
            ) from error


def _runs(model: nn.Module, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            model(x)
    except Exception:
        return False
    return True


def _op_name(fx: Any) -> str:
    target = fx.target
    return target.split(".")[0] if isinstance(target, str) else getattr(target, "__name__", str(target)).split(".")[0]


def _build(model: nn.Module, example: Tensor) -> Graph:
    program = _export(model, example, decompose=False)
    if any(fx.target in operators.COMPOSITES for fx in program.graph.nodes) or not _settle_in_place(program.graph):
        program = _export(model, example, decompose=True)
    return _Builder(type(model).__name__, program).graph()


def _settle_in_place(graph: torch.fx.Graph) -> bool:
    """Whether every in-place operator overwrites a fresh tensor that nothing else reads, so that it can be read as a plain one."""
    views = {"view", "reshape", "flatten", "permute", "transpose", "slice", "select", "squeeze", "unsqueeze", "getitem"}
    views |= {"expand", "detach", "alias", "split", "chunk", "unbind", "dropout", "contiguous", "to", "narrow"}
    for fx in graph.nodes:
        name = _op_name(fx)
        if fx.op == "call_function" and name.endswith("_") and not name.startswith("_"):
            target = fx.args[0]
            if target.op == "placeholder" or len(target.users) > 1 or _op_name(target) in views:
                return False
    return True


class _Builder:
    """Turns an exported program into nodes, checking each operator against the table."""

    def __init__(self, model: str, program: torch.export.ExportedProgram) -> None:
        self.model, self.program = model, program
        self.made: dict[torch.fx.Node, Any] = {}
        self.bindings: dict[Node, str | Tensor] = {}

    def graph(self) -> Graph:
        signature, fx_nodes = self.program.graph_signature, list(self.program.graph.nodes)
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        lifted = signature.inputs_to_lifted_tensor_constants
        if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
            raise MasoError(
                f"{self.model} takes {len(signature.user_inputs)} inputs and returns {len(signature.user_outputs)} outputs; "
                "expected one tensor in, one tensor out: wrap it in a module that returns the tensor you mean."
            )
        returned = next(fx for fx in fx_nodes if fx.op == "output").args[0][0]
        needed = _ancestors(returned)
        nodes: list[Node] = []
        for fx in fx_nodes:
            if fx.op == "placeholder":
                node = Node(fx.name, "parameter", "parameter", _nothing)
                if fx.name in names:
                    self.bindings[node] = names[fx.name]
                elif fx.name in lifted:
                    self.bindings[node] = self.program.constants[lifted[fx.name]]
                else:
                    node.kind = node.op = "input"
                    like = fx.meta["val"]
                    self.batch, node.shape = like.shape[0], tuple(like.shape[1:])
                    node.dtype, node.device = like.dtype, like.device
                    if not isinstance(self.batch, torch.SymInt):
                        raise MasoError(
                            f"{self.model} fixes the number of samples (it was read as {self.batch}): use x.shape[0] or "
                            "−1 instead of a number in view and reshape."
                        )
                    inputs = node
                self.made[fx] = node
            elif fx.op == "call_function" and fx in needed:
                self.made[fx] = made = self.convert(fx)
                if isinstance(made, Node) and made.name == fx.name:
                    nodes.append(made)
        output = self.made[returned]
        if not isinstance(output, Node) or not output.dynamic:
            raise MasoError(f"{self.model}: its output does not depend on its input.")
        keep = {output}
        for node in reversed(nodes):
            if node in keep:
                keep |= set(node.operands)
        return Graph(
            [n for n in nodes if n in keep], inputs, output, {n: v for n, v in self.bindings.items() if n in keep}
        )

    def arg(self, a: Any) -> Any:
        if isinstance(a, torch.fx.Node):
            return self.made[a]
        return type(a)(map(self.arg, a)) if isinstance(a, (list, tuple)) else a

    def convert(self, fx: torch.fx.Node) -> Any:
        op, value = _op_name(fx), fx.meta.get("val")
        if op.endswith("_") and not op.startswith("_"):
            op = op[:-1]
        args, kwargs = self.arg(tuple(fx.args)), {k: self.arg(v) for k, v in fx.kwargs.items()}
        if op == "sym_size":
            return BATCH
        if op == "getitem" and isinstance(args[0], Node):
            source, which = args
            if source.kind == "selection":
                if which != 0:
                    self.refuse(source, "the index of the largest entry is used as a number: not continuous")
                return source
            op, args, kwargs = source.op, source.args, source.kwargs
            call: Callable = lambda *a, **k: source.call(*a, **k)[which]  # noqa: E731
        else:
            call = _plain(fx)
        node = Node(fx.name, op, "constant", call, args, kwargs)
        if isinstance(value, torch.SymInt) and not any(n.dynamic for n in node.operands):
            return node
        stack = list((fx.meta.get("nn_module_stack") or {}).values())
        path, owner = (stack[-1][0], str(stack[-1][1])) if stack else ("", "")
        path = re.sub(r"^L__self__\.?", "", path)
        leaf = owner.startswith("torch.nn.modules.") and ".container." not in owner
        node.path = path if leaf and path else f"{path}.{op}".lstrip(".")
        node.line = " ".join((fx.meta.get("stack_trace") or "").strip().split("\n")[-2:]).strip()
        if op != "where" and any(n.kind == "comparison" for n in node.operands):
            self.refuse(node, "it uses the result of a comparison as a number: not continuous")
        if op in operators.SHAPED_LIKE and node.operands:
            first = (value if isinstance(value, Tensor) else value[0]).shape[1:]
            node.args, node.kwargs = ((BATCH, *map(int, first)),), {"dtype": value.dtype, "device": value.device}
            node.call = operators.SHAPED_LIKE[op]
            return node
        if not any(n.dynamic for n in node.operands):
            return node
        if op in operators.COMPARISONS:
            node.kind = "comparison"
            return node
        if op == "where":
            self.where(node)
        elif op in operators.GATES:
            node.kind = "gate"
            named = list(inspect.signature(operators.GATES[op]).parameters)[1:]
            node.args, node.kwargs = args, {k: v for k, v in kwargs.items() if k in named}
        elif op in operators.SELECTIONS:
            node.kind = "selection"
        elif op in operators.AFFINE:
            node.kind = "affine"
        else:
            self.refuse(node, operators.ADVICE.get(op, "it is not in the table of operators (maso/operators.py)"))
        self.check(node, fx)
        return node

    def where(self, node: Node) -> None:
        condition, above, below = node.args
        node.kind = "gate"
        if not (isinstance(condition, Node) and condition.kind == "comparison" and not _dynamic(condition.args[1])):
            self.refuse(node, "only `where` on the sign of a value minus a constant is a gate")
        if not operators.COMPARISONS[condition.op]:
            above, below = below, above
        source = condition.args[0]
        for branch in (above, below):
            if not _follows(branch, source):
                self.refuse(
                    node, "its branches must be a·z + c in the very value z that is compared: otherwise it jumps"
                )
        node.args = (source, condition.args[1], above, below)

    def check(self, node: Node, fx: torch.fx.Node) -> None:
        """What makes an operator of the table not piecewise affine, or samples mix, in this call."""
        dynamic = [n for n in node.operands if n.dynamic]
        if node.op in operators.PRODUCTS and (len(dynamic) > 1 or node.op == "div" and node.args[0] is not dynamic[0]):
            self.refuse(node, "it multiplies or divides by a value that depends on the input")
        if node.op == "div" and "rounding_mode" in node.kwargs:
            self.refuse(node, "it rounds: not continuous")
        if node.op == "batch_norm" and node.args[5]:
            self.refuse(node, operators.ADVICE["_native_batch_norm_legit_functional"])
        if node.op in ("dropout", "feature_dropout") and node.args[2]:
            self.refuse(node, operators.ADVICE["native_dropout"])
        if node.op == "pad" and len(node.args) > 2 and node.args[2] not in ("constant", "reflect", "replicate"):
            self.refuse(node, f"padding mode {node.args[2]!r} is not in the table")
        value = fx.meta["val"]
        first = value[0] if isinstance(value, (list, tuple)) else value
        if node.op in ("to", "_to_copy") and first.dtype != fx.args[0].meta["val"].dtype:
            self.refuse(node, f"it rounds to {first.dtype}: keep one floating-point type throughout")
        axes = [i for i, size in enumerate(first.shape) if str(size) == str(self.batch)]
        movers = {
            "permute",
            "transpose",
            "movedim",
            "swapaxes",
            "stack",
            "select",
            "slice",
            "unbind",
            "getitem",
            "clone",
            "contiguous",
        }
        if len(axes) != 1 or (axes[0] and node.op not in movers):
            self.refuse(
                node, f"its result has shape {tuple(first.shape)}, without the samples on axis 0: samples must not mix"
            )
        node.axis, node.dtype, node.device = axes[0], first.dtype, first.device
        node.shape = tuple(int(size) for i, size in enumerate(first.shape) if i != node.axis)
        if node.kind != "affine":
            if node.kind == "gate" and len(dynamic) > 1 and node.op != "where":
                self.refuse(node, "its bounds depend on the input: use torch.minimum and torch.maximum")
            try:
                if node.kind == "selection":
                    _ = node.selection
                elif not node.operands[1:]:
                    node.gate({})
            except ValueError as error:
                self.refuse(node, str(error))
            if any(n.axis for n in dynamic):
                self.refuse(node, "it acts on a tensor whose samples are not on axis 0: permute after it, not before")

    def refuse(self, node: Node, why: str) -> None:
        where = f"module {node.path!r}" if node.path else "the network itself"
        line = f" [{node.line}]" if node.line else ""
        raise NotPiecewiseAffine(f"{self.model}: operator {node.op!r} in {where}: {why}.{line}")


def _nothing() -> None:
    """Parameters and inputs are not called."""


def _plain(fx: torch.fx.Node) -> Callable:
    """The operator of a node; an in-place one becomes the plain one of the same name."""
    name, target = _op_name(fx), fx.target
    if name.endswith("_") and not name.startswith("_"):
        return getattr(torch.ops.aten, name[:-1])
    return target  # type: ignore[return-value]


def _ancestors(fx: torch.fx.Node) -> set[torch.fx.Node]:
    found, todo = {fx}, [fx]
    while todo:
        for n in todo.pop().all_input_nodes:
            if n not in found:
                found.add(n)
                todo.append(n)
    return found


def _dynamic(value: Any) -> bool:
    return any(n.dynamic for n in _nodes([value]))


def _follows(branch: Any, source: Node) -> bool:
    """Whether a branch of `where` is an elementwise affine function of the source alone."""
    if branch is source or not _dynamic(branch):
        return True
    if not isinstance(branch, Node) or branch.op not in operators.ELEMENTWISE or branch.kind != "affine":
        return False
    return all(_follows(n, source) for n in branch.operands)


def _where_gate(node: Node, constants: dict[Node, Any]) -> Gate:
    source, threshold, above, below = node.args
    threshold = constants[threshold] if isinstance(threshold, Node) else float(threshold)

    def along(branch: Any, z: Tensor) -> Tensor:
        if branch is source:
            return z
        if isinstance(branch, Node) and branch.dynamic:
            rest = [along(a, z) if isinstance(a, Node) else a for a in branch.args]
            return branch.call(*rest, **branch.kwargs)
        value = constants[branch] if isinstance(branch, Node) else branch
        if isinstance(value, Tensor) and value.ndim > len(source.shape):
            value = value[0]
        return torch.as_tensor(value, dtype=z.dtype, device=z.device).expand(z.shape)

    zero = torch.zeros(source.shape, dtype=node.dtype, device=node.device)
    lines = [(along(b, zero + 1) - along(b, zero), along(b, zero)) for b in (below, above)]
    jump = [along(b, zero + threshold) for b in (below, above)]
    if not torch.allclose(*jump):
        raise NotPiecewiseAffine(
            f"operator 'where' in module {node.path!r}: its branches differ at the threshold, so it jumps: not continuous. [{node.line}]"
        )
    return Gate((threshold,), tuple(s for s, _ in lines), tuple(i for _, i in lines))
