"""Tables of chapter 02: functions of records that return Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maso.partition import partition
from maso_book.ch02 import slices
from maso_book.ch02.closed_forms import cells_of_lines, mean_neighbours
from maso_book.ch02.counts import slopes
from maso_book.ch02.random import KINDS
from maso_book.ch02.slices import WHOLE
from maso_book.ch02.verdicts import arm, density_ratios, geometric
from maso_book.records import Record
from maso_book.shared.toy import FIRST, WINDOW, restored, window
from maso_book.tidy import arms, as_table

if TYPE_CHECKING:
    import pandas as pd


def convexity_table(cells: pd.DataFrame) -> str:
    """Cells, parts, cells that are not convex and the largest defect by kind of cell, over all networks (Markdown).

    Args:
        cells: rows of the table `convexity` of "02-toy".
    """
    lines = [
        "| cells of | codes | connected parts | not convex | largest convexity defect |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, rows in arms(cells, "cells_of"):
        codes, parts, bent = rows[["codes", "parts", "not_convex"]].sum()
        lines.append(f"| {name} | {codes:,} | {parts:,} | {bent:,} | {rows.largest_defect.max():.2g} |")
    return "\n".join(lines)


def slope_table(regions: pd.DataFrame) -> str:
    """The slopes of log regions against log neurons with their intervals, by depth and epoch, as a Markdown table.

    Args:
        regions: rows of the table `regions` of "02-counts".
    """
    slope = slopes(regions)
    epochs = sorted({epoch for epoch, _ in slope})
    lines = [f"| depth | {' | '.join(f'slope after {epoch} epochs' for epoch in epochs)} |"]
    lines.append("|---" * (1 + len(epochs)) + "|")
    for depth in sorted({depth for _, depth in slope}):
        lines.append(f"| {depth} | {' | '.join(f'{slope[epoch, depth]:.2f}' for epoch in epochs)} |")
    return "\n".join(lines)


def slice_table(records: Sequence[Record]) -> str:
    """The slices' networks with their units, accuracy, windows, counts and times, as a Markdown table."""
    lines = [
        "| network | units | test accuracy | window | side | cells | CPU time | whole plane |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    networks = as_table(records, "networks").set_index("record")
    for row in as_table(records, "windows").itertuples():
        net = networks.loc[row.record]
        estimate = f"{_rounded(net.plane_low)} to {_rounded(net.plane_high)}"
        lines.append(
            f"| {row.network} | {net.units:,} | {net.accuracy:.1%} | {row.window} | {row.s_max - row.s_min:.2g} | "
            f"{row.regions:,} | {row.cpu_seconds:.1f} s | {f'{row.regions:,}' if row.window == WHOLE else estimate} |"
        )
    return "\n".join(lines)


def _rounded(count: float) -> str:
    """Two figures, in words from a million on."""
    rounded = float(f"{count:.2g}")
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if rounded >= size:
            return f"{rounded / size:g} {word}"
    return f"{rounded:,.0f}"


def estimate_text(record: Record) -> str:
    """The estimate of a whole plane's regions beside their true number, in words."""
    (net,), (window,) = record.tables["networks"], record.tables["windows"]
    return (
        "Where only windows are cut, the last column is an estimate from 16 small tiles (`maso.estimate_regions`, 95 % "
        "interval). For the small net, where the truth is known, the same estimate gave "
        f"{net['plane_low']:,.0f} to {net['plane_high']:,.0f} against {window['regions']:,} cells."
    )


def near_ratio(toy: Sequence[Record]) -> str:
    """The ratio of densities in both arms, before and after training, in words."""
    parts = []
    for biases in ("uniform", "zero"):
        ratios = density_ratios(arm(toy, biases))
        before, after = geometric(ratios["before"]), geometric(ratios["after"])
        parts.append(f"{biases} initial biases: {before:.2f} → {after:.2f}")
    return "Density near the data over density elsewhere, before → after training: " + "; ".join(parts) + "."


def random_table(records: Sequence[Record]) -> str:
    """Random networks, their regions and those that differ from the reference, by kind of network."""
    total = as_table(records, "kinds").groupby("kind")[["compared", "regions", "mismatches"]].sum()
    lines = ["| networks with … | networks | regions | mismatches |", "|---|--:|--:|--:|"]
    for kind, row in total.reindex([kind for kind in KINDS if kind in total.index]).iterrows():
        lines.append(f"| {kind} | {row.compared:,} | {row.regions:,} | {row.mismatches:,} |")
    return "\n".join(lines)


def random_summary(records: Sequence[Record]) -> str:
    """How many random networks agreed with the reference, and the largest errors, in words."""
    alarms, differences = (as_table(records, name) for name in ("alarms", "differences"))
    wrong = 0 if differences.empty else differences.network_seed.nunique()
    compared = sum(record.config["networks"] for record in records) - len(alarms)
    blocks = as_table(records, "blocks")
    worst = blocks.max(numeric_only=True)
    return (
        f"{compared:,} networks compared, {blocks.rational_networks.sum():,} of them with the exact cells in "
        f"rationals: **{wrong} mismatches**. {len(alarms)} more were refused by the engine's own certificates. Largest "
        f"errors: {worst.area_error:.1g} of the window's area for a region, {worst.area_sum_error:.1g} for their sum, "
        f"{worst.map_error:.1g} between the affine maps and the reference's, and {worst.output_error:.1g} between the "
        "affine maps and the network at a random point of every region (both relative to the largest output). Regions "
        "whose centre is so near a change of code that float64 does not decide it, and whose code was not compared: "
        f"{blocks.undecided_regions.sum():,}."
    )


def closed_forms(toy: Sequence[Record], slice_records: Sequence[Record]) -> str:
    """Cells of layer 1 by the formula and counted, and the mean number of neighbours of a joint cell (Markdown).

    Args:
        toy: of the experiment "02-toy"; the networks' cells are computed anew from their first and last weights.
        slice_records: of the experiment "02-slices"; the cells of their windows are computed anew.
    """
    lines = [
        "| networks | cells of layer 1, by the formula | counted | networks that differ | cells of all layers "
        "| mean number of neighbours |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for biases, place in itertools.product(("zero", "uniform"), (0, -1)):
        rows = []
        for record in arm(toy, biases):
            model = restored(record.arrays["parameters"][place])
            p = partition(model, window())
            weights, offsets = (value.detach().numpy() for value in list(model.parameters())[:2])
            formula = cells_of_lines(weights, offsets, *WINDOW)
            rows.append((formula, p.pullback(FIRST).components, len(p), mean_neighbours(p)))
        formula, counted, cells, neighbours = np.array(rows).T
        lines.append(
            f"| {len(rows)} toy nets, {biases} initial biases, {'before' if place == 0 else 'after'} training | "
            f"{formula.sum():,.0f} | {counted.sum():,.0f} | {(formula != counted).sum()} | {cells.sum():,.0f} | "
            f"{neighbours.min():.2f} to {neighbours.max():.2f} |"
        )
    for record in slice_records:
        model, planes = slices.model_and_windows(record)
        for name, plane in planes.items():
            p = partition(model, plane)
            lines.append(f"| {record.config['network']}, {name} | | | | {len(p):,} | {mean_neighbours(p):.2f} |")
    return "\n".join(lines)
