"""What is minimised: losses, and the perturbations that samples get before they are learned from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over samples of ‖z − e_y‖², outputs (N, K), labels (N,)."""
    labels = nn.functional.one_hot(targets, outputs.shape[1])
    return (outputs.float() - labels).square().sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": nn.functional.cross_entropy,
    "squared": squared,
}


def noisy(inputs: Tensor, deviation: float) -> Tensor:
    """The samples with Gaussian noise of the default generator."""
    return inputs + deviation * torch.randn_like(inputs)


def adversarial(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    radius: float,
    steps: int,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
) -> Tensor:
    """Samples moved to where the loss is higher, within a Euclidean ball around each: projected gradient ascent.

    The steps are 2.5 radius / steps long, the first from the sample itself; the model is in eval mode meanwhile, so its
    running statistics stay as they are, and a point outside [0, 1] is brought back.

    Args:
        model: (N, *shape) → (N, K).
        inputs: (N, *shape) in [0, 1].
        targets: labels, (N,) int64.
        radius: of the ball.
        steps: of gradient ascent.
        loss: outputs, labels → a mean over samples.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, §2.
    """
    mode = model.training
    model.eval()
    length = 2.5 * radius / steps
    moved = inputs.detach()
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(model(moved), targets), moved)
        shift = moved.detach() + length * gradient / _norms(gradient) - inputs
        moved = (inputs + shift * (radius / _norms(shift)).clamp(max=1)).clamp(0, 1)
    model.train(mode)
    return moved.detach()


def _norms(x: Tensor) -> Tensor:
    """Euclidean norm of each sample, (N, 1, …), at least the smallest normal number."""
    return x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny).view(-1, *[1] * (x.ndim - 1))
