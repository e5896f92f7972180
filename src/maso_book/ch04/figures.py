"""Figures of chapter 04: templates, what they look like, how they separate classes; functions that return a figure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from maso_book.ch04.prior import PLACES
from maso_book.ch04.verdicts import data_name, groups, plain, rows, slopes
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.style import PALETTE

TRUE, FALSE, BIAS, CONTROL = PALETTE["blue"], PALETTE["vermilion"], PALETTE["orange"], PALETTE["black"]
PLACE_NAMES = {
    "outputs": "whole output",
    "inner": "inner product",
    "bias": "bias $b[x]_c$",
    "output bias": "bias of the last layer",
}


# Pictures -------------------------------------------------------------------------------------------------------------


def picture(ax: Axes, image: np.ndarray, title: str = "", colour: str = "black") -> None:
    """An image (channels, height, width) uint8, or a template int8: zero is grey in colour, white otherwise."""
    if image.dtype == np.int8:
        shown = image.astype(float) / 127
        if len(image) == 3:
            ax.imshow(shown.transpose(1, 2, 0) / 2 + 0.5)
        else:
            ax.imshow(shown[0], cmap="RdBu_r", vmin=-1, vmax=1)
    elif len(image) == 3:
        ax.imshow(image.transpose(1, 2, 0))
    else:
        ax.imshow(image[0], cmap="gray", vmin=0, vmax=255)
    ax.set_title(title, fontsize="small", color=colour, loc="center")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)


def bank(record: Record, shown: int) -> Figure:
    """One picture, the templates of all classes for it, and its inner products and biases.

    Args:
        record: of 04-pictures.
        shown: the class whose first test image is shown.
    """
    names = CLASSES[record.config["dataset"]]
    inner, bias = record.arrays["inner"][shown], record.arrays["bias"][shown]
    winner = int((inner + bias).argmax())
    columns = (len(names) + 1) // 2
    fig = plt.figure(figsize=(9.6, 6.4), layout=ConstrainedLayoutEngine(w_pad=0.15))  # room for the minus signs
    grid = fig.add_gridspec(3, columns + 2, height_ratios=(1, 1, 1.25))
    picture(fig.add_subplot(grid[:2, :2]), record.arrays["images"][shown], f"the picture: {names[shown]}")
    for c, name in enumerate(names):
        ax = fig.add_subplot(grid[c // columns, 2 + c % columns])
        colour = TRUE if c == shown else "black"
        picture(ax, record.arrays["templates"][shown, c], f"{name}\n{inner[c]:+.1f}", colour)
    bars = fig.add_subplot(grid[2, :])
    at = np.arange(len(names))
    colours = [TRUE if c == shown else FALSE for c in at]
    bars.bar(at - 0.2, inner, 0.38, color=colours)
    bars.bar(at + 0.2, bias, 0.38, color=BIAS, hatch="///", edgecolor="white")
    bars.plot(at, inner + bias, "D", color=CONTROL, ms=5)
    bars.axhline(0, color=CONTROL, lw=0.8)
    bars.set_xticks(at, labels=names, rotation=20)
    bars.set_title(f"the network says: {names[winner]}")
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=TRUE, label="inner product, true class"),
        plt.Rectangle((0, 0), 1, 1, color=FALSE, label="inner product, other class"),
        plt.Rectangle((0, 0), 1, 1, facecolor=BIAS, hatch="///", edgecolor="white", label="bias"),
        plt.Line2D([], [], color=CONTROL, marker="D", ls="", ms=5, label="output: their sum"),
    ]
    fig.legend(handles=handles, ncols=4, loc="outside lower center", fontsize="small")
    return fig


def classical(records: Sequence[Record], classes: Sequence[int]) -> Figure:
    """Class means, discriminant filters and templates of the network; one row per data set.

    Args:
        records: of 04-pictures.
        classes: whose first test images are shown, side by side.
    """
    kinds = ("picture", "class mean", "discriminant", "network, true", "network, rival")
    fig, axes = plt.subplots(
        len(records), len(kinds) * len(classes), figsize=(1.15 * len(kinds) * len(classes), 1.55 * len(records)),
        squeeze=False,
    )  # fmt: skip
    for record, row in zip(records, axes, strict=True):
        names, arrays = CLASSES[record.config["dataset"]], record.arrays
        for block, c in enumerate(classes):
            outputs = arrays["inner"][c] + arrays["bias"][c]
            rival = int(np.where(np.arange(len(names)) == c, -np.inf, outputs).argmax())
            shown = (
                arrays["images"][c], arrays["mean"][c], arrays["lda"][c], arrays["templates"][c, c],
                arrays["templates"][c, rival],
            )  # fmt: skip
            for i, (kind, image) in enumerate(zip(kinds, shown, strict=True)):
                label = {0: names[c], 4: names[rival]}.get(i, "")
                head = f"{kind}\n" if record is records[0] else ""
                picture(row[block * len(kinds) + i], image, head + label)
        row[0].set_ylabel(data_name(record.config), fontsize="small")
    return fig


def strip(record: Record) -> Figure:
    """Templates of the true class while the network is randomised from the top; a record of 04-sanity."""
    images, templates = record.arrays["images"], record.arrays["strip"]
    heads = ["picture", "trained", *_stage_names(record), "another seed"]
    fig, axes = plt.subplots(len(images), len(heads), figsize=(1.05 * len(heads), 1.12 * len(images) + 0.4))
    for i, row in enumerate(axes):
        shown = [images[i], *templates[:, i]]
        for ax, head, image in zip(row, heads, shown, strict=True):
            picture(ax, image, head if i == 0 else "")
    return fig


def _stage_names(record: Record) -> list[str]:
    """The kind of each randomised layer, numbered from the input: the network is random from there to the output."""
    kinds = [stage.partition("(")[2].rstrip(")") for stage in record.metrics["stages"]]
    short = {"Linear": "dense", "BatchNorm2d": "BN", "Conv2d": "conv"}
    found = []
    for i, kind in enumerate(kinds):
        name, number = short.get(kind, kind), kinds[i:].count(kind)
        found.append(name if kinds.count(kind) == 1 else f"{name} {number}")
    return [f"+ {name}" for name in found]


# Statistics -----------------------------------------------------------------------------------------------------------


def _dot(
    ax: Axes, found: Interval, y: float, colour: str, marker: str, label: str | None, *, hollow: bool = False
) -> None:
    ax.plot([found.low, found.high], [y, y], color=colour, lw=1.6)
    ax.plot(found.mean, y, marker, color=colour, mfc="white" if hollow else colour, ms=6, label=label)


def _row(record: Record, before: bool) -> dict[str, float]:
    """The row of the test images before training, or after it."""
    by_epoch = rows(record)
    return by_epoch[0 if before else max(by_epoch)]


def likeness(records: Sequence[Record]) -> Figure:
    """Correlations of templates with the picture and with the class mean, beside their controls, by group."""
    kinds = [  # name, column of the row after training or before it, colour, marker, hollow
        ("true class", "own, {}", False, TRUE, "o", False),
        ("true class, another image of the class", "own, same class", False, TRUE, "o", True),
        ("true class, image or mean of another class", "own, {} elsewhere", False, PALETTE["sky"], "s", False),
        ("true class, untrained", "own, {}", True, CONTROL, "x", False),
        ("other classes", "others, {}", False, FALSE, "D", False),
        ("other classes, untrained", "others, {}", True, PALETTE["purple"], "+", False),
    ]
    found = plain(records)
    fig, axes = plt.subplots(1, 2, figsize=(9.8, 1.5 + 0.95 * len(found)), sharey=True)
    for ax, image, elsewhere in zip(axes, ("image", "class mean"), ("elsewhere", "mean elsewhere"), strict=True):
        for row, members in enumerate(found.values()):
            for i, (label, column, before, colour, marker, hollow) in enumerate(kinds):
                if column == "own, same class" and image != "image":
                    continue
                key = f"own, {elsewhere}" if "elsewhere" in column else column.format(image)
                value = interval([_row(record, before)[key] for record in members])
                _dot(ax, value, row + (i - 2.5) * 0.12, colour, marker, label if row == 0 else None, hollow=hollow)
        ax.axvline(0, color="#888888", lw=0.9)
        ax.set(xlabel="correlation over pixels", title=f"with the {'picture' if image == 'image' else image}")
        ax.set_yticks(range(len(found)), labels=list(found))
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="outside lower center", fontsize="small")
    return fig


def followed(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The groups with BatchNorm and bias that were looked at during training."""
    return {name: members for name, members in plain(records).items() if len(rows(members[0])) > 2}


