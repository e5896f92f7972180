"""The picture on the front page: the cells of a small trained network, the way stained glass looks."""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor, nn

from maso.partition import Partition, Plane, partition
from maso_book.front.experiments import network
from maso_book.records import Record
from maso_book.tidy import as_table

WINDOW = (-2.5, 2.5, -1.1, 1.1)  # what the picture shows of the input plane
PANE, LEAD = "#2a272e", "#08080c"  # lines between panes, and the decision boundary
CLASSES = ("blue", "orange", "green", "yellow")
GLASS = ((0.57, 0.75), (0.075, 0.90), (0.44, 0.65), (0.12, 0.75))  # hue and saturation of each class
PURE = np.array([colorsys.hsv_to_rgb(hue, saturation, 0.95) for hue, saturation in GLASS])


def epochs(record: Record) -> list[int]:
    """The epochs whose weights the record of the experiment "00-front" holds, ascending."""
    return [int(epoch) for epoch in as_table([record], "networks")["epoch"]]


def trained(record: Record, epoch: int | None = None) -> nn.Sequential:
    """The network after an epoch, the last one where it is None."""
    model, prefix = network(), f"{epochs(record)[-1] if epoch is None else epoch}."
    held = {name.removeprefix(prefix): array for name, array in record.arrays.items() if name.startswith(prefix)}
    model.load_state_dict({name: torch.from_numpy(array) for name, array in held.items()})
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


@dataclass(frozen=True, eq=False)
class Glass:
    """What the picture is made of.

    Attributes:
        cells: the cells of the network.
        polygons: corners of every pane.
        kind: (P,) the class that each pane is answered with.
        colours: (P, 3) of every pane, that of its class in a shade of its own.
        centres: (P, 2) of every pane.
    """

    cells: Partition
    polygons: list[np.ndarray]
    kind: np.ndarray
    colours: np.ndarray
    centres: np.ndarray

    @classmethod
    def of(cls, model: nn.Sequential) -> Glass:
        cells, glass = panes(model)
        with torch.no_grad():
            kind = model(torch.from_numpy(glass.centres)).argmax(1).numpy()
        shade = np.random.default_rng(0).uniform(0.68, 1.0, len(glass))
        return cls(cells, glass.polygons(), kind, PURE[kind] * shade[:, None], glass.centres)


def stained_glass(record: Record) -> tuple[Figure, int]:
    """Cells in the colour of their class, each pane in its own shade, the decision boundary as the thick lead.

    Returns:
        the figure, and the number of cells.
    """
    glass = Glass.of(trained(record))
    left, right, bottom, top = WINDOW
    fig = plt.figure(figsize=(10, 10 * (top - bottom) / (right - left)), layout="none")
    axes = fig.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    axes.add_collection(PolyCollection(glass.polygons, facecolors=glass.colours, edgecolors=PANE, linewidths=0.9))
    lead = glass.cells.decision_boundary()
    axes.add_collection(LineCollection(lead, colors=LEAD, linewidths=2.8, joinstyle="round"))
    return fig, len(glass.cells)


def touchable(record: Record) -> str:
    """HTML that makes the picture answer: a point to drag, the affine map of its cell, the epochs of training.

    It goes below the picture, takes its place where JavaScript runs, and needs no server. What it does is in
    `touch.js`.
    """
    rows = as_table([record], "networks")[["epoch", "accuracy"]].to_dict("records")
    learned = [row | _pieces(trained(record, int(row["epoch"]))) for row in rows]
    colours = {"pane": PANE, "lead": LEAD, "pure": [to_hex(colour) for colour in PURE]}
    data = {"window": WINDOW, **colours, "classes": CLASSES, "epochs": learned}
    folder = Path(__file__).parent
    style, script = ((folder / f"touch.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    start = f'<script type="application/json" class="start">{json.dumps(data, separators=(",", ":"))}</script>'
    return f"{_HTML}<style>\n{style}</style>\n{start}\n<script>\n{script}</script>\n</div>\n"


def _pieces(model: nn.Sequential) -> dict[str, Any]:
    """Weights, panes and decision boundary, as `touch.js` reads them."""
    glass = Glass.of(model)
    corners = np.round(np.concatenate(glass.polygons), 3)
    points, index = np.unique(corners, axis=0, return_inverse=True)
    ends = np.cumsum([len(polygon) for polygon in glass.polygons])
    panes = zip(
        map(to_hex, glass.colours), glass.kind.tolist(), glass.cells.locate(glass.centres).tolist(),
        (part.tolist() for part in np.split(index.ravel(), ends[:-1])), strict=True,
    )  # fmt: skip
    return {
        "weights": [np.round(p.detach().numpy(), 5).tolist() for p in model.parameters()],
        "cells": len(glass.cells),
        "points": points.tolist(),
        "panes": list(panes),
        "lead": [np.round(line, 3).tolist() for line in glass.cells.decision_boundary()],
    }


_HTML = """<div class="maso-glass" id="maso-glass" hidden>
<label>epoch <input type="range" min="0" value="0"> <output></output></label>
<div class="maso-map" role="status"></div>
"""
