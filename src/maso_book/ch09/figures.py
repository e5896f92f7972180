"""Figures of chapter 09 that are longer than a cell of its notebook."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import maso
from maso_book.ch09.nearest import GRID, TARGETS, beta_vq
from maso_book.ch09.softened import ARMS
from maso_book.records import Record
from maso_book.shared.names import DATASETS, NETWORKS
from maso_book.style import PALETTE
from maso_book.tidy import as_table

FAMILY = ((0.0, "vermilion"), (0.2, "orange"), (0.5, "green"), (0.7, "purple"), (1.0, "black"))
"""β and its colour."""
MELTING = (1.0, 0.98, 0.9, 0.5)
SIDE = 160


def family() -> Figure:
    """β-VQ of ReLU, of the absolute value and of a leaky ReLU, from linear (β = 0) to hard (β = 1)."""
    fig, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    u = torch.linspace(-4, 4, 401)
    for ax, (name, slope) in zip(axes, (("ReLU", 0.0), ("|u|", -1.0), ("leaky ReLU, ν = 0.2", 0.2)), strict=True):
        for beta, colour in FAMILY:
            values = maso.BetaVQ(beta, slope=slope)(u)
            ax.plot(u, values, color=PALETTE[colour], lw=1.8, label=f"β = {beta:g}")
        ax.set(title=name, xlabel="u")
    axes[0].set_ylabel("expected output")
    axes[0].legend()
    return fig


def _plane() -> Tensor:
    side = torch.linspace(-2, 2, SIDE, dtype=torch.float64)
    return torch.cartesian_prod(side, side)


def bending(model: nn.Module, beta: float) -> np.ndarray:
    """How fast the gradient of the network's output turns, at the points of a square: (SIDE, SIDE).

    The Frobenius norm of the Hessian in the plane; at β = 1, where it is 0 within a cell, the jump of the gradient from
    one point of the raster to the next, over their distance.
    """
    x = _plane().requires_grad_()
    soft = maso.soften(model, beta, example=x[:1].detach())
    (slopes,) = torch.autograd.grad(soft(x).sum(), x)
    field = slopes.reshape(SIDE, SIDE, 2).numpy()
    step = 4 / (SIDE - 1)
    turns = [np.gradient(field[..., i], step, axis=axis) for i in (0, 1) for axis in (0, 1)]
    return np.asarray(np.sqrt(sum(turn**2 for turn in turns)))


def shade(bends: np.ndarray) -> np.ndarray:
    """How dark a bend is drawn, 0 to 1 for what is in the range of the figure: logarithmic."""
    return np.log1p(bends) / 3


def melting(model: nn.Module) -> Figure:
    """Where the network bends, for falling β: sharp borders of cells that melt."""
    fig, axes = plt.subplots(1, len(MELTING), figsize=(10, 2.9), layout="constrained", sharey=True)
    for ax, beta in zip(axes, MELTING, strict=True):
        shades = shade(bending(model, beta))
        ax.imshow(shades.T, origin="lower", extent=(-2, 2, -2, 2), cmap="magma_r", vmin=0, vmax=1)
        ax.grid(visible=False)
        ax.set(title=f"β = {beta:g}", xlabel="$x_1$")
    axes[0].set_ylabel("$x_2$")
    return fig


def nearest(records: Sequence[Record]) -> Figure:
    """GELU, ELU, mish and hard-swish, less the nearest β-VQ of two lines and of three."""
    table = as_table(records)
    names = [name for name in TARGETS if name != "SiLU" and name in set(table["target"])]
    fig, axes = plt.subplots(1, len(names), figsize=(10, 2.7), layout="constrained", squeeze=False)
    shown = np.abs(GRID) < 8
    for ax, name in zip(axes[0], names, strict=True):
        rows = table[table["target"] == name].set_index("family")
        for lines, colour, style in (("two lines", "blue", "-"), ("three lines", "vermilion", "--")):
            row = rows.loc[lines]
            slopes, offsets = (np.array([float(v) for v in row[key].split(",")]) for key in ("slopes", "offsets"))
            error = beta_vq(GRID, slopes, offsets, row["beta"] / (1 - row["beta"])) - TARGETS[name](GRID)
            ax.plot(GRID[shown], error[shown], style, color=PALETTE[colour], label=lines)
        ax.set(title=name, xlabel="u")
    axes[0, 0].set_ylabel("nearest β-VQ less function")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


FORMS = {  # form → colour, marker, dashes: what seaborn's `palette`, `markers` and `dashes` take
    "hard": (PALETTE["black"], "X", ""),
    "temperature scaling": (PALETTE["sky"], "P", ""),
    "swish": (PALETTE["blue"], "o", ""),
    "swish, BatchNorm kept": (PALETTE["sky"], "o", (4, 1.5)),
    "softplus": (PALETTE["orange"], "s", ""),
    "softplus, BatchNorm kept": (PALETTE["yellow"], "s", (4, 1.5)),
    "mixture": (PALETTE["green"], "^", ""),
    "mixture, BatchNorm kept": (PALETTE["black"], "^", (4, 1.5)),
    "mixture at ReLUs": (PALETTE["purple"], "D", ""),
    "Curvature Tuning": (PALETTE["vermilion"], "D", (4, 1.5)),
}
"""Curvature Tuning as it was published is the mixture at the ReLUs with BatchNorm kept."""
COLOURS, MARKERS, DASHES = ({form: look[i] for form, look in FORMS.items()} for i in range(3))


def forms(records: Sequence[Record], of: str) -> pd.DataFrame:
    """A table of 09-softened, 09-robust or 09-transfer with `form`, one of `FORMS`, and `networks` in words."""
    table = as_table(records, of)
    return table.assign(form=_forms(table), networks=_networks(table))


def _networks(table: pd.DataFrame) -> pd.Series:
    return table["network"].replace(NETWORKS) + ", " + table["dataset"].replace(DATASETS)


def _forms(table: pd.DataFrame) -> pd.Series:
    kinds = table["kind"].replace("mix", "mixture") + table["kinks"].map({"all": "", "units": " at ReLUs"})
    return (kinds + table["norms"].map({"kept": ", BatchNorm kept", "re-estimated": ""})).replace(
        "mixture at ReLUs, BatchNorm kept", "Curvature Tuning"
    )


def softenings(records: Sequence[Record]) -> pd.DataFrame:
    """Test accuracy less that of the hard network, and ECE, of every form at every β, in per cent.

    Returns:
        Columns `networks`, `seed`, `form`, `beta` (in words, from soft to hard), `what`, `per_cent`.
    """
    table = forms(records, "curve").query("split == 'test'")
    both = table.assign(**{"accuracy less hard": _less_hard(table, "accuracy"), "ECE": 100 * table["ece"]})
    keys = ["networks", "seed", "form", "beta"]
    return _in_order(both.melt(keys, ["accuracy less hard", "ECE"], var_name="what", value_name="per_cent"))


def reliabilities(records: Sequence[Record], least: int = 100) -> pd.DataFrame:
    """How many test images are right where a network is so sure: hard, with temperature scaling, and of every form.

    A softened network has the β below 1 of highest validation likelihood; the images of all seeds are put together.

    Args:
        records: of 09-softened.
        least: images in a bin; bins of fewer are left out.

    Returns:
        Columns `networks`, `form`, and of each bin `images`, `confidence` and `right` (per cent).
    """
    names = ["hard", "temperature scaling", *_forms(pd.DataFrame([arm.row for arm in ARMS]))]
    rows = [
        {"network": record.config["network"], "dataset": record.config["dataset"], "form": form, "bin": i,
         "images": images, "confidence": sure, "right": right}
        for record in records if record.arrays
        for form, bins in zip(names, record.arrays["reliability"], strict=True)
        for i, (images, sure, right) in enumerate(bins.T)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    keys = [_networks(table).rename("networks"), "form", "bin"]
    table = table.groupby(keys, sort=False)[["images", "confidence", "right"]].sum().query("images >= @least")
    shares = table[["confidence", "right"]].div(table["images"], axis=0)
    return table.assign(**100 * shares).reset_index()


def probes(records: Sequence[Record]) -> pd.DataFrame:
    """Accuracy of the linear probe less that on the features of the hard network, of every form at every β.

    Returns:
        Columns `networks`, `seed`, `form`, `beta` (in words, from soft to hard), `points` (percentage points).
    """
    table = forms(records, "probes")
    return _in_order(table.assign(points=_less_hard(table, "probe_accuracy")))


def _less_hard(table: pd.DataFrame, accuracy: str) -> np.ndarray:
    """An accuracy less that of the hard network of the same seed, in percentage points."""
    hard = table.query("beta == 1 and norms == 'kept'").groupby(["networks", "seed"])[accuracy].first()
    own = hard.loc[list(zip(table["networks"], table["seed"], strict=True))].to_numpy()
    return np.asarray(100 * (table[accuracy].to_numpy() - own))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """From soft to hard, β in words: on an axis all of them are equally far apart."""
    table = table.sort_values("beta", kind="stable")
    return table.assign(beta=table["beta"].map("{:g}".format))


def depths(ax: Axes, records: Sequence[Record]) -> Axes:
    """Mean learned β of each layer over the epochs, one line a layer: mean over seeds with the range."""
    table = as_table(records, "betas")
    for (layer, rows), colour in zip(table.groupby("layer"), PALETTE.values(), strict=False):
        by = rows.groupby("epoch")["mean_beta"]
        ax.plot(by.mean().index, by.mean(), color=colour, marker="o", ms=4, label=f"layer {layer}")
        ax.fill_between(by.mean().index, by.min(), by.max(), color=colour, alpha=0.2, lw=0)
    ax.axhline(0.5, color=PALETTE["black"], lw=0.8, ls=":")
    ax.set(xlabel="epoch", ylabel="mean β")
    ax.legend()
    return ax
