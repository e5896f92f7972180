"""Tables of chapter 07 in Markdown: agreement, accuracy, axioms, time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from maso_book.ch07.agreement import EUCLID, KS
from maso_book.ch07.depth import ARMS, MASKED
from maso_book.ch07.speed import FLOOR
from maso_book.ch07.verdicts import DISAGREEMENTS, VIOLATIONS, agreements, named
from maso_book.records import Record
from maso_book.shared.names import DATASETS, NETWORKS
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table


def title(dataset: str, network: str) -> str:
    """A data set in words, with the network where it is not the usual one."""
    return DATASETS.get(dataset, dataset) + ("" if network == "small_cnn" else f", {NETWORKS.get(network, network)}")


def in_words(records: Sequence[Record]) -> pd.DataFrame:
    """`agreements` with names for a reader.

    Returns:
        The table with `panel`, the data set and network; the names of `arm` tell labels apart where there are twins;
        `distance` says which ones are Euclid's.
    """
    table = agreements(records)
    twins = (table["labels"] == "permuted").any()
    panel = [title(*names) for names in zip(table["dataset"], table["network"], strict=True)]
    arm = table["arm"].mask(table["arm"] == "trained", table["labels"] + " labels") if twins else table["arm"]
    names = {name: f"{name}, Euclid" for name in EUCLID}
    return table.assign(
        panel=[f"{name}, twins" if twins else name for name in panel],
        arm=arm,
        distance=table["distance"].replace(names),
    )


def ends(standard: Sequence[Record], twins: Sequence[Record]) -> pd.DataFrame:
    """Agreement in the first and the last layer of each kind and by the Euclidean distances, as `in_words` names them.

    Of twins there are the trained networks alone.
    """
    table = pd.concat([in_words(standard), in_words(twins).query("arm != 'untrained'")], ignore_index=True)
    layers = table.groupby(["panel", "kind"])["distance"]
    end = (table["kind"] == "Euclid") | (table["distance"] == layers.transform("first"))
    end |= table["distance"] == layers.transform("last")
    return table[end].sort_values("kind", key=lambda kinds: kinds.map(["ReLU", "pool", "Euclid"].index), kind="stable")


def agreement_table(standard: Sequence[Record], twins: Sequence[Record]) -> str:
    """The agreement of `ends`, mean over seeds ± half the length of its interval."""
    lines = ["| network | layer | k = 1 | k = 5 | k = 15 |", "|---|---|--:|--:|--:|"]
    for (panel, arm), rows in arms(ends(standard, twins), "panel", "arm"):
        name = f"{panel}, {arm}"
        for distance, shares in arms(rows, "distance"):
            intervals = [interval(shares[shares["k"] == k]["label_agreement"]) for k in KS]
            numbers = " | ".join(f"{i.mean:.1%} ± {i.high - i.mean:.1%}" for i in intervals)
            lines.append(f"| {name} | {distance} | {numbers} |")
            name = ""
    return "\n".join(lines)


def accuracy_table(records: Sequence[Record]) -> str:
    """How well each network had learned."""
    lines = ["| data set | labels | samples | training accuracy | test accuracy |", "|---|---|--:|--:|--:|"]
    for record in records:
        config, (network,) = record.config, record.tables["networks"]
        about = f"{title(config['dataset'], config['network'])}, seed {config['seed']} | {config['labels']}"
        accuracies = "diverged | |"
        if not network["diverged"]:
            accuracies = "{training_accuracy:.1%} | {test_accuracy:.1%} |".format_map(network)
        lines.append(f"| {about} | {config['samples'] or 'all'} | {accuracies}")
    return "\n".join(lines)


def hub_table(records: Sequence[Record]) -> str:
    """How often the image found most often is among the five nearest; pools with and without empty windows."""
    lines = [
        "| network | layer | most frequent, untrained | calibrated | trained | skewness, trained | empty windows |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    hubs, windows = (named(records, of).query("labels == 'true'") for of in ("hubs", "windows"))
    for (panel, kind, distance), rows in arms(hubs, "panel", "kind", "distance"):
        found = {arm: of["most_frequent"].mean() for arm, of in arms(rows, "arm")}
        skewness = rows[rows["arm"] == "trained"]["skewness"].mean()
        empty = windows[(windows["panel"] == panel) & (windows["distance"] == distance) & (windows["arm"] == "trained")]
        share = f"{empty['empty'].mean():.1%}" if kind in ("pool", MASKED) else ""
        name = f"{distance}, masked" if kind == MASKED else distance
        shares = " | ".join(f"{found[arm]:.1%}" for arm in ARMS)
        lines.append(f"| {panel} | {name} | {shares} | {skewness:.1f} | {share} |")
    return "\n".join(lines)


def metric_table(records: Sequence[Record]) -> str:
    """Violations and disagreements by kind of network, summed over seeds."""
    lines = [
        "| network | pairs | triples | violations | at distance 0 | against polygons | other cell, same map |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for network, rows in arms(as_table(records, "networks"), "network"):
        columns = (["pairs"], ["triples"], VIOLATIONS, ["pairs_at_zero"], DISAGREEMENTS, ["positive_with_one_map"])
        numbers = [f"{rows[summed].sum().sum():,}" for summed in columns]
        lines.append(f"| {network} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def speed_table(records: Sequence[Record]) -> str:
    """Seconds of each way to find the nearest codes, median and range over repeats, and ratios to the first way."""
    timings = as_table(records, "timings")
    config = timings.iloc[0]
    lines = [
        f"| {config['queries']:,} codes against {config['images']:,}, {config['units']:,} units | encoding (s) "
        "| search (s) | ratio | other neighbours |",
        "|---|--:|--:|--:|--:|",
    ]
    median = timings.groupby("way", sort=False)["search_seconds"].median()
    ratio = median / median.iloc[0]
    other = as_table(records, "ways").set_index("way")["other_neighbours"]
    for way, rows in arms(timings, "way"):
        search = _range(rows["search_seconds"])
        if way == FLOOR:
            lines.append(f"| {way} | | {search} | {ratio[way]:.2g} | |")
        else:
            lines.append(f"| {way} | {_range(rows['encoding_seconds'])} | {search} | {ratio[way]:.1f} | {other[way]} |")
    return "\n".join(lines)


def _range(seconds: pd.Series) -> str:
    return f"{np.median(seconds):.2g} ({min(seconds):.2g} to {max(seconds):.2g})"
