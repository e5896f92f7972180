"""The figures of chapter 08 that its notebook does not draw itself, and the tables behind those that it does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maso_book.ch08.compared import curves, log_ratio, tables
from maso_book.ch08.paths import REACH
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.style import PALETTE
from maso_book.tidy import arms

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {
    "none": PALETTE["vermilion"],
    "augmented": PALETTE["blue"],
    "noise, a pixel": PALETTE["orange"],
    "noise, augmentation": PALETTE["purple"],
}
_OTHERS = ("green", "sky", "black", "yellow")


def all_colours(names: Iterable[str]) -> dict[str, str]:
    """Those of `COLOURS`, and for other arms the colours that are left, weak and strong of one penalty alike."""
    colours = dict(COLOURS)
    kinds = dict.fromkeys(name.partition(",")[0] for name in names if name not in COLOURS)
    of_kind = dict(zip(kinds, _OTHERS, strict=False))
    return colours | {name: PALETTE[of_kind[name.partition(",")[0]]] for name in names if name not in COLOURS}


MARKERS = {"none": "s", "augmented": "o", "noise, a pixel": "^", "noise, augmentation": "v"}
TERMS = {
    "first_order": ("first order", PALETTE["orange"], ""),
    "curvature": ("curvature of the loss", PALETTE["sky"], "//"),
    "difference": ("difference of $A$", PALETTE["green"], ".."),
}


# The path of an image -------------------------------------------------------------------------------------------------


def paths(records: Sequence[Record], images: Sequence[int] = (0, 1)) -> Figure:
    """Outputs along the translations of test images, an arm a column, with the bends met.

    Args:
        records: of two arms, each with pictures.
        images: their numbers.
    """
    drawn = [record for record in records if "outputs" in record.arrays]
    n = len(images)
    fig, axes = plt.subplots(
        2 * n, 1 + len(drawn), figsize=(3.4 * len(drawn) + 1.6, 2.7 * n), squeeze=False,
        width_ratios=[0.42, *[1.0] * len(drawn)], height_ratios=[1, 0.3] * n,
    )  # fmt: skip
    most = max(int(r.arrays["bent"][list(images)].max()) for r in drawn)
    for i, image in enumerate(images):
        above, below = axes[2 * i], axes[2 * i + 1]
        _picture(above[0], drawn[0], image)
        below[0].axis("off")
        for ax, rug, record in zip(above[1:], below[1:], drawn, strict=True):
            _outputs(ax, record, image)
            _bends(rug, record, image, most)
            ax.sharex(rug)
            ax.tick_params(labelbottom=False)
            rug.set_xlabel("pixels to the left or right" if i == n - 1 else "")
            if i == 0:
                ax.set_title("with augmentation" if record.config["augment"] else "without augmentation")
        _same_limits(above[1:])
        above[1].set_ylabel("outputs / their size")
        below[1].set_ylabel("bends")
    return fig


def _picture(ax: Axes, record: Record, image: int) -> None:
    ax.imshow(record.arrays["pictures"][image].transpose(1, 2, 0))
    name = CLASSES[record.config["dataset"]][int(record.arrays["label"][image])]
    ax.set(xticks=[], yticks=[], xlabel=name)
    ax.grid(False)


def _outputs(ax: Axes, record: Record, image: int) -> None:
    """Outputs less their mean over classes, over their root mean square along the path; the true class in blue."""
    z = record.arrays["outputs"][image].astype(np.float64)
    z = z - z.mean(1, keepdims=True)
    z = z / np.sqrt((z**2).mean())
    t = np.linspace(-REACH, REACH, len(z))
    label = int(record.arrays["label"][image])
    for c in range(z.shape[1]):
        ax.plot(t, z[:, c], color=PALETTE["blue"] if c == label else "#9a9a9a", lw=2.2 if c == label else 0.9,
                zorder=3 if c == label else 2)  # fmt: skip
    ax.axvline(0, color="#444444", lw=0.8, ls=":")


def _bends(ax: Axes, record: Record, image: int, most: int) -> None:
    """Bends between neighbouring points of the path, as bars."""
    bent = record.arrays["bent"][image]
    edges = np.linspace(-REACH, REACH, len(bent) + 1)
    ax.stairs(bent, edges, fill=True, color=PALETTE["black"], alpha=0.6)
    ax.set(ylim=(0, 1.05 * most), yticks=[0, most])


def _same_limits(axes: Sequence[Axes]) -> None:
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)


# Tables behind the notebook's figures ---------------------------------------------------------------------------------


def changes(records: Sequence[Record]) -> pd.DataFrame:
    """Change of the scale-free rugosity by each way of training at equal loss, against "none" of the same loss.

    Returns:
        One row a case, arm, split and seed, with `change` (a share) and `way` (the arm in words).
    """
    import pandas as pd

    rows = []
    for (name, loss, split, seed), each in arms(curves(records), "case", "loss", "split", "seed"):
        bases = each[each["arm"].str.startswith("none")]
        for arm, own in arms(each, "arm"):
            if arm.startswith("none") or bases.empty:
                continue
            change = float(np.expm1(log_ratio(own, bases)))  # NaN where they have no loss in common
            rows.append({"case": name, "loss": loss, "split": split, "seed": seed, "way": arm, "change": change})
    return pd.DataFrame(rows).dropna()


def scan(records: Sequence[Record]) -> pd.DataFrame:
    """Test rugosity over bandwidths after training, long: a row a network, bandwidth and p, with `free`."""
    import pandas as pd

    table = tables(records, "rugosity").query("epoch == epochs and split == 'test' and direction == 'translation'")
    parts = [table.assign(p=p, free=table[f"free_{p}"]) for p in (1, 2)]
    return pd.concat(parts, ignore_index=True)


def directions(records: Sequence[Record]) -> pd.DataFrame:
    """Test rugosity by direction after training, at the bandwidth of the cell: a row a network and direction."""
    return tables(records, "rugosity").query("epoch == epochs and split == 'test' and bandwidth == eps")


# Terms ----------------------------------------------------------------------------------------------------------------


def terms(ax: Axes, table: pd.DataFrame, *, legend: bool = True) -> Axes:
    """The extra loss by shift, term upon term, a bar an arm, with the sum and its interval over seeds.

    Args:
        ax: where to draw.
        table: rows of `taylor` of one case, arms "none" and "augmented".
        legend: whether the terms are named.
    """
    for offset, (arm, rows) in zip((-0.2, 0.2), arms(table, "arm"), strict=True):
        for shift, each in arms(rows, "shift"):
            tops = {True: 0.0, False: 0.0}
            for term, (name, colour, hatch) in TERMS.items():
                value = float(each[term].mean())
                first = legend and offset < 0 and shift == 1
                ax.bar(
                    shift + offset, value, 0.36, bottom=tops[value > 0], color=colour, hatch=hatch, ec="white",
                    label=name if first else "_",
                )  # fmt: skip
                tops[value > 0] += value
            total = interval(each["extra_loss"])
            look: dict[str, Any] = {"color": PALETTE["black"], "ms": 5, "capsize": 2, "lw": 1.2, "zorder": 4}
            ax.errorbar(
                shift + offset, total.mean, [[total.mean - total.low], [total.high - total.mean]],
                fmt=MARKERS[arm], label=f"extra loss, {arm}" if legend and shift == 1 else "_", **look,
            )  # fmt: skip
    ax.axhline(0, color=PALETTE["black"], lw=0.8)
    ax.set_xticks(sorted(table["shift"].unique()))
    ax.grid(axis="x", visible=False)
    ax.set(xlabel="shift in pixels (left bar: none, right: augmented)", ylabel="extra loss")
    return ax
