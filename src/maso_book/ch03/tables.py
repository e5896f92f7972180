"""Tables of chapter 03 in Markdown, from its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from torch import nn

from maso_book.ch03.bends import LABELS, OUTPUT
from maso_book.ch03.cells import Lift
from maso_book.ch03.distance import PLACES
from maso_book.ch03.verdicts import by_bend, changes, compared, factor, turning_ratios
from maso_book.records import Record
from maso_book.tidy import arms, as_table

YEAR = 3.156e7  # seconds


def _markdown(header: dict[str, str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the columns' names with their alignments, and the cells of every row."""
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(header.values())}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def layer_table(records: Sequence[Record]) -> str:
    """Cells, centroids and comparisons of every layer, summed over seeds, as a Markdown table."""
    layers = as_table(records, "layers").groupby(["network", "layer"], sort=False)
    counts = layers[["upstream_cells", "cells", "centroids_inside"]].sum()
    points = compared(records).groupby(["network", "layer"])[["compared", "mismatches"]].sum()
    header = {
        "network": "---",
        "layer": "--:",
        "cells before": "--:",
        "cells after": "--:",
        "holding their centroid": "--:",
        "points compared": "--:",
        "mismatches": "--:",
    }
    return _markdown(
        header,
        (
            [
                "" if layer > 1 else network,
                f"{layer}",
                f"{row['upstream_cells']:,}",
                f"{row['cells']:,}",
                f"{row['centroids_inside'] / row['cells']:.1%}",
                f"{row['compared']:,}",
                f"{row['mismatches']}",
            ]
            for (network, layer), row in counts.join(points).iterrows()
        ),
    )


def bend_table(records: Sequence[Record]) -> str:
    """Bends by layer: how many, how large, and how near they come to the two bounds, as a Markdown table."""
    header = {
        "unit in layer": "---",
        "bends": "--:",
        "median angle": "--:",
        "90 % below": "--:",
        "median of angle / bound": "--:",
        "bound from weights is 180°": "--:",
    }
    rows = []
    for layer, bends in arms(by_bend(records).sort_values("layer"), "layer"):
        angle = np.degrees(bends["angle"])
        rows.append(
            [
                "output" if layer == OUTPUT else f"{layer}",
                f"{len(bends):,}",
                f"{angle.median():.1f}°",
                f"{angle.quantile(0.9):.1f}°",
                f"{(bends['angle'] / bends['bound']).median():.2f}",
                f"{(bends['weights_bound'] > 3.14).mean():.0%}",
            ]
        )
    return _markdown(header, rows)


def turning_table(records: Sequence[Record]) -> str:
    """Turning by width: means over seeds, and the paired ratio with its interval, as a Markdown table."""
    means = as_table(records, "boundaries").groupby(["width", "labels"])[["bends", "turning_rad"]].mean()
    header = {
        "width": "--:",
        **{f"bends, {labels}": "--:" for labels in LABELS},
        **{f"full turns, {labels}": "--:" for labels in LABELS},
        "permuted / true": "---",
    }
    return _markdown(
        header,
        (
            [
                f"{width}",
                *(f"{means['bends'][width, labels]:.0f}" for labels in LABELS),
                *(f"{means['turning_rad'][width, labels] / (2 * math.pi):.1f}" for labels in LABELS),
                f"{factor(ratio):.1f}",
            ]
            for width, ratio in turning_ratios(records).items()
        ),
    )


def distance_table(toy: Sequence[Record], images: Sequence[Record]) -> str:
    """Factors of the distance from the first to the last epoch with their intervals, as a Markdown table."""
    columns = [*PLACES, "train / elsewhere", "test / elsewhere"]
    rows = []
    for name, records in (("toy", toy), (images[0].config["dataset"], images)):
        for labels in LABELS:
            change = changes(records, labels)
            factors = (factor(change[column.replace("/", "less")]) for column in columns)
            rows.append([name, labels, *(f"{value:.2f}" for value in factors)])
    return _markdown(dict.fromkeys(["task", "labels", *columns], "---"), rows)


def description(model: nn.Module, lifted: Lift) -> str:
    """How many numbers describe the cells: as polygons, as one power diagram, as the network (a Markdown table)."""
    cells = lifted.cells
    first, _ = cells.corners
    numbers = {
        "convex polygons: the corners of each": 2 * int(first[-1]),
        "one power diagram: a centroid and a radius each": 3 * len(cells),
        "subdivisions by power diagrams: the weights": sum(v.numel() for v in model.parameters()),
    }
    header = {f"the {len(cells):,} cells in the window as …": "---", "numbers": "--:"}
    return _markdown(header, ([what, f"{count:,}"] for what, count in numbers.items()))


def costs(laguerre: Sequence[Record], one: Sequence[Record]) -> str:
    """What each way to find a point's code takes, and what the exact cells take, as a Markdown table."""
    networks, lifted = as_table(laguerre, "networks"), as_table(one, "networks")
    points = as_table(laguerre, "samples")["compared"].sum()
    microseconds = networks[["forward_seconds", "search_seconds"]].sum() / points * 1e6
    in_one_diagram = lifted["search_seconds"].sum() / lifted["compared"].sum() * 1e6
    distance_seconds = networks["search_seconds"].sum() / (compared(laguerre)["compared"].sum() * 2**9)
    years = math.log10(distance_seconds * 2.0**64 / YEAR)

    times = {
        "code of one point in all layers, by the forward pass": f"{microseconds['forward_seconds']:.2f} µs",
        "the same by the nearest of all $2^9$ centroids in every layer": f"{microseconds['search_seconds']:.0f} µs",
        f"at this rate ({1e9 * distance_seconds:.0f} ns a distance), nearest of the $2^{{64}}$ centroids of 64 units": (
            f"$10^{{{years:.0f}}}$ years"
        ),
        f"its cell by the nearest centroid of the one diagram ({networks['cells'].mean():.0f} cells on average)": (
            f"{in_one_diagram:.0f} µs"
        ),
        "all exact cells of a network in its window (traced, cut, certified)": (
            f"{networks['partition_seconds'].mean():.2f} s"
        ),
        "the same with weights, centroids and radii of the one diagram": f"{lifted['lift_seconds'].mean():.2f} s",
    }
    return _markdown({"what": "---", "time": "--:"}, times.items())
