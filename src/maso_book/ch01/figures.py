"""Figures of chapter 01: functions of records (or of one small MASO) that return a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from maso.spline import MASO
from maso_book.ch01.rates import slopes
from maso_book.ch01.verdicts import TOLERANCE
from maso_book.records import Record
from maso_book.style import PALETTE

COLOURS = list(PALETTE.values())
SMALLEST = 1e-17  # where an error of exactly zero is drawn


def families(records: Sequence[Record]) -> Figure:
    """Relative error of the affine map of every network, at three places, each seed a mark, against the criterion."""
    names = [row["network"] for row in records[0].metrics["networks"]]
    fig, ax = plt.subplots(figsize=(7.2, 0.8 + 0.32 * len(names)))
    places = [("at x", "at the image x", "o"), ("b", "at 0", "s"), ("far from x", "far from x", "^")]
    for offset, (key, label, marker), colour in zip((-0.2, 0, 0.2), places, COLOURS, strict=False):
        points = [
            (max(row[key], SMALLEST), names.index(row["network"]) + offset)
            for record in records
            for row in record.metrics["networks"]
        ]
        ax.plot(*zip(*points, strict=True), marker, color=colour, ms=5, alpha=0.8, label=label)
    ax.axvline(TOLERANCE, color=PALETTE["black"], ls="--", lw=1.2)
    ax.annotate("criterion", (TOLERANCE, -0.75), ha="right", va="center", xytext=(-4, 0), textcoords="offset points")
    ax.set(xscale="log", xlim=(SMALLEST / 2, 1e-11), ylim=(len(names) - 0.4, -1.1), yticks=range(len(names)))
    ax.set(xlabel="relative error of $A[x]\\,z + b[x]$, float64", yticklabels=names)
    fig.legend(ncols=3, loc="outside upper left", title="compared with the network's own forward pass, at z =")
    return fig


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


def layer_table(rational: Sequence[Record], proofs: Sequence[Record]) -> str:
    """The layers with their R, cases and proof times, as a Markdown table."""
    proved = {row["kind"]: row for record in proofs for row in record.metrics["layers"]}
    lines = [
        "| layer | pieces R | cases | edge cases | ties | mismatches | proved for all inputs | time |",
        "|---|---|--:|--:|--:|--:|---|--:|",
    ]
    for row in rational[0].metrics["layers"]:
        total = {
            key: sum(r[key] for record in rational for r in record.metrics["layers"] if r["kind"] == row["kind"])
            for key in ("cases", "edge", "ties", "mismatches")
        }
        proof = proved[row["kind"]]
        sign = "✔" if proof["equal"] and proof["from_layer"] else "✘"
        instance = proof["instance"].replace(" ", "\u00a0")
        pieces = row["pieces"].replace("#R_k", "$\\lvert R_k\\rvert$")
        lines.append(
            f"| {row['kind']} | {pieces} | {total['cases']:,} | {total['edge']:,} | {total['ties']:,} | "
            f"{total['mismatches']} | {sign}\u00a0{instance} | {1000 * proof['equal_seconds']:.1f}\u00a0ms |"
        )
    return "\n".join(lines)


def refusals(records: Sequence[Record]) -> str:
    """What `affine_map` names when it refuses each network, as a Markdown table."""
    said = records[0].metrics["refused as"]
    lines = ["| network | refused because of the operator |", "|---|---|"]
    lines += [f"| {name} | {f'`{operator}`' if operator else 'not refused'} |" for name, operator in said.items()]
    return "\n".join(lines)


def converse(record: Record) -> Figure:
    """The "only if": a convex network with a negative weight, and three that are not convex with the solver's pairs."""
    fig, axes = plt.subplots(1, 4, figsize=(9.2, 3.0))
    x = np.linspace(-2, 2, 401)
    relu = np.maximum(x, 0)
    ax = axes[0]
    ax.plot(x, 2 * relu, color=PALETTE["sky"], lw=1.2, ls="--", label="2 relu(x)")
    ax.plot(x, -relu, color=PALETTE["vermilion"], lw=1.2, ls="--", label="−relu(x)")
    ax.plot(x, relu, color=PALETTE["black"], lw=2.5, label="their sum")
    ax.legend(fontsize="small", loc="upper left")
    ax.set_title("weights (2, −1):\nconvex", fontsize="medium")
    curves = {1: -np.abs(x), 2: np.abs(np.abs(x) - 1)}
    titles = {1: "the same weights on\n(0, |x|): not convex", 2: "weights ≥ 0, | · | twice:\nnot convex"}
    for i, y in curves.items():
        witness = record.metrics["only if"][i]["witness"]
        axes[i].plot(x, y, color=PALETTE["black"], lw=2.5)
        ends = np.array([witness["x"][0], witness["y"][0]])
        _chord(axes[i], ends, np.interp(ends, x, y), float(np.interp(ends.mean(), x, y)))
        axes[i].set_title(titles[i], fontsize="medium")
    for ax in axes[:3]:
        ax.set(xlabel="input $x$", xlim=(-2, 2))
    axes[0].set_ylabel("output")
    if "violation" in record.arrays:
        t, y = record.arrays["violation"].T
        axes[3].plot(t, y, color=PALETTE["black"], lw=2.5)
        _chord(axes[3], np.array([0.0, 1.0]), np.interp([0, 1], t, y), float(np.interp(0.5, t, y)))
    axes[3].set_title("a random network:\nnot convex", fontsize="medium")
    axes[3].set(xlabel="along the line x → y")
    return fig


