"""Tables of chapter 02: functions of records that return Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from maso_book.ch02.random import totals
from maso_book.ch02.verdicts import arm, ratios
from maso_book.records import Record
from maso_book.statistics import interval


def convexity_table(toy: Sequence[Record]) -> str:
    """Cells, parts, cells that are not convex and the largest defect by kind of cell, over all networks (Markdown)."""
    nets = arm(toy, "zero")
    lines = [
        "| cells of | codes | connected parts | not convex | largest convexity defect |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in ("layer 1", "layer 2", "joint"):
        rows = [row for net in nets for row in net.metrics["convexity"] if row["cells of"] == name]
        sets, parts, bent = (sum(row[key] for row in rows) for key in ("sets", "parts", "not convex"))
        lines.append(f"| {name} | {sets:,} | {parts:,} | {bent:,} | {max(row['largest defect'] for row in rows):.2g} |")
    return "\n".join(lines)


def slice_table(records: Sequence[Record]) -> str:
    """The slices' networks with their units, accuracy, windows, counts and times, as a Markdown table."""
    lines = [
        "| network | units | test accuracy | window | side | cells | CPU time | whole plane |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    for record in records:
        m, bounds = record.metrics, record.arrays["bounds"]
        for row, window_bounds in zip(m["windows"], bounds, strict=True):
            low, high = (_rounded(m["whole plane"][key]) for key in ("low", "high"))
            about = f"{row['regions']:,}" if row["window"] == "whole" else f"{low} to {high}"
            lines.append(
                f"| {record.config['network']} | {m['units']:,} | {m['accuracy']:.1%} | {row['window']} | "
                f"{window_bounds[1] - window_bounds[0]:.2g} | {row['regions']:,} | {row['cpu_seconds']:.1f} s | "
                f"{about} |"
            )
    return "\n".join(lines)


def _rounded(count: float) -> str:
    """Two figures, in words from a million on."""
    rounded = float(f"{count:.2g}")
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if rounded >= size:
            return f"{rounded / size:g} {word}"
    return f"{rounded:,.0f}"


def near_ratio(toy: Sequence[Record]) -> str:
    """The ratio of densities in both arms, before and after training, in words."""
    parts = []
    for biases in ("uniform", "zero"):
        before, after = (interval(ratios(arm(toy, biases), place)) for place in (0, -1))
        parts.append(
            f"{biases} initial biases: "
            + " → ".join(
                f"{math.exp(i.mean):.2f} [{math.exp(i.low):.2f}, {math.exp(i.high):.2f}]" for i in (before, after)
            )
        )
    return "Density near the data over density elsewhere, before → after training: " + "; ".join(parts) + "."


def random_table(records: Sequence[Record]) -> str:
    """Random networks, their regions and those that differ from the reference, by kind of network."""
    found = totals(record.metrics for record in records)
    lines = ["| networks with … | networks | regions | mismatches |", "|---|--:|--:|--:|"]
    lines += [
        f"| {kind} | {row['networks']:,} | {row['regions']:,} | {row['mismatches']:,} |" for kind, row in found.items()
    ]
    return "\n".join(lines)


def random_summary(records: Sequence[Record]) -> str:
    """How many random networks agreed with the reference, and the largest errors, in words."""
    metrics = [record.metrics for record in records]
    wrong, alarms = (sum(len(m[key]) for m in metrics) for key in ("mismatches", "alarms"))
    compared = sum(record.config["networks"] for record in records) - alarms
    worst = {name: max(m["worst"][name] for m in metrics) for name in metrics[0]["worst"]}
    return (
        f"{compared:,} networks compared, {sum(m['rational'] for m in metrics):,} of them with the exact cells in "
        f"rationals: **{wrong} mismatches**. {alarms} more were refused by the engine's own certificates. Largest "
        f"errors: {worst['area']:.1g} of the window's area for a region, {worst['sum of areas']:.1g} for their sum, "
        f"{worst['map']:.1g} between the affine maps and the reference's, and {worst['network']:.1g} between the "
        "affine maps and the network at a random point of every region (both relative to the largest output). Regions "
        "whose centre is so near a change of code that float64 does not decide it, and whose code was not compared: "
        f"{sum(m['regions at rounding'] for m in metrics):,}."
    )
