"""Figures of chapter 04 that its notebook does not draw itself: templates, and how they separate classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from maso_book.ch04.airplane import PICTURES
from maso_book.ch04.verdicts import data_name, named, trained_on_test, way, with_way
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.shared.names import DATASETS, NETWORKS
from maso_book.style import PALETTE
from maso_book.tidy import arms, paired

if TYPE_CHECKING:
    import pandas as pd
    import seaborn as sns

TRUE, FALSE, BIAS, CONTROL = PALETTE["blue"], PALETTE["vermilion"], PALETTE["orange"], PALETTE["black"]
PARTS = {
    ("outputs", "any"): "whole output",
    ("bias", "black"): "$b[x]_c$ from black",
    ("bias", "mean image"): "from the mean image",
    ("bias", "grey"): "from grey",
    ("output bias", "any"): "bias of the last layer",
}
"""Place and origin of 04-prior → what the figure of slopes calls that part of the output."""
WAYS = ("plain", "noise", "adversarial")
CALIBRATED = "BN calibrated"
COLUMNS = (
    ("trained plainly", "plain", "templates"),
    ("with noise", "noise", "templates"),
    ("adversarially", "adversarial", "templates"),
    ("plainly, SmoothGrad", "plain", "averaged"),
)
"""The columns of `hero`: what they are called, how the network was trained, and which templates are shown."""
KINDS = {"Linear": "dense", "BatchNorm2d": "BN", "Conv2d": "conv"}


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


def place_of(record: Record, label: int) -> int:
    """Where the arrays of a record of 04-pictures have the picture of this class."""
    return record.arrays["labels"].tolist().index(label)


def bank(record: Record, shown: int) -> Figure:
    """One picture, the templates of all classes for it, and its inner products and biases.

    Args:
        record: of 04-pictures.
        shown: the class whose first test image is shown.
    """
    names, at = CLASSES[record.config["dataset"]], place_of(record, shown)
    inner, bias = record.arrays["inner"][at], record.arrays["bias"][at]
    columns = (len(names) + 1) // 2
    fig = plt.figure(figsize=(9.6, 6.4), layout=ConstrainedLayoutEngine(w_pad=0.15))  # room for the minus signs
    grid = fig.add_gridspec(3, columns + 2, height_ratios=(1, 1, 1.25))

    picture(fig.add_subplot(grid[:2, :2]), record.arrays["images"][at], f"the picture: {names[shown]}")
    for c, name in enumerate(names):
        ax = fig.add_subplot(grid[c // columns, 2 + c % columns])
        colour = TRUE if c == shown else "black"
        picture(ax, record.arrays["templates"][at, c], f"{name}\n{inner[c]:+.1f}", colour)

    bars = parts(fig.add_subplot(grid[2, :]), inner, bias, names=names, true=shown)
    fig.legend(*bars.get_legend_handles_labels(), ncols=4, loc="outside lower center", fontsize="small")
    return fig


def parts(ax: Axes, inner: np.ndarray, bias: np.ndarray, *, names: Sequence[str], true: int) -> Axes:
    """Inner products and biases as bars, (C,) each, and their sums, the outputs, for one picture of class `true`."""
    at = np.arange(len(names))
    of_true = at == true
    ax.bar(at[of_true] - 0.2, inner[of_true], 0.38, color=TRUE, label="inner product, true class")
    ax.bar(at[~of_true] - 0.2, inner[~of_true], 0.38, color=FALSE, label="inner product, other class")
    ax.bar(at + 0.2, bias, 0.38, color=BIAS, hatch="///", edgecolor="white", label="bias")
    ax.plot(at, inner + bias, "D", color=CONTROL, ms=5, label="output: their sum")
    ax.axhline(0, color=CONTROL, lw=0.8)
    ax.set_xticks(at, labels=names, rotation=20)
    ax.set_title(f"the network says: {names[int((inner + bias).argmax())]}")
    return ax


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
            at = place_of(record, c)
            outputs = arrays["inner"][at] + arrays["bias"][at]
            rival = int(np.where(np.arange(len(names)) == c, -np.inf, outputs).argmax())
            shown = (
                arrays["images"][at], arrays["mean"][c], arrays["lda"][c], arrays["templates"][at, c],
                arrays["templates"][at, rival],
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
    heads = ["picture", *cascade([record]).stage_name.unique()]
    fig, axes = plt.subplots(len(images), len(heads), figsize=(1.05 * len(heads), 1.12 * len(images) + 0.4))
    for i, row in enumerate(axes):
        for ax, head, image in zip(row, heads, [images[i], *templates[:, i]], strict=True):
            picture(ax, image, head if i == 0 else "")
    return fig


def hero(records: Sequence[Record], shown: int = 0) -> Figure:
    """One picture and its templates of three classes (rows), by how the network was trained (columns).

    Args:
        records: of 04-airplane; those with pictures are shown.
        shown: which of the three pictures, 0 the airplane, 1 the ship, 2 the dog.
    """
    with_pictures = [record for record in records if "templates" in record.arrays]
    by_way: dict[str, dict[str, Record]] = {}
    for record in with_pictures:
        by_way.setdefault(NETWORKS[record.config["network"]], {}).setdefault(way(record.config), record)
    names = [CLASSES[with_pictures[0].config["dataset"]][c] for c in PICTURES]
    shown_ways = [each for each in COLUMNS if any(each[1] in of for of in by_way.values())]
    rows = [(architecture, j) for architecture in by_way for j in range(len(names))]
    widths = [1.5, *[1.0] * len(shown_ways)]
    fig = plt.figure(figsize=(1.6 * sum(widths), 1.6 * len(rows)), layout="constrained")
    grid = fig.add_gridspec(len(rows), len(widths), width_ratios=widths)
    image = with_pictures[0].arrays["images"][shown]
    picture(fig.add_subplot(grid[: len(names), 0]), image, f"the picture: {names[shown]}")
    for i, (architecture, j) in enumerate(rows):
        for column, (label, kind, array) in enumerate(shown_ways, 1):
            ax = fig.add_subplot(grid[i, column])
            picture(ax, by_way[architecture][kind].arrays[array][shown, j], label if i == 0 else "")
            if column == 1:
                name = names[j] if len(by_way) == 1 else f"{architecture}: {names[j]}"
                ax.set_ylabel(name, fontsize="small", color=TRUE if j == shown else "black")
    return fig


# Statistics -----------------------------------------------------------------------------------------------------------


def legend_below(grid: sns.FacetGrid, columns: int) -> sns.FacetGrid:
    """The grid in the book's layout, its legend below it in so many columns."""
    import seaborn as sns

    grid.figure.set_layout_engine("constrained")
    sns.move_legend(grid, "outside lower center", ncols=columns, title=None)
    return grid


