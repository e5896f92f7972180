"""How the claims of chapter 08 are judged from its records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from maso_book.ch08.compared import curves, kendall, last, lowered, lowered_at_epochs, networks, tables
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Judge, Outcome, Verdict, judged, outcome_of, scale

if TYPE_CHECKING:
    import pandas as pd

LEAST = {"08.1": 0.10, "08.2": 0.10, "08.4": 0.005, "08.5": 2.0, "08.6": 0.10, "08.7": 0.10, "08.8": 0.2}
"""The smallest effects of interest, as the claims have them."""
EXACT = 1e-10
NOISES = ("noise, a pixel", "noise, augmentation")
PENALTIES = ("rugosity", "relative_rugosity")
SQUARED = {"augmented": "augmented, squared", "none": "none, squared"}
BANDWIDTHS = (0.1, 1.0)
RANKERS = {"free_2": "rugosity", "weight_norm": "weight norm", "bends": "bends", "variation": "variation along paths"}


def verdicts(results: Mapping[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    judges: list[Judge] = [
        ("08.1", _judge_augmented, ["08-cifar100", "08-cifar10"]),
        ("08.2", _judge_noise, ["08-cifar100", "08-cifar10"]),
        ("08.3", _judge_terms, ["08-identity", "08-cifar100", "08-cifar10"]),
        ("08.4", _judge_explicit, ["08-cifar10", "08-explicit"]),
        ("08.5", _judge_cost, ["08-cost", "08-cost-cpu"]),
        ("08.6", _judge_squared, ["08-cifar10"]),
        ("08.7", _judge_stable, ["08-cifar100", "08-cifar10"]),
        ("08.8", _judge_occam, ["08-cifar10", "08-explicit"]),
    ]
    found = judged(results, judges)
    return [_in_part(verdict, judge, results) for verdict, judge in zip(found, judges, strict=True)]


PARTLY = {"08.1": "08-cifar10", "08.2": "08-cifar10", "08.3": "08-identity", "08.5": "08-cost-cpu",
          "08.7": "08-cifar10", "08.8": "08-cifar10"}  # fmt: skip
"""The claims of which one experiment already says something, and which."""


def _in_part(verdict: Verdict, judge: Judge, results: Mapping[str, list[Record]]) -> Verdict:
    """Where some of a claim's experiments have no record, what the others say: numbers, and no decision."""
    claim, rule, names = judge
    missing = [name for name in names if not results.get(name)]
    if not missing or not results.get(PARTLY.get(claim, "")):
        return verdict
    found = rule(claim, *(results.get(name) or [] for name in names))
    used = [record for name in names for record in results.get(name) or []]
    outcome: Outcome = found.outcome if claim == "08.3" else "not tested"
    evidence = f"No record of {', '.join(missing)}. So far: {found.evidence}"
    return replace(found, outcome=outcome, evidence=evidence, part="", scale=scale(used))


def _too_few(claim: str, table: pd.DataFrame, *columns: str) -> Verdict | None:
    """ "not tested" where an arm has too few seeds or the images are drawn digits."""
    if enough(table, *columns) and "digits" not in set(table["dataset"]):
        return None
    return Verdict(claim, "not tested", "The criterion asks for 5 seeds on real images.")


def _of_all(passed: Iterable[bool], failed: Iterable[bool]) -> Outcome:
    """The outcome of several cases: all hold, some do, none may (each clearly fails), or it is open."""
    good, bad = list(passed), list(failed)
    if all(good):
        return "holds"
    if any(good):
        return "holds in part"
    return "does not hold" if all(bad) else "not decided"


# Augmentation and noise -----------------------------------------------------------------------------------------------


