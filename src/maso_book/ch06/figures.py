"""Figures of chapter 06 that are longer than a cell of its notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from maso_book.ch06.penalised import NONE
from maso_book.ch06.tables import NAMES, title
from maso_book.ch06.verdicts import CONTROL, LEAST, PENALTY
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.style import PALETTE
from maso_book.tidy import arms

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {
    NONE: PALETTE["black"],
    PENALTY: PALETTE["blue"],
    CONTROL: PALETTE["vermilion"],
    "published": PALETTE["purple"],
    "templates": PALETTE["green"],
}
MARKERS = {NONE: "o", PENALTY: "s", CONTROL: "^", "published": "D", "templates": "v"}
PUBLISHED_GAIN = (0.7, 1.5)
"""Gain of mean test accuracy in the authors' plot, CIFAR-10, smallCNN, learning rate 1e-4, the template variant:
68.7 % without, 69.4 to 70.2 % with it, in percentage points."""


def against_strength(ax: Axes, table: pd.DataFrame, penalty: str) -> Axes:
    """Test accuracy against λ as in the paper's figure: every seed a dot, mean, ± one standard deviation, the largest.

    Args:
        ax: where.
        table: of `networks`, trained for as long as the baseline; its networks without penalty stand at λ = 0.
        penalty: the arm.
    """
    rows = table[table["penalty"].isin((NONE, penalty))]
    by_strength = rows.groupby("chosen_strength")["test_accuracy"]
    places = {strength: place for place, strength in enumerate(sorted(by_strength.groups))}
    x = list(places.values())
    mean, spread = by_strength.mean(), by_strength.std().fillna(0)
    colour = COLOURS[penalty]

    ax.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0, label="± one sd")
    ax.plot(x, mean, color=colour, marker=MARKERS[penalty], label="mean")
    ax.plot(x, by_strength.max(), color=colour, ls=":", marker="_", ms=12, label="largest")
    ax.scatter(rows["chosen_strength"].map(places), rows["test_accuracy"], s=12, color=PALETTE["black"], alpha=0.6,
               zorder=3, label="one seed")  # fmt: skip
    ax.axhline(mean[0.0], color=PALETTE["black"], lw=0.8)
    ax.set_xticks(x, labels=[f"{strength:g}" for strength in places])
    ax.set(xlabel="λ", ylabel="test accuracy (%)", title=NAMES[penalty])
    return ax


def published_gain(ax: Axes, baseline: float, label: str = "gain in the authors' plot") -> Axes:
    """Marks on `ax` where a gain as large as in the authors' plot would lead from this accuracy."""
    low, high = PUBLISHED_GAIN
    ax.axhspan(baseline + low, baseline + high, color=PALETTE["orange"], alpha=0.25, lw=0, label=label)
    return ax


def gauge_arrows(ax: Axes, table: pd.DataFrame) -> Axes:
    """Test accuracy against the penalty, a point a network; an arrow from each baseline to the minimum over shifts.

    Args:
        ax: where.
        table: of `chosen`, one case.
    """
    for penalty, rows in arms(table, "penalty"):
        ax.scatter(rows["orthogonality"], rows["test_accuracy"], s=26, color=COLOURS[penalty], marker=MARKERS[penalty],
                   label=NAMES[penalty], zorder=3)  # fmt: skip
    baselines = table[table["penalty"] == NONE]
    look: dict[str, Any] = {"arrowstyle": "->", "color": COLOURS[NONE], "lw": 1.0, "shrinkA": 3, "shrinkB": 0}
    for _, row in baselines.iterrows():
        height = row["test_accuracy"]
        ax.annotate(
            "", (row["gauge_orthogonality"], height), xytext=(row["orthogonality"], height), arrowprops=look
        )  # fmt: skip
    ax.plot(baselines["gauge_orthogonality"], baselines["test_accuracy"], ls="", marker="o", mfc="none",
            color=COLOURS[NONE], label="no penalty, shifted: the same network")  # fmt: skip
    ax.set(xscale="log", xlabel=r"penalty $\sum_{c\neq a}\langle W_c, W_a\rangle^2$", ylabel="test accuracy (%)")
    ax.legend(fontsize="small")
    return ax


