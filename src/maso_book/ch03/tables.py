"""Tables of chapter 03 in Markdown, from its records."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from maso_book.ch03.cells import Lift
from maso_book.ch03.distance import PLACES
from maso_book.ch03.verdicts import LABELS, changes, turning_ratios
from maso_book.records import Record


def layer_table(records: Sequence[Record]) -> str:
    """Cells, centroids and comparisons of every layer, summed over seeds, as a Markdown table."""
    lines = [
        "| network | layer | cells before | cells after | holding their centroid | points compared | mismatches |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    kinds = ("random", "centres", "corners")
    for name in [net["network"] for net in records[0].metrics["networks"]]:
        nets = [net for record in records for net in record.metrics["networks"] if net["network"] == name]
        points = sum(net[f"points, {kind}"] for net in nets for kind in kinds)
        for depth in range(len(nets[0]["layers"])):
            rows = [net["layers"][depth] for net in nets]
            before, after, home = (
                sum(row[key] for row in rows) for key in ("upstream cells", "cells", "centroids in their cell")
            )
            wrong = sum(row[f"mismatches, {kind}"] for row in rows for kind in kinds)
            lines.append(
                f"| {'' if depth else name} | {depth + 1} | {before:,} | {after:,} | {home / after:.1%} | {points:,} "
                f"| {wrong} |"
            )
    return "\n".join(lines)


def bend_table(records: Sequence[Record]) -> str:
    """Bends by layer: how many, how large, and how near they come to the two bounds, as a Markdown table."""
    lines = [
        "| unit in layer | bends | median angle | 90 % below | median of angle / bound | bound from weights is 180° |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    layer, angle, bound, weights = (
        np.concatenate([record.arrays[key] for record in records])
        for key in ("layer", "angle", "bound", "weights_bound")
    )
    for depth in np.unique(layer):
        here = layer == depth
        size, ratio = np.degrees(angle[here]), (angle / bound)[here]
        lines.append(
            f"| {'output' if depth == 5 else depth} | {here.sum():,} | {np.median(size):.1f}° "
            f"| {np.quantile(size, 0.9):.1f}° | {np.median(ratio):.2f} | {(weights[here] > 3.14).mean():.0%} |"
        )
    return "\n".join(lines)


def turning_table(records: Sequence[Record]) -> str:
    """Turning by width: means over seeds, and the paired ratio with its interval, as a Markdown table."""
    lines = [
        "| width | bends, true | bends, permuted | full turns, true | full turns, permuted | permuted / true |",
        "|--:|--:|--:|--:|--:|---|",
    ]
    for width, ratio in turning_ratios(records).items():
        means = {
            (key, name): np.mean(
                [
                    row[key]
                    for record in records
                    for row in record.metrics["boundaries"]
                    if (row["width"], row["labels"]) == (width, name)
                ]
            )
            for key in ("bends", "turning")
            for name in LABELS
        }
        low, high = math.exp(ratio.low), math.exp(ratio.high)
        lines.append(
            f"| {width} | {means['bends', 'true']:.0f} | {means['bends', 'permuted']:.0f} "
            f"| {means['turning', 'true'] / (2 * math.pi):.1f} | {means['turning', 'permuted'] / (2 * math.pi):.1f} "
            f"| {math.exp(ratio.mean):.1f} [{low:.1f}, {high:.1f}] |"
        )
    return "\n".join(lines)


def distance_table(toy: Sequence[Record], images: Sequence[Record]) -> str:
    """Factors of the distance from the first to the last epoch with their intervals, as a Markdown table."""
    lines = [
        "| task | labels | train | test | elsewhere | train / elsewhere | test / elsewhere |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, records in (("toy", toy), (images[0].config["dataset"], images)):
        for labels in LABELS:
            found = changes(records, labels)
            places = [*PLACES, "train less elsewhere", "test less elsewhere"]
            cells = [
                f"{math.exp(v.mean):.2f} [{math.exp(v.low):.2f}, {math.exp(v.high):.2f}]"
                for v in (found[place] for place in places)
            ]
            lines.append(f"| {name} | {labels} | {' | '.join(cells)} |")
    return "\n".join(lines)


def description(model: nn.Module, found: Lift) -> str:
    """How many numbers describe the cells: as polygons, as one power diagram, as the network (a Markdown table)."""
    p = found.cells
    first, _ = p.corners
    return "\n".join(
        [
            f"| the {len(p):,} cells in the window as … | numbers |",
            "|---|--:|",
            f"| convex polygons: the corners of each | {2 * int(first[-1]):,} |",
            f"| one power diagram: a centroid and a radius each | {3 * len(p):,} |",
            f"| subdivisions by power diagrams: the weights | {sum(v.numel() for v in model.parameters()):,} |",
        ]
    )


def costs(laguerre: Sequence[Record], one: Sequence[Record]) -> str:
    """What each way to find a point's code takes, and what the exact cells take, as a Markdown table."""
    nets = [net for record in laguerre for net in record.metrics["networks"]]
    kinds = ("random", "centres", "corners")
    points = sum(net[f"points, {kind}"] for net in nets for kind in kinds)
    forward, search = (sum(net[key] for net in nets) / points * 1e6 for key in ("forward seconds", "search seconds"))
    lifted = [net for record in one for net in record.metrics["networks"]]
    whole = sum(net["search seconds"] for net in lifted) / sum(net["points"] for net in lifted) * 1e6
    exact = sum(net["exact cells seconds"] for net in nets) / len(nets)
    lift = sum(net["lift seconds"] for net in lifted) / len(lifted)
    cells = sum(net["cells"] for net in nets) / len(nets)
    compared = sum(net[f"points, {kind}"] * len(net["layers"]) for net in nets for kind in kinds) * 2**9
    each = sum(net["search seconds"] for net in nets) / compared
    years = math.log10(each * 2.0**64 / 3.156e7)
    return "\n".join(
        [
            "| what | time |",
            "|---|--:|",
            f"| code of one point in all layers, by the forward pass | {forward:.2f} µs |",
            f"| the same by the nearest of all $2^9$ centroids in every layer | {search:.0f} µs |",
            f"| at this rate ({1e9 * each:.0f} ns a distance), nearest of the $2^{{64}}$ centroids of 64 units "
            f"| $10^{{{years:.0f}}}$ years |",
            f"| its cell by the nearest centroid of the one diagram ({cells:.0f} cells on average) | {whole:.0f} µs |",
            f"| all exact cells of a network in its window (traced, cut, certified) | {exact:.2f} s |",
            f"| the same with weights, centroids and radii of the one diagram | {lift:.2f} s |",
        ]
    )
