"""Pictures of chapter 03: power diagrams, cuts, decision boundaries; functions that draw on axes and return them."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon
from matplotlib.ticker import FixedLocator, NullLocator
from torch import nn

from maso.partition import Partition, Plane, partition
from maso.power import power_diagram
from maso.spline import MASO
from maso_book.ch03.bends import corners, turns
from maso_book.ch03.cells import Lift, tension
from maso_book.ch03.hand import all_codes
from maso_book.records import Record
from maso_book.style import PALETTE
from maso_book.tidy import as_table

LAYER_COLOURS = (PALETTE["black"], PALETTE["blue"], PALETTE["vermilion"], PALETTE["green"], PALETTE["purple"])
LINE_WIDTHS = (1.6, 1.1, 0.8, 0.6)  # of the cuts of each layer
GOLDEN = 0.6180339887498949


def shades(label: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
    """A light colour for each label; cells of one label differ a little by `within`, (F,) → (F, 3)."""
    hue = (0.07 + GOLDEN * label) % 1
    value = np.full(len(label), 0.95) if within is None else 0.84 + 0.14 * ((GOLDEN * within) % 1)
    return np.array([colorsys.hsv_to_rgb(h, 0.27, v) for h, v in zip(hue, value, strict=True)])


# What a power diagram is ----------------------------------------------------------------------------------------------

CODE_COLOURS = ["#f3d9b5", "#bfe0f2", "#f7f2b0", "#c3e6d3", "#ecc9dc", "#d6d6d6", "#f5c3a8", "#b9cbe8"]
"""One light colour for each code of three units, here and in the interactive diagram."""


def coded_cells(ax: Axes, m: MASO, reach: float) -> Axes:
    """A layer of ReLUs on the plane: its cells with their codes, and the weights of its units.

    Args:
        ax: where to draw.
        m: K = 3, R = 2, D = 2.
        reach: the window is [−reach, reach]².
    """
    for polygon, code in zip(_fill_cells(ax, m, reach), all_codes(m.K), strict=True):
        if len(polygon):
            x, y = polygon.mean(0)
            ax.text(x, y, "".join(map(str, code)), ha="center", va="center")
    for k, w in enumerate(m.A[:, 1].tolist(), 1):
        ax.annotate("", w, (0, 0), arrowprops={"arrowstyle": "-|>", "color": PALETTE["blue"], "lw": 1.5})
        ax.text(w[0] * 1.25, w[1] * 1.25, f"$W_{k}$", color=PALETTE["blue"], ha="center", va="center")
    ax.set(title="cells and codes $r_1 r_2 r_3$ of three ReLUs", ylabel="$x_2$")
    return ax


def centroids(ax: Axes, m: MASO, reach: float) -> Axes:
    """The centroids of a layer with circles of their radii, over its cells; arguments as in `coded_cells`."""
    cells = _fill_cells(ax, m, reach)
    mu, tau = power_diagram(m).cell(torch.from_numpy(all_codes(m.K).astype(np.int64)))
    shift = max(0.0, -float(tau.min())) + 0.15  # the same for all: it moves no cell
    for polygon, centre, radius, colour in zip(cells, mu.tolist(), (tau + shift).sqrt(), CODE_COLOURS, strict=True):
        there = len(polygon) > 0
        ls = "-" if there else (0, (3, 3))
        ax.add_patch(Circle(centre, float(radius), fill=False, lw=0.8, ls=ls, zorder=3))
        ax.plot(*centre, "o", mfc=colour if there else "white", mec="black", ms=7, zorder=4)
    ax.set(title="centroids $\\mu_r$ and circles of radius $\\sqrt{\\tau_r + s}$")
    return ax


def _fill_cells(ax: Axes, m: MASO, reach: float) -> list[np.ndarray]:
    """Draw the cells of a layer; the polygon of every code's cell."""
    cells = _power_cells(m, reach)
    for polygon, colour in zip(cells, CODE_COLOURS, strict=True):
        if len(polygon):
            ax.add_patch(Polygon(polygon, facecolor=colour, edgecolor=PALETTE["black"], lw=1))
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$x_1$")
    ax.grid(False)
    return cells


