"""Rugosity: how much the slopes of a piecewise-affine network change along given directions.

f(x) = A[x] x + b[x], with A constant on each cell, so the Hessian of f is 0 almost everywhere and its bends hold all
of its curvature.  For a direction u of length 1 and a bandwidth ε, the difference

    ρ_ε(x, u) = ‖A[x] − A[x + ε u]‖_F / ε

takes the Hessian's place.  Rugosity is its p-mean over points and directions, C_p = (mean ρ^p)^{1/p}; along tangents
of the data it says how far the network is from flat along them.

Two limits are worth knowing.  On a line with p = 1, the mean of ρ over points spread evenly tends, as ε → 0, to the sum
of the jumps ‖A₊ − A₋‖ at the bends divided by the line's length.  For p > 1 there is no limit: of the points, a share
that falls like ε has a bend within reach, and there ρ grows like 1/ε, so C_p grows like ε^{1/p − 1}.

Outputs times a factor give rugosity times that factor.  The scale-free measure is ρ_ε(x, u) / (‖A[x]‖_F + δ), δ = 0
where nothing else is said.

The penalties at the end are for training: each is an unbiased estimate of what it penalises, costs no second
derivatives, and leaves gradients to the weights.

Source: LeJeune, Balestriero, Javadi, Baraniuk, Implicit Rugosity Regularization via Data Augmentation (2019).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from maso.affine import _Differentiable
from maso.codes import Recorder
from maso.errors import MasoError
from maso.graph import Graph, flat
from maso.tracing import trace

Tangents = Tensor | Callable[[Tensor], Tensor]
"""Directions (N, U, *input_shape), or a function of x that gives them (`maso.tangents`)."""


class Mean(NamedTuple):
    """A p-mean over points and directions, and its standard error from the spread over points (NaN for one point)."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Rugosity:
    """Changes of slope at N points along U directions each.

    Attributes:
        change: ρ_ε(x, u), (N, U).
        size: ‖A[x]‖_F, (N,).
        moved: whether x + εu lies in another cell than x, (N, U) bool; where it does not, `change` is exactly 0.
        variance: of `change`² as an estimate by random projections, (N, U); 0 where all rows of A were used.
        p, delta: exponent of the mean, and δ of the scale-free measure.
    """

    change: Tensor
    size: Tensor
    moved: Tensor
    variance: Tensor
    p: float
    delta: float

    @property
    def relative(self) -> Tensor:
        """The scale-free measure of each point and direction, (N, U); 0 where nothing changes."""
        size = (self.size + self.delta)[:, None]
        return torch.where(self.change > 0, self.change / size, 0)

    @property
    def plain(self) -> Mean:
        """C_p of the changes themselves."""
        return power_mean(self.change, self.p)

    @property
    def scale_free(self) -> Mean:
        """C_p of the changes relative to ‖A[x]‖."""
        return power_mean(self.relative, self.p)


def power_mean(values: Tensor, p: float) -> Mean:
    """(mean of values^p)^{1/p} over points and directions, (N, U), with its standard error over the points."""
    powers = values.double().pow(p).mean(1)
    mean = float(powers.mean())
    value = mean ** (1 / p)
    if len(powers) < 2:
        return Mean(value, float("nan"))
    error = float(powers.std()) / len(powers) ** 0.5
    return Mean(value, value * error / (p * mean) if mean else 0.0)


