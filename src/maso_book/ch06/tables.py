"""Tables of chapter 06 in Markdown: what was tuned, and every arm with its chosen λ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from maso_book.ch06.penalised import NONE
from maso_book.ch06.verdicts import ARMS, CONTROL, PENALTY, chosen, networks
from maso_book.records import Record
from maso_book.shared.markdown import markdown
from maso_book.shared.names import DATASETS
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    NONE: "no penalty",
    "orthogonality": "formula",
    "quartic norm": "norms alone",
    "published": "authors' form",
    "templates": "templates",
}
"""The arms in words."""
DECIDING = (PENALTY, CONTROL)


def title(case: str) -> str:
    """A case (`maso_book.ch06.verdicts.case_of`) with the data set's proper name."""
    dataset, *rest = case.split(", ")
    return ", ".join([DATASETS.get(dataset, dataset), *rest])


def tuning(records: Sequence[Record]) -> str:
    """Mean validation accuracy of each learning rate and weight decay, without a penalty; the best one is bold.

    Args:
        records: of 06-tuning.
    """
    table = as_table(records, "tuning")
    lines = []
    decays = sorted(table["weight_decay"].unique())
    for dataset, rows in arms(table, "dataset"):
        means = rows.groupby(["lr", "weight_decay"])["validation_accuracy"].mean()
        for lr in sorted(rows["lr"].unique()):
            cells = [f"{means[lr, decay]:.1%}" for decay in decays]
            cells = [f"**{c}**" if (lr, d) == means.idxmax() else c for c, d in zip(cells, decays, strict=True)]
            lines.append([title(dataset), f"{lr:g}", *cells])
    return markdown(["data set", "learning rate", *(f"weight decay {decay:g}" for decay in decays)], lines, words=1)


def curves(records: Sequence[Record]) -> pd.DataFrame:
    """The table `curves` of 06-penalties, the columns `loss` and `accuracy` as `training loss`, `training accuracy`.

    `as_table` refuses it, as a configuration has a field `loss`, too.
    """
    without = [
        replace(record, config={name: value for name, value in record.config.items() if name != "loss"})
        for record in records
    ]
    names = {
        "loss": "training loss", "accuracy": "training accuracy", "validation_accuracy": "validation accuracy",
    }  # fmt: skip
    return as_table(without, "curves").rename(columns=names)


def every_strength(records: Sequence[Record]) -> str:
    """Formula and control with every λ: differences to the baseline of the same seed, all seeds that there are.

    Args:
        records: of 06-penalties and 06-strengths.
    """
    table = networks(records).query("not longer and not diverged")
    baseline = table[table["penalty"] == NONE].set_index("seed")
    columns = ("validation_accuracy", "test_accuracy", "gap", "template_cosine_centred_abs")
    lines = []
    deciding = table[table["penalty"].isin(DECIDING)].sort_values(["penalty", "chosen_strength"], kind="stable")
    for (penalty, strength), rows in arms(deciding, "penalty", "chosen_strength"):
        arm = rows.drop_duplicates("seed").set_index("seed")
        less = (arm[[*columns]] - baseline[[*columns]]).dropna().mean()
        numbers = [f"{less[name]:+.2f}" for name in columns[:-1]]
        lines.append([
            NAMES[penalty], f"{strength:g}", f"{len(arm)}", *numbers, f"{less[columns[-1]]:+.3f}",
            f"{arm['row_norm_mean'].mean():.2f}", f"{arm['orthogonality'].mean():.2g}",
        ])  # fmt: skip
    means = baseline[[*columns, "row_norm_mean", "orthogonality"]].mean()
    first = [NAMES[NONE], "0", f"{len(baseline)}", *(f"{means[name]:.2f}" for name in columns[:-1])]
    first += [f"{means[columns[-1]]:.3f}", f"{means['row_norm_mean']:.2f}", f"{means['orthogonality']:.2g}"]
    head = [
        "arm", "λ", "seeds", "validation accuracy (points)", "test accuracy (points)", "gap (points)",
        "cosine of templates less mean", "$\\lVert W_c\\rVert$", "penalty",
    ]  # fmt: skip
    return markdown(head, [first, *lines], words=1)


def arms_table(*experiments: Sequence[Record]) -> str:
    """Every arm of every case with its chosen λ, means over seeds; the test accuracy with its 95 % interval.

    Args:
        experiments: records of 06-penalties, of 06-cases, of 06-cifar100.
    """
    import pandas as pd

    table = chosen(pd.concat([networks(records) for records in experiments if records]))
    head = [
        "case", "arm", "λ", "seeds", "training", "validation", "test accuracy (%)", "gap",
        "$\\lVert W_c\\rVert$", "penalty", "its minimum over shifts",
        "cosine of rows", "less mean", "cosine of templates", "less mean ",
    ]  # fmt: skip
    lines = []
    for case, rows in arms(table, "case"):
        for arm in (arm for arm in ARMS if arm in set(rows["penalty"])):
            lines.append([title(case), NAMES[arm], *_numbers(rows[rows["penalty"] == arm])])
    return markdown(head, lines, words=2)


def _numbers(rows: pd.DataFrame) -> list[str]:
    mean = rows.mean(numeric_only=True)
    test = f"{mean['test_accuracy']:.2f}" if len(rows) < 2 else f"{interval(rows['test_accuracy']):.2f}"
    cosines = ("row_cosine_abs", "row_cosine_centred_abs", "template_cosine_abs", "template_cosine_centred_abs")
    return [
        f"{mean['chosen_strength']:g}", f"{rows['seed'].nunique()}",
        f"{mean['training_accuracy']:.1f}", f"{mean['validation_accuracy']:.1f}", test, f"{mean['gap']:.1f}",
        f"{mean['row_norm_mean']:.2f}", f"{mean['orthogonality']:.3g}", f"{mean['gauge_orthogonality']:.3g}",
        *(f"{mean[name]:.3f}" for name in cosines),
    ]  # fmt: skip


def longer_table(records: Sequence[Record]) -> str:
    """Without a penalty: accuracies after as many epochs as everywhere, and after twice as many.

    Args:
        records: of 06-penalties.
    """
    table = networks(records).query("penalty == ''")
    seeds = set(table[table["longer"]]["seed"])
    lines = [
        [f"{epochs}", f"{rows['seed'].nunique()}", *(f"{interval(rows[f'{split}_accuracy']):.2f}" for split in SPLITS)]
        for epochs, rows in arms(table[table["seed"].isin(seeds)].sort_values("epochs"), "epochs")
    ]
    return markdown(["epochs", "seeds", *(f"{split} accuracy (%)" for split in SPLITS)], lines, words=0)


SPLITS = ("training", "validation", "test")
