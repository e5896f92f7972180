"""The path of an image through its translations: outputs along it, and how often the network bends.

From four pixels to the left to four to the right, straight between whole pixels (linear interpolation), the border
repeated: images that no arm was trained on.  Bends are counted between neighbouring samples of the path: units whose
piece differs.  A unit that goes and comes back in between is missed, so the count is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maso import codes

REACH = 4
"""Pixels to each side, as far as the augmentation goes."""
_IMAGES = 16  # at a time: codes take a byte or eight a unit


@dataclass(frozen=True, eq=False)
class Followed:
    """N images along T points of their paths.

    Attributes:
        outputs: (N, T, C).
        bent: units of another piece from one point to the next, (N, T − 1) int64.
    """

    outputs: Tensor
    bent: Tensor

    @property
    def bends(self) -> Tensor:
        """Bends for each pixel of the movement, (N,)."""
        return self.bent.sum(1) / (2 * REACH)

    @property
    def variation(self) -> Tensor:
        """Σ ‖z_{t+1} − z_t‖ for each pixel, relative to the root mean square of z less its mean over classes, (N,)."""
        steps = (self.outputs[:, 1:] - self.outputs[:, :-1]).norm(dim=2).sum(1)
        centred = self.outputs - self.outputs.mean(2, keepdim=True)
        return steps / (2 * REACH) / centred.square().sum(2).mean(1).sqrt()


@torch.no_grad()
def follow(model: nn.Module, x: Tensor, *, steps_a_pixel: int) -> Followed:
    """Send images along their translations.

    Args:
        model: a piecewise-affine network.
        x: (N, channels, height, width).
        steps_a_pixel: points of the path for each pixel.
    """
    z, bent = [], []
    for images in x.split(_IMAGES):
        path = translated(images, steps_a_pixel)  # (N, T, …)
        z.append(model(path.flatten(0, 1)).unflatten(0, path.shape[:2]))
        changes = torch.zeros((path.shape[0], path.shape[1] - 1), dtype=torch.int64, device=x.device)
        for code in codes(model, path.flatten(0, 1)).values():
            pieces = code.flatten(1).unflatten(0, path.shape[:2])
            changes += (pieces[:, 1:] != pieces[:, :-1]).sum(2)
        bent.append(changes)
    return Followed(torch.cat(z), torch.cat(bent))


def translated(x: Tensor, steps_a_pixel: int) -> Tensor:
    """The path, (N, channels, height, width) → (N, 2 · REACH · steps_a_pixel + 1, channels, height, width)."""
    width = x.shape[3]
    padded = nn.functional.pad(x, (REACH, REACH, 0, 0), mode="replicate")
    whole = torch.stack([padded[..., i : i + width] for i in range(2 * REACH + 1)], 1)
    t = torch.linspace(0, 2 * REACH, 2 * REACH * steps_a_pixel + 1, dtype=x.dtype, device=x.device)
    before = t.long().clamp(max=2 * REACH - 1)
    share = (t - before)[:, None, None, None]
    return (1 - share) * whole[:, before] + share * whole[:, before + 1]
