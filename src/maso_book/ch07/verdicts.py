"""How the claims of chapter 07 are judged from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from maso_book.ch07.depth import ARMS, MASKED, RELU, K, decisive
from maso_book.ch07.metric import SAME
from maso_book.records import Record
from maso_book.shared.effects import Effect, counted, effects, of_all
from maso_book.shared.names import DATASETS, NETWORKS
from maso_book.tidy import arms, as_table, paired
from maso_book.verdict import Verdict, judged

FIRST_CONTROLS = ("untrained", "untrained, rise with depth", "permuted labels", "pixels", "outputs")
"""What the first edition compared the trained network's codes with: agreement in the last layer, and its rise."""
CONTROLS = ("untrained, calibrated", "permuted labels", "pixels", "outputs", "calibrated, rise with depth")
"""What claim 07.2 compares them with."""
LEARNED = CONTROLS[:2]
"""Those without which nothing was learned."""
ARMS_ASKED, TWINS_ASKED = 11, 5
"""Arms of claims 07.1 and 07.2: ReLU layers and masked pools of six networks, of which the small ResNet has no pools;
and those of the three networks that have a twin."""
LEAST = 2.0
"""Smallest effect of interest of claims 07.1 and 07.2, in percentage points."""
VIOLATIONS = ["nonzero_to_itself", "asymmetric", "broken_triangles"]
DISAGREEMENTS = ["zero_across_polygons", "positive_within_polygon"]
"""Columns of 07-metric: points, pairs and triples against an axiom, and pairs against the exact polygons."""
LAYERS = ["dataset", "network", "kind", "k"]
"""What a comparison is about: the layers of one kind in one network, and a number of neighbours."""

# The first edition's numbers, which figures show ----------------------------------------------------------------------


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


# What the figures and the verdicts share ------------------------------------------------------------------------------


def named(records: Sequence[Record], of: str = "agreement") -> pd.DataFrame:
    """A table of 07-twins or 07-all-images with a column `panel`: data set, network and images in words."""
    table = as_table(records, of)
    fields = zip(table["dataset"], table["network"], table["samples"], strict=True)
    return table.assign(panel=[panel(*each) for each in fields])


def panel(dataset: str, network: str, samples: float | None) -> str:
    """A data set, a network and how many images it learned, in words."""
    images = "all images" if samples is None or pd.isna(samples) else f"{samples:,.0f} images"
    return f"{DATASETS.get(dataset, dataset)}, {NETWORKS.get(network, network)}, {images}"


