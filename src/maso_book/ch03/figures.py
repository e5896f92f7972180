"""Figures of chapter 03: power diagrams, bends, decision boundaries and distances; functions that return a figure."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from torch import nn

from maso.partition import Partition, Plane, partition
from maso.power import power_diagram
from maso.spline import MASO
from maso_book.ch03.bends import corners, turns
from maso_book.ch03.cells import Lift, tension
from maso_book.ch03.hand import all_codes
from maso_book.ch03.verdicts import ANGLE, LABELS
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.style import PALETTE

LAYER_COLOURS = (PALETTE["black"], PALETTE["blue"], PALETTE["vermilion"], PALETTE["green"], PALETTE["purple"])
GOLDEN = 0.6180339887498949
FACTORS = (0.5, 0.65, 0.8, 1, 1.25, 1.6, 2, 3, 5, 10, 20)  # ticks


def shades(label: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """A light colour for each label; cells of one label differ a little by `within`, (F,) → (F, 3)."""
    hue = (0.07 + GOLDEN * label) % 1
    value = np.full(len(label), 0.95) if within is None else 0.84 + 0.14 * ((GOLDEN * within) % 1)
    return np.array([colorsys.hsv_to_rgb(h, 0.27, v) for h, v in zip(hue, value, strict=True)])


# What a power diagram is ----------------------------------------------------------------------------------------------

CODE_COLOURS = ["#f3d9b5", "#bfe0f2", "#f7f2b0", "#c3e6d3", "#ecc9dc", "#d6d6d6", "#f5c3a8", "#b9cbe8"]
"""One light colour for each code of three units, here and in the interactive diagram."""


def codebook(m: MASO, reach: float) -> Figure:
    """A layer of three ReLUs on the plane: its cells and codes; the centroids that make them, with their circles.

    Args:
        m: K = 3, R = 2, D = 2.
        reach: the window is [−reach, reach]².
    """
    cells = _power_cells(m, reach)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 5.2), sharex=True, sharey=True, layout="compressed")
    codes = all_codes(m.K)
    mu, tau = power_diagram(m).cell(torch.from_numpy(codes.astype(np.int64)))
    shift = max(0.0, -float(tau.min())) + 0.15
    for r, code in enumerate(codes):
        for ax in (left, right):
            if len(cells[r]):
                ax.add_patch(Polygon(cells[r], facecolor=CODE_COLOURS[r], edgecolor=PALETTE["black"], lw=1))
        if len(cells[r]):
            left.text(*cells[r].mean(0), "".join(map(str, code)), ha="center", va="center")
        style = "-" if len(cells[r]) else (0, (3, 3))
        place = (float(mu[r, 0]), float(mu[r, 1]))
        right.add_patch(Circle(place, math.sqrt(tau[r] + shift), fill=False, lw=0.8, ls=style, zorder=3))
        right.plot(*place, "o", mfc=CODE_COLOURS[r] if len(cells[r]) else "white", mec="black", ms=7, zorder=4)
    for k, w in enumerate(m.A[:, 1].tolist()):
        left.annotate("", w, (0, 0), arrowprops={"arrowstyle": "-|>", "color": PALETTE["blue"], "lw": 1.5})
        left.text(w[0] * 1.25, w[1] * 1.25, f"$W_{k + 1}$", color=PALETTE["blue"], ha="center", va="center")
    left.set_title("cells and codes $r_1 r_2 r_3$ of three ReLUs")
    right.set_title("centroids $\\mu_r$ and circles of radius $\\sqrt{\\tau_r + s}$")
    for ax in (left, right):
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$x_1$")
        ax.grid(False)
    left.set_ylabel("$x_2$")
    return fig


def _power_cells(m: MASO, reach: float) -> list[np.ndarray]:
    """The polygon of every code's cell in the window, (0, 2) where it is empty."""
    layer = nn.Linear(2, m.K).double()
    with torch.no_grad():
        layer.weight.copy_(m.A[:, 1])
        layer.bias.copy_(m.B[:, 1])
    p = partition(nn.Sequential(layer, nn.ReLU()), Plane.square(-reach, reach))
    found = [np.zeros((0, 2)) for _ in range(2**m.K)]
    for region in p.regions:
        found[int((region.code["1"] * 2 ** np.arange(m.K)).sum())] = region.polygon
    return found


# Subdivision ----------------------------------------------------------------------------------------------------------


