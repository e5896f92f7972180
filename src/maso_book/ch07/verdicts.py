"""How the claims of chapter 07 are judged from its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from maso_book.ch07.agreement import KS
from maso_book.ch07.metric import SAME
from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.verdict import Verdict, judged

KINDS = ("ReLU", "pool")
LABELS: tuple[Literal["true", "permuted"], ...] = ("true", "permuted")
CONTROLS = ("untrained", "untrained, rise with depth", "permuted labels", "pixels", "outputs")
"""What the trained network's codes are compared with in claim 07.2: agreement in the last layer, and its rise."""

# What the figures and the verdicts share ------------------------------------------------------------------------------


def groups(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """(data set, network) → its records in the order of the seeds; networks that diverged are left out."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=lambda r: r.config["seed"]):
        if not record.metrics["diverged"]:
            found.setdefault((record.config["dataset"], record.config["network"]), []).append(record)
    return found


def rows(record: Record, epoch: int, kind: str | None = None) -> list[dict[str, Any]]:
    """The layers of one network after training (`epoch` −1) or before it (0), in order; of one kind, or all."""
    when = record.config["epochs"] if epoch else 0
    return [row for row in record.metrics["rows"] if row["epoch"] == when and kind in (None, row["kind"])]


def kinds(record: Record) -> list[str]:
    """The kinds of layers that the network has."""
    return [kind for kind in KINDS if rows(record, -1, kind)]


def euclid(record: Record, epoch: int, name: str, k: int) -> float:
    """Agreement by one of the Euclidean distances."""
    (row,) = [row for row in rows(record, epoch, "Euclid") if row["layer"] == name]
    return row[f"k = {k}"]


def gain(record: Record, epoch: int, kind: str, k: int) -> float:
    """Agreement in the last layer of a kind less that in the first."""
    layers = [row[f"k = {k}"] for row in rows(record, epoch, kind)]
    return layers[-1] - layers[0]


def order(record: Record, epoch: int, kind: str, k: int) -> float:
    """Kendall's τ between the depth of the layers of a kind and their agreement."""
    from scipy.stats import kendalltau

    layers = [row[f"k = {k}"] for row in rows(record, epoch, kind)]
    return float(kendalltau(range(len(layers)), layers).statistic)


def last(record: Record, epoch: int, kind: str, k: int) -> float:
    """Agreement in the last layer of a kind."""
    return rows(record, epoch, kind)[-1][f"k = {k}"]


def twins(records: Sequence[Record]) -> dict[tuple[str, str], list[tuple[Record, Record]]]:
    """(data set, network) → pairs (true labels, permuted labels), one for each seed with both."""
    found = {}
    for name, members in groups(records).items():
        true, permuted = ({r.config["seed"]: r for r in members if r.config["labels"] == arm} for arm in LABELS)
        found[name] = [(true[seed], permuted[seed]) for seed in true if seed in permuted]
    return found


def advantages(
    standard: Sequence[Record], labels: Sequence[Record], kind: str, k: int
) -> dict[tuple[str, str, str], Interval]:
    """(control, data set, network) → agreement in the last layer of a kind, less that of the control, by seed."""
    found = {}
    for name, records in groups(standard).items():
        if kind not in kinds(records[0]):
            continue
        trained = np.array([last(r, -1, kind, k) for r in records])
        untrained = np.array([last(r, 0, kind, k) for r in records])
        rise = [gain(r, -1, kind, k) - gain(r, 0, kind, k) for r in records]
        found["untrained", *name] = interval(list(trained - untrained))
        found["untrained, rise with depth", *name] = interval(rise)
        for control in ("pixels", "outputs"):
            found[control, *name] = interval(list(trained - [euclid(r, -1, control, k) for r in records]))
    for name, pairs in twins(labels).items():
        if kind in kinds(pairs[0][0]):
            found["permuted labels", *name] = interval([last(t, -1, kind, k) - last(p, -1, kind, k) for t, p in pairs])
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
            ("07.1", _judge_depth, ["07-agreement"]),
            ("07.2", _judge_learned, ["07-agreement", "07-labels"]),
            ("07.3", _judge_metric, ["07-metric"]),
        ],
    )


