"""How the claims of chapter 02 are judged from its records."""

from __future__ import annotations

import math
from collections.abc import Sequence

from maso_book.ch02.counts import mean_counts, slopes
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.verdict import Verdict, judged

# What the criteria of the claims ask for; fixed before the first recorded run.
NETWORKS = 20
"""Networks, claims 02.1 and 02.2."""
DEFECT = 1e-9
"""Largest convexity defect that counts as convex, claim 02.1."""
STILL_TOUCHING = 0.05
"""Largest share of cells that may still touch the origin after training, claim 02.2."""
SEEDS = 10
"""Seeds, claims 02.3 and 02.4."""
SLOPE = (1.5, 2.5)
"""Where the interval of the slope of log count against log neurons is to lie, claim 02.3."""
DEPTH_FACTOR = 4.0
"""Largest ratio of the mean count at depth 6 to that at depth 1, claim 02.3."""
TRAINING_FACTOR = 5.0
"""Largest factor by which training may change a mean count, claim 02.3."""


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    return judged(
        results,
        [
            ("02.1", _judge_convexity, ["02-toy"]),
            ("02.2", _judge_cones, ["02-toy"]),
            ("02.3", _judge_counts, ["02-counts"]),
            ("02.4", _judge_density, ["02-toy"]),
        ],
    )


def arm(records: Sequence[Record], biases: str) -> list[Record]:
    """The records of "02-toy" whose networks started with these biases."""
    return [record for record in records if record.config["biases"] == biases]


def _judge_convexity(claim: str, records: list[Record]) -> Verdict:
    nets = arm(records, "zero")
    rows = {
        name: [row for net in nets for row in net.metrics["convexity"] if row["cells of"] == name]
        for name in ("layer 1", "layer 2", "joint")
    }
    total = {name: sum(row["sets"] for row in found) for name, found in rows.items()}
    bent = {name: sum(row["not convex"] for row in found) for name, found in rows.items()}
    worst = max(row["largest defect"] for name in ("layer 1", "joint") for row in rows[name])
    whole = all(row["parts"] == row["sets"] for name in ("layer 1", "joint") for row in rows[name])
    bent_nets = sum(row["not convex"] > 0 or row["parts"] > row["sets"] for row in rows["layer 2"])
    dead = sum(row["sets"] == 1 for row in rows["layer 2"])
    evidence = (
        f"{len(nets)} networks. Layer 1: {total['layer 1']:,} cells, joint: {total['joint']:,} cells, largest "
        f"convexity defect {worst:.1g}, {'each code one connected cell' if whole else 'some codes in several parts'}. "
        f"Layer 2 pulled back: {bent['layer 2']} of {total['layer 2']} sets are not convex; {bent_nets} networks have "
        f"one that is not convex or not connected, {dead} died in training (one code of layer 2 everywhere)."
    )
    if len(nets) < NETWORKS:
        return Verdict(claim, "not tested", f"{len(nets)} networks, the criterion asks for {NETWORKS}.")
    kept = worst <= DEFECT and whole and bent_nets == len(nets)
    return Verdict(claim, "holds" if kept else "does not hold", evidence)


def _judge_cones(claim: str, records: list[Record]) -> Verdict:
    nets = arm(records, "zero")
    first = [net.metrics["epochs"][0]["touching"] for net in nets]
    last = [net.metrics["epochs"][-1]["touching"] for net in nets]
    after = nets[0].metrics["epochs"][-1]["epoch"]
    evidence = (
        f"{len(nets)} networks. With zero biases {min(first):.0%} of the cells touch the origin at the start, after "
        f"{after} epochs at most {max(last):.1%}."
    )
    if len(nets) < NETWORKS:
        return Verdict(claim, "not tested", f"{len(nets)} networks, the criterion asks for {NETWORKS}.")
    return Verdict(claim, "holds" if min(first) == 1 and max(last) <= STILL_TOUCHING else "does not hold", evidence)


def _judge_counts(claim: str, records: list[Record]) -> Verdict:
    if len(records) < SEEDS:
        return Verdict(claim, "not tested", f"{len(records)} seeds, the criterion asks for {SEEDS}.")
    found = [*slopes(records, 0).values(), *slopes(records, -1).values()]
    low, high = min(s.low for s in found), max(s.high for s in found)
    start, end = mean_counts(records, 0), mean_counts(records, -1)
    depths, neurons = records[0].config["depths"], records[0].config["neurons"]
    deep = max(math.exp(c[depths[-1], n].mean - c[depths[0], n].mean) for c in (start, end) for n in neurons)
    change = max(math.exp(abs(end[key].mean - start[key].mean)) for key in start)
    evidence = (
        f"{len(records)} seeds, depths {depths[0]} to {depths[-1]}, {neurons[0]} to {neurons[-1]} neurons. The slopes' "
        f"95 % intervals lie in [{low:.2f}, {high:.2f}], before and after training. Depth {depths[-1]} has at most "
        f"{deep:.2f} times the regions of depth {depths[0]}; training changes a mean count by a factor of at most "
        f"{change:.2f}."
    )
    quadratic = SLOPE[0] <= low and high <= SLOPE[1]
    if quadratic and deep <= DEPTH_FACTOR and change <= TRAINING_FACTOR:
        return Verdict(claim, "holds", evidence)
    return Verdict(claim, "holds with conditions" if deep <= DEPTH_FACTOR else "does not hold", evidence)


def ratios(records: Sequence[Record], place: int) -> list[float]:
    """log (density near the data / density elsewhere) of every network at a measured epoch, by its place."""
    rows = [record.metrics["epochs"][place] for record in records]
    return [math.log(row["density near"] / row["density elsewhere"]) for row in rows]


def _judge_density(claim: str, records: list[Record]) -> Verdict:
    nets = arm(records, "uniform")
    if len(nets) < SEEDS:
        return Verdict(claim, "not tested", f"{len(nets)} seeds, the criterion asks for {SEEDS}.")
    before, after = ratios(nets, 0), ratios(nets, -1)
    final = interval(after)
    change = interval([b - a for a, b in zip(before, after, strict=True)])
    evidence = (
        f"{len(nets)} seeds, uniform initial biases: regions per unit area near the data are {_factor(final)} times "
        f"those elsewhere after training; training multiplies that ratio by {_factor(change)}. "
        f"{sum(net.metrics['epochs'][-1]['accuracy'] >= 0.95 for net in nets)} networks reach 95 % test accuracy."
    )
    held = [final.low > 0, change.low > 0]
    if any(i.high < 0 for i in (final, change)):
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if all(held) else "holds with conditions" if any(held) else "does not hold", evidence)


def _factor(log: Interval) -> str:
    return f"{math.exp(log.mean):.2f} [{math.exp(log.low):.2f}, {math.exp(log.high):.2f}]"
