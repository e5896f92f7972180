"""Figures of chapter 05 that its notebook does not draw itself, and the tables behind those that it does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from maso.matched import by_truth
from maso_book.ch05.memory import ORIGINS, SPLITS, STATES
from maso_book.ch05.optimum import CLOSED_FORMS
from maso_book.ch05.templates import LABELS
from maso_book.ch05.verdicts import TOLERANCE, after_training, named
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.shared.names import NETWORKS
from maso_book.style import PALETTE
from maso_book.tidy import as_table

if TYPE_CHECKING:
    import pandas as pd

# Free templates -------------------------------------------------------------------------------------------------------


def optimal_multiples(ax: Axes, classes: int) -> Axes:
    """The optimal templates as multiples of √K x/‖x‖, for both kinds of budget: bars, the true class first."""
    total = [math.sqrt((classes - 1) / classes)] + [-1 / math.sqrt(classes * (classes - 1))] * (classes - 1)
    per_class = [1.0] + [-1.0] * (classes - 1)
    c = np.arange(classes)
    ax.bar(c - 0.2, total, 0.38, color=PALETTE["blue"], label="$\\sum_c\\|A_c\\|^2 \\leq K$")
    ax.bar(
        c + 0.2,
        per_class,
        0.38,
        color=PALETTE["orange"],
        hatch="//",
        ec="white",
        label="$\\|A_c\\|^2 \\leq K$ for each",
    )

    ax.axhline(0, color=PALETTE["black"], lw=0.8)
    ax.set_xticks(c, labels=["true"] + [""] * (classes - 1))
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="class", ylabel="template / ($\\sqrt{K}\\,x/\\|x\\|$)", title=f"optimal templates, {classes} classes")
    ax.legend()
    return ax


def template_errors(ax: Axes, records: Sequence[Record]) -> Axes:
    """Histograms of the relative errors of all problems of 05-optimum, a kind of budget each, with the criterion."""
    looks = (("in total", PALETTE["blue"], "stepfilled"), ("per class", PALETTE["orange"], "step"))
    errors = np.concatenate([record.arrays["template_errors"] for record in records], axis=2)
    for i, (name, colour, kind) in zip(range(len(CLOSED_FORMS)), looks, strict=True):
        exponents = np.log10(errors[:, i].ravel().clip(min=1e-17))
        ax.hist(exponents, np.arange(-17, -5, 0.5), histtype=kind, color=colour, lw=2, label=f"budget {name}")  # type: ignore[arg-type]

    criterion = math.log10(TOLERANCE)
    ax.axvline(criterion, color=PALETTE["black"], ls="--", lw=1.2)
    ax.annotate("criterion", (criterion, 0.97), (-4, 0), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="right", va="top")  # fmt: skip
    ax.set_xticks(range(-16, -5, 2), labels=[f"$10^{{{e}}}$" for e in range(-16, -5, 2)])
    ax.set(xlabel="‖optimiser − closed form‖ / ‖closed form‖", ylabel="problems", title="errors of the templates")
    ax.legend(loc="upper center", fontsize="small")
    return ax


def flow_from_zero(axes: Sequence[Axes], classes: Iterable[int], times: np.ndarray) -> None:
    """Norm and loss of the flow from zero on an input of length 1, as the theory has them at late times, t ≥ 100.

    Args:
        axes: of the norm and of the loss.
        classes: numbers of classes, a line each.
        times: t, (T,).
    """
    late = times[times >= 100]
    look: dict[str, Any] = {"color": PALETTE["black"], "lw": 1.2, "ls": ":", "zorder": 5}
    for number, C in enumerate(classes):
        label = "_" if number else "theory, from zero"
        axes[0].plot(late, math.sqrt((C - 1) / C) * np.log(C * late), label=label, **look)
        axes[1].plot(late, (C - 1) / C / late, label=label, **look)


# Pictures -------------------------------------------------------------------------------------------------------------


def strips(records: Sequence[Record], images: int = 4) -> Figure:
    """Training images with the template of their class after some epochs, one row for each image and kind of labels.

    Args:
        records: of 05-templates; the first network with each kind of labels that did not diverge is drawn.
        images: the first so many training images.
    """
    drawn = {labels: next(r for r in records if r.config["labels"] == labels and r.arrays) for labels in LABELS}
    cosines = {
        labels: as_table([record], "pictures").pivot(index="picture", columns="epoch", values="cosine")
        for labels, record in drawn.items()
    }
    names = CLASSES[records[0].config["dataset"]]
    epochs = list(cosines["true"].columns)
    count, n = min(images, len(cosines["true"])), len(epochs)

    fig, axes = _strip_axes(count, n)
    for i, line in enumerate(axes):
        true_label, label = (drawn[labels].arrays["labels"][i] for labels in LABELS)
        _image(line[0], drawn["true"].arrays["images"][i])
        line[0].set_ylabel(names[true_label], fontsize="small")
        line[-1].yaxis.set_label_position("right")
        line[-1].set_ylabel(f"as {names[label]}", fontsize="small")

        for labels, strip in zip(LABELS, (line[1 : n + 1], line[n + 1 :]), strict=True):
            for j, ax in enumerate(strip):
                _image(ax, drawn[labels].arrays["templates"][i, j])
                ax.set_xlabel(f"{cosines[labels].iloc[i, j]:+.2f}", fontsize="small", labelpad=2)

    for ax, epoch in zip(axes[0, 1:], epochs * 2, strict=True):
        ax.set_title(str(epoch), fontsize="small", loc="center")
    for labels, column in zip(LABELS, (1, n + 1), strict=True):
        place = axes[0, column].get_position()
        fig.text(place.x0, 1 - 0.2 / fig.get_figheight(), f"{labels} labels, after epoch", va="center")
    return fig


def _strip_axes(count: int, n: int) -> tuple[Figure, np.ndarray]:
    """Bare axes (count, 1 + 2n): an image, n templates, a space, n templates."""
    width, height = 1.0 * (2 * n + 1) + 0.7, 1.15 * count + 0.6
    fig, axes = plt.subplots(count, 2 * n + 1, figsize=(width, height), squeeze=False, layout="none")
    fig.subplots_adjust(0.04, 0.3 / height, 0.96, 1 - 0.55 / height, wspace=0.08, hspace=0.22)
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)

    for ax in axes[:, n + 1 :].ravel():
        place = ax.get_position()
        ax.set_position((place.x0 + 0.02, place.y0, place.width, place.height))
    return fig, axes


def _image(ax: Axes, picture: np.ndarray) -> None:
    """A picture (channels, height, width) uint8."""
    if picture.shape[0] == 1:
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=255)
    else:
        ax.imshow(picture.transpose(1, 2, 0))


# Trained networks -----------------------------------------------------------------------------------------------------


def inner_products(records: Sequence[Record]) -> pd.DataFrame:
    """⟨A_c[x], x⟩ of all training images measured and all classes, over the median of |⟨A_y[x], x⟩| of the network.

    Args:
        records: of 05-templates; networks that diverged are left out.

    Returns:
        Columns `labels`, `training` ("before" or "after"), `of` ("true class" or "false classes") and `product`.
    """
    import pandas as pd

    parts = []
    for record in (record for record in records if record.arrays):
        y = torch.from_numpy(record.arrays["labels"])
        for training, inner in zip(("before", "after"), record.arrays["inner_products"], strict=True):
            true, false = (values.numpy().ravel() for values in by_truth(torch.from_numpy(inner), y))
            about = {"labels": record.config["labels"], "training": training}
            for of, values in (("true class", true), ("false classes", false)):
                parts.append(pd.DataFrame({**about, "of": of, "product": values / np.median(np.abs(true))}))
    return pd.concat(parts, ignore_index=True)


def courses(records: Sequence[Record]) -> pd.DataFrame:
    """The gap while training, the class named by the label: rows of the table `gaps` with the column `images`.

    Args:
        records: of 05-memory or 05-memory-widths.

    Returns:
        The rows of trained networks, and of the calibrated one at epoch 0; `images` says labels and split.
    """
    table = named(records, "gaps").query("named_by == 'label' and state != 'untrained'")
    return table.assign(images=table["labels"] + " labels, " + table["split"])


def negatives(records: Sequence[Record]) -> pd.DataFrame:
    """How many false classes have a negative inner product: training images less their mean, after training.

    Args:
        records: of 05-memory.

    Returns:
        Columns `arm`, `labels`, `seed`, `signs` ("observed" or "independent"), `negative` and `share` of the images.
    """
    import pandas as pd

    place = STATES.index("trained"), SPLITS.index("train"), ORIGINS.index("centred")
    parts = []
    for record in (record for record in records if record.arrays):
        config = record.config
        about = {"arm": NETWORKS[config["network"]], "labels": config["labels"], "seed": config["seed"]}
        for signs, values in zip(("observed", "independent"), record.arrays["negatives"][place], strict=True):
            numbers = np.arange(len(values))
            parts.append(pd.DataFrame({**about, "signs": signs, "negative": numbers, "share": values.astype(float)}))
    return pd.concat(parts, ignore_index=True)


PARTS = {"gap": "gap", "gap_for": "units for the class", "gap_against": "units against it"}
"""The gap and its parts: columns of the table `gaps` → in words."""


def parts(records: Sequence[Record]) -> pd.DataFrame:
    """The gap on training images after training and its two parts, a row each: the columns `part` and `cosine`.

    Args:
        records: of 05-memory-widths.
    """
    table = named(records, "gaps").query("named_by == 'label' and split == 'train'")
    kept = after_training(table)[["arm", "width", "labels", "seed", *PARTS]].rename(columns=PARTS)
    return kept.melt(["arm", "width", "labels", "seed"], var_name="part", value_name="cosine")


_ROOM = 1.7
"""Ratio of two epochs whose labels do not touch."""


def epoch_axis(ax: Axes, epochs: Iterable[int]) -> Axes:
    """Epochs in logarithmic steps, from 0 on, with a tick at the last and at each before that leaves room for it."""
    known = sorted({int(epoch) for epoch in epochs})
    ax.set_xscale("symlog", linthresh=max(1, known[1]), linscale=0.5)
    ticks = known[-1:]
    for epoch in known[-2::-1]:
        if _ROOM * epoch <= ticks[0]:
            ticks.insert(0, epoch)
    return _tick(ax, ticks)


def width_axis(ax: Axes, widths: Iterable[int]) -> Axes:
    """Widths in logarithmic steps, with a tick at each that occurs."""
    ax.set_xscale("log", base=2)
    return _tick(ax, sorted({int(width) for width in widths}))


def _tick(ax: Axes, values: Sequence[int]) -> Axes:
    ax.set_xticks(values, labels=[str(value) for value in values])
    ax.set_xticks([], minor=True)
    return ax


def legend_below(ax: Axes, columns: int) -> None:
    """The legend of an axes, below the whole figure instead."""
    fig = cast(Figure, ax.figure)
    fig.legend(*ax.get_legend_handles_labels(), ncols=columns, loc="outside lower center")
    cast(Legend, ax.get_legend()).remove()
