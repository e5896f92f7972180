"""How the claims of chapter 02 are judged from its records."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from maso_book.ch02.counts import slopes
from maso_book.records import Record
from maso_book.shared.toy import NEW_SEEDS
from maso_book.statistics import Interval, interval
from maso_book.tidy import as_table, enough, paired
from maso_book.verdict import Outcome, Verdict, judged

# What the criteria of the claims ask for; fixed before the first recorded run.
NETWORKS = 20
"""Networks, claims 02.1, 02.2, 02.5 and 02.6."""
DEFECT = 1e-9
"""Largest convexity defect that counts as convex, claim 02.1."""
ALIVE = 0.30
"""Test accuracy below which a network is dead, claim 02.5: one answer to all inputs is right for a quarter of them."""
LIVING = 15
"""Least number of living networks, claim 02.5."""
BEND = 0.05
"""Least convexity defect of the most bent cell of every living network, claim 02.5."""
STILL_TOUCHING = 0.05
"""Largest share of cells that may still touch the origin after training, claim 02.6."""
SEEDS = 10
"""Seeds, claims 02.3 and 02.4."""
SLOPE = (1.5, 2.5)
"""Where the interval of the slope of log count against log neurons is to lie, claim 02.3."""
DEPTH_FACTOR = 4.0
"""Largest ratio of the mean count at depth 6 to that at depth 1, claim 02.3."""
TRAINING_FACTOR = 5.0
"""Largest factor by which training may change a mean count, claim 02.3."""
LEARNED = 0.95
"""Test accuracy of a network that has learned the toy problem; reported with claim 02.4."""


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    first, new = by_seeds(results.get("02-toy", []))
    toy = {f"02-toy, {biases} biases": arm(first, biases) for biases in ("zero", "uniform")}
    return judged(
        {**results, **toy, "02-toy, new seeds": new},
        [
            ("02.1", _judge_convexity, ["02-toy, zero biases"]),
            ("02.2", _judge_cones, ["02-toy, zero biases"]),
            ("02.3", _judge_counts, ["02-counts"]),
            ("02.4", _judge_density, ["02-toy, uniform biases"]),
            ("02.5", _judge_bends, ["02-toy, new seeds"]),
            ("02.6", _judge_moved, ["02-toy, zero biases"]),
        ],
    )


def by_seeds(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records of "02-toy" that the chapter began with, and those of `NEW_SEEDS`."""
    new = [record for record in records if record.config["seed"] in NEW_SEEDS]
    return [record for record in records if record.config["seed"] not in NEW_SEEDS], new


def arm(records: Sequence[Record], biases: str) -> list[Record]:
    """The records of "02-toy" whose networks started with these biases."""
    return [record for record in records if record.config["biases"] == biases]


def _too_few(claim: str, count: int, needed: int, what: str) -> Verdict:
    return Verdict(claim, "not tested", f"{count} {what}, the criterion asks for {needed}.")


def _judge_convexity(claim: str, records: list[Record]) -> Verdict:
    cells = as_table(records, "convexity")
    if not enough(cells, seeds=NETWORKS):
        return _too_few(claim, len(records), NETWORKS, "networks")

    cells = cells[cells.cells_of != "layer 2"]
    total = cells.groupby("cells_of").codes.sum()
    worst = cells.largest_defect.max()
    split = cells.parts.gt(cells.codes).any()
    evidence = (
        f"{len(records)} networks. Layer 1: {total['layer 1']:,} cells, joint: {total['joint']:,} cells, largest "
        f"convexity defect {worst:.1g}, {'some codes in several parts' if split else 'each code one connected cell'}."
    )
    bent = cells.not_convex[cells.largest_defect > DEFECT].sum()
    effect = f"{bent:,} of {total.sum():,} cells are not convex"
    return Verdict(claim, "holds" if worst <= DEFECT and not split else "does not hold", evidence, effect)


def _judge_bends(claim: str, records: list[Record]) -> Verdict:
    epochs, cells = as_table(records, "epochs"), as_table(records, "convexity")
    if not enough(cells, seeds=NETWORKS):
        return _too_few(claim, len(records), NETWORKS, "new networks")

    trained = epochs[epochs.epoch == epochs.epoch.max()]
    living = trained.record[trained.accuracy >= ALIVE]
    if len(living) < LIVING:
        return _too_few(claim, len(living), LIVING, "living networks")

    deeper = cells[cells.record.isin(living) & (cells.cells_of == "layer 2")]
    bent = (deeper.not_convex.gt(0) | deeper.parts.gt(deeper.codes)).sum()
    low, high = deeper.largest_defect.min(), deeper.largest_defect.max()
    evidence = (
        f"{len(records)} new networks, {len(records) - len(living)} of them dead (test accuracy below {ALIVE:.0%}). "
        f"Layer 2 pulled back: {deeper.not_convex.sum()} of {deeper.codes.sum()} sets are not convex; {bent} of "
        f"{len(living)} living networks have one that is not convex or not connected. The largest defect of a network "
        f"lies between {low:.2f} and {high:.2f}."
    )
    effect = f"in {bent} of {len(living)} networks, largest defect ≥ {low:.2f}"
    if bent == len(living) and low >= BEND:
        return Verdict(claim, "holds", evidence, effect)
    return Verdict(claim, "too small to matter" if bent and high < BEND else "does not hold", evidence, effect)


