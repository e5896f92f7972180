"""The affine map of a network at an input: f(x) = A[x] x + b[x], exactly.

On the cell of x every kink is fixed to one of its affine pieces, so the network is a product of affine maps

    A[x] = W^(L) · Π_l  A_kink^(l)[x] W^(l),

the signal-dependent matrix of Balestriero & Baraniuk.  `affine_map` computes K rows of it with K transposed passes;
`closed_form` multiplies the factors out one by one, in the open.

Source: Mad Max §3.3 (Theorem 2); A Spline Theory of Deep Networks §3.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maso.codes import Recorder
from maso.errors import MasoError
from maso.graph import Forward, Graph, Node, Operator, Reading, entries, flat
from maso.operators import Gate, Selection
from maso.tracing import trace

# kinks where autograd already takes the piece below a threshold, or the first of equal entries
_AUTOGRAD_AGREES = {"relu", "leaky_relu", "prelu", "_prelu_kernel"} | {f"max_pool{d}d" for d in (1, 2, 3)}
_CHUNK_BYTES, _CHUNK_SAMPLES = 3 << 26, 64  # on a CPU: activations of a chunk; more samples gain nothing


@dataclass(frozen=True)
class AffineMap:
    """f(x_n) = A_n x_n + b_n for each sample n, and for every other point of its cell.

    Attributes:
        A: (N, K, *input_shape).
        b: (N, K).
    """

    A: Tensor
    b: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """A_n x_n + b_n: (N, *input_shape) → (N, K)."""
        if x.shape != self.A.shape[:1] + self.A.shape[2:]:
            raise MasoError(f"x has shape {tuple(x.shape)}; expected {tuple(self.A.shape[:1] + self.A.shape[2:])}.")
        return torch.einsum("nkd,nd->nk", self.A.flatten(2), x.flatten(1)) + self.b


class _Differentiable(Forward):
    """The network with every kink frozen to the piece of its code: autograd sees one affine map, ties included."""

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        if node.op in _AUTOGRAD_AGREES:
            return _call_kink(node, gate, value)
        return gate.apply(value, gate.piece(value.detach()))

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        if node.op in _AUTOGRAD_AGREES:
            image: Tensor = node.call(values[0], *node.args[1:], **node.kwargs)
            return image
        z = entries(values)
        return selection.apply(z, selection.winner(z.detach())).reshape(-1, *node.shape)


def _call_kink(node: Node, gate: Gate, value: Tensor) -> Tensor:
    slope = gate.slopes[0]
    if isinstance(slope, Tensor):
        return torch.where(value > 0, value, slope * value)
    return torch.relu(value) if slope == 0 else nn.functional.leaky_relu(value, slope)


@torch.inference_mode(False)
def affine_map(
    model: nn.Module, x: Tensor, *, outputs: Sequence[int] | Tensor | None = None, chunk: int | None = None
) -> AffineMap:
    """Slopes and offsets of the network on the cell of each x: f(x) = A[x] x + b[x].

    Args:
        model: a piecewise-affine network, BatchNorm and dropout in eval mode; outputs are flattened to K numbers.
        x: (N, *input_shape), on the model's device, in its dtype.
        outputs: the rows wanted: indices of outputs (all of them by default), or a tensor of integers (N, K') with
            rows of its own for each sample.
        chunk: samples worked on at a time; by default a bounded number on a CPU, all of them on a GPU.

    Returns:
        `AffineMap` with A (N, K, *input_shape) and b (N, K).

    Raises:
        NotPiecewiseAffine: the model has an operator that is not piecewise affine; the message names it.
        MasoError: x does not fit the model, or holds NaN.

    Source:
        Mad Max, Theorem 2 and eq. (13): the rows of A[x] are the signal-dependent templates.

    Example:
        >>> import maso
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).double()
        >>> x = torch.randn(5, 2, dtype=torch.float64)
        >>> elsewhere = x + 0.5 * maso.boundary_distance(net, x)[:, None] * nn.functional.normalize(torch.randn_like(x))
        >>> bool(torch.allclose(affine_map(net, x)(elsewhere), net(elsewhere)))
        True
    """
    graph = trace(model, x)
    K = math.prod(graph.output.shape)
    rows = _rows(outputs, K, len(x))
    if chunk is None:
        per_sample = sum(math.prod(n.shape) for n in [graph.input, *graph.nodes] if n.dynamic) * x.element_size()
        chunk = len(x) if x.is_cuda else min(_CHUNK_SAMPLES, max(1, _CHUNK_BYTES // per_sample))
    if not isinstance(chunk, int) or chunk < 1:
        raise MasoError(f"affine_map: chunk is {chunk!r}; expected a whole number of samples, at least 1.")
    _refuse_huge(x, rows.shape[1])
    A = x.new_empty((len(x), rows.shape[1], *x.shape[1:]))
    b = x.new_empty((len(x), rows.shape[1]))
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        with torch.enable_grad():
            leaf = x[part].detach().clone().requires_grad_()
            y = flat(graph.read(model, leaf, _Differentiable())).gather(
                1, rows[part].to(x.device, torch.int64, copy=True)
            )
            for k in range(y.shape[1]):
                (A[part, k],) = torch.autograd.grad(y[:, k].sum(), leaf, retain_graph=k + 1 < y.shape[1])
        b[part] = y.detach() - torch.einsum("nkd,nd->nk", A[part].flatten(2), x[part].flatten(1))
    return AffineMap(A, b)


def _refuse_huge(x: Tensor, rows: int) -> None:
    """Refuse an A that does not fit into memory."""
    needed = x.numel() * rows * x.element_size()
    memory = (
        torch.cuda.mem_get_info(x.device)[1] if x.is_cuda else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    if needed > memory:
        raise MasoError(
            f"affine_map: A takes {needed / 2**30:,.1f} GiB, more than the {memory / 2**30:,.1f} GiB here: name the "
            "rows wanted with outputs=, or take fewer samples at a time."
        )


def _rows(outputs: Sequence[int] | Tensor | None, K: int, N: int) -> Tensor:
    rows = torch.arange(K, device="cpu") if outputs is None else torch.as_tensor(outputs, device="cpu")
    whole = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
    if not whole or rows.numel() == 0 or rows.ndim not in (1, 2) or (rows.ndim == 2 and len(rows) != N):
        raise MasoError(
            f"outputs: expected indices, or integers ({N}, K'); got a tensor of {tuple(rows.shape)}, {rows.dtype}."
        )
    if rows.min() < 0 or rows.max() >= K:
        raise MasoError(
            f"outputs: indices {int(rows.min())} … {int(rows.max())}, but the network has outputs 0 … {K - 1}."
        )
    return rows.expand(N, -1)


# ---------------------------------------------------------------- closed form


@dataclass(frozen=True)
class Factor:
    """One factor of the closed form: z ↦ A z + b from the tensor before it to the tensor after it.

    Attributes:
        name: the layers it is made of, "conv1" or "layer1.0 (7 operators)".
        A: (outputs, inputs).
        b: (outputs,).
    """

    name: str
    A: Tensor
    b: Tensor


def closed_form(model: nn.Module, x: Tensor) -> list[Factor]:
    """The factors whose product is the network on the cell of x, first layer first.

    Each factor is written out from the formula of its operators (weights, frozen slopes, 0/1 selections), never by
    autograd.  Operators between two tensors through which everything flows (a residual block, say) form one factor.

    Args:
        model: a piecewise-affine network.
        x: one sample, (1, *input_shape).

    Returns:
        Factors; `compose(factors)` is (A[x], b[x]) with inputs and outputs flattened.

    Source:
        Mad Max, eq. (12) (CNN) and (14) (ResNet).

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> [(f.name, tuple(f.A.shape)) for f in closed_form(net, torch.ones(1, 2))]
        [('0', (8, 2)), ('1', (8, 8)), ('2', (3, 8))]
    """
    if len(x) != 1:
        raise MasoError(f"closed_form: x has {len(x)} samples; expected one: use x[:1].")
    graph, recorder = trace(model, x), Recorder()
    with torch.no_grad():
        graph.read(model, x, recorder)
        factors, before = [], graph.input
        for segment in _segments(graph):
            part = graph.part(before, segment)
            units = torch.eye(math.prod(before.shape), dtype=x.dtype, device=x.device).reshape(-1, *before.shape)
            linear = flat(part.read(model, units, _Frozen(recorder.codes, linear=True)))
            offset = part.read(model, torch.zeros_like(units[:1]), _Frozen(recorder.codes, linear=False)).flatten()
            factors.append(Factor(_segment_name(segment), linear.T.contiguous(), offset))
            before = segment[-1]
    return factors


def compose(factors: list[Factor]) -> tuple[Tensor, Tensor]:
    """The product of factors, first layer first: A = A_L ⋯ A_1 (K, D) and b = Σ_l A_L ⋯ A_{l+1} b_l (K,)."""
    A, b = factors[0].A, factors[0].b
    for factor in factors[1:]:
        A, b = factor.A @ A, factor.A @ b + factor.b
    return A, b


_MOVES = {"view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "dropout", "clone", "contiguous", "to"}


def _segment_name(segment: list[Node]) -> str:
    named = [node for node in segment if node.op not in _MOVES] or segment
    if len(named) == 1:
        return named[0].path
    common: list[str] = []
    for parts in zip(*(node.path.split(".") for node in named), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return f"{'.'.join(common) or named[-1].path} ({len(named)} operators)"


def _segments(graph: Graph) -> list[list[Node]]:
    """The operators between tensors through which everything flows; what only moves numbers joins what follows."""
    segments: list[list[Node]] = []
    current: list[Node] = []
    alive = {graph.input}
    for node, dying in zip(graph.nodes, graph.dying, strict=True):
        if not node.dynamic:
            continue
        current.append(node)
        alive = (alive | {node}) - set(dying)
        if alive <= {node} and node.axis == 0 and (node.op not in _MOVES or node is graph.output):
            segments.append(current)
            current = []
    return segments


class _Frozen(Reading[Tensor]):
    """The affine map of the cell with the given codes, at any points; or its linear part alone."""

    def __init__(self, codes: dict[Node, Tensor], *, linear: bool) -> None:
        self.codes, self.linear = codes, linear

    def affine(self, operator: Operator) -> Tensor:
        return operator(*operator.values, linear=self.linear)

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        if self.linear:
            gate = Gate(gate.thresholds, gate.slopes, (0.0,) * len(gate.slopes))
        return gate.apply(value, self.codes[node].expand(value.shape))

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        if self.linear:
            values = [v if n.dynamic else torch.zeros_like(v) for n, v in zip(node.operands, values, strict=True)]
        z = entries(values)
        return selection.apply(z, self.codes[node].expand(len(z), -1)).reshape(-1, *node.shape)