def rugosity(
    model: nn.Module,
    x: Tensor,
    *,
    tangents: Tangents,
    eps: float,
    p: float = 2.0,
    delta: float = 0.0,
    projections: int | None = None,
    generator: torch.Generator | None = None,
    chunk: int | None = None,
) -> Rugosity:
    """How much A changes from x to x + εu: ‖A[x] − A[x + εu]‖_F / ε, and the same relative to ‖A[x]‖_F.

    Where the codes of x and x + εu are equal the change is 0, and no slope is computed.

    Args:
        model: a piecewise-affine network in eval mode; outputs are flattened to K numbers.
        x: points, (N, *input_shape), on the model's device, in its dtype.
        tangents: directions, (N, U, *input_shape), of any length but 0, or a function of x that gives them.
        eps: ε > 0, how far to go, in units of the input.
        p: exponent of the mean over points and directions.
        delta: δ ≥ 0; with δ > 0 the scale-free measure is no longer invariant, but finite where ‖A[x]‖ = 0.
        projections: Q ≥ 2 random signs v in place of the K rows: E ‖vᵀM‖² = ‖M‖_F², so squares of changes are
            unbiased, and their variance is reported; all rows by default.
        generator: of the projections, on the device of x.
        chunk: points worked on at a time, by default 64 on a CPU and 256 on a GPU.

    Returns:
        `Rugosity`.

    Raises:
        NotPiecewiseAffine: the model has an operator that is not piecewise affine.
        MasoError: arguments that do not fit, or a direction of length 0.

    Source:
        LeJeune et al. (2019), the Hessian's surrogate for piecewise-affine networks.

    Example:
        >>> from maso.tangents import ambient
        >>> net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
        >>> found = rugosity(net, torch.randn(50, 2), tangents=ambient, eps=0.1)
        >>> found.change.shape, found.plain.value > 0
        (torch.Size([50, 1]), True)
    """
    u = _unit(tangents, x)
    if not eps > 0 or not p > 0 or delta < 0 or (projections is not None and projections < 2):
        raise MasoError(
            f"rugosity: eps = {eps}, p = {p}, delta = {delta}, projections = {projections}; expected eps > 0, p > 0, "
            "delta ≥ 0 and at least 2 projections (or None for all rows)."
        )
    if chunk is None:
        chunk = 256 if x.is_cuda else 64
    graph = trace(model, x)
    K = math.prod(graph.output.shape)
    parts = []
    for points, directions in zip(x.split(chunk), u.split(chunk), strict=True):
        v = _cotangents(points, K, projections, generator)
        parts.append(_changes(graph, model, points, directions, eps, v, exact=projections is None))
    change, size, moved, variance = (torch.cat(values) for values in zip(*parts, strict=True))
    return Rugosity(change, size, moved, variance, p, delta)


