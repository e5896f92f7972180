"""The extra loss of a shifted image, term by term (claim 08.3).

On the segment from x to x + δ, f(x + δ) = f(x) + A[x]δ + r with r = ∫₀¹ (A[x + tδ] − A[x]) δ dt, exactly.  So the
extra loss ℓ(f(x + δ)) − ℓ(f(x)) is, exactly, the sum of

- the first order ∇ℓ(f(x))ᵀ A[x]δ, which has the mean 0 where δ has;
- the curvature of the loss, ℓ(f(x) + A[x]δ) − ℓ(f(x)) less the first order: the Jacobian's (TangentProp's) penalty;
- the difference ℓ(f(x) + A[x]δ + r) − ℓ(f(x) + A[x]δ): what the changes of A along the way add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso import affine_map
from maso.rugosity import derivative
from maso_book.experiment import Rows

SHIFTS = (1, 2, 3, 4)


@torch.no_grad()
def terms(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> list[dict[str, Any]]:
    """Means over images and the four directions of a shift over a zero border, as the augmentation has it.

    Args:
        model: (N, *input_shape) → (N, C), in eval mode.
        x: images, (N, channels, height, width).
        y: labels, (N,) int64.
        loss: outputs, labels → a mean over samples.

    Returns:
        One row for each of `SHIFTS`: `shift` in pixels, `loss` without a shift, `extra_loss`, `first_order`,
        `curvature` and `difference`, whose sum it is; `rest_share`, root mean square of ‖r‖ over that of ‖A[x]δ‖.
    """
    z = model(x)
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, y) * len(y), leaf)
    base = float(loss(z, y))
    rows = []
    for shift in SHIFTS:
        sums, squares = np.zeros(3), np.zeros(2)
        for moved in _four(x, shift):
            linear = derivative(model, x, moved - x)
            there = model(moved)
            straight = float(loss(z + linear, y))
            first = float((gradient * linear).sum(1).mean())
            sums += [first, straight - base - first, float(loss(there, y)) - straight]
            squares += [float((there - z - linear).square().sum()), float(linear.square().sum())]
        first, curvature, difference = (sums / 4).tolist()
        rows.append({
            "shift": shift, "loss": base, "extra_loss": first + curvature + difference, "first_order": first,
            "curvature": curvature, "difference": difference, "rest_share": float(np.sqrt(squares[0] / squares[1])),
        })  # fmt: skip
    return rows


def _four(x: Tensor, shift: int) -> Iterator[Tensor]:
    """The images moved down, up, to the right and to the left over a zero border."""
    height, width = x.shape[2:]
    padded = nn.functional.pad(x, [shift] * 4)
    for top, left in ((0, shift), (2 * shift, shift), (shift, 0), (shift, 2 * shift)):
        yield padded[..., top : top + height, left : left + width]


# The identity, on random networks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """Random networks of one seed: `networks` of them, `segments` segments each."""

    seed: int
    networks: int = 10
    segments: int = 20


def run_identity(config: Identity) -> tuple[Rows, dict[str, np.ndarray]]:
    """r by its integral over the exact pieces of the segment, against r by the outputs, in double precision.

    Table `identity`, one row a network: `network`, `pieces` (of all segments), `max_error` (of r, over the largest
    output), `rest_share` (as in `terms`).
    """
    torch.manual_seed(config.seed)
    rows = []
    for number in range(config.networks):
        widths = [int(w) for w in torch.randint(4, 24, (3,))]
        layers: list[nn.Module] = []
        for inputs, width in zip([6, *widths], widths, strict=False):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
        net = nn.Sequential(*layers, nn.Linear(widths[-1], 5)).double()
        pieces, error, scale, squares = 0, 0.0, 0.0, np.zeros(2)
        for _ in range(config.segments):
            x, delta = torch.randn(6).double(), 2 * torch.randn(6).double()
            t = breakpoints(net, x, delta)
            rest, linear, outputs = _rest(net, x, delta, t)
            with torch.no_grad():
                exact = net((x + delta)[None])[0] - net(x[None])[0] - linear
            error = max(error, float((rest - exact).abs().max()))
            scale = max(scale, float(outputs.abs().max()))
            squares += [float(exact.square().sum()), float(linear.square().sum())]
            pieces += len(t) - 1
        share = float(np.sqrt(squares[0] / squares[1]))
        rows.append({"network": number, "pieces": pieces, "max_error": error / scale, "rest_share": share})
    return {"identity": rows}, {}


@torch.no_grad()
def breakpoints(net: nn.Sequential, x: Tensor, delta: Tensor) -> Tensor:
    """Where t ↦ f(x + tδ) may bend on [0, 1], ends included, ascending; exact up to rounding.

    Layer after layer: between the bends of the layers before, what enters a ReLU is linear in t.

    Args:
        net: layers, of which only the ReLUs bend.
        x, delta: (*input_shape) float64.
    """
    t = torch.tensor([0.0, 1.0], dtype=x.dtype)
    for i, layer in enumerate(net):
        if isinstance(layer, nn.ReLU):
            z = net[:i](x + t.view(-1, *[1] * x.ndim) * delta).flatten(1)
            a, b = z[:-1], z[1:]
            crossed = a * b < 0
            places = t[:-1, None] + (t[1:] - t[:-1])[:, None] * a / (a - b)
            t = torch.cat([t, places[crossed]]).unique()
    return t


def _rest(net: nn.Sequential, x: Tensor, delta: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """∫₀¹ (A[x + tδ] − A[x]) δ dt piece by piece, A[x]δ, and the outputs at the ends of the pieces."""
    middles = (t[1:] + t[:-1]) / 2
    along = torch.einsum("tkd,d->tk", affine_map(net, x + middles[:, None] * delta).A, delta)
    linear = affine_map(net, x[None]).A[0] @ delta
    lengths = (t[1:] - t[:-1])[:, None]
    with torch.no_grad():
        outputs = net(x + t[:, None] * delta)
    return (lengths * (along - linear)).sum(0), linear, outputs
