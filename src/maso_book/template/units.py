"""What chapter 00 measures: how many units of a random network are off everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import maso
from maso_book.experiment import Rows


@dataclass(frozen=True)
class Units:
    """One network with random weights.

    Attributes:
        seed: of the weights and of the inputs.
        width: units in each layer.
        depth: layers with a ReLU.
        points: inputs from the standard normal distribution in 8 dimensions.
    """

    seed: int
    width: int = 64
    depth: int = 6
    points: int = 500


def network(config: Units) -> nn.Sequential:
    """The network, with PyTorch's initial weights."""
    layers: list[nn.Module] = []
    for inputs in [8, *[config.width] * (config.depth - 1)]:
        layers += [nn.Linear(inputs, config.width), nn.ReLU()]
    return nn.Sequential(*layers).double()


def run_units(config: Units) -> tuple[Rows, dict[str, np.ndarray]]:
    """The codes of all units at all points.

    Table `layers`, a row for each layer: `layer` (1, 2, …), `off_share`, the share of its units that are off at every
    point.
    """
    torch.manual_seed(config.seed)
    codes = maso.codes(network(config), torch.randn(config.points, 8, dtype=torch.float64))

    shares = [float((~code).all(0).double().mean()) for code in codes.values()]
    return {"layers": [{"layer": layer, "off_share": share} for layer, share in enumerate(shares, 1)]}, {}
