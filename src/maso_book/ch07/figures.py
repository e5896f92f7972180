"""Figures and tables of chapter 07: cells by distance, nearest pictures, agreement by layer, distances by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from maso.codes import codes, vq_distance
from maso.partition import Plane, partition
from maso_book.ch07.agreement import BINS, KS
from maso_book.ch07.verdicts import CONTROLS, KINDS, LABELS, advantages, euclid, groups, kinds, rows
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.style import PALETTE

NAMES = {"pixels": "pixels, Euclid", "features": "features, Euclid", "outputs": "outputs, Euclid"}
TITLES = {"cifar10": "CIFAR-10", "fashion_mnist": "Fashion-MNIST", "mnist": "MNIST", "digits": "digits"}
ARMS = {  # arm -> (colour, marker, line)
    "trained": (PALETTE["blue"], "o", "-"),
    "untrained": (PALETTE["black"], "s", "--"),
    "true labels": (PALETTE["blue"], "o", "-"),
    "permuted labels": (PALETTE["vermilion"], "^", "-."),
}


def names(record: Record, *, euclidean: bool = True) -> list[str]:
    """The layers of a record's network in words, "ReLU 2" or "pool 1", then the Euclidean distances."""
    found, count = [], dict.fromkeys(KINDS, 0)
    for row in rows(record, -1):
        if row["kind"] in count:
            count[row["kind"]] += 1
            found.append(f"{row['kind']} {count[row['kind']]}")
        elif euclidean:
            found.append(NAMES[row["layer"]])
    return found


# Cells ----------------------------------------------------------------------------------------------------------------


def cells(model: nn.Module, plane: Plane, query: Tensor) -> Figure:
    """The exact cells of a network on the plane, coloured by the units that differ from the query (1, 2)."""
    p = partition(model, plane)
    centres = torch.from_numpy(p.centres)
    units = {path: code[0].numel() for path, code in codes(model, query).items()}
    counts = {path: (d[0] * units[path]).round().numpy() for path, d in vq_distance(model, query, centres).items()}
    counts["all"] = sum(counts.values(), np.zeros(len(p)))
    fig, axes = plt.subplots(1, len(counts), figsize=(3.5 * len(counts), 3.4), sharey=True, layout="compressed")
    for ax, (path, count) in zip(axes, counts.items(), strict=True):
        p.plot(ax, color=count, linewidth=0.3, boundary=False)
        ax.plot(*query[0].numpy(), "*", color="white", mec=PALETTE["black"], ms=13)
        name = "all layers" if path == "all" else f"ReLU layer {list(counts).index(path) + 1}, {units[path]} units"
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
    images, labels = record.arrays["images"].transpose(0, 2, 3, 1), record.arrays["labels"]
    words, classes = names(record), CLASSES[record.config["dataset"]]
    size = images.shape[1] + 4
    canvas = np.full((size * len(index), size * index.shape[1], images.shape[3]), 255, np.uint8)
    fig, (one, ax) = plt.subplots(1, 2, figsize=(9.6, 0.5 * len(index) + 0.3), width_ratios=(1, 9))
    for row, found in enumerate(index):
        for column, number in enumerate(found):
            top, left = row * size, column * size
            canvas[top + 2 : top + size - 2, left + 2 : left + size - 2] = images[number]
            same = labels[number] == labels[query]
            colour, style = (PALETTE["blue"], "-") if same else (PALETTE["vermilion"], (0, (2, 2)))
            frame = plt.Rectangle((left + 0.5, top + 0.5), size - 2, size - 2, fill=False, ec=colour, lw=1.6, ls=style)
            ax.add_patch(frame)
    _show(ax, canvas)
    ax.set_yticks([size * (row + 0.5) for row in range(len(index))], labels=words)
    ax.tick_params(left=False)
    right = (labels[index] == labels[query]).sum(1)
    counts = ax.secondary_yaxis("right")
    counts.set_yticks(
        [size * (row + 0.5) for row in range(len(index))], labels=[f"{n} of {index.shape[1]}" for n in right]
    )
    counts.tick_params(right=False)
    counts.spines[:].set_visible(False)
    _show(one, images[query])
    one.set_yticks([])
    one.set_title(f"{classes[labels[query]]}", fontsize="medium")
    return fig


