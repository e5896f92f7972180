"""How the claims of chapter 05 are judged from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maso_book.ch05.optimum import CLOSED_FORMS, PER_DECADE
from maso_book.ch05.templates import LABELS
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Verdict, judged

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6
"""Largest error that the criteria of claims 05.1 and 05.2 allow."""
PROBLEMS = 1000
"""Fewest problems of each kind that the criterion of claim 05.1 asks for."""
CRITERION_READINGS = ("given", "centred")
"""The images for which the criterion of claim 05.3 asks: as they are, and less their mean."""


def verdicts(results: Mapping[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    return judged(
        results,
        [
            ("05.1", _judge_optimum, ["05-optimum"]),
            ("05.2", _judge_growth, ["05-growth"]),
            ("05.3", _judge_pattern, ["05-templates"]),
            ("05.4", _judge_gap, ["05-templates", "05-widths"]),
        ],
    )


# Theorems -------------------------------------------------------------------------------------------------------------


def _judge_optimum(claim: str, records: list[Record]) -> Verdict:
    optima = as_table(records, "optima")
    parts = []
    for budget in CLOSED_FORMS:
        rows = optima[optima["budget"] == budget]
        parts.append(
            f"budget {budget}: {rows['problems'].sum():,} problems, templates within "
            f"{rows['max_template_error'].max():.1e}, loss within {rows['max_loss_error'].max():.1e}"
        )
    evidence = "Proof above; " + "; ".join(parts) + "."

    problems = optima.groupby("budget")["problems"].sum()
    worst = optima["max_template_error"].max()
    effect = f"templates within {worst:.1e} on {problems.sum():,} problems"

    if max(worst, optima["max_loss_error"].max()) > TOLERANCE:
        return Verdict(claim, "does not hold", evidence, effect)
    return Verdict(claim, "holds" if problems.min() >= PROBLEMS else "not tested", evidence, effect)


def _judge_growth(claim: str, records: list[Record]) -> Verdict:
    flow, bounds = as_table(records, "flow"), as_table(records, "bounds")
    flows = [rows["norm"].to_numpy() for _, rows in arms(flow, "record", "start")]

    falls = bool(bounds["loss_falls"].all())
    grows = all((np.diff(norm[[-2 * PER_DECADE - 1, -PER_DECADE - 1, -1]]) > 0).all() for norm in flows)
    low = (bounds["min_rate"] / bounds["rate_lower"]).min()
    high = (bounds["max_rate"] / bounds["rate_upper"]).max()

    evidence = (
        f"Proof above; {len(flows)} flows: loss {'falls' if falls else 'does not fall'} at every time, norm "
        f"{'grows' if grows else 'does not grow'} over the last decades; slowest rate {low - 1:+.1e} of the lower "
        f"bound, fastest {high - 1:+.1e} of the upper one; from zero the rate is the lower bound to "
        f"{bounds['zero_start_error'].max():.1e}."
    )
    effect = f"rates within their bounds to {max(1 - low, high - 1, 0):.1e}, {len(flows)} flows"

    if not (falls and grows) or low < 1 - TOLERANCE or high > 1 + TOLERANCE:
        return Verdict(claim, "does not hold", evidence, effect)
    far = bounds["decades"].min() >= 6 and enough(bounds)
    return Verdict(claim, "holds" if far else "not tested", evidence, effect)


# Observations ---------------------------------------------------------------------------------------------------------


def gaps(records: Sequence[Record]) -> pd.DataFrame:
    """cos(A_y[x], x) − cos(A_y[x], x'), images less their mean: one row a network, epoch and split.

    Args:
        records: of 05-templates or 05-widths.

    Returns:
        Their table `templates` with the columns `gap`, and `images` ("true labels, train").
    """
    table = as_table(records, "templates").query("reading == 'centred'")
    return table.assign(
        gap=table["cosine_own"] - table["cosine_others"], images=table["labels"] + " labels, " + table["split"]
    )


def after_training(table: pd.DataFrame) -> pd.DataFrame:
    """Its rows of the last epoch."""
    return table[table["epoch"] == table["epochs"]]


def pattern_gains(rows: pd.DataFrame) -> tuple[Interval, Interval, Interval]:
    """Share of images with the sign pattern after training; less that before; less that with other images' templates.

    Args:
        rows: of the table `templates`, one a seed and an epoch.
    """
    trained = after_training(rows)
    untrained = paired(rows, "pattern", by="epoch", first=trained["epoch"].iloc[0], second=0)
    return (
        interval(trained["pattern"]),
        interval(untrained),
        interval(trained["pattern"] - trained["pattern_others"]),
    )


def growth(gaps: pd.DataFrame, factor: pd.Series) -> Interval:
    """Slope of the gap for each doubling of a factor, one for each seed.

    Args:
        gaps: of `gaps`, one arm.
        factor: what doubles, for each row.
    """
    slopes = [
        np.polyfit(rows["doublings"], rows["gap"], deg=1)[0]
        for _, rows in arms(gaps.assign(doublings=np.log2(factor)), "seed")
    ]
    return interval(slopes)


def _enough(table: pd.DataFrame, *columns: str) -> bool:
    """Whether every arm has its seeds, on a data set and not on drawn digits."""
    return enough(table, *columns) and "digits" not in set(table["dataset"])


def _judge_pattern(claim: str, records: list[Record]) -> Verdict:
    table = as_table(records, "templates").query("split == 'train'")
    if not _enough(table, "network", "labels"):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on a data set of real images.")

    parts, shares, more = [], [], []
    for (network, labels), arm in arms(table, "network", "labels"):
        for reading in CRITERION_READINGS:
            share, less_untrained, less_others = pattern_gains(arm[arm["reading"] == reading])
            shares.append(share.mean)
            more.append(less_untrained.sign > 0 and less_others.sign > 0)
            parts.append(
                f"{network}, {labels} labels, images {reading}: {share:.1%}, less untrained {less_untrained:.1%}, "
                f"less other images {less_others:.1%}"
            )

    evidence = "Share of training images with the pattern: " + "; ".join(parts) + "."
    effect = f"{min(shares):.1%} to {max(shares):.1%} of the images"

    if all(more) and min(shares) > 0.5:
        return Verdict(claim, "holds", evidence, effect)
    if not any(more):
        return Verdict(claim, "does not hold", evidence, effect)
    part = f"more than both controls in {sum(more)} of {len(more)} cases"
    return Verdict(claim, "holds with conditions", evidence, effect, part)


def _judge_gap(claim: str, records: list[Record], widths: list[Record]) -> Verdict:
    networks, scan = (gaps(runs).query("split == 'train'") for runs in (records, widths))
    if not (_enough(networks, "network", "labels") and _enough(scan, "labels", "width")):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on data sets of real images.")

    trained, trained_scan = after_training(networks), after_training(scan)
    by_network = {f"{network}, {labels} labels": arm for (network, labels), arm in arms(networks, "network", "labels")}
    by_labels = {f"{labels} labels": trained_scan[trained_scan["labels"] == labels] for labels in LABELS}
    tests = {
        "gap": {name: interval(after_training(arm)["gap"]) for name, arm in by_network.items()},
        "growth for each doubling of the epochs": {
            name: growth(arm, 1 + arm["epoch"]) for name, arm in by_network.items()
        },
        "growth for each doubling of the width": {name: growth(arm, arm["width"]) for name, arm in by_labels.items()},
        "permuted less true labels": {
            network: interval(paired(rows, "gap", by="labels", first="permuted", second="true"))
            for network, rows in arms(trained, "network")
        },
        "gap of the widest network of the scan": {
            name: interval(arm["gap"][arm["width"] == arm["width"].max()]) for name, arm in by_labels.items()
        },
    }

    evidence = ". ".join(
        f"{name.capitalize()}: " + ", ".join(f"{arm} {value:+.3f}" for arm, value in values.items())
        for name, values in tests.items()
    )
    above, *growths, widest = (all(value.sign > 0 for value in values.values()) for values in tests.values())
    effect = f"gap {min(tests['gap'].values(), key=lambda value: value.low):+.3f}"

    if not above or not any(growths):
        return Verdict(claim, "does not hold", evidence + ".", effect)
    if all(growths) and widest:
        return Verdict(claim, "holds", evidence + ".", effect)
    grows_with = [name for name, grows in zip(("epochs", "width", "permuted labels"), growths, strict=True) if grows]
    return Verdict(claim, "holds with conditions", evidence + ".", effect, f"it grows with {', '.join(grows_with)}")
