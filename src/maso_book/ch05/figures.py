"""Figures of chapter 05: the free optimum, templates becoming pictures, sign patterns and collinearity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from maso.matched import by_truth
from maso_book.ch05.verdicts import LABELS, TOLERANCE, arms, by_width, epochs, gap, gap_after, row
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.style import PALETTE

COLOURS = {"true": PALETTE["blue"], "permuted": PALETTE["vermilion"]}
MARKERS = {"true": "o", "permuted": "s"}

# Free templates -------------------------------------------------------------------------------------------------------


def optimum(records: Sequence[Record], classes: int = 10) -> Figure:
    """The optimal multiples of x/‖x‖ for both kinds of budget (K = 1), and the errors of all problems.

    Args:
        records: of 05-optimum.
        classes: of the left panel.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), width_ratios=(1.2, 1))
    total = [math.sqrt((classes - 1) / classes)] + [-1 / math.sqrt(classes * (classes - 1))] * (classes - 1)
    each = [1.0] + [-1.0] * (classes - 1)
    c = np.arange(classes)
    left.bar(c - 0.2, total, 0.38, color=PALETTE["blue"], label="$\\sum_c\\|A_c\\|^2 \\leq K$")
    left.bar(
        c + 0.2, each, 0.38, color=PALETTE["orange"], hatch="//", ec="white", label="$\\|A_c\\|^2 \\leq K$ for each"
    )
    left.axhline(0, color=PALETTE["black"], lw=0.8)
    left.set_xticks(c, labels=["true"] + [""] * (classes - 1))
    left.set(
        xlabel="class", ylabel="template / ($\\sqrt{K}\\,x/\\|x\\|$)", title=f"optimal templates, {classes} classes"
    )
    left.grid(axis="x", visible=False)
    left.legend()
    bins = np.arange(-17, -5, 0.5)
    for kind, colour, style in (("total", PALETTE["blue"], "stepfilled"), ("per class", PALETTE["orange"], "step")):
        errors = np.concatenate([a for r in records for name, a in r.arrays.items() if name.startswith(kind)])
        name = f"budget {'in total' if kind == 'total' else kind}"
        right.hist(np.log10(errors.clip(min=1e-17)), bins, histtype=style, color=colour, lw=2, label=name)  # type: ignore[arg-type]
    right.axvline(math.log10(TOLERANCE), color=PALETTE["black"], ls="--", lw=1.2)
    right.annotate("criterion", (math.log10(TOLERANCE), 0.97), (-4, 0), xycoords=("data", "axes fraction"),
                   textcoords="offset points", ha="right", va="top")  # fmt: skip
    right.set_xticks(range(-16, -5, 2), labels=[f"$10^{{{e}}}$" for e in range(-16, -5, 2)])
    right.set(xlabel="‖optimiser − closed form‖ / ‖closed form‖", ylabel="problems", title="errors of the templates")
    right.legend(loc="upper center", fontsize="small")
    return fig


