"""Figures of chapter 02: functions of records that return a matplotlib figure.

The cells of the toy net have one colour in all figures: the hue is the code of layer 2, the shade that of layer 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn

from maso.partition import Partition, Plane, partition
from maso_book import datasets
from maso_book.ch02 import slices
from maso_book.ch02.counts import mean_counts
from maso_book.ch02.counts import slopes as count_slopes
from maso_book.ch02.verdicts import arm
from maso_book.records import Record
from maso_book.shared.geometry import met_by_grid
from maso_book.shared.toy import FIRST, SECOND, WINDOW, restored, split, window
from maso_book.statistics import interval
from maso_book.style import PALETTE

CLASSES = [PALETTE[name] for name in ("blue", "vermilion", "green", "purple")]
MARKERS = "os^D"
HUES = np.array(
    [to_rgb(c) for c in ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")]
)
"""One for every code of the second layer."""


def toy_cells(parameters: np.ndarray) -> Partition:
    """The cells of the toy net with these parameters in the toy window."""
    return partition(restored(parameters), window())


def learned(film: Record, epoch: int = -1) -> Partition:
    """The cells of the animated net after one of its epochs, by its place."""
    return toy_cells(film.arrays["parameters"][epoch])


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


def draw(ax: Axes, p: Partition, colours: np.ndarray, *, edge: str = "white", linewidth: float = 0.3) -> None:
    """Cells in their colours, with the window as the frame."""
    ax.add_collection(PolyCollection(p.polygons(), facecolors=colours, edgecolors=edge, linewidths=linewidth))
    s0, s1, t0, t1 = p.plane.bounds
    ax.set(xlim=(s0, s1), ylim=(t0, t1), aspect="equal", xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(True)


def borders(p: Partition, label: np.ndarray) -> np.ndarray:
    """The edges (E, 2, 2) between cells of different label."""
    a, b = p.adjacency.T
    return p.edges[label[a] != label[b]]


def layers(film: Record) -> Figure:
    """The learned net's cells of layer 1, of layer 2 pulled back, and of both, in the same colours."""
    p = learned(film)
    colours = toy_colours(p)
    fig, axes = plt.subplots(1, 3, figsize=(10.2, 3.9))
    for ax, (name, which) in zip(
        axes, {"layer 1": [FIRST], "layer 2": [SECOND], "joint": [FIRST, SECOND]}.items(), strict=True
    ):
        pulled = p.pullback(*which)
        draw(ax, p, colours[name], edge="face")
        ax.add_collection(LineCollection(list(borders(p, pulled.label)), colors="#333333", linewidths=0.5))
        title = {"layer 1": "layer 1", "layer 2": "layer 2, pulled back", "joint": "layers 1 and 2"}[name]
        ax.set_title(f"{title}: {pulled.sets} codes, {pulled.components} parts", fontsize=10)
    return fig


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
    right.add_collection(LineCollection(list(borders(p, answer)), colors="black", linewidths=2, capstyle="round"))
    right.set_title("answers, cells and decision boundary")
    return fig


def largest_tile(film: Record) -> tuple[Partition, int]:
    """The learned net's cells, and the largest of those that hold a training point."""
    p = learned(film)
    x, _, _, _ = split(film.config["samples"], film.config["seed"])
    seen = np.unique(p.locate(x.numpy()))
    return p, int(seen[p.areas[seen].argmax()])


def tile(p: Partition, cell: int) -> Figure:
    """One cell in its partition, and its affine map applied to its centre beside the network's output."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2))
    draw(left, p, toy_colours(p)["joint"])
    polygon = p.polygon(cell)
    left.add_collection(PolyCollection([polygon], facecolors="none", edgecolors="black", linewidths=2.5))
    left.plot(*p.centres[cell], "o", color="black", ms=5)
    left.set_title(f"the cell, {len(polygon)} corners")
    region = p.regions[cell]
    applied = region.A @ region.centre + region.b
    forwarded = p.forward(np.array([cell])).output[0]
    place = np.arange(len(applied))
    right.bar(place - 0.2, forwarded, 0.38, color=PALETTE["sky"], label="the network, layer by layer")
    right.bar(place + 0.2, applied, 0.38, color=PALETTE["blue"], label="$A x + b$")
    right.axhline(0, color="#444444", lw=0.8)
    right.set(xticks=place, xticklabels=[f"class {k}" for k in place], ylabel="output")
    fig.legend(loc="outside upper right", ncols=2)
    right.grid(axis="x", visible=False)
    return fig


def tile_text(p: Partition, cell: int) -> str:
    """The cell's matrix, offset and centre, and the product, as mathematics (Markdown)."""
    region = p.regions[cell]

    def matrix(rows: np.ndarray) -> str:
        body = r" \\ ".join(" & ".join(f"{value:.3f}" for value in np.atleast_1d(row)) for row in rows)
        return rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"

    applied = region.A @ region.centre + region.b
    return f"$$\n{matrix(region.A)} {matrix(region.centre)} + {matrix(region.b)} = {matrix(applied)}\n$$"