def _judge_augmented(claim: str, *records: list[Record]) -> Verdict:
    table = curves(_flat(records)).query("loss == 'cross-entropy' and arm in ('none', 'augmented')")
    if missing := _too_few(claim, table, "case", "arm"):
        return missing

    parts, shares, passed, failed, words = [], [], [], [], []
    for (name, split), rows in arms(table, "case", "split"):
        share = lowered(rows, "augmented", "none")
        epochs = lowered_at_epochs(rows, "augmented", "none")
        higher = [epoch for epoch, each in epochs.items() if not each.low > 0]
        outcome = outcome_of(share, least=LEAST[claim])
        passed.append(outcome == "holds" and not higher)
        failed.append(share.high < LEAST[claim] or any(each.high < 0 for each in epochs.values()))
        shares.append(share)
        if passed[-1]:
            words.append(f"{name}, {split}")
        when = f"not lower after epoch {', '.join(map(str, higher))}" if higher else "lower after every epoch"
        end = epochs[max(epochs)]
        parts.append(f"{name}, {split}: {_change(share)} at equal loss, {_change(end)} at the last epoch, {when}")
    effect = f"{_extremes(shares)} at equal training loss"
    return Verdict(
        claim, _of_all(passed, failed), "; ".join(parts) + ".", effect, part=f"{len(words)} of {len(passed)} cases"
    )


def _judge_noise(claim: str, *records: list[Record]) -> Verdict:
    table = curves(_flat(records)).query("loss == 'cross-entropy' and split == 'test'")
    if missing := _too_few(claim, table, "case", "arm"):
        return missing

    least = LEAST[claim]
    parts, passed, failed, shares = [], [], [], []
    for name, rows in arms(table, "case"):
        augmented = lowered(rows, "augmented", "none")
        for noise in (each for each in NOISES if each in set(rows["arm"])):
            share = lowered(rows, noise, "none")
            shares.append(share)
            passed.append(share.high < least and augmented.low > 0 and augmented.mean >= least)
            failed.append(share.low > 0 and share.mean >= least)
            parts.append(f"{name}, {noise}: {_change(share)} (augmentation {_change(augmented)})")
    if not shares:
        return Verdict(claim, "not tested", "No arm was trained with noise.")
    effect = f"noise {_extremes(shares)}"
    part = f"{sum(passed)} of {len(passed)} cases"
    return Verdict(claim, _of_all(passed, failed), "Tangent rugosity, " + "; ".join(parts) + ".", effect, part)


def _judge_squared(claim: str, records: list[Record]) -> Verdict:
    table = curves(records).query("arm in ('none', 'augmented', 'none, squared', 'augmented, squared')")
    if missing := _too_few(claim, table, "arm"):
        return missing

    parts, passed, failed, shares = [], [], [], []
    for split, rows in arms(table, "split"):
        entropy = lowered(rows, "augmented", "none")
        squared = lowered(rows, SQUARED["augmented"], SQUARED["none"])
        shares.append(squared)
        same = squared.sign == entropy.sign != 0
        passed.append(same and abs(squared.mean) >= LEAST[claim])
        failed.append(abs(_far_end(squared)) < LEAST[claim] or (squared.sign != 0 and not same))
        parts.append(f"{split}: squared error {_change(squared)}, cross-entropy {_change(entropy)}")
    effect = f"squared error: {_extremes(shares)}"
    if all(abs(_far_end(share)) < LEAST[claim] for share in shares):
        return Verdict(claim, "too small to matter", "; ".join(parts) + ".", effect)
    return Verdict(claim, _of_all(passed, failed), "; ".join(parts) + ".", effect, part=f"{sum(passed)} of 2 splits")


def _far_end(found: Interval) -> float:
    return found.low if abs(found.low) > abs(found.high) else found.high


# Terms and explicit penalties -----------------------------------------------------------------------------------------


def _judge_terms(claim: str, identity: list[Record], *records: list[Record]) -> Verdict:
    exact = as_table(identity, "identity")
    worst = float(exact["max_error"].max())
    evidence = f"Proof in the chapter; r within {worst:.1e} on {len(exact)} networks, {exact['pieces'].sum():,} pieces"
    table = tables(_flat(records), "taylor").query("loss == 'cross-entropy' and arm in ('none', 'augmented')")
    for (name, arm, shift), rows in arms(table, "case", "arm", "shift"):
        if shift in (1, 4):
            extra, first, curvature, difference = (
                interval(rows[column]) for column in ("extra_loss", "first_order", "curvature", "difference")
            )
            evidence += (
                f"; {name}, {arm}, shift by {shift}: extra loss {extra:+.2f}, of it first order {first:+.2f}, "
                f"curvature of the loss {curvature:+.2f}, difference of A {difference:+.2f}"
            )
    effect = f"identity within {worst:.1e}"
    return Verdict(claim, "holds" if worst < EXACT else "does not hold", evidence + ".", effect)


