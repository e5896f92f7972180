"""Pictures of chapter 02: cells drawn on axes, and the figures that are made of them.

The cells of the toy net have one colour in all figures: the hue is the code of layer 2, the shade that of layer 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor, nn

from maso.partition import Partition, Plane, partition
from maso_book import datasets
from maso_book.ch02 import slices
from maso_book.records import Record
from maso_book.shared.geometry import met_by_grid
from maso_book.shared.toy import FIRST, LAYERS, SECOND, WINDOW, restored, split, window
from maso_book.style import PALETTE
from maso_book.tidy import as_table

CLASSES = [PALETTE[name] for name in ("blue", "vermilion", "green", "purple")]
MARKERS = "os^D"
HUES = np.array(
    [to_rgb(c) for c in ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")]
)
"""One for every code of the second layer."""
ANSWERS = np.array([to_rgb(c) for c in [*PALETTE.values(), "#8a6d3b", "#999999"]])
"""One for every answer of an image classifier."""


# Cells and their colours ----------------------------------------------------------------------------------------------


def learned(film: Record, place: int = -1) -> Partition:
    """The cells of the animated net after one of its epochs, by the epoch's place among the recorded ones."""
    return partition(restored(film.arrays["parameters"][place]), window())


def second_codes(p: Partition) -> np.ndarray:
    """The code of the second layer at every cell as a number 0 … 7: (F,)."""
    bits = p.forward(codes=True).codes[SECOND]
    return bits @ (1 << np.arange(bits.shape[1]))


