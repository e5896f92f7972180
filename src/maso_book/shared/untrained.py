"""The untrained network as a fair control: its BatchNorm knows the data, its weights know nothing.

A fresh BatchNorm has mean 0 and variance 1, which no layer's values have; a network that is looked at in that state is
handicapped by its scales, not by what it has not learned.  Here the running statistics alone are estimated from images.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso_book.training import scaled

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def calibrated(model: nn.Module, images: Tensor, batch: int = 1000) -> nn.Module:
    """A copy whose BatchNorm statistics are those of these images; no weight changes.

    Each running mean and variance is the cumulative average of the batches' own, every layer normalised by its batch as
    in training.

    Args:
        model: any network; it stays as it is. Without BatchNorm the copy is equal to it.
        images: (N, channels, height, width), uint8 in 0 … 255 or floats in [0, 1], on any device.
        batch: images at a time; a last one of less than half of it is left out.

    Returns:
        The copy, in eval mode.

    Raises:
        MasoError: there are no images.

    Source:
        "Averaging weights leads to wider optima and better generalization", §3.2 (statistics computed in one pass).
    """
    if len(images) == 0:
        raise MasoError("calibrated: there are no images to take the statistics from.")
    result = copy.deepcopy(model).eval()
    norms = [module for module in result.modules() if isinstance(module, NORMS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    device = next(result.parameters()).device
    parts = images.split(batch)
    with torch.no_grad():
        for number, part in enumerate(parts if norms else ()):
            if number == 0 or len(part) >= batch / 2:
                result(scaled(part.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return result.eval()