def shares(records: Sequence[Record]) -> pd.DataFrame:
    """The match's share of the margin by origin: the table `margin` of 04-templates, in the rows of `_in_rows`."""
    return _in_rows(named(records, "margin"))


def alone(records: Sequence[Record]) -> pd.DataFrame:
    """Accuracies of the outputs and of their two parts on test images, in the rows of `_in_rows`.

    Returns:
        Columns `networks`, `seed`, `accuracy` and `decides`: whether the whole output, the match or the bias does.
    """
    import pandas as pd

    parts = {"inner": "match alone", "bias": "bias alone"}
    deciding = named(records, "deciding")
    tables = [
        trained_on_test(named(records, "evaluation")).assign(decides="whole output"),
        deciding[deciding.scores.isin(parts)].assign(decides=deciding.scores.map(parts)),
    ]
    return _in_rows(pd.concat(tables, ignore_index=True))


def _in_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Without networks whose bias is 0 by a theorem; one data set after the other, names without sizes in brackets."""
    chosen = table.query("bn or bias")
    kept = chosen.assign(networks=chosen.networks.str.replace(r" \(.*\)", "", regex=True))
    return kept.sort_values("dataset", key=lambda names: names.map(list(DATASETS).index), kind="stable")


def likeness(records: Sequence[Record]) -> pd.DataFrame:
    """The correlations of 04-templates on test images, networks with BatchNorm and bias, that claim 04.3 compares.

    Returns:
        The rows of the table `likeness` after training, of the others and before training (BatchNorm calibrated) only
        those with the own image or mean; a column `compared` has in words whose templates are compared with whose.
    """
    table = named(records, "likeness").query("bn and bias and measure == 'correlation'")
    of_trained = (table.epoch == table.epochs) & ((table.source == "own") | (table.templates == "true class"))
    table = table[of_trained | (table.state == "calibrated") & (table.source == "own")]
    whose = {
        "own": "",
        "same class": ", another image of the class",
        "another class": ", image or mean of another class",
    }
    when = np.where(table.state == "trained", "", ", untrained")
    return table.assign(compared=table.templates + table.source.map(whose) + when)


def likeness_and_price(records: Sequence[Record]) -> pd.DataFrame:
    """Likeness and accuracy of each network of 04-airplane, one row for test images as they are, one for moved ones.

    Returns:
        Columns `architecture`, `trained`, `seed`, `similarity` of the true class's template with its picture, `on`
        which images `accuracy` is.
    """
    likeness, robustness = (with_way(named(records, of)) for of in ("likeness", "robustness"))
    own = likeness.query(
        "state == 'trained' and not averaged and measure == 'correlation' and templates == 'true class' "
        "and target == 'image' and source == 'own'"
    ).set_index("record")
    chosen = robustness[robustness.radius.isin([0.0, 0.5])]
    return chosen.assign(
        similarity=chosen.record.map(own.similarity),
        on=chosen.radius.map({0.0: "images as they are", 0.5: "images moved by up to ½"}),
    ).rename(columns={"way": "trained", "robust_accuracy": "accuracy"})


def cascade(records: Sequence[Record]) -> pd.DataFrame:
    """The table `cascade` of 04-sanity with a column `stage_name`: "trained" to "another seed".

    The trained network is added as stage 0: its templates have a rank correlation of 1 with themselves.
    """
    import pandas as pd

    table = named(records, "cascade")
    start = table[table.stage == 1].assign(stage=0, rank_correlation=1.0)
    whole = pd.concat([start, table], ignore_index=True)
    names = {0: "trained"} | _stage_names(table)
    ends = {"calibrated": CALIBRATED, "another seed": "another seed"}
    return whole.assign(stage_name=[ends.get(row.changed) or names[row.stage] for row in whole.itertuples()])


def spaced(stages: Sequence[str]) -> list[str]:
    """The stages of `cascade` with an empty place before each of those that are no step of the cascade."""
    ends = [stage for stage in stages if stage in (CALIBRATED, "another seed")]
    return [stage for stage in stages if stage not in ends] + [
        place for number, stage in enumerate(ends, 1) for place in (" " * number, stage)
    ]


def _stage_names(table: pd.DataFrame) -> dict[int, str]:
    """Stage → kind of the layer randomised there, numbered from the input: all from there to the output is random."""
    kinds = table[table.changed == "randomised"].drop_duplicates("stage").kind.replace(KINDS).tolist()
    numbered = {n: f"{kind} {kinds[n - 1 :].count(kind)}" for n, kind in enumerate(kinds, 1)}
    return {n: f"+ {kinds[n - 1] if kinds.count(kinds[n - 1]) == 1 else name}" for n, name in numbered.items()}


def histograms(records: Sequence[Record]) -> Figure:
    """Inner products with the true and with false classes before training (calibrated) and after it, by group.

    Those of the first test images; what stands above a panel is of all of them.
    """
    table = named(records, "evaluation").query("split == 'test'")
    at = {"before": table[table.state == "calibrated"], "after": table[table.epoch == table.epochs]}
    groups = at["before"].networks.unique()
    fig, axes = plt.subplots(2, len(groups), squeeze=False)
    fig.set_size_inches(2.2 + 2.4 * axes.shape[1], 4.8)
    for column, name in zip(axes.T, groups, strict=True):
        for ax, (when, of) in zip(column, at.items(), strict=True):
            rows = of[of.networks == name]
            members = [record for record in records if record.hash in set(rows.record)]
            inner = {kind: np.concatenate([r.arrays[f"{kind}_{when}"] for r in members]) for kind in ("true", "false")}
            separation(ax, inner["true"], inner["false"])
            judged = f"area {rows.auc.mean():.2f}, $p$ ≤ {rows.dip_p.max():.2g}"
            ax.set_title(f"{name}, {when}\n{judged}", fontsize="small")
        column[1].set_xlabel("$\\langle A[x]_c, x\\rangle$")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return fig


def separation(ax: Axes, true: np.ndarray, false: np.ndarray) -> Axes:
    """Histograms of inner products with the true and with false classes; the outermost thousandths are cut off."""
    low, high = np.quantile(np.concatenate([true, false]), (0.001, 0.999))
    bins = np.linspace(low, high, 61).tolist()
    ax.hist(true, bins, color=TRUE, alpha=0.55, density=True, label="true class")
    ax.hist(false, bins, histtype="step", color=FALSE, lw=1.8, density=True, label="false class")
    ax.set(yticks=[])
    return ax


def prior(axes: Sequence[Axes], records: Sequence[Record]) -> Sequence[Axes]:
    """Mean biases of skewed less balanced networks against the log prior, with the mean slope; a panel a group."""
    table = named(records, "classes")
    for ax, (name, rows) in zip(axes, arms(table, "networks"), strict=True):
        slopes = []
        for (_, of_seed), marker in zip(arms(rows, "seed"), itertools.cycle("osD^v"), strict=False):
            x = of_seed.query("prior == 'skewed'").log_prior.to_numpy()
            y = paired(of_seed, "mean", by="prior", first="skewed", second="balanced", on="label").to_numpy()
            ax.plot(x, y - y.mean(), marker, color=BIAS, mec=CONTROL, mew=0.4, ms=5)
            slopes.append(np.polyfit(x, y, 1)[0])

        ends, middle = np.array(ax.get_xlim()), rows.log_prior.mean()
        ax.plot(ends, np.mean(slopes) * (ends - middle), color=CONTROL, label="mean slope")
        ax.plot(ends, ends - middle, color="#888888", ls="--", lw=1.2, label="slope 1")
        ax.set(xlabel="log prior of the class", title=name, xlim=ends)
    axes[0].set_ylabel("mean bias, skewed − balanced")
    axes[0].legend(fontsize="small")
    return axes
