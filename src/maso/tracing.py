"""Tracing: a `torch.nn.Module` becomes a `Graph`, checked operator by operator against the table in `maso.operators`.

The graph is kept with the model (weakly), so the second call costs nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import logging
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.export.graph_signature import OutputKind
from torch.multiprocessing.reductions import StorageWeakRef

from maso import judge, operators, refusals
from maso.errors import MasoError, NotPiecewiseAffine
from maso.graph import BATCH, Graph, Node, ancestors, depends, nodes_in, plain

_SIZES = (127, 131)  # samples in the examples that are exported; the second where the program kept no symbol for it
_OTHERS = 6  # further points at which a new graph is read, together and alone
_MOVERS = {"permute", "transpose", "movedim", "swapaxes", "stack", "select", "slice", "unbind", "clone", "contiguous"}
_MOVERS |= {"moveaxis", "swapdims", "mT", "numpy_T", "t", "matmul", "mm", "einsum"}
_COPIES = {"detach", "alias", "lift_fresh", "lift_fresh_copy", "detach_copy", "alias_copy"}

_graphs: weakref.WeakKeyDictionary[nn.Module, dict[Any, Graph]] = weakref.WeakKeyDictionary()
_one_at_a_time = threading.RLock()  # torch.export patches global state


def trace(model: nn.Module, example: Tensor) -> Graph:
    """The graph of a network, traced once per structure, training flags, input shape, dtype and device.

    On every call the model itself is run on the first sample and on one near it, and the graph must agree
    (`maso.judge`); where it does not, the model has changed unseen and is traced anew.

    Args:
        model: any module of one tensor argument that `torch.export` can trace into operators of the table; a compiled
            or data-parallel one stands for the module inside.
        example: (N, *input_shape).

    Raises:
        NotPiecewiseAffine: an operator that is not piecewise affine or not in the table, named with its module path
            and source line.
        MasoError: a model or input that does not fit, or a graph that does not agree with the model.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> [node.op for node in trace(net, torch.zeros(1, 2)).nodes]
        ['linear', 'relu', 'linear']
    """
    if not isinstance(model, nn.Module):
        raise MasoError(f"trace: expected a torch.nn.Module, got {type(model).__name__}.")
    model = plain(model)
    check_input(model, example)
    key = (
        tuple(example.shape[1:]),
        example.dtype,
        example.device,
        tuple((name, type(m), m.training, m.extra_repr()) for name, m in model.named_modules()),
        tuple((name, p.shape) for name, p in model.named_parameters(remove_duplicate=False)),
    )
    with torch.inference_mode(False):
        at = judge.points(example)
        with _one_at_a_time:
            graphs = _graphs.setdefault(model, {})
            if key not in graphs:
                graphs[key] = _judged(model, example, at)
                return graphs[key]
            graph = graphs[key]
        if judge.difference(graph, model, at):
            with _one_at_a_time:
                graphs.pop(key, None)
                graphs[key] = graph = _judged(model, example, at)
    return graph


def _judged(model: nn.Module, example: Tensor, at: Tensor) -> Graph:
    """A new graph, which agrees with the model at some points (2, *input_shape) and does not mix samples."""
    graph = _build(model, example)
    if what := judge.difference(graph, model, at):
        where = judge.first_difference(graph, model, at)
        raise MasoError(
            f"{type(model).__name__}: its graph, traced just now, is not the model: {what}"
            f"{f'; the first module that differs is {where!r}' if where else ''}. Look there for what torch.export "
            "does not see: numbers that change from call to call, a branch on the number of samples, tensors written "
            "in place."
        )
    judge.check_samples(graph, model, judge.points(example, far=_OTHERS))
    return graph


def check_input(model: nn.Module, x: Tensor) -> None:
    """Refuse an input that no reading can use: no batch axis, an integer or other dtype, another device, NaN."""
    if not isinstance(x, Tensor):
        raise MasoError(f"x is a {type(x).__name__}; expected a torch.Tensor of shape (N, *input_shape).")
    if x.ndim < 2 or len(x) == 0:
        raise MasoError(
            f"x has shape {tuple(x.shape)}; expected (N, *input_shape) with N ≥ 1: use x[None] for one sample."
        )
    if x.layout != torch.strided:
        raise MasoError(f"x is {x.layout}; expected a dense tensor: use x.to_dense().")
    if not x.is_floating_point():
        raise MasoError(f"x is {x.dtype}; expected real floating point: use x.double().")
    if x.is_meta:
        raise MasoError("x is on the meta device and holds no numbers; make it on a real one.")
    parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point() or nn.parameter.is_lazy(p)}
    for name, p in parameters.items():
        if nn.parameter.is_lazy(p):
            raise MasoError(f"{type(model).__name__}: {name!r} has no shape yet: call the model once on such an x.")
        if p.is_meta:
            raise MasoError(f"{type(model).__name__}: {name!r} is on the meta device and holds no numbers.")
        if p.is_inference():
            raise MasoError(f"{name!r} of the model was made in inference mode: make the model outside of it.")
        if p.device != x.device:
            raise MasoError(f"{name!r} of the model is on {p.device} and x on {x.device}: bring both to one device.")
        if p.dtype != x.dtype:
            raise MasoError(f"{name!r} of the model is {p.dtype} and x {x.dtype}: use model.double() and x.double().")
    if torch.is_autocast_enabled(x.device.type):
        raise MasoError("autocast is on, which rounds to fewer digits: call this outside of it.")
    if not x.isfinite().all():
        raise MasoError("x holds NaN or infinity; every entry must be finite.")


def _export(model: nn.Module, example: Tensor, size: int) -> torch.export.ExportedProgram:
    """The program of so many samples, taken apart and without writes in place where it holds what is no plain row."""
    samples = torch.empty((size, *example.shape[1:]), dtype=example.dtype, device=example.device)  # never read
    with _quiet():
        try:
            program = torch.export.export(model, (samples,), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
            if _nested(program.graph) or not _settled(program.graph):
                program = program.run_decompositions(dict(operators.COMPOSITES))
            return program
        except NotImplementedError as error:
            raise NotPiecewiseAffine(f"{type(model).__name__}: {error}.") from error
        except Exception as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            control_flow = (
                "data-dependent" in str(error).lower() or "guardondatadependent" in type(error).__name__.lower()
            )
            if control_flow:
                raise NotPiecewiseAffine(
                    f"{type(model).__name__}: its control flow depends on the data ({first}): rewrite it with "
                    "torch.where on a sign, or analyse its branches one by one."
                ) from error
            if _runs(model, torch.zeros_like(samples[:2])):
                raise MasoError(
                    f"{type(model).__name__} cannot be traced by torch.export: {first}. "
                    "Pass a plain module whose forward takes one tensor."
                ) from error
            raise MasoError(
                f"{type(model).__name__} does not accept an input of shape "
                f"(N, {', '.join(map(str, example.shape[1:]))}): {first}"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's own warnings, and the pages it logs before it raises."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _runs(model: nn.Module, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            model(x)
    except Exception:
        return False
    return True


def _op_name(fx: Any) -> str:
    """The operator's name in the table; an in-place one has the name of the plain one."""
    name = _raw_name(fx)
    return name[:-1] if _in_place(fx) else name


