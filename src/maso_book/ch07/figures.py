"""Figures of chapter 07: cells by distance, nearest pictures, agreement by layer, distances by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from maso.codes import codes, vq_distance
from maso.partition import Plane, partition
from maso_book.ch07.agreement import BINS
from maso_book.ch07.depth import MASKED, RELU, K
from maso_book.ch07.tables import in_words, title
from maso_book.ch07.verdicts import FIRST_CONTROLS, advantages, named
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.style import PALETTE
from maso_book.tidy import as_table

ARMS = {  # arm -> colour, marker, dashes: what seaborn's `palette`, `markers` and `dashes` take
    "trained": (PALETTE["blue"], "o", ""),
    "untrained": (PALETTE["black"], "s", (4, 1.5)),
    "true labels": (PALETTE["blue"], "o", ""),
    "permuted labels": (PALETTE["vermilion"], "^", (5, 1.5, 1, 1.5)),
    "pixels, Euclid": (PALETTE["purple"], ".", (1, 1.5)),
    "outputs, Euclid": (PALETTE["purple"], ".", (6, 2)),
}
COLOURS, MARKERS, DASHES = ({arm: look[i] for arm, look in ARMS.items()} for i in range(3))
KINDS = {"last ReLU": PALETTE["blue"], "last pool": PALETTE["orange"]}
PAIRS = {"pairs of one class": (PALETTE["blue"], "-"), "pairs of two classes": (PALETTE["vermilion"], "--")}

# What seaborn draws ---------------------------------------------------------------------------------------------------


def curves(standard: Sequence[Record], twins: Sequence[Record]) -> pd.DataFrame:
    """Agreement in each layer, a panel for each network and one for its twins.

    Returns:
        Columns `panel`, `arm` (one of `ARMS`), `distance`, `k`, `seed`, `label_agreement`. The Euclidean distances of
        pixels and outputs are arms, too, with the same value at every layer. Of twins, which begin with the same
        weights, the one with true labels stands for the untrained network and for these two.
    """
    table = pd.concat([in_words(standard), in_words(twins)])
    vq, trained, once = table["kind"] != "Euclid", table["epoch"] > 0, table["labels"] == "true"
    layers = table[vq & (trained | once)]
    level = table[~vq & trained & once & table["distance"].isin(ARMS)]

    places = layers[["panel", "distance"]].drop_duplicates()
    along = level.assign(arm=level["distance"]).drop(columns="distance").merge(places, on="panel")
    return pd.concat([layers, along])[["panel", "arm", "distance", "k", "seed", "label_agreement"]]


def comparisons(standard: Sequence[Record], twins: Sequence[Record]) -> pd.DataFrame:
    """`advantages` in the order of the controls, with these (`less`) and the layers (`layer`) in words."""
    table = advantages(standard, twins)
    table = table.iloc[table["control"].map(FIRST_CONTROLS.index).argsort(kind="stable")]
    names = zip(table["control"], table["dataset"], table["network"], strict=True)
    return table.assign(
        less=[f"less {control} ({title(dataset, network)})" for control, dataset, network in names],
        layer="last " + table["kind"],
    )


DEPTH_ARMS = {  # arm of 07-twins and 07-all-images -> colour, marker, dashes
    "trained": (PALETTE["blue"], "o", ""),
    "trained, permuted labels": (PALETTE["vermilion"], "^", (5, 1.5, 1, 1.5)),
    "untrained, calibrated": (PALETTE["green"], "D", (3, 1)),
    "untrained": (PALETTE["black"], "s", (4, 1.5)),
}
IN_WORDS = {"calibrated": "untrained, calibrated"}
DEPTH_COLOURS, DEPTH_MARKERS, DEPTH_DASHES = ({arm: look[i] for arm, look in DEPTH_ARMS.items()} for i in range(3))


def depth(records: Sequence[Record]) -> pd.DataFrame:
    """Agreement of the `K` nearest by layer: `panel`, `arm` (of `DEPTH_ARMS`), `layer`, `seed`, `label_agreement`.

    Pools are those without their empty windows. Of twins the one with true labels stands for the untrained network.
    """
    table = named(records)
    chosen = (table["k"] == K) & table["kind"].isin((RELU, MASKED))
    table = table[chosen & ((table["labels"] == "true") | (table["arm"] == "trained"))]
    arm = table["arm"].replace(IN_WORDS).mask(table["labels"] == "permuted", "trained, permuted labels")
    return table.assign(arm=arm, layer=table["distance"])[["panel", "arm", "layer", "seed", "label_agreement"]]


def hubs(records: Sequence[Record]) -> pd.DataFrame:
    """The max pools' most frequent neighbour in networks with true labels, with empty windows and without (masked).

    Returns:
        Columns `panel`, `layer`, `arm` (of `DEPTH_ARMS`), `seed`, `most_frequent`, the share of queries that have that
        image among their `K` nearest; a pool without its empty windows comes after itself.
    """
    table = named(records, "hubs").query("labels == 'true'")
    table = table[table["kind"].isin(("pool", MASKED))]
    return table.assign(
        arm=table["arm"].replace(IN_WORDS),
        layer=table["distance"] + table["kind"].map({"pool": "", MASKED: ", masked"}),
    ).sort_values("layer", kind="stable")


# Cells ----------------------------------------------------------------------------------------------------------------


def cells(model: nn.Module, plane: Plane, query: Tensor) -> Figure:
    """The exact cells of a network on the plane, coloured by the units that differ from the query (1, 2)."""
    p = partition(model, plane)
    centres = torch.from_numpy(p.centres)
    units = {path: code[0].numel() for path, code in codes(model, query).items()}
    distances = vq_distance(model, query, centres).items()
    counts = {
        f"ReLU layer {number}, {units[path]} units": (d[0] * units[path]).round().numpy()
        for number, (path, d) in enumerate(distances, 1)
    }
    counts["all layers"] = sum(counts.values(), np.zeros(len(p)))

    fig, axes = plt.subplots(1, len(counts), figsize=(3.5 * len(counts), 3.4), sharey=True, layout="compressed")
    for ax, (name, count) in zip(axes, counts.items(), strict=True):
        p.plot(ax, color=count, linewidth=0.3, boundary=False)
        ax.plot(*query[0].numpy(), "*", color="white", mec=PALETTE["black"], ms=13)
        ax.set(title=name, xlabel="$x_1$", ylabel="")
        ax.grid(False)
        fig.colorbar(ax.collections[0], ax=ax, shrink=0.8, ticks=MaxNLocator(integer=True))
    axes[0].set_ylabel("$x_2$")
    return fig


# Pictures -------------------------------------------------------------------------------------------------------------


def neighbours(record: Record, query: int, *, trained: bool) -> Figure:
    """A test image and its 15 nearest training images, one row for each layer and each Euclidean distance.

    Args:
        record: of 07-agreement, with pictures.
        query: which of the queries shown.
        trained: of the trained network, or of the same network before training.
    """
    index = record.arrays["neighbours"][1 if trained else 0, :, query]
    pictures, labels = record.arrays["pictures"].transpose(0, 2, 3, 1), record.arrays["picture_labels"]
    same = labels[index] == labels[query]

    fig, (one, ax) = plt.subplots(1, 2, figsize=(9.6, 0.5 * len(index) + 0.3), width_ratios=(1, 9))
    _show(one, pictures[query])
    one.set_yticks([])
    one.set_title(CLASSES[record.config["dataset"]][labels[query]], fontsize="medium")

    size = _mosaic(ax, pictures[index], same)
    middle = size * (np.arange(len(index)) + 0.5)
    ax.set_yticks(middle, labels=in_words([record])["distance"].unique())
    ax.tick_params(left=False)
    counts = ax.secondary_yaxis("right")
    counts.set_yticks(middle, labels=[f"{row.sum()} of {len(row)}" for row in same])
    counts.tick_params(right=False)
    counts.spines[:].set_visible(False)
    return fig


def _mosaic(ax: Axes, pictures: np.ndarray, same: np.ndarray) -> int:
    """Pictures (rows, columns, H, W, C) in a grid, framed by whether `same` (rows, columns); the height of a row."""
    rows, columns, height, width, channels = pictures.shape
    canvas = np.full((rows, height + 4, columns, width + 4, channels), 255, np.uint8)
    canvas[:, 2:-2, :, 2:-2] = pictures.transpose(0, 2, 1, 3, 4)
    _show(ax, canvas.reshape(rows * (height + 4), columns * (width + 4), channels))

    for row, column in np.ndindex(rows, columns):
        colour, line = (PALETTE["blue"], "-") if same[row, column] else (PALETTE["vermilion"], (0, (2, 2)))
        corner = column * (width + 4) + 0.5, row * (height + 4) + 0.5
        ax.add_patch(plt.Rectangle(corner, width + 2, height + 2, fill=False, ec=colour, lw=1.6, ls=line))
    return height + 4


def _show(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    ax.grid(False)


# Distances ------------------------------------------------------------------------------------------------------------


def first_network(records: Sequence[Record]) -> list[Record]:
    """The records of the first data set and network, without those whose training diverged."""
    learned = [record for record in records if not record.tables["networks"][0]["diverged"]]
    keys = [(record.config["dataset"], record.config["network"]) for record in learned]
    return [record for record, key in zip(learned, keys, strict=True) if key == keys[0]]


def distances(records: Sequence[Record]) -> Figure:
    """Histograms of the distances within and between classes, layer by layer, before and after training.

    Args:
        records: of one data set and network; their pairs are laid together, the separation has an interval.
    """
    counts = np.sum([record.arrays["histograms"] for record in records], 0)
    table = as_table(records, "layers")
    layers, epochs = table["distance"].unique(), table["epoch"].unique()

    fig = plt.figure(figsize=(1.75 * len(layers), 4.6))
    axes: Any = fig.subplots(2, len(layers), sharex="col", squeeze=False)
    for row, column in np.ndindex(axes.shape):
        _density(axes[row, column], counts[row, column])
        axes[row, column].set_xlim(*_central(counts[:, column].sum((0, 1))))
        rows = table[(table["epoch"] == epochs[row]) & (table["distance"] == layers[column])]
        axes[row, column].set_title(f"{layers[column]}\n{interval(rows['separation']):.2f}", fontsize="small")

    for ax, arm in zip(axes[:, 0], ("untrained", "trained"), strict=True):
        ax.set_ylabel(arm)
    fig.supxlabel("share of units that differ", fontsize="medium")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside upper right", fontsize="small")
    return fig


def _density(ax: Axes, counts: np.ndarray) -> None:
    """Both histograms of one layer, (2, bins)."""
    middle = (BINS[1:] + BINS[:-1]) / 2
    for values, (label, (colour, line)) in zip(counts, PAIRS.items(), strict=True):
        share = values / values.sum()
        ax.plot(middle, share, line, color=colour, lw=1.4, label=label)
        ax.fill_between(middle, share, color=colour, alpha=0.2, lw=0)
    ax.set(yticks=[], ylim=(0, None))


def _central(counts: np.ndarray) -> np.ndarray:
    """Between which distances 99.6 % of the pairs lie, with a margin, (2,)."""
    middle = (BINS[1:] + BINS[:-1]) / 2
    below = counts.cumsum() / counts.sum()
    return np.interp([0.002, 0.998], below, middle) + np.array([-0.03, 0.03])