def _power_cells(m: MASO, reach: float) -> list[np.ndarray]:
    """The polygon of every code's cell in the window, (0, 2) where it is empty."""
    layer = nn.Linear(2, m.K).double()
    with torch.no_grad():
        layer.weight.copy_(m.A[:, 1])
        layer.bias.copy_(m.B[:, 1])
    p = partition(nn.Sequential(layer, nn.ReLU()), Plane.square(-reach, reach))
    polygons = [np.zeros((0, 2)) for _ in range(2**m.K)]
    for region in p.regions:
        polygons[int((region.code["1"] * 2 ** np.arange(m.K)).sum())] = region.polygon
    return polygons


# Subdivision ----------------------------------------------------------------------------------------------------------


def subdivision(ax: Axes, model: nn.Sequential, plane: Plane, depth: int) -> Axes:
    """The joint cells of the first layers of a network; cuts in the colour of their layer, cells in that of layer 1.

    Args:
        ax: where to draw.
        model: fully connected, with ReLUs or leaky ReLUs.
        plane: the window.
        depth: how many layers.
    """
    whole = partition(model, plane)
    first_layer = whole.layers[0]
    labels = whole.pullback(first_layer).label.tolist()
    label_of = dict(zip(whole.forward().layer_keys[first_layer].tolist(), labels, strict=True))

    p = partition(model, plane, layers=whole.layers[:depth])
    label = np.array([label_of[key] for key in p.forward().layer_keys[first_layer].tolist()])
    p.plot(ax, color=shades(label, np.arange(len(p))), linewidth=0.0, boundary=False)
    born = _born(p)
    for layer in reversed(range(depth)):
        _add_lines(ax, p.edges[born == layer], color=LAYER_COLOURS[layer], width=LINE_WIDTHS[layer])

    name = "layer 1" if depth == 1 else f"layers 1 to {depth}"
    ax.set(title=f"{name}: {len(p):,} cells", xlabel="$x_1$", ylabel="$x_2$")
    ax.grid(False)
    return ax


def layer_legend(fig: Figure, depth: int) -> None:
    """Below a figure, the colours of the cuts of the first layers."""
    names = [Line2D([], [], color=LAYER_COLOURS[i], label=f"cut of layer {i + 1}") for i in range(depth)]
    fig.legend(handles=names, ncols=depth, loc="outside lower center", fontsize="small")


def _add_lines(ax: Axes, lines: np.ndarray, *, color: str, width: float, alpha: float = 1.0) -> None:
    """Draw segments, (N, 2, 2)."""
    ax.add_collection(LineCollection(list(lines), colors=color, linewidths=width, alpha=alpha))


def _born(p: Partition) -> np.ndarray:
    """The first layer whose code differs across every edge, (E,)."""
    a, b = p.adjacency.T
    keys = p.forward().layer_keys
    return np.stack([keys[path][a] != keys[path][b] for path in p.layers], 1).argmax(1)


# Cuts and decision boundaries -----------------------------------------------------------------------------------------


