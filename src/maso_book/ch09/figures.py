"""Figures of chapter 09 that are longer than a cell of its notebook."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import maso
from maso_book.ch09.nearest import GRID, TARGETS, beta_vq
from maso_book.records import Record
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


def curves(axes: Sequence[Axes], records: Sequence[Record]) -> None:
    """Test accuracy and ECE against β, one line a form: mean over seeds with the standard error; two axes."""
    table = as_table(records, "curve").query("split == 'test'")
    labels = {"swish": "blue", "softplus": "orange", "mix": "green"}
    for ax, column in zip(axes, ("accuracy", "ece"), strict=True):
        for (kind, kinks, norms), rows in table.groupby(["kind", "kinks", "norms"], sort=False):
            by = rows.groupby("beta")[column]
            style = {"kept": "--", "re-estimated": "-"}[norms]
            places = -np.log10(1 - by.mean().index.to_numpy() + 1e-4)
            ax.errorbar(places, by.mean(), by.sem(), color=PALETTE[labels[kind]],
                        ls=style, marker="o" if kinks == "all" else "x", ms=4, lw=1.2,
                        label=f"{kind}, {kinks}, BatchNorm {norms}")  # fmt: skip
        ticks = [0.5, 0.9, 0.99, 0.999, 1.0]
        ax.set_xticks([-np.log10(1 - beta + 1e-4) for beta in ticks], labels=[f"{beta:g}" for beta in ticks])
        ax.set(xlabel="β", ylabel={"accuracy": "test accuracy", "ece": "ECE"}[column])


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
