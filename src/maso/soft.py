"""Soft vector quantisation: networks whose kinks are rounded by a temperature, from linear to hard.

A max-affine unit takes the largest of its lines ℓ_r(u) = ⟨A_r, u⟩ + B_r.  β-VQ chooses the weights t of its lines by

    max_t  β Σ_r t_r ℓ_r + (1 − β) H(t),    H(t) = − Σ_r t_r log t_r,

so t = softmax(η ℓ) with η = β / (1 − β), and gives out Σ_r t_r ℓ_r.  β = 1 is the hard unit, β = ½ (η = 1) the soft
one, and β = 0 the mean of the lines.  For a ReLU that is swish, u σ(ηu).  Two relatives are here as well:

- "swish": β-VQ, for a hinge h ↦ max(h, 0) the function h σ(ηh); for a maximum Σ_i softmax(ηu)_i u_i;
- "softplus": (1 − β) log Σ_r exp(ℓ_r / (1 − β)), for a hinge (1 − β) softplus(h / (1 − β));
- "mix": the mean of the two, which is "Curvature Tuning" where it is put at the ReLUs alone.

A gate with pieces of slopes s_0, s_1, … and thresholds θ_1, … is s_0 z + i_0 + Σ_p d_p max(z − θ_p, 0) with
d_p = s_p − s_{p−1}.  Each of its kinks is rounded on its own: ``sign(d_p) S(|d_p| (z − θ_p))``, S being the soft hinge.
With one threshold that is β-VQ between its two lines (max for a convex kink, min for a concave one).

Inside, β is kept as log η = logit β, which is exact where 1 − β is not: near the hard end.

Source: "From Hard to Soft: Understanding Deep Network Nonlinearities via Vector Quantization and Statistical
Inference", §4; "Curvature Tuning: Provable Training-free Model Steering From a Single Parameter" (the mixture).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.graph import Forward, Graph, Node, Operator, entries
from maso.operators import Gate, Selection
from maso.tracing import trace

Kind = Literal["swish", "softplus", "mix"]
Per = Literal["network", "layer", "channel"]

LIMIT = 46.0
"""β = 1 is taken as η = e^46 ≈ 10^20, β = 0 as η = 10^−20: every product with a value below 10^18 is finite."""

_POOLS = {f"max_pool{d}d" for d in (1, 2, 3)}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def soft_hinge(h: Tensor, log_odds: Tensor, kind: Kind = "swish") -> Tensor:
    """The soft form of max(h, 0): h σ(ηh), (1 − β) softplus(h / (1 − β)), or their mean.

    Args:
        h: any shape.
        log_odds: log η = logit β, of a shape that broadcasts against h.
        kind: which of the three.

    Returns:
        The shape of h.
    """
    odds = log_odds.clamp(-LIMIT, LIMIT).exp()
    if kind == "swish":
        return h * torch.sigmoid(odds * h)
    sharpness = 1 + odds
    rounded = nn.functional.softplus(sharpness * h, threshold=40.0) / sharpness
    return rounded if kind == "softplus" else (h * torch.sigmoid(odds * h) + rounded) / 2


def soft_maximum(z: Tensor, log_odds: Tensor, kind: Kind = "swish", *, valid: Tensor | None = None) -> Tensor:
    """The soft form of the maximum over the first axis: Σ softmax(ηz) z, (1 − β) log Σ exp(z / (1 − β)), or their mean.

    Args:
        z: (k, …); over the first axis the processor takes many maxima at a time, over the last one after the other.
        log_odds: log η = logit β, of a shape that broadcasts against (…).
        kind: which of the three.
        valid: bool, broadcasts against z: which entries count, all of them where None.

    Returns:
        (…).
    """
    odds = log_odds.clamp(-LIMIT, LIMIT).exp()

    def masked(scaled: Tensor) -> Tensor:
        return scaled if valid is None else scaled.masked_fill(~valid, -torch.inf)

    weighted = rounded = torch.zeros((), dtype=z.dtype, device=z.device)
    if kind != "softplus":
        weighted = (masked(odds * z).softmax(0) * z).sum(0)
    if kind != "swish":
        sharpness = 1 + odds
        rounded = masked(sharpness * z).logsumexp(0) / sharpness
    return (weighted + rounded) / 2 if kind == "mix" else weighted + rounded


class BetaVQ(nn.Module):
    """A unit max(νu, u) chosen softly: νu + (1 − ν) u σ(η (1 − ν) u), with η = β / (1 − β); swish where ν = 0.

    Args:
        beta: β in [0, 1], a number or one for each channel (C,).
        channels: C, for one β each, all beginning at `beta`; the channels are axis 1 of the input.
        kind: "swish" (β-VQ), "softplus" or "mix"; see the module's text.
        slope: ν, the smaller slope: 0 for ReLU, −1 for the absolute value.
        learnable: whether β is a parameter (its logit is).
        dtype: of the logit, PyTorch's default where None.

    Raises:
        MasoError: β outside [0, 1], a slope of 1 or more, or an unknown kind.

    Example:
        >>> u = torch.linspace(-3, 3, 7)
        >>> torch.allclose(BetaVQ(0.5)(u), nn.functional.silu(u))
        True
        >>> BetaVQ(0.9, channels=8, learnable=True)(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])

    As it stands, large tensors on a CPU take two to four times as long as with `torch.nn.functional.silu`, four to five
    with the backward pass of a learnable β.  `torch.compile` makes one kernel of it, at 1.2 to 1.4 times the cost of
    silu, or 2 with the gradient of a β for each channel (`benchmarks/soft.py`).
    """

    log_odds: Tensor

    def __init__(
        self,
        beta: float | Tensor = 0.5,
        *,
        channels: int | None = None,
        kind: Kind = "swish",
        slope: float = 0.0,
        learnable: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_kind(kind)
        if not slope < 1:
            raise MasoError(f"BetaVQ: slope is {slope}; expected less than 1, the slope of the other piece.")
        values = torch.as_tensor(beta, dtype=torch.float64)
        if values.ndim > 1 or not bool(((values >= 0) & (values <= 1)).all()):
            raise MasoError(f"BetaVQ: beta is {beta}; expected a number in [0, 1], or one for each channel.")
        if channels is not None:
            values = values.expand(channels)
        odds = torch.logit(values).clamp(-LIMIT, LIMIT).to(dtype or torch.get_default_dtype(), copy=True).contiguous()
        self.kind, self.slope, self.learnable = kind, slope, learnable
        if learnable:
            self.log_odds = nn.Parameter(odds)
        else:
            self.register_buffer("log_odds", odds)

    @property
    def beta(self) -> Tensor:
        """β, () or (C,)."""
        return torch.sigmoid(self.log_odds)

    def along(self, axes: int) -> Tensor:
        """log η for values with that many axes after the channels: () or (C, 1, …, 1)."""
        return self.log_odds if self.log_odds.ndim == 0 else self.log_odds.reshape(-1, *[1] * axes)

    def forward(self, u: Tensor) -> Tensor:
        """(N, C, …) → (N, C, …)."""
        log_odds = self.along(u.ndim - 2)
        if self.slope == 0:
            return soft_hinge(u, log_odds, self.kind)
        return self.slope * u + soft_hinge((1 - self.slope) * u, log_odds, self.kind)

    def extra_repr(self) -> str:
        channels = "" if self.log_odds.ndim == 0 else f", channels={len(self.log_odds)}"
        return f"kind={self.kind!r}, slope={self.slope}, learnable={self.learnable}{channels}"


def check_kind(kind: str) -> None:
    """Refuse a kind that there is not."""
    if kind not in get_args(Kind):
        raise MasoError(f"There is no kind {kind!r}. Kinds: {', '.join(get_args(Kind))}.")


class Softened(nn.Module):
    """A network with its kinks softened; `soften` makes it.

    It computes what the traced graph of the network says, with a soft form in the place of each kink.  BatchNorm and
    dropout modules are those of the network, and follow `train` and `eval`.

    Attributes:
        network: the network that gave the graph, with its parameters under their own names.
        names: the kinks that are softened, in order.
        units: for each of them its `BetaVQ`, which holds β; one for all where β is that of the network.
    """

    def __init__(self, network: nn.Module, names: tuple[str, ...], units: list[BetaVQ]) -> None:
        super().__init__()
        self.network, self.names = network, names
        self.units = nn.ModuleList(units)
        self._graphs: dict[Any, _Traced] = {}

    @property
    def unit_of(self) -> dict[str, BetaVQ]:
        """The unit of each kink, by its name."""
        units: list[Any] = list(self.units)
        return dict(zip(self.names, units * len(self.names) if len(units) == 1 else units, strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, *input_shape) → what the network gives."""
        traced = self._traced(x)
        output: Tensor = traced.graph.read(self.network, x, _Soft(self.network, self.unit_of, traced))
        return output

    def set_beta(self, beta: float) -> Softened:
        """Give every kink this β in [0, 1]; the result is itself."""
        value = BetaVQ(beta, dtype=torch.float64).log_odds
        with torch.no_grad():
            for log_odds in self.units.parameters() if self.units[0].learnable else self.units.buffers():
                log_odds.fill_(value.item())
        return self

    def reestimate(self, batches: Iterable[Tensor]) -> Softened:
        """Take the statistics of every BatchNorm anew, as the mean over these batches; no weight changes.

        Args:
            batches: inputs (N, *input_shape), of at least some dozens of samples.

        Returns:
            Itself, each module in the mode it was in.
        """
        norms = [
            module for module in self.network.modules() if isinstance(module, _NORMS) and module.track_running_stats
        ]
        momenta = [norm.momentum for norm in norms]
        try:
            with _modes_kept(self), torch.no_grad():
                self.eval()
                for norm in norms:
                    norm.train()
                    norm.reset_running_stats()
                    norm.momentum = None  # the plain mean over the batches
                for batch in batches if norms else ():
                    self(batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
        return self

    def _traced(self, x: Tensor) -> _Traced:
        """The graph for inputs like x: shape, dtype and device."""
        key = (tuple(x.shape[1:]), x.dtype, x.device)
        if key not in self._graphs:
            self._graphs[key] = _Traced(_graph(self.network, x), x.device)
        return self._graphs[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_graphs": {}}  # graphs are traced anew where they are needed


def soften(
    model: nn.Module,
    beta: float | Mapping[str, float | Tensor] = 0.5,
    *,
    example: Tensor,
    kind: Kind = "swish",
    per: Per = "layer",
    learnable: bool = False,
    kinks: Collection[str] | None = None,
) -> Softened:
    """The network with every kink rounded: ReLUs, leaky ones, absolute values, clamps, poolings, in modules or not.

    Args:
        model: a piecewise-affine network; it stays as it is, the result has a copy.
        beta: 1 is the hard network, ½ the soft one (SiLU for ReLU), 0 a linear one; a number, or for each kink a number
            or one for each of its channels (C,).
        example: (N, *input_shape), for the trace: only its shape, dtype and device matter.
        kind: "swish" (β-VQ), "softplus" or "mix"; see the module's text.
        per: whether β is one number of the network, one a kink, or one a channel.
        learnable: whether β is a parameter.
        kinks: the names of those to soften (`maso.trace(model, x).kinks`), all of them where None.

    Returns:
        A `torch.nn.Module` like any other: it trains, moves, saves. `names` lists the kinks that were softened.

    Raises:
        NotPiecewiseAffine: as `maso.trace`.
        MasoError: a name that is no kink, β outside [0, 1], or a β for each kink of one for the network.

    Source:
        "From Hard to Soft", §4.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
        >>> x = torch.randn(5, 1, 8, 8)
        >>> soften(net, 0.9, example=x).names
        ('1', '2')
        >>> torch.allclose(soften(net, 1.0, example=x)(x), net(x), atol=1e-6)
        True
    """
    check_kind(kind)
    if per not in get_args(Per):
        raise MasoError(f"soften: per is {per!r}; expected one of {', '.join(get_args(Per))}.")
    network = copy.deepcopy(model)
    graph = _graph(network, example)
    wanted = list(graph.kinks) if kinks is None else list(kinks)
    asked = [*wanted, *(beta if isinstance(beta, Mapping) else ())]
    if unknown := [name for name in asked if name not in graph.kinks]:
        raise MasoError(f"soften: {', '.join(unknown)} is no kink of the network. Kinks: {', '.join(graph.kinks)}.")
    names = tuple(name for name in graph.kinks if name in set(wanted))
    if isinstance(beta, Mapping) and (per == "network" or not set(names) <= set(beta)):
        raise MasoError("soften: a β for each kink needs per='layer' or 'channel', and one for every kink softened.")

    def unit(name: str) -> BetaVQ:
        value = beta[name] if isinstance(beta, Mapping) else beta
        shape = graph.kinks[name].shape
        channels = shape[0] if per == "channel" and shape else None
        if isinstance(value, Tensor) and value.ndim and len(value) != (shape[0] if shape else 1):
            raise MasoError(
                f"soften: {len(value)} values of β for {name}, which has {shape[0] if shape else 1} channels."
            )
        return BetaVQ(value, channels=channels, kind=kind, learnable=learnable, dtype=example.dtype)

    if per == "network":
        assert not isinstance(beta, Mapping)
        units = [BetaVQ(beta, kind=kind, learnable=learnable, dtype=example.dtype)]
    else:
        units = [unit(name) for name in names]
    result = Softened(network, names, [each.to(example.device) for each in units])
    result.training = model.training  # the modules of the network keep their own modes: a BatchNorm may be frozen
    return result


# The graph, read softly -----------------------------------------------------------------------------------------------


def _graph(network: nn.Module, x: Tensor) -> Graph:
    """The graph of a network for inputs like x, traced in eval mode; its modules keep the modes they are in."""
    with _modes_kept(network):
        network.eval()
        return trace(network, torch.zeros((1, *x.shape[1:]), dtype=x.dtype, device=x.device))


@contextlib.contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards each module is in training or eval mode as it was before."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class _Traced:
    """A graph, and the windows of its selections on the device of its inputs."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.graph = graph
        self.windows: dict[Node, tuple[Tensor, Tensor | None]] = {}
        for node in graph.kinks.values():
            if node.kind == "selection" and not _slides(node):
                index = node.selection.index.reshape(*node.shape, -1).movedim(-1, 0)
                valid = None if (index >= 0).all() else (index >= 0)[:, None].to(device)
                self.windows[node] = (index.clamp(min=0).flatten().to(device), valid)


def _slides(node: Node) -> bool:
    """Whether a selection is a max pool whose windows are plain slices: no padding, no dilation, none cut off."""
    if node.op not in _POOLS:
        return False
    named = (
        dict(zip(("kernel", "stride", "padding", "dilation", "ceil_mode"), node.args[1:], strict=False)) | node.kwargs
    )
    return not any(_each(named.get("padding", 0))) and set(_each(named.get("dilation", 1))) <= {1} and not named.get(
        "ceil_mode", False
    )  # fmt: skip


def _each(value: Any) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]


class _Soft(Forward):
    """The network with the kinks that have a unit softened."""

    def __init__(self, network: nn.Module, units: dict[str, BetaVQ], traced: _Traced) -> None:
        self.modules = dict(network.named_modules())
        self.units, self.traced = units, traced

    def affine(self, operator: Operator) -> Any:
        module = self.modules.get(operator.node.path)
        if isinstance(module, (*_NORMS, *_DROPOUTS)):
            return module(operator.values[0])  # in the mode it is in
        return super().affine(operator)

    def gate(self, node: Node, gate: Gate, value: Tensor) -> Tensor:
        unit = self._unit(node)
        if unit is None:
            return super().gate(node, gate, value)
        log_odds = unit.along(value.ndim - 2)
        out = _line(value, gate.slopes[0], gate.intercepts[0])
        for p, at in enumerate(gate.thresholds):
            rise = gate.slopes[p + 1] - gate.slopes[p]
            h = value if isinstance(at, float) and at == 0 else value - at
            if isinstance(rise, Tensor):
                out = out + rise.sign() * soft_hinge(rise.abs() * h, log_odds, unit.kind)
            elif rise:
                soft = soft_hinge(h if abs(rise) == 1 else abs(rise) * h, log_odds, unit.kind)
                out = out + soft if rise > 0 else out - soft
        return out if isinstance(out, Tensor) else torch.full_like(value, out)

    def selection(self, node: Node, selection: Selection, values: list[Tensor]) -> Tensor:
        unit = self._unit(node)
        if unit is None:
            if node.op in _POOLS:
                pooled: Tensor = node.call(values[0], *node.args[1:], **node.kwargs)
                return pooled
            return super().selection(node, selection, values)
        valid = None
        if _slides(node):
            z = _slices(node, values[0])  # (k, N, *shape)
        else:
            index, valid = self.traced.windows[node]
            z = entries(values).index_select(1, index).unflatten(1, (-1, *node.shape)).movedim(1, 0)
        soft = soft_maximum(selection.sign * z, unit.along(len(node.shape) - 1), unit.kind, valid=valid)
        return selection.sign * soft

    def _unit(self, node: Node) -> BetaVQ | None:
        return self.units.get(self.traced.graph.paths[node])


def _line(z: Tensor, slope: float | Tensor, intercept: float | Tensor) -> float | Tensor:
    """slope · z + intercept, without the arithmetic that changes nothing."""
    if isinstance(slope, float) and slope == 0:
        return intercept
    line = z if isinstance(slope, float) and slope == 1 else slope * z
    return line if isinstance(intercept, float) and intercept == 0 else line + intercept


def _slices(node: Node, values: Tensor) -> Tensor:
    """The windows of a max pool, (N, *shape) → (k, N, *shape of the result)."""
    axes = int(node.op[8])
    named = dict(zip(("kernel_size", "stride"), node.args[1:3], strict=False)) | node.kwargs
    kernel = _each(named["kernel_size"])
    stride = _each(named.get("stride") or kernel)
    kernel, stride = (each * axes if len(each) == 1 else each for each in (kernel, stride))
    lengths = zip(values.shape[-axes:], kernel, stride, strict=True)
    windows: product[Any] = product(
        *([slice(at, length - size + 1 + at, step) for at in range(size)] for length, size, step in lengths)
    )
    return torch.stack([values[(..., *window)] for window in windows])