def _raw_name(fx: Any) -> str:
    target = fx.target
    return target.split(".")[0] if isinstance(target, str) else getattr(target, "__name__", str(target)).split(".")[0]


def _in_place(fx: Any) -> bool:
    name = _raw_name(fx)
    return fx.op == "call_function" and name.endswith("_") and not name.startswith("_")


def _build(model: nn.Module, example: Tensor) -> Graph:
    if isinstance(model, torch.jit.ScriptModule):
        raise MasoError(f"{type(model).__name__} is scripted; pass the module that it was made of.")
    first, second = _SIZES
    program = _export(model, example, first)
    x = next(fx for fx in program.graph.nodes if fx.name in program.graph_signature.user_inputs)
    fixed = str(x.meta["val"].shape[0]).isdigit()  # len(x) made it a plain number: a second size tells it from others
    twin = _export(model, example, second) if fixed else program
    return _Builder(type(model).__name__, program, twin).graph()


def _nested(graph: torch.fx.Graph) -> bool:
    """Whether it holds a graph in a graph (a block under no_grad or autocast) or an operator made of others."""
    return any(fx.op == "get_attr" or fx.target in operators.COMPOSITES for fx in graph.nodes)


def _settled(graph: torch.fx.Graph) -> bool:
    """Whether every in-place operator overwrites a fresh tensor that nothing else reads: then it is a plain one."""
    sharing: dict[int, list[torch.fx.Node]] = {}
    for fx in graph.nodes:
        value = fx.meta.get("val")
        for tensor in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(tensor, Tensor):
                sharing.setdefault(StorageWeakRef(tensor.untyped_storage()).cdata, []).append(fx)
    for nodes in sharing.values():
        if any(map(_in_place, nodes)):
            origin = nodes[0]
            chain = all(_in_place(fx) and fx.args[0] is before for before, fx in itertools.pairwise(nodes))
            alone = all(len(fx.users) == 1 for fx in nodes[:-1])
            if origin.op == "placeholder" or _in_place(origin) or not (chain and alone):
                return False
    return True


