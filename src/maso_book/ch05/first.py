"""The first edition's numbers, of small networks: data of tables and figures from 05-templates and 05-widths.

The claims were judged anew on larger networks (`maso_book.ch05.verdicts`); what these showed is in the claims' history.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from maso_book.records import Record
from maso_book.tidy import arms, as_table, paired


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


def last(table: pd.DataFrame) -> pd.DataFrame:
    """Its rows of the last epoch."""
    return table[table["epoch"] == table["epochs"]]


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """The gap on training images less that on test images: a row a network, epoch and kind of labels, `difference`.

    Args:
        table: what `gaps` gives.
    """
    parts = [
        paired(rows, "gap", by="split", first="train", second="test").rename("difference").reset_index()
        .assign(labels=labels, epoch=epoch)
        for (labels, epoch), rows in arms(table, "labels", "epoch")
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


PATTERNS = {
    "own template, image less mean": ("train", "centred", "pattern"),
    "own template, image as given": ("train", "given", "pattern"),
    "outputs (with bias)": ("train", "centred", "pattern_outputs"),
    "templates of other images": ("train", "centred", "pattern_others"),
    "test images, own template": ("test", "centred", "pattern"),
}
"""The sign pattern and its neighbours: in words → the split, the reading and the column of the table `templates`."""


def patterns(templates: pd.DataFrame) -> pd.DataFrame:
    """Shares of images with the sign pattern, one row for each of `PATTERNS`: the columns `pattern of` and `share`.

    Args:
        templates: rows of the table `templates` of 05-templates.
    """
    parts = []
    for name, (split, reading, column) in PATTERNS.items():
        rows = templates[(templates["split"] == split) & (templates["reading"] == reading)]
        parts.append(rows.assign(**{"pattern of": name, "share": rows[column]}))
    return pd.concat(parts, ignore_index=True)
