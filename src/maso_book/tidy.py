"""Records as tables: one row a measurement, with the configuration of its run; and the few things done with them.

`maso_book.table("05-templates")` is the table that a reader begins with. In verdicts, figures and tables it is
`as_table(records)`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from maso.errors import MasoError
from maso_book.records import Record

if TYPE_CHECKING:
    import pandas as pd

RECORD = "record"
"""The column that names the record a row is of."""


def as_table(records: Sequence[Record], of: str | None = None) -> pd.DataFrame:
    """The rows of these records with their configurations: one row a measurement.

    Args:
        records: of one experiment.
        of: which table of the records; not needed where they have one.

    Returns:
        Columns `record` (the record's hash), one for each field of the configuration (lists as tuples), one for each
        column of the table.

    Raises:
        MasoError: there is no such table, or a field and a column have the same name.
    """
    import pandas as pd

    rows = []
    for record in records:
        name = _name(record, of)
        config = {key: tuple(value) if isinstance(value, list) else value for key, value in record.config.items()}
        for row in record.tables[name]:
            if both := sorted(config.keys() & row.keys()):
                raise MasoError(f"{record.experiment}: {', '.join(both)} is a field of the configuration and a column.")
            rows.append({RECORD: record.hash, **config, **row})
    return pd.DataFrame(rows)


def _name(record: Record, of: str | None) -> str:
    if of is None and len(record.tables) == 1:
        return next(iter(record.tables))
    if of is None or of not in record.tables:
        raise MasoError(f"{record.experiment} has the tables {', '.join(record.tables) or 'none'}: name one of them.")
    return of


def arms(table: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    """The rows of each arm of an experiment, in the order in which the arms first appear.

    Args:
        table: rows.
        columns: what tells the arms apart.

    Returns:
        Pairs of the arm's value (a tuple of values where there are several columns) and its rows.
    """
    for values, rows in table.groupby(list(columns), sort=False, dropna=False):
        yield (values[0] if len(columns) == 1 else values), rows


def paired(
    table: pd.DataFrame, value: str, *, by: str, first: Hashable, second: Hashable, on: str = "seed"
) -> pd.Series:
    """`value` of the first arm less that of the second, seed by seed.

    Args:
        table: rows, one for each arm and seed.
        value: the column that is compared.
        by: the column that tells the two arms apart.
        first, second: their values there.
        on: what pairs them.

    Returns:
        One difference for each seed that both arms have, with the seeds as the index.

    Raises:
        ValueError: an arm has two rows of the same seed.
    """
    wide = table.pivot(index=on, columns=by, values=value)
    return (wide[first] - wide[second]).dropna()


def enough(table: pd.DataFrame, *columns: str, seeds: int = 5) -> bool:
    """Whether every arm has at least so many seeds."""
    counted = table.groupby(list(columns), dropna=False)["seed"].nunique() if columns else None
    return bool((table["seed"].nunique() if counted is None else counted.min()) >= seeds)