def _changes(
    graph: Graph, model: nn.Module, x: Tensor, u: Tensor, eps: float, v: Tensor, *, exact: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`change`, `size`, `moved` and `variance` of some points, with cotangents v, (N, Q, K)."""
    N, U = u.shape[:2]
    there = (x[:, None] + eps * u).flatten(0, 1)
    moved = _moved(graph, model, x, there)
    here = _slopes(graph, model, x, v)
    (which,) = torch.where(moved)
    squares = x.new_zeros((N * U, v.shape[1]))
    if len(which):
        difference = _slopes(graph, model, there[which], v[which // U]) - here[which // U]
        squares[which] = difference.square().sum(2)
    if exact:
        total, variance = squares.sum(1), torch.zeros_like(squares[:, 0])
        size = here.square().sum((1, 2)).sqrt()
    else:
        total, variance = squares.mean(1), squares.var(1) / squares.shape[1]
        size = here.square().sum(2).mean(1).sqrt()
    return total.sqrt().view(N, U) / eps, size, moved.view(N, U), variance.view(N, U) / eps**4


def slopes(model: nn.Module, x: Tensor, v: Tensor) -> Tensor:
    """vᵀA[x], combinations of the rows of A[x].

    Args:
        model: a piecewise-affine network with K outputs.
        x: (N, *input_shape).
        v: Q combinations of each sample, (N, Q, K).

    Returns:
        (N, Q, D), inputs flattened to D numbers.
    """
    return _slopes(trace(model, x), model, x, v)


@torch.inference_mode(False)
def _slopes(graph: Graph, model: nn.Module, x: Tensor, v: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        outputs = flat(graph.read(model, leaf, _Differentiable()))
        rows = [
            torch.autograd.grad(outputs, leaf, v[:, q], retain_graph=q + 1 < v.shape[1])[0] for q in range(v.shape[1])
        ]
    return torch.stack([row.flatten(1) for row in rows], 1)


def _cotangents(x: Tensor, K: int, projections: int | None, generator: torch.Generator | None) -> Tensor:
    """The K unit vectors, or random signs, for each sample: (N, Q, K)."""
    if projections is None:
        return torch.eye(K, dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    signs = torch.randint(0, 2, (len(x), projections, K), device=x.device, generator=generator)
    return (2 * signs - 1).to(x.dtype)


@torch.no_grad()
def _moved(graph: Graph, model: nn.Module, x: Tensor, there: Tensor) -> Tensor:
    """Whether the codes of `there` (N U, *input_shape), U for each of x, differ from those of x: (N U,) bool."""
    here, away = Recorder(), Recorder()
    graph.read(model, x, here)
    graph.read(model, there, away)
    moved = torch.zeros((len(x), len(there) // len(x)), dtype=torch.bool, device=x.device)
    for node, code in here.codes.items():
        pieces = away.codes[node].reshape(*moved.shape, -1)
        moved |= (pieces != code.reshape(len(x), 1, -1)).any(2)
    return moved.flatten()


def _unit(tangents: Tangents, x: Tensor) -> Tensor:
    """The directions at length 1, (N, U, *input_shape)."""
    directions = tangents if isinstance(tangents, Tensor) else tangents(x)
    if directions.ndim != x.ndim + 1 or directions.shape[:1] + directions.shape[2:] != x.shape:
        raise MasoError(
            f"Tangents {tuple(directions.shape)} of points {tuple(x.shape)}: expected (N, U, *input_shape)."
        )
    lengths = directions.flatten(2).norm(dim=2)
    if not bool((lengths > 0).all()):
        raise MasoError(
            f"{int((lengths == 0).sum())} of {lengths.numel()} tangents have length 0 (a blank image?): leave them out."
        )
    unit: Tensor = directions / lengths.view(*lengths.shape, *[1] * (x.ndim - 1))
    return unit


# Penalties ------------------------------------------------------------------------------------------------------------


def rugosity_penalty(model: nn.Module, x: Tensor, *, tangents: Tensor, eps: float) -> Tensor:
    """An unbiased estimate of the mean of ‖A[x] − A[x + εu]‖_F² / ε² over samples and directions, to add to a loss.

    A random input direction w of independent standard normal numbers has E ‖M w‖² = ‖M‖_F²; A w is the derivative of
    the network along w (forward mode), so training needs no second derivatives. BatchNorm and dropout are used
    as in eval mode, so that A[x] is that of one sample.  Nothing here waits for the device: it can be captured.

    Args:
        model: a piecewise-affine network (this is not checked), (N, *input_shape) → (N, K).
        x: samples, (N, *input_shape).
        tangents: directions, (N, U, *input_shape); one of length 0 counts as no movement.
        eps: ε > 0.

    Returns:
        A scalar with gradients to the weights.

    Example:
        >>> from maso.tangents import ambient
        >>> net, x = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3)), torch.randn(50, 2)
        >>> rugosity_penalty(net, x, tangents=ambient(x), eps=0.1).backward()
    """
    change, _ = _squares(model, x, tangents, eps)
    return change


def relative_rugosity_penalty(model: nn.Module, x: Tensor, *, tangents: Tensor, eps: float) -> Tensor:
    """The mean of ‖A[x] − A[x + εu]‖_F² / ε² over that of ‖A[x]‖_F²: smaller outputs do not make it smaller.

    Both are estimated without bias, as in `rugosity_penalty`, from the same random directions; their quotient has a
    bias that falls like 1 over the number of samples.

    Args, Returns: as for `rugosity_penalty`.
    """
    change, size = _squares(model, x, tangents, eps)
    return change / size


def _squares(model: nn.Module, x: Tensor, tangents: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Estimates of the mean of ‖A[x] − A[x + εu]‖_F² / ε² and of that of ‖A[x]‖_F²."""
    x, U = x.detach(), tangents.shape[1]
    lengths = tangents.flatten(2).norm(dim=2).clamp_min(1e-12)
    moved = x[:, None] + eps * tangents / lengths.view(*lengths.shape, *[1] * (x.ndim - 1))
    w = torch.randn_like(x)
    points = torch.cat([x, moved.flatten(0, 1)])
    along = derivative(model, points, torch.cat([w, _each(w, U)]))
    here, there = along[: len(x)], along[len(x) :]
    difference = _each(here, U) - there
    return difference.square().sum(1).mean() / eps**2, here.square().sum(1).mean()


def tangent_prop_penalty(model: nn.Module, x: Tensor, *, tangents: Tensor) -> Tensor:
    """The mean of ‖A[x] t‖² over samples and tangents, as they are long: what TangentProp adds to a loss.

    Args:
        model, x: as in `rugosity_penalty`.
        tangents: (N, U, *input_shape).

    Returns:
        A scalar with gradients to the weights.

    Source:
        Simard, Victorri, LeCun, Denker (1992).
    """
    U = tangents.shape[1]
    along = derivative(model, _each(x.detach(), U), tangents.flatten(0, 1))
    return along.square().sum(1).mean()


def _each(x: Tensor, times: int) -> Tensor:
    """Every sample so many times in a row, (N, …) → (N times, …)."""
    return x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1)


def derivative(model: nn.Module, x: Tensor, w: Tensor) -> Tensor:
    """A[x] w, the derivative of the outputs along w, (N, K), with gradients to the weights; layers as in eval mode.

    Args:
        model: (N, *input_shape) → (N, K).
        x, w: points and directions, (N, *input_shape).
    """
    with _in_eval_mode(model):
        return flat(torch.func.jvp(model, (x,), (w,))[1])


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode for a while; each of its modules goes back to the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