def stages(film: Record, epochs: Sequence[int] = (0, 1, 5, 20, 120)) -> Figure:
    """The cells after some of the epochs: the animation's still."""
    shown = [e for e in epochs if e in film.config["epochs"]]
    fig, axes = plt.subplots(1, len(shown), figsize=(2.35 * len(shown), 2.75))
    for ax, epoch in zip(axes, shown, strict=True):
        p = learned(film, film.config["epochs"].index(epoch))
        draw(ax, p, toy_colours(p)["joint"], linewidth=0.15)
        ax.plot(0, 0, "+", color="black", ms=7)
        ax.set_title(f"epoch {epoch}: {len(p):,} cells")
    return fig


def origin(toy: Sequence[Record]) -> Figure:
    """Share of cells that touch the origin, and how far the first layer's lines are from it, over epochs."""
    fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.6))
    for ax, key in zip(axes, ("touching", "offset"), strict=True):
        for biases, label, colour, marker in (
            ("zero", "zero initial biases", PALETTE["blue"], "o"),
            ("uniform", "uniform initial biases", PALETTE["vermilion"], "s"),
        ):
            _over_epochs(ax, arm(toy, biases), [key], lambda row: row[0], label, colour, marker)
    axes[0].set(ylabel="share of cells that touch 0", ylim=(-0.03, 1.05))
    axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    axes[1].set(ylabel="median $|b_k| / \\|w_k\\|$ of layer 1", ylim=(0, None))
    axes[0].legend()
    return fig


def _over_epochs(ax, nets, keys, value, label, colour, marker) -> None:  # type: ignore[no-untyped-def]
    """Mean with 95 % interval over seeds, and every seed as a thin line, at each measured epoch."""
    epochs = [row["epoch"] for row in nets[0].metrics["epochs"]]
    table = np.array([[value([row[key] for key in keys]) for row in net.metrics["epochs"]] for net in nets])
    place = np.arange(len(epochs))
    ax.plot(place, table.T, color=colour, lw=0.5, alpha=0.35)
    found = [interval(column) for column in table.T.tolist()]
    ax.plot(place, [i.mean for i in found], color=colour, marker=marker, ms=5, label=f"{label} ({len(nets)} seeds)")
    ax.fill_between(place, [i.low for i in found], [i.high for i in found], color=colour, alpha=0.2, lw=0)
    ax.set(xticks=place, xticklabels=epochs, xlabel="epoch")


def density(toy: Sequence[Record]) -> Figure:
    """Cells per unit area near the data and elsewhere over epochs, for both kinds of initial biases."""
    fig, axes = plt.subplots(1, 3, figsize=(10.6, 3.6), width_ratios=(1, 1, 0.9))
    for ax, biases in zip(axes, ("uniform", "zero"), strict=False):
        for key, label, colour, marker in (
            ("density near", "near the data", PALETTE["blue"], "o"),
            ("density elsewhere", "elsewhere", PALETTE["orange"], "s"),
        ):
            _over_epochs(ax, arm(toy, biases), [key], lambda row: row[0], label, colour, marker)
        ax.set(ylabel="cells per unit area", ylim=(0, None))
        ax.set_title(f"{biases} initial biases")
    axes[0].legend(fontsize="small")
    for biases, label, colour, marker in (
        ("uniform", "uniform", PALETTE["vermilion"], "s"),
        ("zero", "zero", PALETTE["blue"], "o"),
    ):
        keys = ["density near", "density elsewhere"]
        _over_epochs(axes[2], arm(toy, biases), keys, lambda row: row[0] / row[1], label, colour, marker)
    axes[2].axhline(1, color="#444444", lw=1, ls="--")
    axes[2].set(ylabel="ratio near / elsewhere", ylim=(0, None))
    axes[2].legend(fontsize="small", title="initial biases")
    return fig