def histograms(records: Sequence[Record]) -> Figure:
    """Inner products with the true and with false classes, test images, before training and after it, by group."""
    found = followed(records)
    fig, axes = plt.subplots(2, len(found), figsize=(2.2 + 2.4 * len(found), 4.8), squeeze=False)
    for column, (name, members) in zip(axes.T, found.items(), strict=True):
        for ax, when in zip(column, ("0", "last"), strict=True):
            true, false = (np.concatenate([r.arrays[f"{kind} {when}"] for r in members]) for kind in ("true", "false"))
            low, high = np.quantile(np.concatenate([true, false]), (0.001, 0.999))
            bins = np.linspace(low, high, 61)
            ax.hist(true, bins, color=TRUE, alpha=0.55, density=True, label="true class")
            ax.hist(false, bins, histtype="step", color=FALSE, lw=1.8, density=True, label="false class")
            last = [_row(record, when == "0") for record in members]
            area, p = interval([row["auc"] for row in last]).mean, max(row["dip p"] for row in last)
            ax.set_title(f"{'before' if when == '0' else 'after'}: area {area:.2f}, $p$ ≤ {p:.2g}", fontsize="small")
            ax.set(yticks=[])
        column[1].set_xlabel("$\\langle A[x]_c, x\\rangle$")
        column[0].annotate(name, (0.5, 1.22), xycoords="axes fraction", ha="center", fontsize="small")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return fig


