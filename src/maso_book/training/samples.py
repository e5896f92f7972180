"""The samples of an epoch: their order, their scale and their augmentation, all on their device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maso_book.training.settings import Training

SHIFT = 4


@dataclass(frozen=True, eq=False)
class Epoch:
    """What an epoch draws at random: the order of the samples (N,), and how each one in turn is moved, (3, N).

    Without augmentation there are no moves, (3, 0).
    """

    order: Tensor
    moves: Tensor


def draw(n: int, training: Training, generator: torch.Generator) -> Epoch:
    """Draw an epoch of n samples on the generator's device."""
    order = torch.randperm(n, generator=generator, device=generator.device)
    return Epoch(order, draw_moves(n if training.augment else 0, generator))


def draw_moves(n: int, generator: torch.Generator, *, shift: int = SHIFT) -> Tensor:
    """For each of n images: flipped (0 or 1), and its place down and to the right in the border, (3, n) int64."""
    flip = torch.randint(0, 2, (1, n), generator=generator, device=generator.device)
    place = torch.randint(0, 2 * shift + 1, (2, n), generator=generator, device=generator.device)
    return torch.cat([flip, place])


def augmented(images: Tensor, moves: Tensor, *, shift: int = SHIFT) -> Tensor:
    """Each image flipped or not and moved by up to `shift` pixels over a zero border, (N, C, H, W).

    Args:
        images: (N, C, H, W).
        moves: what `draw_moves` gives, (3, N).
        shift: width of the border.
    """
    n, _, height, width = images.shape
    flip, top, left = moves
    images = torch.where(flip[:, None, None, None] == 1, images.flip(3), images)
    padded = nn.functional.pad(images, [shift] * 4)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    sample = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def scaled(x: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]; other samples as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x
