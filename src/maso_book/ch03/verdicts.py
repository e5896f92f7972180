"""How the claims of chapter 03 are judged from its records."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from maso_book.ch03.distance import PLACES
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.verdict import Verdict, judged

ANGLE = 1e-9
"""Largest deviation of a measured angle that the criteria of claims 03.2 and 03.3 allow."""
LABELS = ("true", "permuted")

# What the figures and the verdicts share -----------------------------------------------------------------------------


def turning_ratios(records: Sequence[Record]) -> dict[int, Interval]:
    """By width: log of the total turning with permuted over that with true labels, paired by seed."""
    found: dict[int, list[float]] = {}
    for record in records:
        turning = {(row["width"], row["labels"]): row["turning"] for row in record.metrics["boundaries"]}
        for width in dict.fromkeys(row["width"] for row in record.metrics["boundaries"]):
            found.setdefault(width, []).append(math.log(turning[width, "permuted"] / turning[width, "true"]))
    return {width: interval(values) for width, values in found.items()}


def changes(records: Sequence[Record], labels: str) -> dict[str, Interval]:
    """Change of the mean log distance from the first to the last epoch: at each place, and less that elsewhere."""
    by_place = np.array([record.arrays[labels][-1] - record.arrays[labels][0] for record in records])
    found = {place: interval(column) for place, column in zip(PLACES, by_place.T, strict=True)}
    for i, place in enumerate(PLACES[:2]):
        found[f"{place} less elsewhere"] = interval(by_place[:, i] - by_place[:, 2])
    return found


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
            ("03.3", _judge_turning, ["03-turning"]),
            ("03.4", _judge_distance, ["03-distance", "03-distance-images"]),
            ("03.5", _judge_one, ["03-one"]),
        ],
    )


def _judge_layers(claim: str, records: list[Record]) -> Verdict:
    nets = [net for record in records for net in record.metrics["networks"]]
    single = [layer for record in records for layer in record.metrics["layers"]]
    kinds = ("random", "centres", "corners")
    points = {kind: sum(net[f"points, {kind}"] for net in nets) for kind in kinds}
    wrong = sum(layer[f"mismatches, {kind}"] for net in nets for layer in net["layers"] for kind in kinds)
    wrong += sum(layer["mismatches"] for layer in single)
    compared = sum(net[f"points, {kind}"] * len(net["layers"]) for net in nets for kind in kinds)
    evidence = (
        f"{len(nets)} networks: {points['random']:,} random points, {points['centres']:,} centres of exact cells and "
        f"{points['corners']:,} points next to their corners, {compared:,} comparisons in all layers; and "
        f"{sum(layer['points'] for layer in single):,} points on {len({layer['layer'] for layer in single})} kinds of "
        f"single layers in up to {max(layer['inputs'] for layer in single)} dimensions: {wrong} mismatches."
    )
    if wrong:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if points["random"] >= 10**6 else "not tested", evidence)


def _judge_bends(claim: str, records: list[Record]) -> Verdict:
    count = sum(record.metrics["bends"] for record in records)
    worst = max(record.metrics["largest error"] for record in records)
    above = sum(record.metrics["above the bound"] for record in records)
    ratio = np.concatenate([record.arrays["angle"] / record.arrays["bound"] for record in records])
    evidence = (
        f"{count:,} bends of {len(records)} networks: the measured angle differs from the formula's by at most "
        f"{worst:.1e}; {above} are above the bound. Half of the bends reach {np.median(ratio):.0%} of their bound "
        "or more."
    )
    if worst > ANGLE or above:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if len(records) >= 20 else "not tested", evidence)


def _judge_turning(claim: str, records: list[Record]) -> Verdict:
    rows = [row for record in records for row in record.metrics["boundaries"]]
    worst = max(row["largest error"] for row in rows)
    ratios = turning_ratios(records)
    evidence = (
        f"{sum(row['bends'] for row in rows):,} corners of {len(rows)} boundaries, largest deviation {worst:.1e}. "
        "Permuted over true labels the boundary turns "
        + ", ".join(
            f"{math.exp(r.mean):.1f} [{math.exp(r.low):.1f}, {math.exp(r.high):.1f}] times (width {width})"
            for width, r in ratios.items()
        )
        + f" as much, {len(records)} seeds."
    )
    if len(records) < 5:
        return Verdict(claim, "not tested", f"{len(records)} seeds, the criterion asks for 5.")
    if worst > ANGLE:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if all(r.sign > 0 for r in ratios.values()) else "holds with conditions", evidence)


def _judge_distance(claim: str, toy: list[Record], images: list[Record]) -> Verdict:
    parts, signs = [], []
    for name, records in (("toy", toy), (images[0].config["dataset"], images)):
        found = changes(records, "true")
        relative = found["train less elsewhere"]
        signs.append(relative.sign)
        factors = ", ".join(f"{place} {_factor(found[place])}" for place in PLACES)
        where = {1: "away from the data", -1: "towards the data", 0: "no direction"}[relative.sign]
        parts.append(f"{name} ({len(records)} seeds): {factors}; train over elsewhere {_factor(relative)}, {where}")
    evidence = "Factor of the distance from first to last epoch. " + ". ".join(parts) + "."
    if min(len(toy), len(images)) < 5 or images[0].config["dataset"] == "digits":
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on the toy problem and on real images.")
    if not any(signs):
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if signs[0] == signs[1] else "holds with conditions", evidence)


def _factor(change: Interval) -> str:
    """A change of a logarithm as a factor."""
    return f"× {math.exp(change.mean):.2f} [{math.exp(change.low):.2f}, {math.exp(change.high):.2f}]"


def _judge_one(claim: str, records: list[Record]) -> Verdict:
    nets = [net for record in records for net in record.metrics["networks"]]
    concave = sum(net["smallest kink"] <= 0 for net in nets)
    wrong = sum(net["mismatches"] for net in nets)
    points = sum(net["points"] for net in nets)
    plain = sum(net["concave edges without weights"] > 0 for net in nets)
    evidence = (
        f"{len(nets)} networks, {sum(net['cells'] for net in nets):,} cells, "
        f"{sum(net['edges'] for net in nets):,} edges: {concave} networks with an edge that does not bend upwards; "
        f"{points:,} points, {wrong} mismatches. Without weights the sum is concave "
        f"somewhere in {plain} of {len(nets)} networks."
    )
    if concave or wrong:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if len(nets) >= 15 and points >= 10**5 else "not tested", evidence)