def modes(records: Sequence[Record]) -> Figure:
    """Area under the ROC curve and Hartigan's dip over the epochs, training and test images."""
    found = followed(records)
    fig, axes = plt.subplots(
        2,
        len(found),
        figsize=(2.4 + 2.6 * len(found), 5.2),
        sharex="col",
        sharey="row",
        squeeze=False,
    )
    for column, (name, members) in zip(axes.T, found.items(), strict=True):
        epochs = sorted(rows(members[0]))
        parts = (("train", "training images", TRUE, "o", "-"), ("test", "test images", BIAS, "s", "--"))
        for ax, key in zip(column, ("auc", "dip"), strict=True):
            for part, label, colour, marker, line in parts:
                band = [interval([rows(record, part)[epoch][key] for record in members]) for epoch in epochs]
                ax.plot(epochs, [i.mean for i in band], line, color=colour, marker=marker, ms=4, label=label)
                ax.fill_between(epochs, [i.low for i in band], [i.high for i in band], color=colour, alpha=0.2, lw=0)
        column[0].set_title(name, fontsize="medium")
        column[1].set_xlabel("epoch")
    axes[0, 0].set_ylabel("area under ROC curve")
    axes[1, 0].set_ylabel("Hartigan's dip")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return fig


def cascade(records: Sequence[Record]) -> Figure:
    """Rank correlation with the trained template while the network is randomised from the top, by group."""
    found = groups(records)
    fig, axes = plt.subplots(1, len(found), figsize=(2.4 + 3.6 * len(found), 4.2), sharey=True, squeeze=False)
    for ax, (name, members) in zip(axes[0], found.items(), strict=True):
        stages = _stage_names(members[0])
        at = range(len(stages) + 2)
        for kind, colour, marker, line in (("signed", TRUE, "o", "-"), ("magnitude", BIAS, "s", "--")):
            band = [interval([r.metrics[kind][i] for r in members]) for i in range(len(stages))]
            other = interval([r.metrics[f"{kind}, other seed"] for r in members])
            label = "signed" if kind == "signed" else "magnitudes"
            ax.plot(at[:-1], [1, *(i.mean for i in band)], line, color=colour, marker=marker, ms=5, label=label)
            ax.fill_between(at[1:-1], [i.low for i in band], [i.high for i in band], color=colour, alpha=0.2, lw=0)
            ax.errorbar(at[-1], other.mean, [[other.mean - other.low], [other.high - other.mean]], color=colour,
                        marker=marker, capsize=3)  # fmt: skip
        ax.axvline(len(stages) + 0.5, color="#888888", lw=0.8, ls=":")
        ax.set_xticks(at, labels=["trained", *stages, "another seed"], rotation=45, ha="right")
        ax.set_title(name, fontsize="medium")
    axes[0, 0].set_ylabel("rank correlation")
    axes[0, 0].legend()
    return fig


def prior(records: Sequence[Record]) -> Figure:
    """Mean biases of skewed less balanced networks against the log prior; slopes of every part of the output."""
    found = groups(records)
    fig, axes = plt.subplots(1, len(found) + 1, figsize=(2.6 + 3.2 * len(found), 4.2))
    for ax, (name, members) in zip(axes, found.items(), strict=False):
        for record, marker in zip(members, itertools.cycle("osD^v"), strict=False):
            x = record.arrays["log prior"]
            y = record.arrays["bias, skewed"] - record.arrays["bias, balanced"]
            ax.plot(x, y - y.mean(), marker, color=BIAS, mec=CONTROL, mew=0.4, ms=5)
        ends = np.array(ax.get_xlim())
        middle = np.mean([record.arrays["log prior"].mean() for record in members])
        ax.plot(ends, slopes(members, "bias").mean * (ends - middle), color=CONTROL, label="mean slope")
        ax.plot(ends, ends - middle, color="#888888", ls="--", lw=1.2, label="slope 1")
        ax.set(xlabel="log prior of the class", title=name, xlim=ends)
        ax.title.set_fontsize("medium")
    axes[0].set_ylabel("mean bias, skewed − balanced")
    axes[0].legend(fontsize="small")
    last = axes[-1]
    for (name, members), shift, marker, colour in zip(
        found.items(), np.linspace(-0.12, 0.12, len(found)), "osD^v", PALETTE.values(), strict=False
    ):
        for i, place in enumerate(PLACES):
            _dot(last, slopes(members, place), i + float(shift), colour, marker, name if i == 0 else None)
    last.set_yticks(range(len(PLACES)), labels=[PLACE_NAMES[place] for place in PLACES])
    last.invert_yaxis()
    last.axvline(0, color="#888888", lw=0.9)
    last.axvline(1, color="#888888", lw=0.9, ls="--")
    last.set(xlabel="slope")
    fig.legend(*last.get_legend_handles_labels(), ncols=2, loc="outside lower right", fontsize="small")
    return fig
