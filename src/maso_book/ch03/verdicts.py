"""How the claims of chapter 03 are judged from its records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maso_book.ch03.distance import PLACES
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Outcome, Verdict, judged

if TYPE_CHECKING:
    import pandas as pd

ANGLE = 1e-9
"""Largest deviation of a measured angle, in radians, that the criteria of claims 03.2 and 03.3 allow."""
DISTANCE = 1e-9
"""Largest difference of a distance found in three ways, criterion of claim 03.7."""
NEARER = 0.9
"""Largest factor, distances of data over those elsewhere, at which a problem counts for claim 03.4."""

# What the figures and the verdicts share -----------------------------------------------------------------------------


def by_bend(records: Sequence[Record]) -> pd.DataFrame:
    """The arrays of 03-bends as one table, one row a bend."""
    import pandas as pd

    return pd.concat([pd.DataFrame(record.arrays) for record in records], ignore_index=True)


def compared(records: Sequence[Record]) -> pd.DataFrame:
    """03-laguerre, one row for a kind of points in a layer of a network: how many are `compared`, and `mismatches`."""
    return as_table(records, "mismatches").merge(as_table(records, "samples"))


def turning_ratios(records: Sequence[Record]) -> dict[int, Interval]:
    """By width: log of the total turning with permuted over that with true labels, paired by seed."""
    boundaries = as_table(records, "boundaries").assign(log_turning=lambda table: np.log(table["turning_rad"]))
    return {
        width: interval(paired(rows, "log_turning", by="labels", first="permuted", second="true").tolist())
        for width, rows in arms(boundaries, "width")
    }


def changes(records: Sequence[Record], labels: str) -> dict[str, Interval]:
    """Change of the mean log distance from the first to the last epoch: at each place, and less that elsewhere."""
    distances = as_table(records, "distances")
    distances = distances[distances["labels"] == labels]
    first, last = distances["epoch"].min(), distances["epoch"].max()

    change = {
        place: paired(rows, "mean_log_distance", by="epoch", first=last, second=first)
        for place, rows in arms(distances, "place")
    }
    change |= {f"{place} less elsewhere": change[place] - change["elsewhere"] for place in PLACES[:2]}
    return {name: interval(by_seed.tolist()) for name, by_seed in change.items()}


def factor(log: Interval) -> Interval:
    """The mean of logarithms as the factor it stands for, with its interval."""
    return Interval(*(math.exp(value) for value in (log.mean, log.low, log.high)))


# Verdicts -------------------------------------------------------------------------------------------------------------


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    return judged(
        results,
        [
            ("03.1", _judge_layers, ["03-laguerre"]),
            ("03.2", _judge_bends, ["03-bends"]),
            ("03.3", _judge_corners, ["03-turning"]),
            ("03.4", _judge_distance, ["03-distance", "03-distance-images"]),
            ("03.5", _judge_one, ["03-one"]),
            ("03.6", _judge_turning, ["03-turning"]),
            ("03.7", _judge_formula, ["03-distance"]),
        ],
    )


def _judge_layers(claim: str, records: list[Record]) -> Verdict:
    samples, in_layers = as_table(records, "samples"), compared(records)
    single = as_table(records, "single_layers")
    points = samples.groupby("sample")["compared"].sum()
    comparisons = in_layers["compared"].sum()
    wrong = in_layers["mismatches"].sum() + single["mismatches"].sum()

    evidence = (
        f"{len(as_table(records, 'networks'))} networks: {points['random']:,} random points, "
        f"{points['centres']:,} centres of exact cells and {points['corners']:,} points next to their corners, "
        f"{comparisons:,} comparisons in all layers; "
        f"and {single['compared'].sum():,} points on {single['layer_type'].nunique()} kinds of "
        f"single layers in up to {single['inputs'].max()} dimensions: {wrong} mismatches."
    )
    effect = f"{wrong:,} of {comparisons + single['compared'].sum():,} comparisons differ"
    if_right: Outcome = "holds" if points["random"] >= 10**6 else "not tested"
    return Verdict(claim, "does not hold" if wrong else if_right, evidence, effect)


def _judge_bends(claim: str, records: list[Record]) -> Verdict:
    networks, bends = as_table(records, "networks"), by_bend(records)
    count, above = networks["bends"].sum(), networks["above_bound"].sum()
    worst = networks["largest_error_rad"].max()
    tightness = np.median(bends["angle"] / bends["bound"])

    evidence = (
        f"{count:,} bends of {len(networks)} networks: the measured angle differs from the formula's by at most "
        f"{worst:.1e}; {above} are above the bound. Half of the bends reach {tightness:.0%} of their bound "
        "or more."
    )
    effect = f"{above} of {count:,} bends above the bound, error ≤ {worst:.0e} rad"
    if_right: Outcome = "holds" if enough(networks, seeds=20) else "not tested"
    return Verdict(claim, "does not hold" if worst > ANGLE or above else if_right, evidence, effect)


def _judge_corners(claim: str, records: list[Record]) -> Verdict:
    boundaries = as_table(records, "boundaries")
    corners, worst = boundaries["bends"].sum(), boundaries["largest_error_rad"].max()
    evidence = f"{corners:,} corners of {len(boundaries)} boundaries, largest deviation from the formula {worst:.1e}."
    effect = f"largest deviation of an angle {worst:.1e} rad"
    return Verdict(claim, "does not hold" if worst > ANGLE else "holds", evidence, effect)


def _judge_turning(claim: str, records: list[Record]) -> Verdict:
    if not enough(as_table(records, "boundaries"), "width", "labels", seeds=5):
        return Verdict(claim, "not tested", f"{len(records)} seeds, the criterion asks for 5.")

    ratios = turning_ratios(records)
    times = ", ".join(f"{factor(ratio):.1f} times (width {width})" for width, ratio in ratios.items())
    evidence = f"Permuted over true labels the boundary turns {times} as much, {len(records)} seeds."
    least = min(ratios, key=lambda width: ratios[width].low)
    effect = f"permuted / true turning ≥ {factor(ratios[least]):.1f} (width {least})"
    more = [str(width) for width, ratio in ratios.items() if ratio.sign > 0]
    widest = max(ratios)
    finding = (
        f"A network that has to learn labels drawn at random turns its decision boundary {factor(ratios[widest]):.1f} "
        f"times as much as one that learns the true ones (width {widest})."
    )
    if len(more) == len(ratios):
        return Verdict(claim, "holds", evidence, effect, finding=finding)
    if not more:
        return Verdict(claim, "does not hold", evidence, effect)
    return Verdict(claim, "holds in part", evidence, effect, f"at widths {', '.join(more)} alone")


def _judge_distance(claim: str, toy: list[Record], images: list[Record]) -> Verdict:
    dataset = images[0].config["dataset"]
    if dataset == "digits" or not all(enough(as_table(records, "networks"), seeds=5) for records in (toy, images)):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on the toy problem and on real images.")

    parts, relative = [], {}
    for name, records in (("the toy problem", toy), (dataset.upper(), images)):
        change = changes(records, "true")
        relative[name] = change["train less elsewhere"]
        factors = ", ".join(f"{place} × {factor(change[place]):.2f}" for place in PLACES)
        parts.append(
            f"On {name} ({len(records)} seeds) training moves the boundaries {_direction(change['train'])}: {factors}; "
            f"training points over places without data × {factor(relative[name]):.2f}"
        )

    evidence = "Factor of the distance from first to last epoch. " + ". ".join(parts) + "."
    effect = "train / elsewhere: " + ", ".join(f"{factor(log).mean:.2f} on {name}" for name, log in relative.items())
    nearer = [name for name, log in relative.items() if log.sign < 0 and factor(log).mean <= NEARER]
    if not nearer:
        return Verdict(claim, "does not hold", evidence, effect)
    if len(nearer) == len(relative):
        return Verdict(claim, "holds", evidence, effect)
    return Verdict(claim, "holds in part", evidence, effect, f"on {nearer[0]} alone")


def _direction(change: Interval) -> str:
    """Which way the boundaries move, seen from the training points."""
    return {1: "away from the data", -1: "towards the data", 0: "neither way"}[change.sign]


def _judge_formula(claim: str, records: list[Record]) -> Verdict:
    networks = as_table(records, "networks")
    polygons, package = (networks[f"largest_{way}_difference"].max() for way in ("polygon", "package"))
    evidence = (
        f"{len(networks)} networks: the distances differ by at most {polygons:.1e} from those to the exact polygons "
        f"and {package:.1e} from the package's."
    )
    effect = f"largest difference of a distance {max(polygons, package):.1e}"
    if max(polygons, package) > DISTANCE:
        return Verdict(claim, "does not hold", evidence, effect)
    return Verdict(claim, "holds" if len(networks) >= 20 else "not tested", evidence, effect)


def _judge_one(claim: str, records: list[Record]) -> Verdict:
    networks = as_table(records, "networks")
    concave, unweighted = (networks["smallest_kink"] <= 0).sum(), (networks["concave_edges_unweighted"] > 0).sum()
    wrong, points = networks["mismatches"].sum(), networks["compared"].sum()

    evidence = (
        f"{len(networks)} networks, {networks['cells'].sum():,} cells, "
        f"{networks['edges'].sum():,} edges: {concave} networks with an edge that does not bend upwards; "
        f"{points:,} points, {wrong} mismatches. Without weights the sum is concave "
        f"somewhere in {unweighted} of {len(networks)} networks."
    )
    effect = f"{wrong:,} of {points:,} points differ, {concave} of {len(networks)} lifts fail"
    if_right: Outcome = "holds" if len(networks) >= 15 and points >= 10**5 else "not tested"
    return Verdict(claim, "does not hold" if concave or wrong else if_right, evidence, effect)