def _too_small(seeds: Sequence[int], records: Sequence[Record]) -> str:
    """Why so many seeds of each network, or these data, cannot decide; empty where they can."""
    datasets = sorted({record.config["dataset"] for record in records})
    if min(seeds, default=0) < 5 or "digits" in datasets:
        return f"{min(seeds, default=0)} seeds on {', '.join(datasets)}; the criterion asks for 5 on real images."
    return ""


def _judge_depth(claim: str, records: list[Record]) -> Verdict:
    if why := _too_small([len(members) for members in groups(records).values()], records):
        return Verdict(claim, "not tested", why)
    parts, good, asked = [], 0, 0
    for (dataset, network), members in groups(records).items():
        for kind in kinds(members[0]):
            found = {k: interval([gain(r, -1, kind, k) for r in members]) for k in KS}
            orders = {k: interval([order(r, -1, kind, k) for r in members]) for k in KS}
            good += sum(found[k].sign > 0 and orders[k].sign > 0 for k in KS)
            asked += len(KS)
            gains = ", ".join(f"{points(found[k])} (k = {k}, τ = {orders[k].mean:.2f})" for k in KS)
            parts.append(f"{dataset}, {network}, {kind}: {gains}")
    evidence = f"Last layer less first, in percentage points. {'; '.join(parts)}. {good} of {asked} rise with depth."
    outcome = "holds" if good == asked else "holds with conditions" if good else "does not hold"
    return Verdict(claim, outcome, evidence)  # type: ignore[arg-type]


def _judge_learned(claim: str, standard: list[Record], labels: list[Record]) -> Verdict:
    counted = [len(members) for found in (groups(standard), twins(labels)) for members in found.values()]
    if why := _too_small(counted, [*standard, *labels]):
        return Verdict(claim, "not tested", why)
    found = {(kind, k): advantages(standard, labels, kind, k) for kind in KINDS for k in KS}
    by_control = {
        control: [(key, i) for part in found.values() for key, i in part.items() if key[0] == control]
        for control in CONTROLS
    }
    above = {control: all(i.sign > 0 for _, i in cases) for control, cases in by_control.items()}
    evidence = "Agreement in the last layer, less that of the control, in percentage points: " + "; ".join(
        f"{control}, above in {sum(i.sign > 0 for _, i in cases)} of {len(cases)} comparisons, "
        f"smallest {points(min((i for _, i in cases), key=lambda i: i.mean))}"
        for control, cases in by_control.items()
    )
    if not (above["untrained"] and above["permuted labels"]):
        return Verdict(claim, "does not hold", evidence + ".")
    return Verdict(claim, "holds" if all(above.values()) else "holds with conditions", evidence + ".")


def _judge_metric(claim: str, records: list[Record]) -> Verdict:
    nets = [net for record in records for net in record.metrics["networks"]]
    axioms = ("not zero to itself", "not symmetric", "triangle")
    cells = ("distance 0, other polygon", "distance above 0, same polygon")
    total = {key: sum(net[key] for net in nets) for key in (*axioms, *cells)}
    pairs, triples, zero, shared = (
        sum(net[key] for net in nets)
        for key in ("pairs", "triples", "pairs at distance 0", "distance above 0, same map")
    )
    apart = max(net["distance 0, largest difference of the maps"] for net in nets)
    evidence = (
        f"{len(nets)} networks, {pairs:,} pairs, {triples:,} triples: {sum(total[key] for key in axioms)} violations "
        f"of the axioms. {zero:,} pairs at distance 0, {sum(total[key] for key in cells)} disagreements with the exact "
        f"polygons; their affine maps differ by at most {apart:.0e}. {shared:,} pairs in different cells share a map."
    )
    if any(total.values()) or apart > SAME:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if len(nets) >= 50 and zero >= 1000 else "not tested", evidence)


def points(i: Interval) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * i.mean:+.1f} [{100 * i.low:+.1f}, {100 * i.high:+.1f}]"