def subdivision(model: nn.Sequential, plane: Plane, steps: Sequence[int] = (1, 2, 4)) -> Figure:
    """The joint cells of the first layers of a network; cuts in the colour of their layer, cells in that of layer 1."""
    whole = partition(model, plane)
    first = whole.pullback(whole.layers[0]).label
    colour_of = dict(zip(whole.forward().layer_keys[whole.layers[0]].tolist(), first.tolist(), strict=True))
    fig, axes = plt.subplots(
        1, len(steps), figsize=(3.7 * len(steps), 4.6), sharex=True, sharey=True, layout="compressed"
    )
    for ax, depth in zip(axes, steps, strict=True):
        p = partition(model, plane, layers=whole.layers[:depth])
        label = np.array([colour_of[key] for key in p.forward().layer_keys[whole.layers[0]].tolist()])
        p.plot(ax, color=shades(label, np.arange(len(p))), linewidth=0.0, boundary=False)
        born = _born(p)
        for layer in range(depth - 1, -1, -1):
            lines = LineCollection(list(p.edges[born == layer]), colors=LAYER_COLOURS[layer])
            lines.set_linewidth((1.6, 1.1, 0.8, 0.6)[layer])
            ax.add_collection(lines)
        name = "layer 1" if depth == 1 else f"layers 1 to {depth}"
        ax.set_title(f"{name}: {len(p):,} cells")
        ax.set(xlabel="$x_1$", ylabel="$x_2$" if ax is axes[0] else "")
        ax.grid(False)
    names = [plt.Line2D([], [], color=LAYER_COLOURS[i], label=f"cut of layer {i + 1}") for i in range(max(steps))]
    fig.legend(handles=names, ncols=len(names), loc="outside lower center", fontsize="small")
    return fig


def _born(p: Partition) -> np.ndarray:
    """The first layer whose code differs across every edge, (E,)."""
    a, b = p.adjacency.T
    keys = p.forward().layer_keys
    return np.stack([keys[path][a] != keys[path][b] for path in p.layers], 1).argmax(1)


# Bends ----------------------------------------------------------------------------------------------------------------