def layers(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """(Panel, kind) → agreement of the `K` nearest in per cent: rows seeds, columns (arm, labels, layer) in order."""
    chosen = table[(table["k"] == K) & table["kind"].isin((RELU, MASKED))]
    found = {}
    for key, rows in arms(chosen, "panel", "kind"):
        order = [column for column, _ in arms(rows, "arm", "labels", "distance")]
        wide = rows.pivot(index="seed", columns=["arm", "labels", "distance"], values="label_agreement")
        found[key] = 100 * wide[order]
    return found


def right(records: Sequence[Record]) -> dict[tuple[str, str, str, int | str, str], pd.DataFrame]:
    """Agreement of single queries in per cent, a row a seed.

    Returns:
        (Panel, arm, kind, place, labels) → (seeds, queries); place is 0 or −1 for the first or the last layer, or the
        name of a Euclidean distance.
    """
    found: dict[tuple[str, str, str, int | str, str], dict[int, np.ndarray]] = {}
    for record in (record for record in records if record.arrays):
        c = record.config
        rows = record.tables["agreement"]
        keys = decisive(dict.fromkeys((str(row["kind"]), str(row["distance"])) for row in rows))
        for i, arm in enumerate(ARMS):
            for j, (kind, name) in enumerate(keys):
                place: int | str = name if kind == "Euclid" else -(j % 2)
                key = (panel(c["dataset"], c["network"], c["samples"]), arm, kind, place, c["labels"])
                found.setdefault(key, {})[c["seed"]] = 100 / K * record.arrays["right"][i, j].astype(float)
    return {key: pd.DataFrame(of_seeds).T.sort_index() for key, of_seeds in found.items()}


def rises(records: Sequence[Record]) -> tuple[dict[tuple[str, str], Effect], dict[tuple[str, str], float]]:
    """(Panel, kind) → the rise of the trained network with true labels, and the mean of its largest fall.

    Both in percentage points: last layer less first, and the most that is lost from a layer to a later one.
    """
    trained = {
        key: wide["trained"]["true"]
        for key, wide in layers(named(records)).items()
    }  # fmt: skip
    images = right(records)
    rise = {key: (wide.iloc[:, -1] - wide.iloc[:, 0]).dropna() for key, wide in trained.items()}
    drawn = {
        (p, kind): images[p, "trained", kind, -1, "true"] - images[p, "trained", kind, 0, "true"] for p, kind in rise
    }
    falls = {key: float((wide.cummax(axis=1) - wide).max(axis=1).mean()) for key, wide in trained.items()}
    return effects(rise, drawn, of=ARMS_ASKED), falls


def learned(records: Sequence[Record]) -> dict[str, dict[tuple[str, str], Effect]]:
    """Control → (panel, kind) → the agreement in the last layer of the trained network less the control's.

    A panel whose twin is not there has no effect for "permuted labels".
    """
    images = right(records)
    own = {(p, kind): of for (p, arm, kind, place, labels), of in images.items()
           if (arm, place, labels) == ("trained", -1, "true")}  # fmt: skip
    drawn: dict[str, dict[tuple[str, str], pd.DataFrame]] = {control: {} for control in CONTROLS}
    for (p, kind), last in own.items():
        first = images[p, "trained", kind, 0, "true"]
        calibrated = [images[p, "calibrated", kind, place, "true"] for place in (0, -1)]
        drawn[CONTROLS[0]][p, kind] = last - calibrated[1]
        if (p, "trained", kind, -1, "permuted") in images:
            drawn[CONTROLS[1]][p, kind] = last - images[p, "trained", kind, -1, "permuted"]
        drawn[CONTROLS[2]][p, kind] = last - images[p, "trained", "Euclid", "pixels", "true"]
        drawn[CONTROLS[3]][p, kind] = last - images[p, "trained", "Euclid", "outputs", "true"]
        drawn[CONTROLS[4]][p, kind] = last - first - (calibrated[1] - calibrated[0])
    found = {}
    for control, of_arms in drawn.items():
        both = {key: each.dropna(how="all") for key, each in of_arms.items()}
        asked = TWINS_ASKED if control == "permuted labels" else ARMS_ASKED
        found[control] = effects({key: each.mean(axis=1) for key, each in both.items()}, both, of=asked)
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
            ("07.1", _judge_depth, ["07-twins", "07-all-images"]),
            ("07.2", _judge_learned, ["07-twins", "07-all-images"]),
            ("07.3", _judge_metric, ["07-metric"]),
        ],
    )


def _too_small(records: Sequence[Record]) -> str:
    """Why these networks cannot decide; empty where they can."""
    table = as_table(records, "networks")
    learned_some = table[~table["diverged"].astype(bool)]
    kinds = learned_some.groupby(["dataset", "network", "labels", "samples"], dropna=False)["seed"].nunique()
    datasets = set(table["dataset"])
    if kinds.min() < 5 or "digits" in datasets or len(kinds) < 1:
        return f"{kinds.min()} seeds on {', '.join(sorted(datasets))}; the criterion asks for 5 on real images."
    return ""