def growth(records: Sequence[Record]) -> Figure:
    """Norm and loss along the gradient flow without a budget, one seed for each number of classes, with the theory."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.9))
    colours = (PALETTE["blue"], PALETTE["orange"])
    for record, colour in zip([r for r in records if r.config["seed"] == 0], colours, strict=False):
        C, t = record.config["classes"], record.arrays["times"][1:]
        for i, (norm, loss) in enumerate(zip(record.arrays["norm"], record.arrays["loss"], strict=True)):
            look = {
                "color": colour,
                "lw": 2.6 if i == 0 else 1.0,
                "label": f"{C} classes, from zero" if i == 0 else None,
            }
            left.plot(t, norm[1:], **look)
            right.plot(t, loss[1:], **look)
        late = t >= 100
        theory = {"color": PALETTE["black"], "lw": 1.2, "ls": ":", "zorder": 5}
        left.plot(t[late], math.sqrt((C - 1) / C) * np.log(C * t[late]), **theory)
        right.plot(t[late], (C - 1) / C / t[late], **theory)
    left.plot([], [], color=PALETTE["black"], ls=":", lw=1.2, label="theory, from zero")
    left.set(xscale="log", xlabel="time $t$", ylabel="norm of all templates", title="the norm grows like log t")
    right.set(xscale="log", yscale="log", xlabel="time $t$", ylabel="cross-entropy", title="the loss falls like 1/t")
    left.legend()
    return fig


# Pictures -------------------------------------------------------------------------------------------------------------


def strips(records: Sequence[Record], network: str, images: int = 4) -> Figure:
    """Training images with the template of their class after some epochs, one row for each image and kind of labels.

    Args:
        records: of 05-templates; those of the first seed are drawn.
        network: whose templates.
        images: the first so many training images.
    """
    drawn = {labels: arms(records)[network, labels][0] for labels in LABELS}
    steps = epochs(drawn["true"])
    count = min(images, len(drawn["true"].arrays["images"]))
    n, names = len(steps), CLASSES[drawn["true"].config["dataset"]]
    size = (1.0 * (2 * n + 1) + 0.7, 1.15 * count + 0.6)
    fig, axes = plt.subplots(count, 2 * n + 1, figsize=size, squeeze=False, layout="none")
    fig.subplots_adjust(0.04, 0.3 / size[1], 0.96, 1 - 0.55 / size[1], wspace=0.08, hspace=0.22)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    for i, line in enumerate(axes):
        _image(line[0], drawn["true"].arrays["images"][i])
        line[0].set_ylabel(names[drawn["true"].arrays["labels"][i]], fontsize="small")
        for labels, places in zip(LABELS, (line[1 : n + 1], line[n + 1 :]), strict=True):
            for j, ax in enumerate(places):
                _image(ax, drawn[labels].arrays["templates"][i, j])
                ax.set_xlabel(f"{drawn[labels].arrays['cosines'][i, j]:+.2f}", fontsize="small", labelpad=2)
                if i == 0:
                    ax.set_title(str(steps[j]), fontsize="small", loc="center")
        line[-1].yaxis.set_label_position("right")
        line[-1].set_ylabel(f"as {names[drawn['permuted'].arrays['labels'][i]]}", fontsize="small")
        for ax in line[n + 1 :]:  # a space between the two kinds of labels
            place = ax.get_position()
            ax.set_position((place.x0 + 0.02, place.y0, place.width, place.height))
    for labels, column in zip(LABELS, (1, n + 1), strict=True):
        place = axes[0, column].get_position()
        fig.text(place.x0, 1 - 0.2 / size[1], f"{labels} labels, after epoch", va="center")
    return fig


def _image(ax: Axes, picture: np.ndarray) -> None:
    """A picture (channels, height, width) uint8."""
    if picture.shape[0] == 1:
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=255)
    else:
        ax.imshow(picture.transpose(1, 2, 0))


# Trained networks -----------------------------------------------------------------------------------------------------


def inner_products(records: Sequence[Record], network: str) -> Figure:
    """Histograms of ⟨A_y, x⟩ and of ⟨A_c, x⟩, c ≠ y, before and after training, over the median size of the former."""
    fig, axes = plt.subplots(2, 2, figsize=(9.2, 4.6), sharex=True, sharey="col")
    bins = np.linspace(-3, 3, 61)
    for line, labels in zip(axes, LABELS, strict=True):
        group = arms(records)[network, labels]
        for ax, i, when in zip(line, (0, 1), ("before training", "after training"), strict=True):
            true, false = [], []
            for record in group:
                own, others = inner_by_truth(record, i)
                size = np.median(np.abs(own))
                true.append(own / size)
                false.append(others / size)
            for values, colour, style, name in (
                (false, PALETTE["black"], "step", "false classes"),
                (true, PALETTE["green"], "stepfilled", "true class"),
            ):
                ax.hist(np.concatenate(values).clip(-3, 3).ravel(), bins, density=True, histtype=style, color=colour,
                        lw=1.5, alpha=0.8, label=name)  # type: ignore[arg-type]  # fmt: skip
            ax.axvline(0, color="#888888", lw=0.8)
            ax.set_title(f"{labels} labels, {when}")
            ax.set_yticks([])
    for ax in axes[1]:
        ax.set_xlabel("$\\langle A_c[x], x\\rangle$ / median of $|\\langle A_y[x], x\\rangle|$")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside upper center")
    return fig


def inner_by_truth(record: Record, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Inner products with the true and with the false classes, before (i = 0) or after (1) training."""
    inner, y = (torch.from_numpy(record.arrays[name]) for name in ("inner", "measured labels"))
    true, false = by_truth(inner[i], y)
    return true.numpy(), false.numpy()


def patterns(records: Sequence[Record], network: str) -> Figure:
    """Share of training images with the sign pattern over the epochs, true and permuted labels."""
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.9), sharey=True)
    looks = [
        ("centred", "train", "pattern", "own template, image less mean", PALETTE["blue"], "o", "-"),
        ("given", "train", "pattern", "own template, image as given", PALETTE["purple"], "s", "-"),
        ("centred", "train", "pattern of the outputs", "outputs (with bias)", PALETTE["black"], "D", ":"),
        ("centred", "train", "pattern of others", "templates of other images", PALETTE["orange"], "^", "--"),
        ("centred", "test", "pattern", "test images, own template", PALETTE["green"], "v", "--"),
    ]
    for ax, labels in zip(axes, LABELS, strict=True):
        group = arms(records)[network, labels]
        for reading, place, key, name, colour, marker, ls in looks:
            values = [interval([row(r, e, place=place, reading=reading)[key] for r in group]) for e in epochs(group[0])]
            _band(ax, epochs(group[0]), values, colour, marker, name, ls)
        _epoch_axis(ax, epochs(group[0]))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.set_title(f"{labels} labels")
    axes[0].set(ylabel="images with the sign pattern", ylim=(0, None))
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside lower center", fontsize="small")
    return fig


