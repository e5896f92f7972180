"""The picture on the front page: the cells of a small trained network, the way stained glass looks."""

from __future__ import annotations

import colorsys

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from torch import Tensor, nn

from maso.partition import Partition, Plane, partition
from maso_book.front.experiments import network
from maso_book.records import Record

WINDOW = (-2.5, 2.5, -1.1, 1.1)  # what the picture shows of the input plane
GLASS = ((0.57, 0.75), (0.075, 0.90), (0.44, 0.65), (0.12, 0.75))  # hue and saturation of each class


def trained(record: Record) -> nn.Sequential:
    """The network whose parameters the record of the experiment "00-front" holds."""
    model = network()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in record.arrays.items()})
    return model


class Winner(nn.Module):
    """The largest output: one more selection, whose code is the class; cells end at the decision boundary."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs.amax(1, keepdim=True)


def panes(model: nn.Sequential) -> tuple[Partition, Partition]:
    """The cells of the network in the window, and the same cells cut at its decision boundary."""
    origin, u, v = torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    plane = Plane(origin, u, v, WINDOW)
    return partition(model, plane), partition(nn.Sequential(model, Winner()), plane)


def stained_glass(record: Record) -> tuple[Figure, int]:
    """Cells in the colour of their class, each pane in its own shade, the decision boundary as the thick lead.

    Returns:
        the figure, and the number of cells.
    """
    model = trained(record)
    cells, glass = panes(model)
    with torch.no_grad():
        kind = model(torch.from_numpy(glass.centres)).argmax(1).numpy()
    pure = np.array([colorsys.hsv_to_rgb(hue, saturation, 0.95) for hue, saturation in GLASS])
    shade = np.random.default_rng(0).uniform(0.68, 1.0, len(glass))
    left, right, bottom, top = WINDOW
    fig = plt.figure(figsize=(10, 10 * (top - bottom) / (right - left)), layout="none")
    axes = fig.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    colours = pure[kind] * shade[:, None]
    axes.add_collection(PolyCollection(glass.polygons(), facecolors=colours, edgecolors="#2a272e", linewidths=0.9))
    axes.add_collection(LineCollection(cells.decision_boundary(), colors="#08080c", linewidths=2.8, joinstyle="round"))
    return fig, len(cells)