def _judge_cones(claim: str, records: list[Record]) -> Verdict:
    epochs = as_table(records, "epochs")
    if not enough(epochs, seeds=NETWORKS):
        return _too_few(claim, len(records), NETWORKS, "networks")

    share = epochs[epochs.epoch == 0].touching_share.min()
    evidence = f"{len(records)} networks: before training {share:.0%} of the cells touch the origin."
    return Verdict(claim, "holds" if share == 1 else "does not hold", evidence, f"{share:.0%} of the cells touch 0")


def _judge_moved(claim: str, records: list[Record]) -> Verdict:
    epochs = as_table(records, "epochs")
    if not enough(epochs, seeds=NETWORKS):
        return _too_few(claim, len(records), NETWORKS, "networks")

    last = epochs.epoch.max()
    share = epochs[epochs.epoch == last].touching_share.max()
    evidence = (
        f"{len(records)} networks with zero initial biases: after {last} epochs at most {share:.1%} of the cells touch "
        "the origin."
    )
    outcome: Outcome = "holds" if share <= STILL_TOUCHING else "does not hold"
    return Verdict(claim, outcome, evidence, f"at most {share:.1%} of the cells touch 0")


def _judge_counts(claim: str, records: list[Record]) -> Verdict:
    regions = as_table(records, "regions")
    if not enough(regions, seeds=SEEDS):
        return _too_few(claim, len(records), SEEDS, "seeds")

    slope = slopes(regions).values()
    low, high = min(s.low for s in slope), max(s.high for s in slope)
    mean = regions.assign(log=np.log(regions.regions)).pivot_table("log", ["epoch", "units"], "depth")
    shallow, deep = mean.columns.min(), mean.columns.max()
    deep_factor = math.exp((mean[deep] - mean[shallow]).max())
    start, end = mean.index.levels[0][[0, -1]]
    training_factor = math.exp((mean.loc[end] - mean.loc[start]).abs().max().max())

    units = mean.index.levels[1]
    evidence = (
        f"{len(records)} seeds, depths {shallow} to {deep}, {units.min()} to {units.max()} neurons. The slopes' "
        f"95 % intervals lie in [{low:.2f}, {high:.2f}], before and after training. Depth {deep} has at most "
        f"{deep_factor:.2f} times the regions of depth {shallow}; training changes a mean count by a factor of at most "
        f"{training_factor:.2f}."
    )
    effect = f"slopes in [{low:.2f}, {high:.2f}], depth {deep}/depth {shallow} ≤ {deep_factor:.2f}"
    finding = (
        f"Depth does not multiply cells: with as many neurons, a network of depth {deep} cuts the plane into at most "
        f"{deep_factor:.2f} times the cells of one of depth {shallow}."
    )
    quadratic = SLOPE[0] <= low and high <= SLOPE[1]
    if quadratic and deep_factor <= DEPTH_FACTOR and training_factor <= TRAINING_FACTOR:
        return Verdict(claim, "holds", evidence, effect, finding=finding)
    if deep_factor <= DEPTH_FACTOR:
        part = "depth does not multiply the count"
        return Verdict(claim, "holds with conditions", evidence, effect, part, finding=finding)
    return Verdict(claim, "does not hold", evidence, effect)


def density_ratios(records: Sequence[Record]) -> dict[str, list[float]]:
    """log (density near the data / density elsewhere) of every network, before and after training and the change."""
    epochs = as_table(records, "epochs")
    epochs["log_ratio"] = np.log(epochs.density_near / epochs.density_elsewhere)
    first, last = epochs.epoch.min(), epochs.epoch.max()
    logs = epochs.set_index("epoch").log_ratio
    change = paired(epochs, "log_ratio", by="epoch", first=last, second=first)
    return {"before": logs[[first]].tolist(), "after": logs[[last]].tolist(), "change": change.tolist()}


def geometric(logs: Sequence[float]) -> Interval:
    """Geometric mean with its interval, from logarithms."""
    mean = interval(logs)
    return Interval(*(math.exp(value) for value in (mean.mean, mean.low, mean.high)))


def _judge_density(claim: str, records: list[Record]) -> Verdict:
    epochs = as_table(records, "epochs")
    if not enough(epochs, seeds=SEEDS):
        return _too_few(claim, len(records), SEEDS, "seeds")

    ratios = density_ratios(records)
    final, change = geometric(ratios["after"]), geometric(ratios["change"])
    learned = (epochs[epochs.epoch == epochs.epoch.max()].accuracy >= LEARNED).sum()
    evidence = (
        f"{len(records)} seeds, uniform initial biases: regions per unit area near the data are {final:.2f} times "
        f"those elsewhere after training; training multiplies that ratio by {change:.2f}. "
        f"{learned} networks reach {100 * LEARNED:.0f} % test accuracy."
    )
    effect = f"ratio {final:.2f}, change × {change:.2f}"
    if final.high < 1 or change.high < 1 or not (final.low > 1 or change.low > 1):
        return Verdict(claim, "does not hold", evidence, effect)
    if final.low > 1 and change.low > 1:
        return Verdict(claim, "holds", evidence, effect)
    part = "more cells near the data" if final.low > 1 else "training adds to the ratio"
    return Verdict(claim, "holds with conditions", evidence, effect, part)
