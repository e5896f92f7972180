"""The samples of an epoch: their order, their scale and their augmentation, all on their device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from maso_book.training.settings import Training

SHIFT = 4


class Samples:
    """The samples (N, *shape) and labels (N,) of M copies, on a device, and the generators that draw their epochs."""

    def __init__(self, x: Sequence[Tensor], y: Sequence[Tensor], trainings: Sequence[Training], device: torch.device):
        views = [(samples.data_ptr(), samples.shape, samples.stride()) for samples in x]
        moved = {
            view: samples.to(device) for view, samples in zip(views, x, strict=True)
        }  # one of several copies: once
        self.x = [moved[view] for view in views]
        self.labels = torch.stack([labels.to(device) for labels in y])  # (M, N)
        self.trainings = trainings
        self.generators = [torch.Generator(device).manual_seed(training.seed) for training in trainings]

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw an epoch: for each batch the numbers of its samples, (M, B), and their moves, (3, M, B or 0)."""
        n, batch, augment = self.labels.shape[1], self.trainings[0].batch, self.trainings[0].augment
        order = torch.stack([torch.randperm(n, generator=g, device=g.device) for g in self.generators])  # (M, N)
        moves = torch.stack([draw_moves(n if augment else 0, g) for g in self.generators], 1)  # (3, M, N)
        for i, chosen in enumerate(order.split(batch, 1)):
            yield chosen, moves[:, :, i * batch :][:, :, :batch]

    def batch(self, chosen: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        """The samples (M B, *shape), copy after copy, and their labels (M, B) of what `epoch` drew."""
        parts = [samples[places] for samples, places in zip(self.x, chosen, strict=True)]
        # A batch that is not joined to others keeps its memory layout, and so the bits of what is computed of it.
        images = scaled(torch.cat(parts) if len(parts) > 1 else parts[0])
        if moves.numel():
            images = augmented(images, moves.flatten(1))
        return images, self.labels.gather(1, chosen)


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