def _shade(keys: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for every key, the same in every figure."""
    return (keys.view(np.uint64) >> np.uint64(40)).astype(np.float64) / 2**24


def toy_colours(p: Partition) -> dict[str, np.ndarray]:
    """Colours (F, 3) of the cells by layer 1 (shade), layer 2 (hue) and both (shade of a hue)."""
    with np.errstate(over="ignore"):
        shade = _shade(p.forward().layer_keys[FIRST] * np.int64(0x9E3779B97F4A7C15 - 2**64))[:, None]
    hue = HUES[second_codes(p)]
    light = 0.25 + 0.6 * shade
    return {
        "layer 1": np.repeat(0.35 + 0.6 * shade, 3, 1),
        "layer 2": hue * 0.6 + 0.4,
        "joint": hue * (1 - light) + light,
    }


def draw(ax: Axes, p: Partition, colours: np.ndarray, *, edge: str = "white", linewidth: float = 0.3) -> Axes:
    """Cells in their colours (F, 3), with the window as the frame."""
    ax.add_collection(PolyCollection(p.polygons(), facecolors=colours, edgecolors=edge, linewidths=linewidth))
    s0, s1, t0, t1 = p.plane.bounds
    ax.set(xlim=(s0, s1), ylim=(t0, t1), aspect="equal", xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(True)
    return ax


def draw_borders(ax: Axes, p: Partition, label: np.ndarray, *, colour: str = "black", linewidth: float = 2) -> Axes:
    """The edges between cells of different label (F,)."""
    a, b = p.adjacency.T
    edges = p.edges[label[a] != label[b]]  # (E, 2, 2)
    ax.add_collection(LineCollection(list(edges), colors=colour, linewidths=linewidth, capstyle="round"))
    return ax


class Decision(nn.Module):
    """A classifier's outputs followed by the largest of them, so that its cells are cut along the decision boundary."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(N, …) → (N, classes + 1)."""
        z = self.model(x)
        return torch.cat([z, z.amax(1, keepdim=True)], 1)


def decided(model: nn.Module, plane: Plane) -> tuple[Partition, np.ndarray]:
    """Cells cut along the decision boundary as well, and the answer of each: (F,)."""
    p = partition(Decision(model).eval(), plane)
    A, b = p.affine()
    return p, (np.einsum("fkd,fd->fk", A, p.centres) + b)[:, :-1].argmax(1)


# The toy net ----------------------------------------------------------------------------------------------------------


def layers(film: Record) -> Figure:
    """The learned net's cells of layer 1, of layer 2 pulled back, and of both, in the same colours."""
    p = learned(film)
    colours = toy_colours(p)
    titles = {"layer 1": "layer 1", "layer 2": "layer 2, pulled back", "joint": "layers 1 and 2"}

    fig, axes = plt.subplots(1, 3, figsize=(10.2, 3.9))
    for ax, (name, title) in zip(axes, titles.items(), strict=True):
        pulled = p.pullback(*LAYERS[name])
        draw(ax, p, colours[name], edge="face")
        draw_borders(ax, p, pulled.label, colour="#333333", linewidth=0.5)
        ax.set_title(f"{title}: {pulled.sets} codes, {pulled.components} parts", fontsize=10)
    return fig


def data_and_classes(film: Record) -> Figure:
    """The training points, and the classes that the learned net answers, with its cells and its decision boundary."""
    x, y, _, _ = split(film.config["samples"], film.config["seed"])
    p, answer = decided(restored(film.arrays["parameters"][-1]), window())
    tint = 0.45 * np.array([to_rgb(c) for c in CLASSES]) + 0.55

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.5))
    for k, (colour, marker) in enumerate(zip(CLASSES, MARKERS, strict=True)):
        left.plot(*x[y == k][:400].T, marker, color=colour, ms=3, alpha=0.8, mew=0, label=f"class {k}")
    left.set(xlim=WINDOW, ylim=WINDOW, aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    left.legend(loc="lower left", markerscale=2.5)
    left.set_title("training points")

    draw(right, p, tint[answer], edge="white", linewidth=0.4)
    draw_borders(right, p, answer)
    right.set_title("answers, cells and decision boundary")
    return fig


def stages(film: Record, epochs: Sequence[int] = (0, 1, 5, 20, 120)) -> Figure:
    """The cells after some of the epochs: the animation's still."""
    recorded = film.config["epochs"]
    places = [recorded.index(epoch) for epoch in epochs if epoch in recorded]

    fig, axes = plt.subplots(1, len(places), figsize=(2.35 * len(places), 2.75))
    for ax, place in zip(axes, places, strict=True):
        p = learned(film, place)
        draw(ax, p, toy_colours(p)["joint"], linewidth=0.15)
        ax.plot(0, 0, "+", color="black", ms=7)
        ax.set_title(f"epoch {recorded[place]}: {len(p):,} cells")
    return fig


# One tile -------------------------------------------------------------------------------------------------------------


def largest_tile(film: Record) -> tuple[Partition, int]:
    """The learned net's cells, and the largest of those that hold a training point."""
    p = learned(film)
    x, _, _, _ = split(film.config["samples"], film.config["seed"])
    visited = np.unique(p.locate(x.numpy()))
    return p, int(visited[p.areas[visited].argmax()])


def tile(p: Partition, cell: int) -> Figure:
    """One cell in its partition, and its affine map applied to its centre beside the network's output."""
    region, polygon = p.regions[cell], p.polygon(cell)
    outputs = {
        "the network, layer by layer": p.forward(np.array([cell])).output[0],
        "$A x + b$": region.A @ region.centre + region.b,
    }
    place = np.arange(len(region.b))

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    draw(left, p, toy_colours(p)["joint"])
    left.add_collection(PolyCollection([polygon], facecolors="none", edgecolors="black", linewidths=2.5))
    left.plot(*p.centres[cell], "o", color="black", ms=5)
    left.set_title(f"the cell, {len(polygon)} corners")

    for (label, values), shift, colour in zip(outputs.items(), (-0.2, 0.2), ("sky", "blue"), strict=True):
        right.bar(place + shift, values, 0.38, color=PALETTE[colour], label=label)
    right.axhline(0, color="#444444", lw=0.8)
    right.set(xticks=place, xticklabels=[f"class {k}" for k in place], ylabel="output")
    right.grid(axis="x", visible=False)
    fig.legend(loc="outside upper right", ncols=2)
    return fig


def tile_text(p: Partition, cell: int) -> str:
    """The cell's matrix, offset and centre, and the product, as mathematics (Markdown)."""
    region = p.regions[cell]

    def matrix(rows: np.ndarray) -> str:
        body = r" \\ ".join(" & ".join(f"{value:.3f}" for value in np.atleast_1d(row)) for row in rows)
        return rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"

    applied = region.A @ region.centre + region.b
    return f"$$\n{matrix(region.A)} {matrix(region.centre)} + {matrix(region.b)} = {matrix(applied)}\n$$"


# Slices ---------------------------------------------------------------------------------------------------------------


def slice_figure(record: Record) -> Figure:
    """Cells of an image classifier coloured by its answer, the decision boundary on top, and the three images.

    The cells are computed anew from the weights that the record of the experiment "02-slices" holds.
    """
    model, planes = slices.model_and_windows(record)
    images, windows = record.arrays["images"], as_table([record], "windows")
    cut = [decided(model, plane) for plane in planes.values()]
    kinds = np.unique(np.concatenate([answer for _, answer in cut]))

    n = len(windows)
    fig, axes = plt.subplots(1, n + 1, figsize=(3.2 * n + 1.3, 4.2), width_ratios=[*[4] * n, 1.2])
    for ax, (p, answer), row in zip(axes, cut, windows.itertuples(), strict=False):
        _draw_answers(ax, p, np.searchsorted(kinds, answer))
        _mark_images(ax, p.plane, images)
        ax.set_title(f"{row.window}: {row.regions:,} cells\n{row.cpu_seconds:.2g} s on one core", fontsize="small")

    names = datasets.CLASSES[record.config["dataset"]]
    for colour, kind in zip(ANSWERS, kinds, strict=False):
        axes[0].plot([], [], "s", color=colour * 0.6 + 0.4, ms=9, label=names[kind])
    fig.legend(loc="outside lower center", ncols=6, title="answer", fontsize="small", title_fontsize="small")
    _show_images(axes[-1], images, as_table([record], "images").class_name)
    return fig


def _draw_answers(ax: Axes, p: Partition, answer: np.ndarray) -> None:
    """Cells in shades of the colour of their answer (F,), and the decision boundary."""
    shade = 0.15 + 0.55 * _shade(p.keys)[:, None]
    draw(ax, p, ANSWERS[answer] * (1 - shade) + shade, edge="none")
    ax.collections[0].set(rasterized=True, antialiased=False)  # flat colours: a small file
    draw_borders(ax, p, answer, linewidth=1.6)


def _mark_images(ax: Axes, plane: Plane, images: np.ndarray) -> None:
    """A numbered dot for every image (3, height, width, channels) that lies in the window."""
    points = plane.coordinates(datasets.to_tensor(images, dtype=torch.float64))
    s0, s1, t0, t1 = plane.bounds
    for k, (s, t) in enumerate(points):
        if s0 <= s <= s1 and t0 <= t <= t1:
            ax.plot(s, t, "o", color="white", mec="black", ms=9)
            ax.text(s, t, str(k + 1), ha="center", va="center_baseline", fontsize=7)


def _show_images(ax: Axes, images: np.ndarray, names: Sequence[str]) -> None:
    """The numbered images, one below the other."""
    ax.imshow(np.concatenate([np.pad(i, ((0, 3), (0, 0), (0, 0)), constant_values=255) for i in images]))
    ax.set_axis_off()
    for k, name in enumerate(names):
        ax.text(33, 35 * k + 16, f"{k + 1} {name}", rotation=90, va="center", fontsize=8)


def grid_misses(
    film: Record, slice_records: Sequence[Record], sides: Sequence[int] = (25, 50, 100, 200, 400, 800)
) -> pd.DataFrame:
    """What regular grids of points miss: of the toy net, and in the first window of each image classifier.

    Args:
        film: of the experiment "02-film"; its net's cells are computed anew.
        slice_records: of the experiment "02-slices".
        sides: points along a side of the grids that are laid over the toy net.

    Returns:
        Rows of `cells` (of which network), `points` of the grid and `missed_share`, of the cells.
    """
    p = learned(film)
    rows = [(f"toy net, {len(p):,} cells", side**2, 1 - met_by_grid(p, side) / len(p)) for side in sides]

    windows = as_table(slice_records, "windows").drop_duplicates("record")
    for grid in as_table(slice_records, "grids").merge(windows[["record", "window", "regions"]]).itertuples():
        cells = f"{grid.network}, {grid.window}, {grid.regions:,} cells"
        rows.append((cells, grid.points_per_side**2, 1 - grid.regions_met / grid.regions))
    return pd.DataFrame(rows, columns=["cells", "points", "missed_share"])
