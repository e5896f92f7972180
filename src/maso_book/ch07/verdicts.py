"""How the claims of chapter 07 are judged from its records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from maso_book.ch07.metric import SAME
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table, paired
from maso_book.verdict import Verdict, judged

CONTROLS = ("untrained", "untrained, rise with depth", "permuted labels", "pixels", "outputs")
"""What the trained network's codes are compared with in claim 07.2: agreement in the last layer, and its rise."""
DECISIVE = ("untrained", "permuted labels")
"""Those without which nothing was learned."""
VIOLATIONS = ["nonzero_to_itself", "asymmetric", "broken_triangles"]
DISAGREEMENTS = ["zero_across_polygons", "positive_within_polygon"]
"""Columns of 07-metric: points, pairs and triples against an axiom, and pairs against the exact polygons."""
LAYERS = ["dataset", "network", "kind", "k"]
"""What a comparison is about: the layers of one kind in one network, and a number of neighbours."""

# What the figures and the verdicts share ------------------------------------------------------------------------------


def agreements(records: Sequence[Record]) -> pd.DataFrame:
    """The tables `agreement` of 07-agreement or 07-labels, with `arm`: "trained" or "untrained"."""
    table = as_table(records, "agreement")
    return table.assign(arm=(table["epoch"] > 0).map({True: "trained", False: "untrained"}))


def by_depth(records: Sequence[Record]) -> pd.DataFrame:
    """How the agreement by VQ distance goes with depth.

    Returns:
        A row for each network, arm, kind of layer and k, with `last`, the agreement in the last layer of the kind, and
        `gain`, that less the agreement in the first, both in per cent, and `order`, Kendall's τ of agreement and depth.
    """
    from scipy.stats import kendalltau

    def order(layers: pd.Series) -> float:
        return float(kendalltau(range(len(layers)), layers).statistic)

    table = agreements(records)
    layers = table[table["kind"] != "Euclid"].groupby([*LAYERS, "labels", "seed", "arm"], sort=False)
    shares = layers["label_agreement"]
    last, first = 100 * shares.last(), 100 * shares.first()
    return pd.DataFrame({"last": last, "gain": last - first, "order": shares.agg(order)}).reset_index()


def advantages(standard: Sequence[Record], labels: Sequence[Record]) -> pd.DataFrame:
    """The agreement in the last layer of each kind, less that of every control, paired by seed.

    Args:
        standard: records of 07-agreement.
        labels: records of 07-labels.

    Returns:
        A row for each control, data set, network, kind of layer, k and seed, with `advantage` in percentage points.
    """
    table = agreements(standard)
    euclid = table[(table["kind"] == "Euclid") & (table["arm"] == "trained")]
    nearest = 100 * euclid.pivot(index=[*LAYERS[:2], "k", "seed"], columns="distance", values="label_agreement")

    parts = {}
    for (dataset, network, kind, k), rows in arms(by_depth(standard), *LAYERS):
        less_untrained = partial(paired, rows, by="arm", first="trained", second="untrained")
        parts["untrained", dataset, network, kind, k] = less_untrained("last")
        parts["untrained, rise with depth", dataset, network, kind, k] = less_untrained("gain")
        last = rows[rows["arm"] == "trained"].set_index("seed")["last"]
        for control in ("pixels", "outputs"):
            parts[control, dataset, network, kind, k] = last - nearest.loc[dataset, network, k][control]

    twins = by_depth(labels)
    for layers, rows in arms(twins[twins["arm"] == "trained"], *LAYERS):
        parts["permuted labels", *layers] = paired(rows, "last", by="labels", first="true", second="permuted")
    return pd.concat(parts, names=["control", *LAYERS]).rename("advantage").reset_index()


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


def _seeds(records: Sequence[Record], labels: int = 1) -> list[int]:
    """Of each data set and network, how many seeds learned so many kinds of labels; who diverged has not learned."""
    networks = as_table(records, "networks")
    learned = networks[~networks["diverged"].astype(bool)]
    kinds = learned.groupby(["dataset", "network", "seed"])["labels"].nunique()
    return list((kinds >= labels).groupby(["dataset", "network"]).sum())