def counts(records: Sequence[Record]) -> Figure:
    """Regions against neurons for every depth, before and after training, with the fitted slopes."""
    depths = records[0].config["depths"]
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(depths)))
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), sharey=True)
    for ax, place, title in zip(axes, (0, -1), ("at initialisation", "after training"), strict=True):
        means, slopes = mean_counts(records, place), count_slopes(records, place)
        neurons = sorted({n for _, n in means})
        for depth, colour, marker in zip(depths, colours, "osD^vP", strict=False):
            mean = [means[depth, n] for n in neurons]
            middle = np.exp([m.mean for m in mean])
            error = [middle - np.exp([m.low for m in mean]), np.exp([m.high for m in mean]) - middle]
            s = slopes[depth]
            label = f"depth {depth}: {s.mean:.2f} [{s.low:.2f}, {s.high:.2f}]"
            ax.errorbar(neurons, middle, error, color=colour, marker=marker, ms=5, lw=1.4, capsize=2, label=label)
        reference = math.exp(means[depths[0], neurons[0]].mean)
        ax.plot(
            neurons, [reference * (n / neurons[0]) ** 2 for n in neurons], "--", color="black", lw=1, label="slope 2"
        )
        ax.set(xscale="log", yscale="log", xlabel="neurons in all", xticks=neurons, xticklabels=neurons)
        ax.minorticks_off()
        ax.legend(fontsize="x-small", title="slope [95 % interval]", title_fontsize="small")
        ax.set_title(title)
    axes[0].set_ylabel("regions in the window")
    return fig


def grid_misses(
    film: Record, slice_records: Sequence[Record], sides: Sequence[int] = (25, 50, 100, 200, 400, 800)
) -> Figure:
    """Share of the cells that a regular grid of points does not meet, against its number of points."""
    p = learned(film)
    series = {f"toy net, {len(p):,} cells": [(side, met_by_grid(p, side) / len(p)) for side in sides]}
    for record in slice_records:
        row = record.metrics["windows"][0]
        name = f"{record.config['network']}, {row['window']}, {row['regions']:,} cells"
        series[name] = [(g["side"], g["met"] / row["regions"]) for g in row["grid"]]
    fig, ax = plt.subplots()
    for (name, points), marker in zip(series.items(), "osD^", strict=False):
        side, met = np.array(points).T
        ax.plot(side**2, 1 - met, marker=marker, ms=5, label=name)
    ax.set(xscale="log", ylim=(0, 1), xlabel="points of the grid", ylabel="share of cells missed")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend()
    return fig


def slice_figure(record: Record) -> Figure:
    """Cells of an image classifier coloured by its answer, the decision boundary on top, and the three images.

    The cells are computed anew from the weights that the record of the experiment "02-slices" holds.
    """
    model = slices.restored(record.config["network"], record.arrays["weights"])
    plane = slices.plane_through(record.arrays["images"])
    found = [decided(model, plane.window(*bounds)) for bounds in record.arrays["bounds"]]
    names = datasets.CLASSES[record.config["dataset"]]
    kinds = np.unique(np.concatenate([answer for _, answer in found]))
    base = np.array([to_rgb(c) for c in [*PALETTE.values(), "#8a6d3b", "#999999"]])
    fig, axes = plt.subplots(
        1, len(found) + 1, figsize=(3.2 * len(found) + 1.3, 4.2), width_ratios=[*[4] * len(found), 1.2]
    )
    for ax, (p, answer), row in zip(axes, found, record.metrics["windows"], strict=False):
        shade = 0.15 + 0.55 * _shade(p.keys)[:, None]
        colours = base[np.searchsorted(kinds, answer)] * (1 - shade) + shade
        draw(ax, p, colours, edge="none")
        ax.collections[0].set(rasterized=True, antialiased=False)  # flat colours: a small file
        ax.add_collection(LineCollection(list(borders(p, answer)), colors="black", linewidths=1.6, capstyle="round"))
        _mark_images(ax, p.plane, record.arrays["images"])
        ax.set_title(
            f"{row['window']}: {row['regions']:,} cells\n{row['cpu_seconds']:.2g} s on one core", fontsize="small"
        )
    for k, kind in enumerate(kinds):
        axes[0].plot([], [], "s", color=base[k] * 0.6 + 0.4, ms=9, label=names[kind])
    fig.legend(loc="outside lower center", ncols=6, title="answer", fontsize="small", title_fontsize="small")
    strip = np.concatenate([np.pad(i, ((0, 3), (0, 0), (0, 0)), constant_values=255) for i in record.arrays["images"]])
    axes[-1].imshow(strip)
    axes[-1].set_axis_off()
    for k, image in enumerate(record.metrics["images"]):
        axes[-1].text(33, 35 * k + 16, f"{k + 1} {image['class']}", rotation=90, va="center", fontsize=8)
    return fig


def _mark_images(ax: Axes, plane: Plane, images: np.ndarray) -> None:
    points = plane.coordinates(datasets.to_tensor(images, dtype=torch.float64))
    s0, s1, t0, t1 = plane.bounds
    for k, (s, t) in enumerate(points):
        if s0 <= s <= s1 and t0 <= t <= t1:
            ax.plot(s, t, "o", color="white", mec="black", ms=9)
            ax.text(s, t, str(k + 1), ha="center", va="center_baseline", fontsize=7)