def _judge_explicit(claim: str, implicit: list[Record], explicit: list[Record]) -> Verdict:
    table = networks([*implicit, *explicit]).query("loss == 'cross-entropy'")
    if missing := _too_few(claim, table, "arm"):
        return missing

    least = LEAST[claim]
    penalised = table[table["penalty"].isin(PENALTIES)]
    best = penalised.groupby("arm", sort=False)["validation_accuracy"].mean().idxmax()
    gain = _difference(table, "test_accuracy", best, "none")
    outcome = outcome_of(gain, least=least)
    flatter = {
        arm: _difference(table, "test_accuracy", arm, "augmented")
        for arm in penalised["arm"].unique()
        if _difference(table, "free_2", arm, "augmented").mean <= 0
    }
    reached = any(each.low > -least for each in flatter.values())
    open_ = any(each.low <= -least <= each.high for each in flatter.values())
    augmented = _difference(table, "test_accuracy", "augmented", "none")

    a, b = outcome == "holds", reached
    parts = [f"best by validation: {best}, {_points(gain)} over none (augmentation {_points(augmented)})"]
    parts += [f"at or below augmentation's rugosity: {arm}, {_points(each)}" for arm, each in flatter.items()]
    if not flatter:
        parts.append("no form and strength is as flat as augmentation")
    if a or b:
        final: Outcome = "holds" if a and b else "holds in part"
    else:
        final = "not decided" if outcome == "not decided" or open_ else "does not hold"
    part = "accuracy over none" if a else "accuracy at equal rugosity"
    return Verdict(claim, final, "Test accuracy, " + "; ".join(parts) + ".", f"{_points(gain)} over none", part)


def _difference(table: pd.DataFrame, value: str, first: str, second: str) -> Interval:
    return interval(paired(table, value, by="arm", first=first, second=second))


def _points(share: Interval) -> str:
    """In percentage points."""
    return f"{Interval(100 * share.mean, 100 * share.low, 100 * share.high):+.2f} points"


def _judge_cost(claim: str, gpu: list[Record], cpu: list[Record]) -> Verdict:
    parts, passed, ratios = [], [], []
    devices = {name: records for name, records in (("GPU", gpu), ("CPU", cpu)) if records}
    for device, records in devices.items():
        if any(record.config["dataset"] == "digits" for record in records):
            return Verdict(claim, "not tested", "The criterion asks for a batch of 256 images on both devices.")
        steps = as_table(records, "steps")
        mean = steps.groupby("penalty", sort=False)["ratio_of_seconds"].mean()
        ratios.append(float(mean["rugosity"]))
        passed.append(ratios[-1] <= LEAST[claim])
        each = ", ".join(f"{name} {ratio:.2f}" for name, ratio in mean.items() if name != "none")
        parts.append(f"{device}: {each}")
    evidence = "Time of a step over that of a plain one, " + "; ".join(parts) + "."
    if {record.provenance["device"] for record in gpu} != {"cuda"}:
        return Verdict(claim, "not tested", f"The criterion asks for a GPU besides the CPU. {evidence}")
    outcome: Outcome = "holds" if all(passed) else "holds in part" if any(passed) else "does not hold"
    effect = ", ".join(f"{ratio:.2f} × on the {device}" for device, ratio in zip(devices, ratios, strict=True))
    part = f"on the {next((d for d, good in zip(devices, passed, strict=True) if good), '')}"
    return Verdict(claim, outcome, evidence, effect, part)


# The measure itself ---------------------------------------------------------------------------------------------------