def forest(axes: Sequence[Axes], gains: pd.DataFrame) -> None:
    """Paired differences with 95 % intervals, a row for each case and pair of arms.

    Args:
        axes: for test accuracy, generalisation gap and cosine.
        gains: of `gains`.
    """
    pairs = list(arms(gains, "case", "penalty", "against"))
    places = np.arange(len(pairs))[::-1]
    labels = []
    columns = (("accuracy", "06.1", "gain in test accuracy (points)"), ("gap", "06.3", "smaller gap (points)"),
               ("cosine", "06.4", "smaller cosine"))  # fmt: skip
    for place, ((case, penalty, against), rows) in zip(places, pairs, strict=True):
        other = "none" if against == NONE else NAMES[against]
        labels.append(f"{title(case)}: {NAMES[penalty]} less {other} (n = {len(rows)})")
        for ax, (column, _, _) in zip(axes, columns, strict=True):
            found = interval(rows[column])
            filled = penalty == PENALTY
            ax.errorbar(
                found.mean, place, xerr=[[found.mean - found.low], [found.high - found.mean]], color=COLOURS[penalty],
                marker=MARKERS[penalty], mfc=COLOURS[penalty] if filled else "white", capsize=2, lw=1.4,
            )  # fmt: skip
    for ax, (_, claim, label) in zip(axes, columns, strict=True):
        ax.axvspan(-LEAST[claim], LEAST[claim], color=PALETTE["sky"], alpha=0.2, lw=0)
        ax.axvline(0, color=PALETTE["black"], lw=0.8)
        ax.set_yticks(places, labels=labels if ax is axes[0] else [""] * len(places))
        ax.grid(axis="y", visible=False)
        ax.set(xlabel=label, ylim=(-0.7, len(places) - 0.3))
        ax.xaxis.set_major_locator(MaxNLocator(4))


MATRICES = {
    "rows": "rows $W_c$",
    "rows_centred": "rows less their mean",
    "templates": "templates $A[x]_c$",
    "templates_centred": "templates less their mean",
}


def matrices(shown: dict[str, Record]) -> Figure:
    """Cosines between the classes: a line for each network, a column for each of `MATRICES`.

    Args:
        shown: what to write beside a line → a record with arrays.
    """
    fig, axes = plt.subplots(len(shown), len(MATRICES), figsize=(9.6, 0.4 + 2.4 * len(shown)), squeeze=False)
    for ax, words in zip(axes[0], MATRICES.values(), strict=True):
        ax.set_title(words, fontsize="small")
    for line, (name, record) in zip(axes, shown.items(), strict=True):
        for ax, key in zip(line, MATRICES, strict=True):
            cosines = record.arrays[key].astype(float)
            off = cosines[~np.eye(len(cosines), dtype=bool)]
            np.fill_diagonal(cosines, np.nan)
            image = ax.imshow(cosines, cmap="PuOr_r", vmin=-0.6, vmax=0.6)
            ax.grid(visible=False)
            ax.set_xlabel(f"mean |cos| {np.abs(off).mean():.3f}", fontsize="small")
            ax.set(xticks=[], yticks=[])
        names = CLASSES[record.config["dataset"]]
        line[0].set_yticks(range(len(names)), labels=names, fontsize=6)
        line[0].set_ylabel(name)
    fig.colorbar(image, ax=axes, shrink=0.7, label="cosine")
    return fig


def tripod(ax: Any, rows: Tensor, name: str) -> None:
    """Three rows as arrows from the origin, their mean dashed.

    Args:
        ax: in three dimensions.
        rows: (3, 3).
        name: the title.
    """
    for row, colour in zip(rows.numpy(), ("blue", "vermilion", "green"), strict=True):
        ax.quiver(0, 0, 0, *row, color=PALETTE[colour], lw=2, arrow_length_ratio=0.12)
    ax.plot(*np.stack([np.zeros(3), rows.numpy().mean(0)], 1), color=PALETTE["black"], ls="--", lw=1.2)
    inner = round(float(rows[0] @ rows[1]), 6) + 0.0  # no −0
    ax.set_title(f"{name}: inner products {inner:.2f}")
    ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(0, 1), xticks=[], yticks=[], zticks=[])
    ax.set_box_aspect((2, 2, 1), zoom=1.35)
    ax.view_init(elev=28, azim=-20)