def bends(model: nn.Sequential, plane: Plane, depth: int, unit: int, records: Sequence[Record]) -> Figure:
    """One cut with its bends; all angles against their bounds; errors of the measured angles.

    Args:
        model: the network of the first panel.
        plane: its window.
        depth, unit: whose cut is drawn.
        records: of 03-bends.
    """
    fig, (picture, bound, error) = plt.subplots(1, 3, figsize=(11.4, 4.2), width_ratios=(1.1, 1, 1))
    s0, s1, t0, t1 = plane.bounds
    p = partition(model[: 2 * depth - 1], plane)
    born = _born(p)
    for layer in range(depth - 1):
        lines = LineCollection(list(p.edges[born == layer]), colors=LAYER_COLOURS[layer], alpha=0.55)
        lines.set_linewidth(0.9)
        picture.add_collection(lines)
    for line in p.decision_boundary(unit):
        picture.plot(*line.T, color=LAYER_COLOURS[depth - 1], lw=2.2)
        _, angle = corners(line)
        length = np.linalg.norm(np.diff(line, axis=0), axis=1)
        room = np.minimum(length[1:], length[:-1]) > 0.05 * (s1 - s0)
        for point, turn in zip(line[1:-1][room], np.degrees(angle[: len(room)][room]), strict=True):
            picture.annotate(f"{abs(turn):.0f}°", point, (3, -12), textcoords="offset points", fontsize="small")
        picture.plot(*line[1:-1].T, "o", color=LAYER_COLOURS[depth - 1], ms=3.5)
    picture.set(xlim=(s0, s1), ylim=(t0, t1), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    picture.set_title(f"the cut of one unit of layer {depth}")
    picture.grid(False)
    layer, angle, most, wrong = (
        np.concatenate([record.arrays[key] for record in records]) for key in ("layer", "angle", "bound", "error")
    )
    for depth in np.unique(layer):
        here = layer == depth
        name = "output" if depth == 5 else f"layer {depth}"
        colour = LAYER_COLOURS[depth - 1]
        bound.plot(np.degrees(most[here]), np.degrees(angle[here]), ".", ms=2.5, alpha=0.5, color=colour, label=name)
    bound.plot([0, 180], [0, 180], color=PALETTE["black"], lw=1, ls="--")
    bound.set(xlabel="bound from the jump of the slope (°)", ylabel="bend (°)", xlim=(0, 183), ylim=(0, 183))
    bound.set(xticks=range(0, 181, 45), yticks=range(0, 181, 45), title="bends and their bound")
    bound.legend(markerscale=5, fontsize="small", loc="upper left")
    error.hist(np.log10(np.abs(wrong).clip(min=1e-17)), np.arange(-17, -8.4, 0.25), color=PALETTE["sky"])
    error.axvline(math.log10(ANGLE), color=PALETTE["black"], ls="--", lw=1.2)
    error.annotate("criterion", (math.log10(ANGLE), 0.97), (-4, 0), xycoords=("data", "axes fraction"),
                   textcoords="offset points", ha="right", va="top")  # fmt: skip
    error.set(xlabel="|measured − formula| (radians)", ylabel="bends", xticks=range(-16, -8, 2))
    error.set_xticklabels([f"$10^{{{e}}}$" for e in range(-16, -8, 2)])
    error.set_title(f"{len(angle):,} bends, {len(records)} networks")
    return fig


# Decision boundaries --------------------------------------------------------------------------------------------------


def boundaries(record: Record) -> Figure:
    """The exact decision boundaries of the widest network of one seed, with true and with permuted labels."""
    width = record.config["widths"][-1]
    fig, axes = plt.subplots(1, 2, figsize=(8.8, 4.9), sharex=True, sharey=True, layout="compressed")
    for ax, name in zip(axes, LABELS, strict=True):
        ends = np.cumsum(record.arrays[f"{name} lengths"])[:-1]
        for line in np.split(record.arrays[f"{name} points"], ends):
            angle = np.abs(turns(np.diff(line.astype(float), axis=0)))
            ax.plot(*line.T, color=PALETTE["black"], lw=1.3)
            ax.scatter(*line[1:-1].T, s=40 * angle, color=PALETTE["vermilion"], alpha=0.7, lw=0, zorder=3)
        (row,) = [r for r in record.metrics["boundaries"] if (r["width"], r["labels"]) == (width, name)]
        turns_round = row["turning"] / (2 * math.pi)
        ax.set_title(f"{name} labels: {row['bends']} bends, {turns_round:.1f} full turns")
        ax.set(aspect="equal", xlabel="$x_1$")
    axes[0].set_ylabel("$x_2$")
    return fig


def turning(records: Sequence[Record]) -> Figure:
    """Total turning and mean bend of the boundary against width, true and permuted labels; each seed a dot."""
    fig, axes = plt.subplots(1, 2, figsize=(9.4, 4.0))
    for name, colour, marker in zip(LABELS, (PALETTE["blue"], PALETTE["vermilion"]), "os", strict=True):
        rows = [row for record in records for row in record.metrics["boundaries"] if row["labels"] == name]
        widths = sorted({row["width"] for row in rows})
        for ax, value in zip(axes, (_full_turns, _mean_bend), strict=True):
            by_width = [[value(row) for row in rows if row["width"] == width] for width in widths]
            _band(ax, widths, [interval(np.log(v).tolist()) for v in by_width], colour, marker, f"{name} labels")
            for width, values in zip(widths, by_width, strict=True):
                ax.plot([width] * len(values), values, ".", color=colour, ms=3, alpha=0.6)
            ax.set(xscale="log", yscale="log", xlabel="units in each of two layers")
            ax.set_xticks(widths, labels=map(str, widths))
            ax.set_xticks([], minor=True)
    for ax, ticks in zip(axes, ((1, 2, 5, 10, 20, 40), (3, 5, 10, 20, 40)), strict=True):
        ax.set_yticks(ticks, labels=map(str, ticks))
        ax.set_yticks([], minor=True)
    axes[0].set(ylabel="full turns (360°)", title="total turning of the boundary")
    axes[1].set(ylabel="degrees", title="mean angle of a bend")
    axes[0].legend()
    return fig


def _full_turns(row: Mapping[str, float]) -> float:
    return row["turning"] / (2 * math.pi)


def _mean_bend(row: Mapping[str, float]) -> float:
    return math.degrees(row["turning"] / row["bends"])


def _band(
    ax: Axes, x: Sequence[float], logs: Sequence[Interval], colour: str, marker: str, label: str, ls: str = "-"
) -> None:
    """exp of means of logarithms, with their intervals."""
    ax.plot(x, np.exp([i.mean for i in logs]), ls, color=colour, marker=marker, ms=5, label=label)
    ax.fill_between(x, np.exp([i.low for i in logs]), np.exp([i.high for i in logs]), color=colour, alpha=0.18, lw=0)


# Distances ------------------------------------------------------------------------------------------------------------


def distances(toy: Sequence[Record], images: Sequence[Record]) -> Figure:
    """Distance to the boundary of the cell over the epochs, as a factor of that before training."""
    fig, axes = plt.subplots(2, 2, figsize=(9.6, 6.4), sharey="row", sharex="row")
    names = ("training points", "test points", "places without data")
    for row, records in zip(axes, (toy, images), strict=True):
        epochs = records[0].config["epochs"]
        for ax, labels in zip(row, LABELS, strict=True):
            curves = np.stack([record.arrays[labels] - record.arrays[labels][0] for record in records])
            for i, (name, colour, marker) in enumerate(
                zip(names, (PALETTE["blue"], PALETTE["orange"], PALETTE["black"]), "o^s", strict=True)
            ):
                logs = [interval(curves[:, epoch, i].tolist()) for epoch in range(len(epochs))]
                _band(ax, epochs, logs, colour, marker, name, "--" if i == 2 else "-")
            ax.axhline(1, color="#888888", lw=0.8)
            ax.set_xscale("symlog", linthresh=1, linscale=0.4)
            ax.set_yscale("log")
            ax.set_xticks(epochs, labels=["" if epoch == 80 else str(epoch) for epoch in epochs])
            ax.set_xticks([], minor=True)
            ax.yaxis.set_major_locator(FixedLocator(FACTORS))
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.yaxis.set_minor_locator(NullLocator())
            task = "toy problem" if records is toy else records[0].config["dataset"].upper()
            ax.set_title(f"{task}, {labels} labels")
        row[0].set_ylabel("distance / distance at first")
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
    return fig


# One diagram ----------------------------------------------------------------------------------------------------------


def reciprocal(found: Lift) -> Figure:
    """The joint cells of a network, and the centroids of their one power diagram, joined where cells are neighbours.

    An edge between two centroids is perpendicular to the edge between their cells.
    """
    p = found.cells
    colour = shades(np.arange(len(p)))
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.9))
    p.plot(left, color=colour, linewidth=0.0, boundary=False)
    lines = LineCollection(list(p.edges), colors=PALETTE["black"])
    lines.set_linewidth(0.5)
    left.add_collection(lines)
    left.set(xlabel="$x_1$", ylabel="$x_2$", title=f"the {len(p):,} joint cells")
    a, b = p.adjacency.T
    joined = LineCollection(list(np.stack([found.centroids[a], found.centroids[b]], 1)), colors="#555555")
    joined.set_linewidth(0.5)
    right.add_collection(joined)
    right.scatter(*found.centroids.T, s=14, c=colour, edgecolors=PALETTE["black"], linewidths=0.4, zorder=3)
    right.autoscale()
    right.set(aspect="equal", xlabel="$\\mu_1$", ylabel="$\\mu_2$", title="their centroids")
    for ax in (left, right):
        ax.grid(False)
    return fig


