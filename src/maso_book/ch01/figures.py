"""The figures of chapter 01 that its notebook does not draw itself, and what its figures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maso.spline import MASO
from maso_book.ch01.rates import slopes
from maso_book.ch01.verdicts import TOLERANCE
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.style import PALETTE
from maso_book.tidy import arms, as_table

if TYPE_CHECKING:
    import pandas as pd

COLOURS = list(PALETTE.values())
SMALLEST = 1e-17
"""Where an error of exactly zero is drawn."""


def envelope(m: MASO, low: float = -3.0, high: float = 3.0) -> Figure:
    """A max-affine spline of one number as the upper envelope of its lines, its cells as a coloured bar below.

    Args:
        m: K = 1, D = 1.
        low, high: the interval shown.
    """
    x = torch.linspace(low, high, 1201, dtype=m.A.dtype)[:, None]
    pieces, value, code = m.pieces(x)[:, 0], m(x)[:, 0], m.code(x)[:, 0]
    fig, (ax, bar) = plt.subplots(2, 1, figsize=(7.2, 4.0), height_ratios=(8, 1), sharex=True)
    for r in range(m.R):
        colour = COLOURS[r]
        inside = code == r
        ax.plot(x, pieces[:, r], color=colour, lw=1, ls=(0, (5, 3)))
        ax.plot(x[inside], value[inside], color=colour, lw=4, solid_capstyle="butt")
        if inside.any():
            left, right = float(x[inside].min()), float(x[inside].max())
            bar.axvspan(left, right, color=colour, alpha=0.85)
            bar.text((left + right) / 2, 0.5, f"r = {r + 1}", ha="center", va="center", color="white", weight="bold")
            ax.axvline(right, color="#888888", lw=0.8, ls=":")
    span = float(value.max() - value.min())
    ax.set(ylim=(float(value.min()) - 0.45 * span, float(value.max()) + 0.08 * span), ylabel="$S(x)$ and its lines")
    bar.set(yticks=[], ylim=(0, 1), xlim=(low, high), xlabel="input $x$", ylabel="code")
    bar.grid(False)
    return fig


def converse(record: Record) -> Figure:
    """The "only if": a convex network with a negative weight, and three that are not convex with the solver's pairs.

    Args:
        record: of 01-proofs.
    """
    fig, axes = plt.subplots(1, 4, figsize=(9.2, 3.0))
    x = np.linspace(-2, 2, 401)
    relu = np.maximum(x, 0)
    axes[0].plot(x, 2 * relu, color=PALETTE["sky"], lw=1.2, ls="--", label="2 relu(x)")
    axes[0].plot(x, -relu, color=PALETTE["vermilion"], lw=1.2, ls="--", label="−relu(x)")
    axes[0].plot(x, relu, color=PALETTE["black"], lw=2.5, label="their sum")
    axes[0].legend(fontsize="small", loc="upper left")

    witnesses = as_table([record], of="witnesses").set_index("network")
    _not_convex(axes[1], x, -np.abs(x), witnesses.loc["2·|0| − |x|", ["x", "y"]])
    _not_convex(axes[2], x, np.abs(np.abs(x) - 1), witnesses.loc["||x| − 1|", ["x", "y"]])
    if "violation" in record.arrays:
        t, value = record.arrays["violation"].T
        _not_convex(axes[3], t, value, (0, 1))

    titles = (
        "weights (2, −1):\nconvex",
        "the same weights on\n(0, |x|): not convex",
        "weights ≥ 0, | · | twice:\nnot convex",
        "a random network:\nnot convex",
    )
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title, fontsize="medium")
    for ax in axes[:3]:
        ax.set(xlabel="input $x$", xlim=(-2, 2))
    axes[0].set_ylabel("output")
    axes[3].set_xlabel("along the line x → y")
    return fig


def _not_convex(ax: Axes, x: np.ndarray, y: np.ndarray, ends: Sequence[float]) -> None:
    """A graph, the chord between two of its points, and the value at their midpoint, which lies above the chord."""
    values, centre = np.interp(ends, x, y), float(np.mean(ends))
    middle = float(np.interp(centre, x, y))
    ax.plot(x, y, color=PALETTE["black"], lw=2.5)
    ax.plot(ends, values, "o-", color=PALETTE["blue"], ms=5, lw=1.5)
    ax.plot([centre] * 2, [values.mean(), middle], color=PALETTE["vermilion"], lw=2)
    ax.plot(centre, middle, "o", color=PALETTE["vermilion"], ms=6)


def theory(errors: pd.DataFrame, *, ax: Axes) -> Axes:
    """To curves of the largest error over R, the slope of the theory through each first mark, and a legend with slopes.

    Args:
        errors: the rows of 01-rates of one D.
        ax: where one line stands for each target and method, in the order of the rows.
    """
    lines = list(ax.lines)
    for line, ((target, method, slope), rows) in zip(
        lines, arms(slopes(errors), "target", "method", "theory"), strict=True
    ):
        measured = f"{interval(rows['slope']):.2f}, theory {slope:g}".replace("-", "−")
        line.set_label(f"{target}, {method}\n{measured}")
        pieces, largest = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        ax.plot(pieces, largest[0] * (pieces / pieces[0]) ** slope, color=line.get_color(), lw=0.9, ls="--")
    ax.set_xticks(pieces[::2], labels=[f"{R:,.0f}" for R in pieces[::2]])
    ax.set_xticks([], minor=True)
    ax.legend(handles=lines, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return ax


def factors(record: Record) -> Figure:
    """Every factor of A[x] for the CNN and the ResNet, and inside a residual block; first layer at the right.

    Args:
        record: of 01-closed-form.
    """
    by_hand, inside = as_table([record], of="factors"), as_table([record], of="block_factors")
    rows = []
    for network in ("cnn", "resnet"):
        names = by_hand.loc[(by_hand["network"] == network) & (by_hand["built"] == "by hand"), "name"]
        chain = [(name, record.arrays[f"{network}_factor_{i}"]) for i, name in enumerate(names)]
        rows.append([("$A[x]$ =", record.arrays[f"{network}_A"]), *chain[::-1]])
    labels = inside["name"] + inside["part"].map({"body": ", body", "skip": ", skip", "end": ""})
    rows.append([(label, record.arrays[f"block_factor_{i}"]) for i, label in enumerate(labels)][::-1])

    fig = plt.figure(figsize=(9.0, 6.4))
    parts: list[Any] = list(fig.subfigures(3, 1))  # type: ignore[arg-type]
    for part, title, row in zip(parts, ("CNN", "ResNet", "inside the left block"), rows, strict=True):
        axes = part.subplots(1, len(row))
        for ax, (label, matrix) in zip(axes, row, strict=True):
            _matrix(ax, label.replace("A_σ", "$A_σ$").replace("A_ρ", "$A_ρ$"), matrix)
        axes[0].set_ylabel(title)
    return fig


def _matrix(ax: Axes, title: str, matrix: np.ndarray) -> None:
    """A matrix in blue and red, white at zero, its size below."""
    bound = np.abs(matrix).max()
    ax.imshow(matrix, cmap="RdBu", vmin=-bound, vmax=bound, interpolation="nearest", aspect="auto")
    ax.set_title(title, loc="center")
    ax.set_xlabel(f"{matrix.shape[0]} × {matrix.shape[1]}", fontsize="small")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[["top", "right"]].set_visible(True)


def image_errors(records: Sequence[Record], *, ax: Axes) -> Axes:
    """Histograms of the errors of ResNet-18 on real images in both precisions, all seeds together.

    Args:
        records: of 01-resnet.
        ax: where to draw.
    """
    error64, error32, slope32 = (
        np.concatenate([record.arrays[name] for record in records]) for name in ("error64", "error32", "slope_error32")
    )
    other_code = np.concatenate([record.arrays["flips"].sum(1) > 0 for record in records])
    groups = {
        "float64: $A x + b$": error64,
        "float32: $A x + b$": error32,
        "float32: $A$, same code": slope32[~other_code],
        "float32: $A$, another code": slope32[other_code],
    }
    bins = np.arange(-17, 1.01, 0.2).tolist()
    for (label, values), colour in zip(groups.items(), COLOURS, strict=False):
        exponents = np.log10(np.maximum(values, SMALLEST))
        ax.hist(exponents, bins, color=colour, alpha=0.75, label=f"{label} ({len(values):,})")

    ax.axvline(np.log10(TOLERANCE), color=PALETTE["black"], ls="--", lw=1.2)
    ax.set(yscale="log", xlabel="relative error", ylabel="images", xticks=range(-16, 1, 4))
    ax.set_xticklabels([f"$10^{{{exponent}}}$" for exponent in range(-16, 1, 4)])
    return ax
