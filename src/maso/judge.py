"""The model is the judge of what is computed from its graph.

A traced graph is a claim about a Python function.  Attributes, flags, functions, hooks or weights that are not
registered may change after the trace, and a tracer has faults of its own; so every public call compares the two at the
first sample of its batch and at a second point near it, moved along a random direction, where the graph has the code of
that point: values and slopes are judged, and by the function itself, not by its autograd graph.

A graph that was traced just now is also read one sample at a time: rows that change with their company mix samples.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Forward, Graph, Node, Operator, flat
from maso.operators import Gate, Selection

_NEAR = 0.1  # length of the step to the second point, as a share of that of x: long enough to tell slopes apart
_ROUNDINGS = 64  # differences of so many roundings of the largest output pass at once
_NOISES, _SPREADS = 8, 16  # beyond: so many readings with rounding noise, and how often their spread is allowed


def points(x: Tensor, *, far: int = 0) -> Tensor:
    """The first sample, a point near it, and points as far from 0 in other directions: (2 + far, *input_shape)."""
    first = x[:1].detach()
    length = float(first.double().norm()) or 1.0
    moves = (length * _directions(1 + far, *first.shape[1:])).to(first)
    return torch.cat([first, first + _NEAR * moves[:1], moves[1:]])


@lru_cache(maxsize=16)
def _directions(*shape: int) -> Tensor:
    """Random directions of length one, (N, *input_shape)."""
    generator = torch.Generator("cpu").manual_seed(0)
    directions = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    return nn.functional.normalize(directions.flatten(1)).reshape(shape)


def difference(graph: Graph, model: nn.Module, at: Tensor) -> str:
    """What the model gives at some points (N, *input_shape) and the graph does not; "" where they agree."""
    with torch.no_grad():
        theirs = call(model, at)
        ours = flat(graph.read(model, at, Forward()))
        if theirs.numel() != ours.numel():
            return f"the model returns {theirs.numel()} numbers for {len(at)} samples, its graph {ours.numel()}"
        theirs = theirs.reshape(ours.shape)
        if _agree(graph, model, at, ours, theirs):
            return ""
        _refuse_nan(model, theirs)
        off = torch.where(theirs == ours, 0, (theirs - ours).abs().nan_to_num(torch.inf))
        n, k = divmod(int(off.argmax()), ours.shape[1])
        where = "at x" if n == 0 else "at a point near x"
        return (
            f"{where} the model's output {k} is {float(theirs[n, k]):.6g} and that of its graph {float(ours[n, k]):.6g}"
        )


def check_samples(graph: Graph, model: nn.Module, at: Tensor) -> None:
    """Refuse a network in which the output of a sample depends on the others or on their number.

    Args:
        graph: of the model, which agrees with it on the batch.
        model: the network.
        at: some samples, (N, *input_shape).

    Raises:
        MasoError: it does, or what it gives changes from call to call.
    """
    with torch.no_grad():
        together = flat(graph.read(model, at, Forward()))
        for n in range(len(at)):
            one, row = at[n : n + 1], together[n : n + 1]
            for alone in (flat(graph.read(model, one, Forward())), call(model, one).reshape(1, -1)):
                if alone.shape != row.shape or not _agree(graph, model, one, alone, row):
                    if difference(graph, model, at):
                        raise MasoError(f"{type(model).__name__} gives other numbers when it is called again.")
                    raise MasoError(
                        f"{type(model).__name__}: a sample alone does not give what it gives among {len(at)}: samples "
                        "must not mix, and the network must not depend on their number."
                    )


def call(model: nn.Module, x: Tensor) -> Tensor:
    """The model's own output; it gets a copy, in case it writes into it."""
    with torch.no_grad():
        output: Any = model(x.detach().clone())
    if not isinstance(output, Tensor):
        raise MasoError(
            f"{type(model).__name__} returns a {type(output).__name__}; expected one tensor: wrap it in a module that "
            "returns the tensor you mean."
        )
    return output


def _agree(graph: Graph, model: nn.Module, at: Tensor, ours: Tensor, theirs: Tensor) -> bool:
    """Whether two outputs (N, K) differ by rounding alone."""
    same = (ours == theirs).all()
    if same:
        return True
    off = torch.where(ours == theirs, 0, (ours - theirs).abs())
    finite = torch.where(ours.isfinite(), ours.abs(), 0)
    allowed = _ROUNDINGS * _unit(at) * finite.max()
    if (off <= allowed).all():
        return True
    clean = flat(graph.read(model, at, Forward()))
    spread = torch.zeros_like(clean)
    for seed in range(_NOISES):
        noisy = flat(graph.read(model, at, _Noisy(seed, _unit(at))))
        spread = torch.maximum(spread, torch.where(noisy == clean, 0, (noisy - clean).abs()))
    return bool((off <= allowed + _SPREADS * spread.amax(1, keepdim=True)).all())


def _unit(x: Tensor) -> float:
    """Relative error of one rounding in the arithmetic of x."""
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if x.is_cuda and x.dtype == torch.float32 and (matmul or convolution):
        return 2.0**-11
    return torch.finfo(x.dtype).eps


class _Noisy(Forward):
    """The network with rounding made visible: noise of one rounding of the largest number of every tensor."""

    def __init__(self, seed: int, unit: float) -> None:
        self.generator, self.unit = torch.Generator("cpu").manual_seed(seed), unit

    def affine(self, operator: Operator) -> Any:
        out = super().affine(operator)
        return self.noise(out) if isinstance(out, Tensor) else type(out)(self.noise(each) for each in out)

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        return self.noise(super().gate(node, gate, value))

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        return self.noise(super().selection(node, selection, values))

    def noise(self, value: Tensor) -> Tensor:
        size = torch.where(value.isfinite(), value, 0).abs().amax()
        sign = 2 * torch.randint(0, 2, value.shape, generator=self.generator, device="cpu") - 1
        return value + self.unit * size * sign.to(value)


def _refuse_nan(model: nn.Module, output: Tensor) -> None:
    """Name the first weight that is not finite, where the output holds NaN."""
    if not output.isnan().any():
        return
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.isnan().any():
            raise MasoError(f"{type(model).__name__}: its output is NaN, for {name!r} holds NaN.")
    raise MasoError(f"{type(model).__name__}: its output at x holds NaN, though its weights do not.")


def first_difference(graph: Graph, model: nn.Module, at: Tensor) -> str:
    """The first module whose output differs from that of its node in the graph; "" where none is found."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _module, _args, output, path=path: (
                seen.setdefault(path, output.detach().clone()) if isinstance(output, Tensor) else None
            )
        )
        for path, module in model.named_modules()
        if path
    ]
    try:
        call(model, at)
    finally:
        for hook in hooks:
            hook.remove()
    last = {path: node for node in graph.nodes for path in (node.path, node.path.rpartition(".")[0])}
    found: list[str] = []

    def visit(node: Node, values: dict[Node, Any]) -> None:
        for path in (node.path, node.path.rpartition(".")[0]):
            theirs, ours = seen.get(path), values[node]
            if last[path] is not node or theirs is None or theirs.shape != ours.shape:
                continue
            if not torch.allclose(theirs, ours, rtol=1e-4, atol=1e-6):
                found.append(path)

    with torch.no_grad():
        graph.read(model, at, Forward(), visit)
    return found[0] if found else ""