def _show(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    ax.grid(False)


# Agreement ------------------------------------------------------------------------------------------------------------


def agreement(standard: Sequence[Record], labels: Sequence[Record], k: int) -> Figure:
    """Label agreement per layer: trained and untrained on each data set, and twins with true and permuted labels."""
    panels: list[tuple[str, dict[str, list[dict[str, Any]]], Sequence[Record]]] = []
    for (dataset, network), members in groups(standard).items():
        arms = {"trained": [_layers(r, -1) for r in members], "untrained": [_layers(r, 0) for r in members]}
        panels.append((_title(dataset, network, members), arms, members))
    for (dataset, network), members in groups(labels).items():
        arms = {f"{name} labels": [_layers(r, -1) for r in members if r.config["labels"] == name] for name in LABELS}
        arms["untrained"] = [_layers(r, 0) for r in members if r.config["labels"] == "true"]
        panels.append((_title(dataset, network, members), arms, [r for r in members if r.config["labels"] == "true"]))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    fig, axes = plt.subplots(down, across, figsize=(3.7 * across, 3.9 * down), squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (title, arms, members) in zip(axes.flat, panels, strict=False):
        _agreement(ax, arms, members, k)
        ax.set_title(title)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"label agreement of {k} nearest")
    handles = {line.get_label(): line for ax in axes.flat for line in ax.lines}
    fig.legend(handles.values(), handles.keys(), ncols=4, loc="outside lower center", fontsize="small")
    return fig


def _agreement(ax: Axes, arms: dict[str, list[dict[str, Any]]], members: Sequence[Record], k: int) -> None:
    words = names(members[0], euclidean=False)
    at = np.arange(len(words))
    for arm, seeds in arms.items():
        colour, marker, line = ARMS[arm]
        found = [interval([layers[word][f"k = {k}"] for layers in seeds]) for word in words]
        ax.plot(at, [i.mean for i in found], line, color=colour, marker=marker, ms=5, label=arm, zorder=3)
        ax.fill_between(at, [i.low for i in found], [i.high for i in found], color=colour, alpha=0.2, lw=0)
    for name, style in (("pixels", ":"), ("outputs", (0, (6, 2)))):
        value = interval([euclid(r, -1, name, k) for r in members])
        ax.axhline(value.mean, color=PALETTE["purple"], ls=style, lw=1.8, label=NAMES[name])
        ax.axhspan(value.low, value.high, color=PALETTE["purple"], alpha=0.12, lw=0)
    ax.set_xticks(at, labels=words, rotation=45, ha="right")
    ax.set_ylim(top=min(1, ax.get_ylim()[1]))


def _layers(record: Record, epoch: int) -> dict[str, Any]:
    return dict(zip(names(record), rows(record, epoch), strict=True))


def _title(dataset: str, network: str, members: Sequence[Record]) -> str:
    permuted = any(r.config["labels"] == "permuted" for r in members)
    plain = TITLES.get(dataset, dataset) + ("" if network == "small_cnn" else f", {network}")
    return plain + (", twins" if permuted else "")


def comparisons(standard: Sequence[Record], labels: Sequence[Record]) -> Figure:
    """The agreement in the last layer of each kind less that of every control, with 95 % intervals over seeds."""
    fig, axes = plt.subplots(1, len(KS), figsize=(10.2, 4.2), sharey=True)
    where: list[tuple[str, str, str]] = []
    for ax, k in zip(axes, KS, strict=True):
        found = {kind: advantages(standard, labels, kind, k) for kind in KINDS}
        keys = [key for control in CONTROLS for key in found["ReLU"] if key[0] == control]
        where = where or keys
        for kind, shift, colour, marker in (
            ("ReLU", -0.14, PALETTE["blue"], "o"),
            ("pool", 0.14, PALETTE["orange"], "s"),
        ):
            here = [(i, found[kind][key]) for i, key in enumerate(keys) if key in found[kind]]
            _forest(ax, [i + shift for i, _ in here], [value for _, value in here], colour, marker, f"last {kind}")
        ax.axvline(0, color="#444444", lw=1)
        ax.set(xlabel="percentage points", title=f"k = {k}")
    axes[0].set_yticks(range(len(where)), labels=[f"less {key[0]} ({_title(key[1], key[2], [])})" for key in where])
    axes[0].invert_yaxis()
    fig.legend(*axes[-1].get_legend_handles_labels(), ncols=2, loc="outside lower center", fontsize="small")
    return fig


def _forest(ax: Axes, at: Sequence[float], found: Sequence[Interval], colour: str, marker: str, label: str) -> None:
    mean = np.array([100 * i.mean for i in found])
    reach = np.array([[100 * (i.mean - i.low) for i in found], [100 * (i.high - i.mean) for i in found]])
    ax.errorbar(mean, at, xerr=reach, fmt=marker, color=colour, ms=5, lw=1.6, capsize=2.5, label=label)


# Distances ------------------------------------------------------------------------------------------------------------


def distances(records: Sequence[Record]) -> Figure:
    """Histograms of the distances within and between classes, layer by layer, before and after training.

    Args:
        records: of one data set and network; their pairs are laid together, the separation has an interval.
    """
    words = names(records[0], euclidean=False)
    counts = np.sum([r.arrays["histograms"] for r in records], 0)
    fig, axes = plt.subplots(2, len(words), figsize=(1.75 * len(words), 4.6), sharex="col", squeeze=False)
    middle = (BINS[1:] + BINS[:-1]) / 2
    for row, (epoch, arm) in enumerate(((0, "untrained"), (-1, "trained"))):
        for column, word in enumerate(words):
            ax, pair = axes[row, column], counts[row, column]
            for values, colour, line in zip(pair, (PALETTE["blue"], PALETTE["vermilion"]), ("-", "--"), strict=True):
                share = values / values.sum()
                ax.plot(middle, share, line, color=colour, lw=1.4)
                ax.fill_between(middle, share, color=colour, alpha=0.2, lw=0)
            both = counts[:, column].sum((0, 1)).cumsum()
            ax.set_xlim(*np.interp([0.002, 0.998], both / both[-1], middle) + np.array([-0.03, 0.03]))
            ax.set(yticks=[], ylim=(0, None))
            value = interval([_layers(r, epoch)[word]["separation"] for r in records])
            ax.set_title(f"{word}\n{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]", fontsize="small")
        axes[row, 0].set_ylabel(arm)
    fig.supxlabel("share of units that differ", fontsize="medium")
    lines = [
        plt.Line2D([], [], color=colour, ls=line, label=label)
        for label, colour, line in (
            ("pairs of one class", PALETTE["blue"], "-"), ("pairs of two classes", PALETTE["vermilion"], "--"),
        )
    ]  # fmt: skip
    fig.legend(handles=lines, ncols=2, loc="outside upper right", fontsize="small")
    return fig


# Tables ---------------------------------------------------------------------------------------------------------------


def agreement_table(standard: Sequence[Record], labels: Sequence[Record]) -> str:
    """Agreement in the first and the last layer of each kind and by the Euclidean distances, as a Markdown table."""
    lines = ["| network | layer | k = 1 | k = 5 | k = 15 |", "|---|---|--:|--:|--:|"]
    for (dataset, network), members in groups(standard).items():
        for arm, epoch in (("trained", -1), ("untrained", 0)):
            lines += _table_rows(f"{_title(dataset, network, members)}, {arm}", members, epoch)
    for (dataset, network), members in groups(labels).items():
        for arm in LABELS:
            here = [r for r in members if r.config["labels"] == arm]
            lines += _table_rows(f"{_title(dataset, network, members)}, {arm} labels", here, -1)
    return "\n".join(lines)


def _table_rows(name: str, members: Sequence[Record], epoch: int) -> list[str]:
    words = names(members[0], euclidean=False)
    chosen = [w for kind in kinds(members[0]) for w in [[x for x in words if x.startswith(kind)][i] for i in (0, -1)]]
    lines = []
    for word in [*chosen, *NAMES.values()]:
        found = [interval([_layers(r, epoch)[word][f"k = {k}"] for r in members]) for k in KS]
        lines.append(
            f"| {name} | {word} | " + " | ".join(f"{i.mean:.1%} ± {i.high - i.mean:.1%}" for i in found) + " |"
        )
        name = ""
    return lines


def accuracy_table(records: Sequence[Record]) -> str:
    """How well each network had learned, as a Markdown table."""
    lines = ["| data set | labels | samples | training accuracy | test accuracy |", "|---|---|--:|--:|--:|"]
    for record in records:
        asked, found = record.config, record.metrics
        about = f"{_title(asked['dataset'], asked['network'], [])}, seed {asked['seed']} | {asked['labels']}"
        learned = (
            "diverged | |"
            if found["diverged"]
            else f"{found['training accuracy']:.1%} | {found['test accuracy']:.1%} |"
        )
        lines.append(f"| {about} | {asked['samples'] or 'all'} | {learned}")
    return "\n".join(lines)


def metric_table(records: Sequence[Record]) -> str:
    """Violations and disagreements by kind of network, summed over seeds, as a Markdown table."""
    lines = [
        "| network | pairs | triples | violations | at distance 0 | against polygons | other cell, same map |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in [net["network"] for net in records[0].metrics["networks"]]:
        nets = [net for record in records for net in record.metrics["networks"] if net["network"] == name]

        def total(*keys: str, nets: list[dict[str, Any]] = nets) -> int:
            return sum(net[key] for net in nets for key in keys)

        lines.append(
            f"| {name} | {total('pairs'):,} | {total('triples'):,} "
            f"| {total('not zero to itself', 'not symmetric', 'triangle')} | {total('pairs at distance 0'):,} "
            f"| {total('distance 0, other polygon', 'distance above 0, same polygon')} "
            f"| {total('distance above 0, same map'):,} |"
        )
    return "\n".join(lines)


def speed_table(records: Sequence[Record]) -> str:
    """Seconds of each way to find the nearest codes, median and range over repeats, as a Markdown table."""
    asked, found = records[0].config, records[0].metrics
    lines = [
        f"| {asked['queries']:,} codes against {asked['images']:,}, {asked['units']:,} units | encoding (s) "
        "| search (s) | ratio | other neighbours |",
        "|---|--:|--:|--:|--:|",
    ]
    ours = np.median(found["rows"][0]["search seconds"])
    for row in found["rows"]:
        lines.append(
            f"| {row['way']} | {_range(row['encoding seconds'])} | {_range(row['search seconds'])} "
            f"| {np.median(row['search seconds']) / ours:.1f} | {row['other neighbours']} |"
        )
    floor = found["floor seconds"]
    lines.append(f"| floor: packed codes read and written once | | {_range(floor)} | {np.median(floor) / ours:.2g} | |")
    return "\n".join(lines)


def _range(seconds: Sequence[float]) -> str:
    return f"{np.median(seconds):.2g} ({min(seconds):.2g} to {max(seconds):.2g})"