def gaps(records: Sequence[Record], widths: Sequence[Record], network: str) -> Figure:
    """The gap of the cosines over the epochs and over the width; dashed: test images."""
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.9))
    for labels in LABELS:
        group = arms(records)[network, labels]
        wide = by_width(widths, labels)
        for place, ls in (("train", "-"), ("test", "--")):
            name = f"{labels} labels, {'training' if place == 'train' else 'test'} images"
            steps = epochs(group[0])
            over = [interval([gap(row(r, e, place=place)) for r in group]) for e in steps]
            _band(axes[0], steps, over, COLOURS[labels], MARKERS[labels], name, ls)
            last = [interval(gap_after(members, place=place)) for members in wide.values()]
            _band(axes[1], list(wide), last, COLOURS[labels], MARKERS[labels], name, ls)
    _epoch_axis(axes[0], epochs(arms(records)[network, "true"][0]))
    names = list(by_width(widths, "true"))
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks(names, labels=map(str, names))
    axes[1].set_xticks([], minor=True)
    about = records[0].config["dataset"], widths[0].config["dataset"]
    axes[0].set(ylabel="$\\cos(A_y[x], x) - \\cos(A_y[x], x')$", title=f"{network}, {about[0]}")
    axes[1].set(xlabel="units in each of two layers", title=f"fully connected, {about[1]}")
    for ax in axes:
        ax.axhline(0, color="#888888", lw=0.8)
    fig.legend(*axes[0].get_legend_handles_labels(), ncols=2, loc="outside lower center", fontsize="small")
    return fig


def _epoch_axis(ax: Axes, steps: Sequence[int]) -> None:
    ax.set_xscale("symlog", linthresh=max(1, steps[1]), linscale=0.5)
    ax.set_xticks(steps, labels=map(str, steps))
    ax.set_xticks([], minor=True)
    ax.set_xlabel("epoch")


def _band(
    ax: Axes, x: Sequence[float], values: Sequence[Interval], colour: str, marker: str, label: str, ls: str
) -> None:
    """Means with their intervals."""
    ax.plot(x, [v.mean for v in values], ls=ls, color=colour, marker=marker, ms=4.5, label=label)
    ax.fill_between(x, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.18, lw=0)


# Tables ---------------------------------------------------------------------------------------------------------------


def readings_table(records: Sequence[Record]) -> str:
    """After training, on training images: every reading of the sign pattern, the biases, the alignment (Markdown)."""
    lines = [
        "| network | labels | images | accuracy | pattern | with bias | other images | $\\langle A_y,x\\rangle>0$ "
        "| $\\langle A_c,x\\rangle<0$ | spread of bias / inner product | alignment |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (network, labels), group in arms(records).items():
        for reading, name in (("given", "as given"), ("centred", "less mean"), ("balanced", "less mean, ΣA = 0")):
            rows = [row(r, epochs(r)[-1], reading=reading) for r in group]
            mean = {key: float(np.mean([found[key] for found in rows])) for key in rows[0] if key not in _NAMES}
            shares = ("accuracy", "pattern", "pattern of the outputs", "pattern of others", "true class positive",
                      "false classes negative")  # fmt: skip
            lines.append(
                f"| {network} | {labels} | {name} | {' | '.join(f'{mean[key]:.1%}' for key in shares)} "
                f"| {mean['spread of the biases'] / mean['spread of the inner products']:.2f} "
                f"| {mean['alignment']:+.3f} |"
            )
    return "\n".join(lines)


_NAMES = ("epoch", "place", "reading")


def gap_table(records: Sequence[Record], widths: Sequence[Record]) -> str:
    """Cosines after training with their own and other images, training and test images, as a Markdown table."""
    lines = [
        "| network | labels | images | accuracy | $\\cos(A_y[x], x)$ | $\\cos(A_y[x], x')$ | gap |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    groups = {(n, labels): group for (n, labels), group in arms(records).items()}
    for labels in LABELS:
        groups |= {(f"width {width}", labels): group for width, group in by_width(widths, labels).items()}
    for (network, labels), group in groups.items():
        for place in ("train", "test"):
            rows = [row(r, epochs(r)[-1], place=place) for r in group]
            accuracy, own, others = (
                np.mean([found[key] for found in rows]) for key in ("accuracy", "cosine", "cosine to others")
            )
            found = interval(gap_after(group, place=place))
            lines.append(
                f"| {network} | {labels} | {place} | {accuracy:.1%} | {own:+.3f} | {others:+.3f} "
                f"| {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}] |"
            )
    return "\n".join(lines)
