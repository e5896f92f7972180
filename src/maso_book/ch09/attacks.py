"""Projected gradient attacks in pixel space, for many radii and norms in one batch.

Images are in [0, 1] and stay there.  Each restart begins at a random point of the ball; even ones ascend the
cross-entropy, odd ones the margin of the best wrong class, whose gradient does not vanish where the network is sure.
This is not an ensemble of attacks such as AutoAttack; what it does not find may still exist.

Source: "Towards Deep Learning Models Resistant to Adversarial Attacks".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Ball:
    """What an attack may change: pixels by up to `radius` in this norm."""

    norm: Literal["linf", "l2"]
    radius: float

    @property
    def name(self) -> str:
        """`"linf 2/255"`, `"l2 0.25"`."""
        return f"{self.norm} " + (f"{round(self.radius * 255)}/255" if self.norm == "linf" else f"{self.radius}")


def attacked(
    model: nn.Module, x: Tensor, y: Tensor, balls: Sequence[Ball], *, steps: int, restarts: int, seed: int
) -> Tensor:
    """The images moved to where the network is wrong, where that was found.

    Args:
        model: in eval mode; (N, C, H, W) in [0, 1] → (N, K).
        x: images (N, C, H, W) in [0, 1], on the model's device.
        y: labels (N,).
        balls: the attacks.
        steps: gradient steps of a restart, each of 2.5 radii divided by their number.
        restarts: random starts.
        seed: of these.

    Returns:
        (balls, N, C, H, W): the image as it is where it is misclassified already, else the last misclassified one that
        was found, else the end of the last restart.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    many, shape = len(balls), (len(balls) * len(x), 1, 1, 1)
    clean, labels = x.repeat(many, 1, 1, 1), y.repeat(many)
    radius = torch.tensor([ball.radius for ball in balls], device=x.device).repeat_interleave(len(x)).view(shape)
    box = torch.tensor([ball.norm == "linf" for ball in balls], device=x.device).repeat_interleave(len(x)).view(shape)

    def inside(moves: Tensor) -> Tensor:
        lengths = moves.flatten(1).norm(dim=1).view(shape).clamp(min=1e-12)
        moves = torch.where(box, moves.clamp(-radius, radius), moves * (radius / lengths).clamp(max=1))
        return (clean + moves).clamp(0, 1) - clean

    with torch.no_grad():
        found = model(clean).argmax(1) != labels
    best = clean.clone()
    for restart in range(restarts):
        noise = torch.rand(clean.shape, generator=generator, device=x.device) * 2 - 1
        moves = inside(torch.where(box, noise * radius, noise * radius / clean[0].numel() ** 0.5))
        for step in range(steps + 1):
            leaf = (clean + moves).requires_grad_()
            logits = model(leaf)
            wrong = logits.argmax(1) != labels
            best = torch.where((wrong & ~found).view(shape), leaf.detach(), best)
            found = found | wrong
            if step == steps:
                break
            loss = (
                _margin(logits, labels) if restart % 2 else nn.functional.cross_entropy(logits, labels, reduction="sum")
            )
            (slope,) = torch.autograd.grad(loss, leaf)
            lengths = slope.flatten(1).norm(dim=1).view(shape).clamp(min=1e-30)
            moves = inside(moves + 2.5 / steps * radius * torch.where(box, slope.sign(), slope / lengths))
        best = torch.where(found.view(shape), best, clean + moves)
    return best.unflatten(0, (many, len(x)))


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest wrong logit less the right one, summed over images."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return (others - own).sum()