def _chord(ax: Axes, ends: np.ndarray, values: np.ndarray, middle: float) -> None:
    """The chord between two points of the graph, and the value at the midpoint that lies above it."""
    ax.plot(ends, values, "o-", color=PALETTE["blue"], ms=5, lw=1.5)
    ax.plot([ends.mean()] * 2, [values.mean(), middle], color=PALETTE["vermilion"], lw=2)
    ax.plot(ends.mean(), middle, "o", color=PALETTE["vermilion"], ms=6)


def rates(records: Sequence[Record]) -> Figure:
    """Largest error against the number of pieces for one and two inputs; bands from the least to the largest seed."""
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 4.8))
    markers = ("o", "s", "^", "D")
    found = slopes(records)
    for dimension, ax in enumerate(axes, 1):
        here = [slope for slope in found if slope.dimension == dimension]
        for slope, colour, marker in zip(here, COLOURS, markers, strict=False):
            rows = [
                row
                for record in records
                for row in record.metrics["errors"]
                if (row["dimension"], row["target"], row["method"]) == (dimension, slope.target, slope.method)
            ]
            pieces = sorted({row["pieces"] for row in rows})
            errors = [[row["largest"] for row in rows if row["pieces"] == R] for R in pieces]
            middle = [float(np.exp(np.mean(np.log(e)))) for e in errors]
            label = f"{slope.target}, {slope.method}\n{slope.mean:.2f} [{slope.low:.2f}, {slope.high:.2f}]"
            label = f"{label}, theory {slope.theory:g}".replace("-", "−").replace("non−", "non-")
            ax.plot(pieces, middle, marker=marker, ms=4.5, color=colour, label=label)
            ax.fill_between(pieces, [min(e) for e in errors], [max(e) for e in errors], color=colour, alpha=0.2, lw=0)
            ax.plot(pieces, middle[0] * (np.array(pieces) / pieces[0]) ** slope.theory, color=colour, lw=0.9, ls="--")
        ax.set(xscale="log", yscale="log", xlabel="pieces $R$ of the first MASO", title=f"D = {dimension}")
        ax.set_xticks(pieces[::2], labels=[f"{R:,}" for R in pieces[::2]])
        ax.set_xticks([], minor=True)
        ax.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.18))
    axes[0].set_ylabel("largest error")
    return fig