def cut(ax: Axes, model: nn.Sequential, plane: Plane, depth: int, unit: int) -> Axes:
    """The cut of one unit of layer `depth` with its bends, over the cuts of the layers before."""
    s0, s1, t0, t1 = plane.bounds
    colour = LAYER_COLOURS[depth - 1]
    p = partition(model[: 2 * depth - 1], plane)
    born = _born(p)
    for layer in range(depth - 1):
        _add_lines(ax, p.edges[born == layer], color=LAYER_COLOURS[layer], width=0.9, alpha=0.55)

    for line in p.decision_boundary(unit):
        ax.plot(*line.T, color=colour, lw=2.2)
        ax.plot(*line[1:-1].T, "o", color=colour, ms=3.5)
        angle = np.degrees(corners(line)[1])
        length = np.linalg.norm(np.diff(line, axis=0), axis=1)
        room = np.minimum(length[1:], length[:-1]) > 0.05 * (s1 - s0)
        for point, turn in zip(line[1:-1][room], angle[: len(room)][room], strict=True):
            ax.annotate(f"{abs(turn):.0f}°", point, (3, -12), textcoords="offset points", fontsize="small")

    ax.set(xlim=(s0, s1), ylim=(t0, t1), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    ax.set_title(f"the cut of one unit of layer {depth}")
    ax.grid(False)
    return ax


def boundary(ax: Axes, record: Record, labels: str) -> Axes:
    """The exact decision boundary of the widest network of one record of 03-turning; dots are bends."""
    ends = np.cumsum(record.arrays[f"{labels}_lengths"])[:-1]
    for line in np.split(record.arrays[f"{labels}_points"], ends):
        angle = np.abs(turns(np.diff(line.astype(float), axis=0)))
        ax.plot(*line.T, color=PALETTE["black"], lw=1.3)
        ax.scatter(line[1:-1, 0], line[1:-1, 1], s=40 * angle, color=PALETTE["vermilion"], alpha=0.7, lw=0, zorder=3)

    boundaries = as_table([record], "boundaries").set_index(["labels", "width"])
    widest = boundaries.loc[(labels, record.config["widths"][-1])]
    full_turns = widest["turning_rad"] / (2 * math.pi)
    ax.set_title(f"{labels} labels: {widest['bends']} bends, {full_turns:.1f} full turns")
    ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    return ax


# Distances ------------------------------------------------------------------------------------------------------------


def epochs_and_factors(ax: Axes) -> Axes:
    """Scales for factors over epochs: epochs from 0 on, both logarithmic, with ticks where there are few decades."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator((0, 1, 2, 5, 10, 20, 40, 120)))
    ax.yaxis.set_major_locator(FixedLocator((0.5, 0.65, 0.8, 1, 1.25, 1.6, 2, 3, 5, 10, 20)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    ax.axhline(1, color="#888888", lw=0.8)
    return ax


# One diagram ----------------------------------------------------------------------------------------------------------


def joint_cells(ax: Axes, lifted: Lift) -> Axes:
    """The joint cells of a network."""
    p = lifted.cells
    p.plot(ax, color=shades(np.arange(len(p))), linewidth=0.0, boundary=False)
    _add_lines(ax, p.edges, color=PALETTE["black"], width=0.5)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", title=f"the {len(p):,} joint cells")
    ax.grid(False)
    return ax


def reciprocal(ax: Axes, lifted: Lift) -> Axes:
    """The centroids of the one power diagram of a network, joined where cells are neighbours.

    An edge between two centroids is perpendicular to the edge between their cells.
    """
    a, b = lifted.cells.adjacency.T
    mu = lifted.centroids
    _add_lines(ax, np.stack([mu[a], mu[b]], 1), color="#555555", width=0.5)
    colours = shades(np.arange(len(mu)))
    ax.scatter(mu[:, 0], mu[:, 1], s=14, c=colours, edgecolors=PALETTE["black"], linewidths=0.4, zorder=3)
    ax.autoscale()
    ax.set(aspect="equal", xlabel="$\\mu_1$", ylabel="$\\mu_2$", title="their centroids")
    ax.grid(False)
    return ax


def web(ax: Axes, turn: float) -> Axes:
    """A convex tiling of a square by a triangle and three seams turned by `turn` radians: 0 for a power diagram."""
    inner = 0.75 * np.array([[0, 1], [-(3**0.5) / 2, -0.5], [3**0.5 / 2, -0.5]])
    rotated = inner @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    outer = inner + rotated * _to_border(inner, rotated)

    ax.add_patch(Polygon(inner, facecolor=CODE_COLOURS[0], edgecolor=PALETTE["black"], lw=1.5))
    for start, end in zip(inner, outer, strict=True):
        ax.plot(*np.stack([start, end]).T, color=PALETTE["black"], lw=1.5)
        ax.plot(*np.stack([start, start - 1.2 * (end - start)]).T, color=PALETTE["vermilion"], lw=0.8, ls="--")

    tensions, unbalanced = tension(inner, outer)
    balanced = unbalanced < 1e-12 and (tensions > 0).all()
    ax.set_xlabel("tension balances" if balanced else f"unbalanced by {unbalanced:.2f} at best")
    name = "turned seams: no power diagram" if turn else "seams through one point: a power diagram"
    ax.set_title(name, fontsize="medium")
    ax.set(xlim=(-2, 2), ylim=(-2, 2), aspect="equal", xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(True)
    return ax


def _to_border(start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """How far it is from points to the border of the square [−2, 2]² in multiples of directions, (N, 1)."""
    return ((2 - np.sign(direction) * start) / np.abs(direction).clip(min=1e-300)).min(1, keepdims=True)