def webs() -> Figure:
    """Two convex tilings of a square by a triangle and three seams; only the left one is a power diagram."""
    inner = 0.75 * np.array([[0, 1], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]])
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 4.3), layout="compressed")
    names = ("seams through one point: a power diagram", "turned seams: no power diagram")
    for ax, turn, name in zip(axes, (0.0, 0.35), names, strict=True):
        rotated = inner @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        outer = inner + rotated * _to_border(inner, rotated)
        ax.add_patch(Polygon(inner, facecolor=CODE_COLOURS[0], edgecolor=PALETTE["black"], lw=1.5))
        for start, end in zip(inner, outer, strict=True):
            ax.plot(*np.stack([start, end]).T, color=PALETTE["black"], lw=1.5)
            ax.plot(*np.stack([start, start - 1.2 * (end - start)]).T, color=PALETTE["vermilion"], lw=0.8, ls="--")
        best, left = tension(inner, outer)
        balanced = left < 1e-12 and (best > 0).all()
        ax.set_title(name, fontsize="medium")
        ax.set_xlabel("tension balances" if balanced else f"unbalanced by {left:.2f} at best")
        ax.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal", xticks=[], yticks=[])
        ax.spines[["top", "right"]].set_visible(True)
    return fig


def _to_border(start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """How far it is from points to the border of the square [−2, 2]² in multiples of directions, (N, 1)."""
    return ((2 - np.sign(direction) * start) / np.abs(direction).clip(min=1e-300)).min(1, keepdims=True)