def _judge_depth(claim: str, twins: list[Record], whole: list[Record]) -> Verdict:
    records = [*twins, *whole]
    if why := _too_small(records):
        return Verdict(claim, "not tested", why)

    found, falls = rises(records)
    counts = counted(found, LEAST)
    said = [
        f"{p}, {kind} {effect.seeds:+.1f}, largest fall {falls[p, kind]:.1f}" for (p, kind), effect in found.items()
    ]
    steady = [counts[key] and falls[key] < LEAST for key in found]
    evidence = (
        f"Last layer less first, in percentage points: {'; '.join(said)}. The rise counts in {of_all(counts.values())} "
        f"arms, without a fall in {of_all(steady)}."
    )
    means = [effect.seeds.mean for effect in found.values()]
    effect = f"rises by {min(means):+.1f} to {max(means):+.1f} points"
    if any(counts.values()) and not all(steady):
        part = f"a rise in {of_all(counts.values())} arms, without a fall in {sum(steady)}"
        return Verdict(claim, "holds in part", evidence + _whatever(found), effect, part)
    if why := _waits(found):
        return Verdict(claim, "not tested", why + evidence, f"so far {effect}")
    return Verdict(claim, "holds" if all(steady) else "does not hold", evidence, effect)


def _judge_learned(claim: str, twins: list[Record], whole: list[Record]) -> Verdict:
    records = [*twins, *whole]
    if why := _too_small(records):
        return Verdict(claim, "not tested", why)
    found = learned(records)
    if not found["permuted labels"]:
        return Verdict(claim, "not tested", "No twin learned permuted labels.")

    counts = {control: list(counted(of_arms, LEAST).values()) for control, of_arms in found.items()}
    parts = []
    for control, of_arms in found.items():
        smallest = min(of_arms.values(), key=lambda effect: effect.seeds.mean)
        parts.append(f"{control}, {of_all(counts[control])} arms, smallest {smallest.seeds:+.1f}")
    evidence = "Agreement in the last layer, less that of the control, in points: " + "; ".join(parts) + "."
    means = [effect.seeds.mean for control in LEARNED for effect in found[control].values()]
    effect = f"at least {min(means):+.1f} points over calibrated and permuted"
    everywhere = all(map(all, counts.values()))
    both = [
        all(counted(found[control], LEAST)[key] for control in LEARNED if key in found[control])
        for key in found["permuted labels"]
    ]
    if any(both) and not everywhere:
        part = ", ".join(f"{control} {of_all(counts[control])}" for control in LEARNED)
        whole = evidence + _whatever(found["pixels"])
        return Verdict(claim, "holds in part", whole, effect, part, finding=_grouping(found))
    if why := _waits(found["pixels"]):
        return Verdict(claim, "not tested", why + evidence, f"so far {effect}")
    if everywhere:
        return Verdict(claim, "holds", evidence, effect, finding=_grouping(found))
    return Verdict(claim, "does not hold", evidence, effect)


def _grouping(found: Mapping[str, Mapping[tuple[str, str], Effect]]) -> str:
    """How well codes group classes, in a sentence."""
    means = {control: [effect.seeds.mean for effect in of_arms.values()] for control, of_arms in found.items()}
    more = {control: f"{min(each):+.0f} to {max(each):+.0f}" for control, each in means.items()}
    better = [effect.seeds.sign < 0 for effect in found["outputs"].values()]
    return (
        "The neighbours of an image by the code of the last layer are of its class more often than in an untrained "
        f"network ({more[LEARNED[0]]} points) or in one that learned random labels ({more[LEARNED[1]]} points); by "
        f"plain distance of the outputs they are so more often still in {of_all(better)} cases."
    )


def _waits(found: Mapping[tuple[str, str], Effect]) -> str:
    """How many arms have no record yet; empty where all have one."""
    missing = ARMS_ASKED - len(found)
    return f"{missing} of {ARMS_ASKED} arms are not recorded. " if missing > 0 else ""


def _whatever(found: Mapping[tuple[str, str], Effect]) -> str:
    """The same, where these arms cannot change the outcome."""
    return f" {why}They cannot change this outcome." if (why := _waits(found)) else ""


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
