"""Penalties for anyone's training loop: orthogonal rows, orthogonal templates, and norms alone as their control.

W is the weight of a last dense layer, (C, D): one row W_c a class.  The paper's penalty is

    P(W) = Σ_{c ≠ a} ⟨W_c, W_a⟩²,

added to the loss with a strength λ:

    loss = cross_entropy(model(x), y) + strength * orthogonality(model[-1].weight)

Softmax does not see a vector v that is added to all rows, P does.  `gauge_minimum` is the v of the smallest P: what P
loses there it had charged for nothing that a probability depends on.

Source: A Spline Theory of Deep Networks, §5 (orthogonal templates); the authors' code for `published`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from maso.errors import MasoError

_SAME = 1e-12  # what is smaller than that, relative to the largest, is zero
_HALVINGS = 200


def orthogonality(weight: Tensor) -> Tensor:
    """P(W) = Σ_{c ≠ a} ⟨W_c, W_a⟩² over ordered pairs of rows.

    Args:
        weight: (C, D) floating point.

    Returns:
        A scalar, differentiable; 0 where all rows are orthogonal.

    Source: A Spline Theory of Deep Networks, §5.

    Example:
        >>> float(orthogonality(torch.tensor([[1.0, 0.0], [2.0, 3.0]])))
        8.0
    """
    inner = weight @ weight.mT
    return (inner - torch.diag_embed(inner.diagonal())).square().sum()


def quartic_norm(weight: Tensor) -> Tensor:
    """Σ_c ‖W_c‖⁴: what `orthogonality` leaves out of ‖W Wᵀ‖², a function of the norms alone.

    At a simplex frame (equal norms, all cosines −1/(C−1)) `orthogonality` is this divided by C − 1, and its slope
    along the norms, too.

    Args:
        weight: (C, D) floating point.
    """
    return weight.square().sum(1).square().sum()


def published(weight: Tensor) -> Tensor:
    """The authors' code for P: the mean of (W Wᵀ − diag(‖W_c‖²/D))² over all C² entries.

    The mean over D stands where a sum would cancel the diagonal, so it is
    (orthogonality(W) + (1 − 1/D)² quartic_norm(W)) / C²: at a simplex frame C − 1 parts in C punish norms.

    Args:
        weight: (C, D) floating point.

    Source: the authors' code, `ortho_loss2`.
    """
    inner = weight @ weight.mT
    return (inner - torch.diag_embed(inner.diagonal() / weight.shape[1])).square().mean()


def templates(model: nn.Module, x: Tensor, *, samples: int | None = None) -> Tensor:
    """An unbiased estimate of the mean over x of Σ_{c ≠ a} ⟨A[x]_c, A[x]_a⟩², the penalty on the templates themselves.

    For each of some of the inputs, drawn without repetition, one ordered pair of classes is drawn; two transposed
    passes give its two templates, and a third one is needed for the gradient.  The network is used in eval mode, so
    that A[x] is that of the network as it will be used, and put back into the mode it was in.

    Args:
        model: (N, *shape) → (N, C), piecewise affine.
        x: inputs, (N, *shape).
        samples: how many of them, by default a quarter of them: training then costs about twice a plain step.

    Returns:
        A scalar, differentiable in the model's parameters. Random numbers are those of the device's default generator.

    Raises:
        MasoError: fewer than two classes, or more samples than inputs.

    Source: the authors' code, where all pairs are computed and their mean is over C² entries.

    Example:
        >>> net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> templates(net, torch.randn(16, 5)).backward()
    """
    count = max(1, len(x) // 4) if samples is None else samples
    if not 1 <= count <= len(x):
        raise MasoError(f"templates: {count} samples of {len(x)} inputs; expected 1 to {len(x)}.")
    chosen = torch.rand(len(x), device=x.device).topk(count).indices
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.enable_grad():
            leaf = x[chosen].detach().requires_grad_()
            outputs = model(leaf)
            C = outputs.shape[1]
            if C < 2:
                raise MasoError("templates: the model has one output; a pair of templates needs two.")
            first = torch.randint(C, (count, 1), device=x.device)
            second = (first + torch.randint(1, C, (count, 1), device=x.device)) % C
            a, b = (
                torch.autograd.grad(outputs.gather(1, row).sum(), leaf, create_graph=True)[0].flatten(1)
                for row in (first, second)
            )
            estimate: Tensor = C * (C - 1) * (a * b).sum(1).square().mean()
            return estimate
    finally:
        for module, mode in modes:
            module.training = mode


def gauge_minimum(weight: Tensor) -> Tensor:
    """The vector v that, added to all rows, makes the penalty smallest: argmin_v P(W + 1vᵀ), the shortest of several.

    With the rows less their mean, U, and u = v + mean, P depends on s = U u and t = ‖u‖² alone, quadratically:
    P = Σ_{c ≠ a} (⟨U_c, U_a⟩ + s_c + s_a + t)².  Its minimum over free s and t is

        s_c = (‖U_c‖² − mean ‖U‖²) / (C − 2),   t = mean ‖U‖² / (C − 1),

    reached where a u with these s is no longer than √t and there is a direction orthogonal to all rows to make up the
    length (always, where norms are equal and D ≥ C).  Else the constraint t = ‖u‖² has one multiplier κ, found by
    bisection; the minimum is global in either case: a quadratic has no dual gap under one such constraint.

    Args:
        weight: (C, D), C ≥ 2; no gradient is kept.

    Returns:
        v, (D,), in the dtype of the weight, computed in float64.

    Raises:
        MasoError: fewer than two rows.

    Example:
        >>> W = torch.eye(3, 4) - 1 / 3 * torch.eye(3, 4).sum(0)  # a simplex frame
        >>> v = gauge_minimum(W)
        >>> bool(orthogonality(W) > 0.3), bool(orthogonality(W + v) < 1e-9)
        (True, True)
    """
    if weight.ndim != 2 or len(weight) < 2:
        raise MasoError(f"gauge_minimum: the weight has shape {tuple(weight.shape)}; expected (C, D) with C ≥ 2.")
    W = weight.detach().double()
    C = len(W)
    mean = W.mean(0)
    U = W - mean
    left, size, right = torch.linalg.svd(U, full_matrices=False)
    size = torch.where(size > _SAME * size.max(), size, 0.0)
    size[C - 1 :] = 0.0  # centred rows have rank C - 1 at most
    norms = U.square().sum(1)
    pull = 2 * size * ((norms - norms.mean()) @ left)
    pull[pull.abs() <= _SAME * size.max() * norms.max()] = 0.0

    def along(kappa: float) -> Tensor:
        """Coordinates of u that a multiplier gives; one that its equation leaves free is 0."""
        return torch.where(pull == 0, 0.0, pull / (2 * (C - 2) * size.square() + kappa))

    def excess(kappa: float) -> float:
        """‖u‖² less the t that this multiplier gives; it falls as κ grows."""
        return float(along(kappa).square().sum() - norms.mean() / (C - 1)) - kappa / (2 * C * (C - 1))

    lowest = -2 * (C - 2) * float(size.min().square())
    short = excess(lowest)
    if short <= 0:  # a direction that costs nothing makes up the length: if there are several, that of the mean
        rest = mean - (mean @ right[size > 0].mT) @ right[size > 0]
        along_mean = size.min() == 0 and rest.norm() > _SAME * mean.norm()
        free = rest / rest.norm() if along_mean else right[size.argmin()]
        u = along(lowest) @ right + math.sqrt(-short) * free
    else:
        step = float(norms.mean())
        while excess(lowest + step) > 0:
            step *= 2
        low, high = lowest, lowest + step
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        u = along(high) @ right
    v: Tensor = (u - mean).to(weight.dtype)
    return v