class _Builder:
    """Turns an exported program into nodes, checking each operator against the table."""

    def __init__(self, model: str, program: torch.export.ExportedProgram, twin: torch.export.ExportedProgram) -> None:
        self.model, self.program = model, program
        self.twins = dict(zip(program.graph.nodes, twin.graph.nodes, strict=False))
        if [fx.target for fx in self.twins] != [fx.target for fx in twin.graph.nodes]:
            raise MasoError(f"{model}: what it does depends on the number of samples.")
        self.made: dict[torch.fx.Node, Any] = {}
        self.bindings: dict[Node, str | Tensor] = {}

    def graph(self) -> Graph:
        signature, fx_nodes = self.program.graph_signature, list(self.program.graph.nodes)
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        lifted = signature.inputs_to_lifted_tensor_constants
        returned = [
            value
            for value, spec in zip(fx_nodes[-1].args[0], signature.output_specs, strict=True)
            if spec.kind == OutputKind.USER_OUTPUT
        ]
        if len(signature.user_inputs) != 1 or len(returned) != 1:
            raise MasoError(
                f"{self.model} takes {len(signature.user_inputs)} inputs and returns {len(returned)} "
                "outputs; expected one tensor in, one tensor out: wrap it in a module that returns the tensor you mean."
            )
        needed = ancestors([fx for fx in returned if isinstance(fx, torch.fx.Node)], lambda fx: fx.all_input_nodes)
        self.refuse_known([fx for fx in fx_nodes if fx in needed], set(signature.user_inputs))
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
                    self.batch, self.other_batch = like.shape[0], self.twins[fx].meta["val"].shape[0]
                    node.shape = tuple(map(int, like.shape[1:]))
                    node.dtype, node.device = like.dtype, like.device
                    inputs = node
                self.made[fx] = node
            elif fx.op == "call_function" and fx in needed:
                self.made[fx] = made = self.convert(fx)
                if isinstance(made, Node) and made.name == fx.name:
                    nodes.append(made)
        output = self.made.get(returned[0])
        if not isinstance(output, Node) or not output.dynamic:
            raise MasoError(f"{self.model}: its output does not depend on its input.")
        keep = {output}
        for node in reversed(nodes):
            if node in keep:
                keep |= set(node.operands)
        return Graph(
            [n for n in nodes if n in keep], inputs, output, {n: v for n, v in self.bindings.items() if n in keep}
        )

    def refuse_known(self, fx_nodes: list[torch.fx.Node], inputs: set[str]) -> None:
        """Name an operator that is known not to be piecewise affine, rather than a permutation that leads to it."""
        dynamic: set[torch.fx.Node] = set()
        for fx in fx_nodes:
            if fx.name in inputs or not dynamic.isdisjoint(fx.all_input_nodes):
                dynamic.add(fx)
                if (op := _op_name(fx)) in operators.ADVICE:
                    node = Node(fx.name, op, "affine", _nothing)
                    _locate(node, fx)
                    self.refuse(node, operators.ADVICE[op])

    def arg(self, a: Any, twin: Any) -> Any:
        """An argument, given that of the program for another number of samples."""
        if isinstance(a, torch.fx.Node):
            return self.made[a]
        if isinstance(a, (list, tuple)):
            return type(a)(map(self.arg, a, twin))
        if a != twin:
            if (a, twin) != _SIZES:
                raise NotPiecewiseAffine(
                    f"{self.model}: it uses {a} of {_SIZES[0]} and {twin} of {_SIZES[1]} samples: samples must not mix."
                )
            return BATCH
        return a

    def convert(self, fx: torch.fx.Node) -> Any:
        op, value = _op_name(fx), fx.meta.get("val", torch.empty(0, device="cpu"))
        twin = self.twins[fx]
        args: Any = self.arg(tuple(fx.args), tuple(twin.args))
        kwargs = {k: self.arg(v, twin.kwargs[k]) for k, v in fx.kwargs.items()}
        if op == "sym_size":
            return BATCH
        if op in _COPIES:
            return args[0]
        if op in ("to", "_to_copy", "type_as") and isinstance(args[0], Node) and (self.same(fx) or _compares(args[0])):
            return args[0]
        if op == "squeeze":  # not the axis of the samples, also where there is one
            sizes = fx.all_input_nodes[0].meta["val"].shape
            named = operators._axes(args[1], 1) if len(args) > 1 else range(len(sizes))
            args = (args[0], [d for d in named if str(sizes[d]) == "1"])
        if op == "getitem" and isinstance(args[0], Node):
            source, which = args
            if source.kind == "selection":
                if which != 0:
                    self.refuse(source, "the index of the largest entry is used as a number: not continuous")
                return source
            op, args, kwargs = source.op, source.args, source.kwargs
            call: Callable[..., Any] = lambda *a, **k: source.call(*a, **k)[which]  # noqa: E731
        else:
            call = torch.ops.aten.squeeze.dims if op == "squeeze" else _plain(fx)
        if op in operators.SHAPED_AS:
            call, args = operators.SHAPED_AS[op], (args[0], self.sizes(fx))
            op = op.removesuffix("_as")
        elif op == "type_as":
            op, call, args = "to", torch.ops.aten.to.dtype, (args[0], value.dtype)
        elif op == "masked_fill" and _compares(args[1]):
            op, call, args = "where", torch.where, (args[1], args[2], args[0])
        elif op == "mul" and any(map(_compares, args)) and any(map(depends, args)):  # by zeros and ones
            mask, value = sorted(args, key=_compares, reverse=True)
            op, call, args = "where", torch.where, (mask, value, 0.0)
        node = Node(fx.name, op, "constant", call, args, kwargs)
        if isinstance(value, torch.SymInt) and not any(n.dynamic for n in node.operands):
            return node
        _locate(node, fx)
        if any(_compares(n) for n in (nodes_in(args[1:]) if op == "where" else node.operands)):
            self.refuse(node, "it uses the result of a comparison as a number: not continuous")
        if op in operators.SHAPED_LIKE and node.operands:
            args = (self.sizes(fx), *args[2 if op.startswith("new_") else 1 :])
            kwargs = {"dtype": value.dtype, "device": value.device}
            return dataclasses.replace(node, call=operators.SHAPED_LIKE[op], args=args, kwargs=kwargs)
        if not any(n.dynamic for n in node.operands):
            return node
        if op in operators.COMPARISONS:
            node.kind = "comparison"
            return node
        if op == "where":
            node = self.where(node)
        elif op in operators.GATES:
            named = list(inspect.signature(operators.GATES[op]).parameters)[1:]
            node = dataclasses.replace(node, kind="gate", kwargs={k: v for k, v in kwargs.items() if k in named})
        elif op in operators.SELECTIONS:
            node.kind = "selection"
        elif op in operators.AFFINE:
            node.kind = "affine"
        else:
            self.refuse(node, "it is not in the table (maso.operators; book/extend.md says how to add a row)")
        self.check(node, fx)
        return node

    def where(self, node: Node) -> Node:
        condition, above, below = node.args
        if not depends(condition) and not _compares(condition):
            node.kind = "affine"
            return node
        node.kind = "gate"
        if not (_compares(condition) and not depends(condition.args[1])):
            self.refuse(node, "only `where` on the sign of a value minus a constant is a gate")
        if not operators.COMPARISONS[condition.op]:
            above, below = below, above
        source = condition.args[0]
        for branch in (above, below):
            if not _follows(branch, source):
                self.refuse(
                    node, "its branches must be a·z + c in the very value z that is compared: otherwise it jumps"
                )
        return dataclasses.replace(node, args=(source, condition.args[1], above, below))

    def check(self, node: Node, fx: torch.fx.Node) -> None:
        """What makes an operator of the table not piecewise affine, or samples mix, in this call."""
        dynamic = [n for n in node.operands if n.dynamic]
        try:
            refusals.check(node)
        except ValueError as error:
            self.refuse(node, str(error))
        value = fx.meta["val"]
        first = value[0] if isinstance(value, (list, tuple)) else value
        if first.dtype.is_complex:
            self.refuse(node, "its result is complex; the network must be one of real numbers")
        if node.op in ("to", "_to_copy", "copy") and first.dtype != dynamic[-1].dtype:
            self.refuse(node, f"it rounds to {first.dtype}: keep one floating-point type throughout")
        other = self.twins[fx].meta["val"]
        other = other[0] if isinstance(other, (list, tuple)) else other
        axes = [i for i, size in enumerate(first.shape) if self.counts(size, other.shape[i])]
        if len(axes) != 1 or (axes[0] and node.op not in _MOVERS):
            self.refuse(
                node, f"its result has shape {tuple(first.shape)}, without the samples on axis 0: samples must not mix"
            )
        if any(str(size).startswith("u") for size in first.shape):
            self.refuse(
                node,
                "its size depends on the values of a tensor (a Boolean mask, or how often to repeat): index by "
                "positions, found once and kept as a buffer",
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
            if node.kind == "gate" and node.shape != dynamic[0].shape:
                self.refuse(node, "its bounds have more numbers than what they bound: expand that first")
            if any(n.axis for n in dynamic):
                self.refuse(node, "it acts on a tensor whose samples are not on axis 0: permute after it, not before")

    def counts(self, size: Any, twin: Any) -> bool:
        """Whether a size is the number of samples, given that in the program for another number."""
        return (str(size), str(twin)) == (str(self.batch), str(self.other_batch))

    def sizes(self, fx: torch.fx.Node) -> list[Any]:
        """The sizes of a traced tensor, the number of samples told from plain ones."""
        pairs = zip(fx.meta["val"].shape, self.twins[fx].meta["val"].shape, strict=True)
        return [BATCH if self.counts(size, twin) else int(size) for size, twin in pairs]

    def same(self, fx: torch.fx.Node) -> bool:
        """Whether a conversion changes nothing."""
        before, after = (node.meta["val"] for node in (fx.all_input_nodes[0], fx))
        return bool(before.dtype == after.dtype and before.device == after.device)

    def refuse(self, node: Node, why: str) -> None:
        where = f"module {node.path!r}" if node.path else "the network itself"
        line = f" [{node.line}]" if node.line else ""
        raise NotPiecewiseAffine(f"{self.model}: operator {node.op!r} in {where}: {why}.{line}")


def _locate(node: Node, fx: torch.fx.Node) -> None:
    """The module path and source line of a node."""
    stack = list((fx.meta.get("nn_module_stack") or {}).values())
    path, owner = (stack[-1][0], str(stack[-1][1])) if stack else ("", "")
    path = re.sub(r"^L__self__\.?", "", path)
    leaf = owner.startswith("torch.nn.modules.") and ".container." not in owner
    node.path = path if leaf and path else f"{path}.{node.op}".lstrip(".")
    node.line = " ".join((fx.meta.get("stack_trace") or "").strip().split("\n")[-2:]).strip()


def _nothing() -> None:
    """Parameters and inputs are not called."""


def _plain(fx: torch.fx.Node) -> Callable[..., Any]:
    """The operator of a node; an in-place one becomes the plain one of the same name."""
    name = _op_name(fx)
    call: Callable[..., Any] = fx.target  # type: ignore[assignment]
    return operators.CALLS.get(name, getattr(torch.ops.aten, name, call) if _in_place(fx) else call)


def _compares(value: Any) -> TypeGuard[Node]:
    return isinstance(value, Node) and value.kind == "comparison"


def _follows(branch: Any, source: Node) -> bool:
    """Whether a branch of `where` is an elementwise affine function of the source alone."""
    if branch is source or not depends(branch):
        return True
    if not isinstance(branch, Node) or branch.op not in operators.ELEMENTWISE or branch.kind != "affine":
        return False
    return all(_follows(n, source) for n in branch.operands)