def _judge_stable(claim: str, *records: list[Record]) -> Verdict:
    table = last(tables(_flat(records), "rugosity")).query(
        "split == 'test' and direction == 'translation' and arm in ('none', 'augmented')"
    )
    if missing := _too_few(claim, table, "case", "arm"):
        return missing

    changes: dict[str, list[Interval]] = {"samples": [], "ε": [], "p": []}
    ratios: dict[float, list[Interval]] = {}
    for _, rows in arms(table, "case", "arm"):
        own = rows[rows["bandwidth"] == rows["eps"]]
        changes["samples"].append(interval(own["free_2_error"] / own["free_2"]))
        wide = rows.pivot(index="seed", columns="bandwidth", values="free_2")
        low, high = BANDWIDTHS
        changes["ε"].append(interval(wide[low] / wide[high] - 1))
        changes["p"].append(interval(own["free_2"] / own["free_1"] - 1))
    for bandwidth in sorted({*BANDWIDTHS, *table["eps"]}):
        for _, rows in arms(table[table["bandwidth"] == bandwidth], "case"):
            ratios.setdefault(bandwidth, []).append(
                lowered_at_epochs(rows, "augmented", "none")[rows["epochs"].iloc[0]]
            )

    least = LEAST[claim]
    stable = {name: all(-least < each.low and each.high < least for each in found) for name, found in changes.items()}
    parts = [
        f"standard error of {int(table['points'].iloc[0])} points {_range(changes['samples'])}",
        f"from ε = {BANDWIDTHS[1]} to {BANDWIDTHS[0]} the estimate changes by {_range(changes['ε'])}",
        f"from p = 1 to 2 by {_range(changes['p'])}",
    ]
    parts += [f"augmentation {_extremes(found)} at ε = {eps:g}" for eps, found in ratios.items()]
    good = [name for name, fine in stable.items() if fine]
    outcome: Outcome = "holds" if len(good) == 3 else "holds in part" if good else "does not hold"
    effect = f"ε: {_range(changes['ε'])}, p: {_range(changes['p'])}"
    evidence = f"Scale-free test rugosity: {'; '.join(parts)}."
    return Verdict(claim, outcome, evidence, effect, part=f"in {', '.join(good)}")


def _judge_occam(claim: str, implicit: list[Record], explicit: list[Record]) -> Verdict:
    table = networks([*implicit, *explicit]).query("loss == 'cross-entropy'")
    if missing := _too_few(claim, table, "arm"):
        return missing

    found = {name: kendall(table, by=column) for column, name in RANKERS.items()}
    tau = interval(found["rugosity"])
    parts = [f"{name} {interval(values):+.2f}" for name, values in found.items()]
    less = [
        f"{name} {interval([a - b for a, b in zip(found['rugosity'], values, strict=True)]):+.2f}"
        for name, values in found.items()
        if name != "rugosity"
    ]
    evidence = (
        f"Kendall's τ with test error over {table['arm'].nunique()} arms: {'; '.join(parts)}. "
        f"Rugosity's less that of {'; '.join(less)}."
    )
    return Verdict(claim, outcome_of(tau, least=LEAST[claim]), evidence, f"τ = {tau:+.2f}")


# Words ----------------------------------------------------------------------------------------------------------------


def _flat(records: Iterable[list[Record]]) -> list[Record]:
    return [record for each in records for record in each]


def _change(share: Interval) -> str:
    """A share by which something is lower, as a change."""
    if math.isnan(share.mean):
        return "no training loss in common"
    return f"{Interval(-share.mean, -share.high, -share.low):+.0%}"


def _extremes(shares: list[Interval]) -> str:
    """The smallest and the largest mean change, of shares by which something is lower."""
    return _range([Interval(-share.mean, -share.high, -share.low) for share in shares], spec="+.0%")


def _range(found: list[Interval], spec: str = ".0%") -> str:
    """The smallest and the largest mean."""
    known = [each.mean for each in found if not math.isnan(each.mean)]
    if not known:
        return "not known"
    low, high = f"{min(known):{spec}}", f"{max(known):{spec}}"
    return low if low == high else f"{low} to {high}"
