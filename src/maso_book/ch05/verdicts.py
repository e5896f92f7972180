"""How the claims of chapter 05 are judged from its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.verdict import Verdict, judged

TOLERANCE = 1e-6
"""Largest error that the criteria of claims 05.1 and 05.2 allow."""
LABELS: tuple[Literal["true", "permuted"], ...] = ("true", "permuted")
CRITERION_READINGS = ("given", "centred")

# What the figures and the verdicts share ------------------------------------------------------------------------------


def row(record: Record, epoch: int, *, place: str = "train", reading: str = "centred") -> dict[str, Any]:
    """What one network of 05-templates or 05-widths showed after `epoch` epochs."""
    (found,) = [r for r in record.metrics["rows"] if (r["epoch"], r["place"], r["reading"]) == (epoch, place, reading)]
    return found


def epochs(record: Record) -> list[int]:
    """The epochs after which a network was measured, 0 first."""
    return sorted({r["epoch"] for r in record.metrics["rows"]})


def gap(found: dict[str, Any]) -> float:
    """cos(A_y[x], x) − cos(A_y[x], x')."""
    return found["cosine"] - found["cosine to others"]


def arms(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """(network, labels) → its records in the order of the seeds; networks that diverged are left out."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda r: r.config["seed"]):
        if not record.metrics["diverged"]:
            found.setdefault((record.config["network"], record.config["labels"]), []).append(record)
    return found


def by_width(records: Sequence[Record], labels: str) -> dict[int, list[Record]]:
    """Width → the records of 05-widths with these labels, in the order of the seeds; as `arms` otherwise."""
    found: dict[int, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.config["width"], r.config["seed"])):
        if record.config["labels"] == labels and not record.metrics["diverged"]:
            found.setdefault(record.config["width"], []).append(record)
    return found


def pattern_gains(records: Sequence[Record], reading: str) -> dict[str, Interval]:
    """Share of the sign pattern after training; the same less that before training, and less that of others."""
    last = [row(r, epochs(r)[-1], reading=reading) for r in records]
    first = [row(r, 0, reading=reading) for r in records]
    return {
        "share": interval([own["pattern"] for own in last]),
        "less untrained": interval([own["pattern"] - old["pattern"] for own, old in zip(last, first, strict=True)]),
        "less other images": interval([own["pattern"] - own["pattern of others"] for own in last]),
    }


def gap_after(records: Sequence[Record], **where: str) -> list[float]:
    """The gap of each network after its last epoch."""
    return [gap(row(r, epochs(r)[-1], **where)) for r in records]


def growth_with_epochs(records: Sequence[Record]) -> Interval:
    """Slope of the gap against log2(1 + epoch), one for each network."""
    return interval([_slope([1 + e for e in epochs(r)], [gap(row(r, e)) for e in epochs(r)]) for r in records])


def growth_with_width(records: Sequence[Record], labels: str) -> Interval:
    """Slope of the gap after training against log2(width), one for each seed."""
    widths = by_width(records, labels)
    gaps = np.array([gap_after(group) for group in widths.values()])
    return interval([_slope(list(widths), column) for column in gaps.T])


def permuted_less_true(records: Sequence[Record], network: str) -> Interval:
    """Gap after training with permuted labels less that with true ones, paired by seed."""
    found = arms(records)
    permuted, true = (np.array(gap_after(found[network, labels])) for labels in ("permuted", "true"))
    return interval((permuted - true).tolist())


def _slope(x: Sequence[float], values: Sequence[float]) -> float:
    return float(np.polyfit(np.log2(x), values, 1)[0])


# Verdicts -------------------------------------------------------------------------------------------------------------


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
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


def _judge_optimum(claim: str, records: list[Record]) -> Verdict:
    parts, wrong, counts = [], False, []
    for kind in ("total", "per class"):
        rows = [r for record in records for r in record.metrics["rows"] if r["budget"] == kind]
        worst, loss = (max(r[key] for r in rows) for key in ("largest error", "largest error of the loss"))
        counts.append(sum(r["problems"] for r in rows))
        wrong |= worst > TOLERANCE or loss > TOLERANCE
        parts.append(f"budget {kind}: {counts[-1]:,} problems, templates within {worst:.1e}, loss within {loss:.1e}")
    evidence = "Proof above; " + "; ".join(parts) + "."
    if wrong:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if min(counts) >= 1000 else "not tested", evidence)


def _judge_growth(claim: str, records: list[Record]) -> Verdict:
    falls = all(r.metrics["loss falls"] for r in records)
    grows = all((np.diff(r.metrics["norm, last three decades"]) > 0).all() for r in records)
    low = min(r.metrics["smallest rate"] / r.metrics["rates allowed"][0] for r in records)
    high = max(r.metrics["largest rate"] / r.metrics["rates allowed"][1] for r in records)
    zero = max(r.metrics["error of the flow from zero"] for r in records)
    starts = sum(1 + r.config["starts"] for r in records)
    evidence = (
        f"Proof above; {starts} flows: loss {'falls' if falls else 'does not fall'} at every time, norm "
        f"{'grows' if grows else 'does not grow'} over the last decades; slowest rate {low - 1:+.1e} of the lower "
        f"bound, fastest {high - 1:+.1e} of the upper one; from zero the rate is the lower bound to {zero:.1e}."
    )
    if not (falls and grows) or low < 1 - TOLERANCE or high > 1 + TOLERANCE:
        return Verdict(claim, "does not hold", evidence)
    far = all(r.config["decades"] >= 6 for r in records) and len({r.config["seed"] for r in records}) >= 5
    return Verdict(claim, "holds" if far else "not tested", evidence)


def _too_few(groups: Sequence[Sequence[Record]]) -> bool:
    """Fewer than 5 seeds somewhere, or drawn digits in place of a data set."""
    return min(len(group) for group in groups) < 5 or groups[0][0].config["dataset"] == "digits"


def _judge_pattern(claim: str, records: list[Record]) -> Verdict:
    found = arms(records)
    if _too_few(list(found.values())):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on a data set of real images.")
    parts, more, most = [], [], []
    for (network, labels), group in found.items():
        for reading in CRITERION_READINGS:
            gains = pattern_gains(group, reading)
            more.append(gains["less untrained"].sign > 0 and gains["less other images"].sign > 0)
            most.append(gains["share"].mean > 0.5)
            parts.append(
                f"{network}, {labels} labels, images {reading}: {percent(gains['share'])}, less untrained "
                f"{percent(gains['less untrained'])}, less other images {percent(gains['less other images'])}"
            )
    evidence = "Share of training images with the pattern: " + "; ".join(parts) + "."
    if all(more) and all(most):
        return Verdict(claim, "holds", evidence)
    return Verdict(claim, "holds with conditions" if any(more) else "does not hold", evidence)


def _judge_gap(claim: str, records: list[Record], widths: list[Record]) -> Verdict:
    found = arms(records)
    groups = [*found.values(), *(group for labels in LABELS for group in by_width(widths, labels).values())]
    if _too_few(groups):
        return Verdict(claim, "not tested", "The criterion asks for 5 seeds on data sets of real images.")
    networks = list(dict.fromkeys(network for network, _ in found))
    tests = {
        "gap": {f"{n}, {labels} labels": interval(gap_after(group)) for (n, labels), group in found.items()},
        "growth for each doubling of the epochs": {
            f"{n}, {labels} labels": growth_with_epochs(group) for (n, labels), group in found.items()
        },
        "growth for each doubling of the width": {
            f"{labels} labels": growth_with_width(widths, labels) for labels in LABELS
        },
        "permuted less true labels": {n: permuted_less_true(records, n) for n in networks},
    }
    tests["gap of the widest network of the scan"] = {
        f"{labels} labels": interval(gap_after(list(by_width(widths, labels).values())[-1])) for labels in LABELS
    }
    evidence = ". ".join(
        f"{name.capitalize()}: " + ", ".join(f"{arm} {signed(value)}" for arm, value in values.items())
        for name, values in tests.items()
    )
    above, *growths, widest = (all(value.sign > 0 for value in values.values()) for values in tests.values())
    if not above or not any(growths):
        return Verdict(claim, "does not hold", evidence + ".")
    return Verdict(claim, "holds" if all(growths) and widest else "holds with conditions", evidence + ".")


def percent(value: Interval) -> str:
    """A share with its interval."""
    return f"{value.mean:.1%} [{value.low:.1%}, {value.high:.1%}]"


def signed(value: Interval) -> str:
    """A difference with its interval."""
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