def factors(record: Record) -> Figure:
    """Every factor of A[x] for the CNN and the ResNet, and inside a residual block; first layer at the right."""
    rows = []
    for name in ("cnn", "resnet"):
        chain = [
            (f["name"], record.arrays[f"{name}_factor_{i}"]) for i, f in enumerate(record.metrics[name]["by hand"])
        ]
        rows.append([("$A[x]$ =", record.arrays[f"{name}_A"]), *chain[::-1]])
    inside = record.metrics["resnet"]["inside the second block"]
    rows.append([(name, record.arrays[f"block_factor_{i}"]) for i, name in enumerate(inside)][::-1])
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


def real_images(records: Sequence[Record]) -> Figure:
    """Left: errors of ResNet-18 on real images in both precisions. Right: in which layers float32 gets another code."""
    error64, error32, slope32 = (
        np.concatenate([record.arrays[key] for record in records]) for key in ("error64", "error32", "slope_error32")
    )
    flips = np.concatenate([record.arrays["flips"] for record in records])
    other = flips.sum(1) > 0
    fig, (ax, bars) = plt.subplots(1, 2, figsize=(9.0, 4.4))
    bins = np.arange(-17, 1.01, 0.2)
    shown = [
        (error64, "float64: $A x + b$", COLOURS[0]),
        (error32, "float32: $A x + b$", COLOURS[1]),
        (slope32[~other], "float32: $A$, same code", COLOURS[2]),
        (slope32[other], "float32: $A$, another code", COLOURS[3]),
    ]
    for values, label, colour in shown:
        ax.hist(
            np.log10(np.maximum(values, SMALLEST)), bins, color=colour, alpha=0.75, label=f"{label} ({len(values):,})"
        )
    ax.set(yscale="log", xlabel="relative error", ylabel="images", xticks=range(-16, 1, 4))
    ax.set_xticklabels([f"$10^{{{e}}}$" for e in range(-16, 1, 4)])
    ax.axvline(np.log10(TOLERANCE), color=PALETTE["black"], ls="--", lw=1.2)
    fig.legend(fontsize="small", loc="outside upper left", ncols=2)
    layers, units = records[0].metrics["layers"], records[0].metrics["units"]
    share = np.array([(record.arrays["flips"] > 0).mean(0) for record in records])  # (seeds, layers)
    place = np.arange(len(layers))
    bars.barh(place, share.mean(0), color=PALETTE["sky"])
    for row in share:
        bars.plot(row, place, ".", color=PALETTE["black"], ms=4)
    names = [f"{name} ({count:,})" for name, count in zip(layers, units, strict=True)]
    bars.set(yticks=place, ylim=(len(layers) - 0.5, -0.5), xlim=(0, max(0.01, 1.1 * share.max())))
    bars.set_xlabel("images with another code in this layer")
    bars.set_yticklabels(names, fontsize="x-small")
    bars.xaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    return fig


def not_maso(records: Sequence[Record]) -> Figure:
    """Share of points with a second difference that is not zero, against the step; mean and range over seeds."""
    names, steps = records[0].metrics["networks"], np.array(records[0].metrics["steps"])
    share = np.array([record.arrays["share"] for record in records])
    fig, ax = plt.subplots()
    for i, (name, marker) in enumerate(zip(names, ("o", "s", "^", "v", "D"), strict=True)):
        colour = PALETTE["black"] if i == len(names) - 1 else COLOURS[i]
        ax.plot(steps, share[:, i].mean(0), marker=marker, color=colour, label=name, ms=9 - 1.5 * i, lw=1.5)
        ax.fill_between(steps, share[:, i].min(0), share[:, i].max(0), color=colour, alpha=0.2, lw=0)
    ax.set(xscale="log", ylim=(-0.03, 1.06), xlabel="step $h$", ylabel="points where $\\Delta_h^2 f \\neq 0$")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.invert_xaxis()
    ax.legend(loc="center right")
    return fig
