"""Arms against each other: what the verdicts, the tables and the figures of chapter 08 are made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maso_book.records import Record
from maso_book.shared.names import DATASETS, NETWORKS
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms, as_table

if TYPE_CHECKING:
    import pandas as pd

LOSSES = 50
"""Places in the range of losses at which two arms are compared."""


def case(row: dict[str, object]) -> str:
    """`"CIFAR-100, small ResNet"`: the data set and the network of a configuration."""
    return f"{DATASETS.get(str(row['dataset']), row['dataset'])}, {NETWORKS[str(row['network'])]}"


def tables(records: Iterable[Record], of: str) -> pd.DataFrame:
    """A table of the records of several experiments with the column `case`; networks that diverged have no rows.

    A pair of experiments may hold the same case; no cell is in two of them.
    """
    table = as_table([_readable(record) for record in records], of)
    return table.assign(case=[case(row) for row in table.to_dict("records")])


def _readable(record: Record) -> Record:
    """The record with `base_loss` for the column `loss` of its table `taylor`: `loss` is a field, too."""
    rows = [{"base_loss" if k == "loss" else k: v for k, v in row.items()} for row in record.tables.get("taylor", ())]
    return dataclasses.replace(record, tables={**record.tables, "taylor": rows})


def curves(records: Iterable[Record]) -> pd.DataFrame:
    """Rugosity along translations over training, with the loss on clean training images: a row an epoch and split.

    Args:
        records: of arms.

    Returns:
        Columns of the table `rugosity` for the bandwidth of the cell, and `train_loss`, `train_accuracy`, `case`.
    """
    runs = list(records)
    rows = tables(runs, "rugosity").query("direction == 'translation' and bandwidth == eps")
    losses = as_table(runs, "epochs")[["record", "epoch", "train_loss", "train_accuracy"]]
    return rows.merge(losses, on=["record", "epoch"])


def last(table: pd.DataFrame) -> pd.DataFrame:
    """Its rows of the last epoch."""
    return table[table["epoch"] == table["epochs"]]


# Two arms -------------------------------------------------------------------------------------------------------------


def log_ratio(first: pd.DataFrame, second: pd.DataFrame, value: str = "free_2") -> float:
    """Mean of log(first / second) over the range of losses that both pass after the first epoch; NaN without one.

    Args:
        first, second: one seed and split of two arms, rows of `curves`.
        value: the column that is compared.
    """
    paths = []
    for rows in (first, second):
        ordered = rows[rows["epoch"] >= 1].sort_values("train_loss")
        paths.append((ordered["train_loss"].to_numpy(), np.log(ordered[value].to_numpy())))
    low, high = max(losses[0] for losses, _ in paths), min(losses[-1] for losses, _ in paths)
    if not low < high:
        return math.nan
    at = np.linspace(low, high, LOSSES)
    a, b = (np.interp(at, losses, values) for losses, values in paths)
    return float((a - b).mean())


def lowered(table: pd.DataFrame, arm: str, than: str, value: str = "free_2") -> Interval:
    """The share by which an arm's measure is lower than another's at equal training loss: mean and interval over seeds.

    Args:
        table: `curves` of one case and split.
        arm, than: the two arms.
        value: the column that is compared.
    """
    return share_lower([
        log_ratio(rows[rows["arm"] == arm], rows[rows["arm"] == than], value)
        for _, rows in arms(table, "seed")
        if {arm, than} <= set(rows["arm"])
    ])  # fmt: skip


def lowered_at_epochs(table: pd.DataFrame, arm: str, than: str, value: str = "free_2") -> dict[int, Interval]:
    """The same at equal epoch, for each epoch after the first one (0)."""
    found = {}
    for epoch, rows in arms(table[table["epoch"] >= 1], "epoch"):
        wide = rows.pivot(index="seed", columns="arm", values=value)
        found[int(epoch)] = share_lower(np.log(wide[arm] / wide[than]).dropna())
    return found


def share_lower(log_ratios: Sequence[float]) -> Interval:
    """1 − exp of the mean of log ratios, one a seed, with its interval; NaN where a seed has none."""
    if len(log_ratios) == 0:
        return Interval(math.nan, math.nan, math.nan)
    found = interval(log_ratios)
    return Interval(-math.expm1(found.mean), -math.expm1(found.high), -math.expm1(found.low))


# All arms -------------------------------------------------------------------------------------------------------------


def networks(records: Iterable[Record]) -> pd.DataFrame:
    """One row a trained network: its table `final` and its test rugosity after the last epoch.

    Returns:
        Columns of `final`, `test_error`, `case`, `free_2`, `plain_2`, `slope`, `train_loss`.
    """
    runs = list(records)
    measured = last(curves(runs)).query("split == 'test'")
    kept = measured[["record", "free_2", "plain_2", "slope", "train_loss", "train_accuracy"]]
    final = tables(runs, "final").merge(kept, on="record")
    return final.assign(test_error=1 - final["test_accuracy"])


def kendall(table: pd.DataFrame, by: str, of: str = "test_error") -> list[float]:
    """Kendall's τ between two columns over the arms, one for each seed.

    Args:
        table: `networks` of one case and loss.
        by, of: columns.
    """
    from scipy.stats import kendalltau

    return [float(kendalltau(rows[by], rows[of]).statistic) for _, rows in arms(table, "seed")]


def class_gains(records: Sequence[Record], arm: str = "augmented", than: str = "none") -> pd.DataFrame:
    """Gain in accuracy of each class of the test set by an arm over another: one row a seed and class.

    Returns:
        Columns `case`, `seed`, `label` and `gain`.
    """
    import pandas as pd

    shares = {
        (case(r.config), r.config["seed"], r.config["arm"]): r.arrays["correct"] / r.arrays["of_class"]
        for r in records
        if r.arrays
    }
    rows = []
    for (name, seed, way), share in shares.items():
        if way == arm and (name, seed, than) in shares:
            gains = share - shares[name, seed, than]
            rows += [{"case": name, "seed": seed, "label": c, "gain": float(gain)} for c, gain in enumerate(gains)]
    return pd.DataFrame(rows, columns=["case", "seed", "label", "gain"])