def _too_small(seeds: Sequence[int], records: Sequence[Record]) -> str:
    """Why so many seeds of each network, or these data, cannot decide; empty where they can."""
    datasets = sorted({record.config["dataset"] for record in records})
    if min(seeds, default=0) < 5 or "digits" in datasets:
        return f"{min(seeds, default=0)} seeds on {', '.join(datasets)}; the criterion asks for 5 on real images."
    return ""


def _judge_depth(claim: str, records: list[Record]) -> Verdict:
    if why := _too_small(_seeds(records), records):
        return Verdict(claim, "not tested", why)

    table = by_depth(records)
    parts, gains, rising = [], [], []
    for (dataset, network, kind), layers in arms(table[table["arm"] == "trained"], *LAYERS[:3]):
        words = []
        for k, rows in arms(layers, "k"):
            gain, order = interval(rows["gain"]), interval(rows["order"])
            words.append(f"{gain:+.1f} (k = {k}, τ = {order.mean:.2f})")
            gains.append(gain)
            rising.append(gain.sign > 0 and order.sign > 0)
        parts.append(f"{dataset}, {network}, {kind}: {', '.join(words)}")

    good, cases = sum(rising), len(rising)
    evidence = f"Last layer less first, in percentage points. {'; '.join(parts)}. {good} of {cases} rise with depth."
    effect = f"{good} of {cases} rise, by at least {min(gains, key=lambda i: i.mean):+.1f} points"
    if good == cases:
        return Verdict(claim, "holds", evidence, effect)
    if good:
        return Verdict(claim, "holds with conditions", evidence, effect, part=f"{good} of {cases} rise with depth")
    return Verdict(claim, "does not hold", evidence, effect)


def _judge_learned(claim: str, standard: list[Record], labels: list[Record]) -> Verdict:
    if why := _too_small(_seeds(standard) + _seeds(labels, 2), [*standard, *labels]):
        return Verdict(claim, "not tested", why)

    table = advantages(standard, labels)
    parts, smallest, above = [], {}, {}
    for control in CONTROLS:
        cases = [interval(rows["advantage"]) for _, rows in arms(table[table["control"] == control], *LAYERS)]
        good = sum(case.sign > 0 for case in cases)
        above[control] = good == len(cases)
        smallest[control] = min(cases, key=lambda case: case.mean)
        parts.append(f"{control}, above in {good} of {len(cases)} comparisons, smallest {smallest[control]:+.1f}")

    evidence = "Agreement in the last layer, less that of the control, in percentage points: " + "; ".join(parts) + "."
    decisive = min((smallest[control] for control in DECISIVE), key=lambda case: case.mean)
    effect = f"at least {decisive:+.1f} over untrained and permuted"
    if not all(above[control] for control in DECISIVE):
        return Verdict(claim, "does not hold", evidence, effect)
    if all(above.values()):
        return Verdict(claim, "holds", evidence, effect)
    failed = ", ".join(control for control in CONTROLS if not above[control])
    return Verdict(claim, "holds with conditions", evidence, effect, part=f"not above {failed}")


def _judge_metric(claim: str, records: list[Record]) -> Verdict:
    networks = as_table(records, "networks")
    pairs, triples, zero, one_map = (
        int(networks[column].sum()) for column in ("pairs", "triples", "pairs_at_zero", "positive_with_one_map")
    )
    violations, disagreements = (int(networks[columns].sum().sum()) for columns in (VIOLATIONS, DISAGREEMENTS))
    apart = networks["largest_map_difference"].max()

    evidence = (
        f"{len(networks)} networks, {pairs:,} pairs, {triples:,} triples: {violations} violations of the axioms. "
        f"{zero:,} pairs at distance 0, {disagreements} disagreements with the exact polygons; their affine maps "
        f"differ by at most {apart:.0e}. {one_map:,} pairs in different cells share a map."
    )
    effect = f"{violations} violations, {disagreements} disagreements in {pairs:,} pairs"
    if violations or disagreements or apart > SAME:
        return Verdict(claim, "does not hold", evidence, effect)
    return Verdict(claim, "holds" if len(networks) >= 50 and zero >= 1000 else "not tested", evidence, effect)
