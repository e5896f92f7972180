"""Records as tables, and verdicts from them."""

import pandas as pd
import pytest

from maso import MasoError
from maso_book.records import Record, Tables
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Verdict, judged, scale


def record(seed: int, tables: Tables, **config: object) -> Record:
    made = {"device": "cpu", "seconds": 1.0}
    return Record("01-toy", {"seed": seed, **config}, tables, {}, made, f"{seed:016}")


RECORDS = [
    record(
        seed,
        {"epochs": [{"epoch": epoch, "gap": seed + epoch} for epoch in (0, 1)], "layers": []},
        arm=arm,
        keep=[0, 1],
    )
    for seed in range(3)
    for arm in ("true", "permuted")
]


def test_a_row_is_a_measurement_with_its_configuration() -> None:
    table = as_table(RECORDS, "epochs")
    assert list(table) == ["record", "seed", "arm", "keep", "epoch", "gap"]
    assert len(table) == 12
    assert table.loc[3].to_dict() == {
        "record": f"{0:016}", "seed": 0, "arm": "permuted", "keep": (0, 1), "epoch": 1, "gap": 1,
    }  # fmt: skip
    assert as_table(RECORDS, "layers").empty


def test_which_table_must_be_said_where_there_are_several() -> None:
    for of in (None, "networks"):
        with pytest.raises(MasoError, match="01-toy has the tables epochs, layers: name one"):
            as_table(RECORDS, of)
    assert as_table([record(0, {"one": [{"x": 1}]})])["x"].tolist() == [1]


def test_a_field_and_a_column_of_one_name_are_refused() -> None:
    with pytest.raises(MasoError, match="epoch is a field of the configuration and a column"):
        as_table([record(0, {"rows": [{"epoch": 1}]}, epoch=3)])


def test_arms_come_in_the_order_in_which_they_appear() -> None:
    table = as_table(RECORDS, "epochs")
    assert [name for name, _ in arms(table, "arm")] == ["true", "permuted"]
    assert [(name, len(rows)) for name, rows in arms(table, "arm", "epoch")][:2] == [(("true", 0), 3), (("true", 1), 3)]
    lacking = pd.DataFrame({"width": [None, 8.0], "seed": [0, 0]})
    assert len(list(arms(lacking, "width"))) == 2


def test_pairs_are_made_by_seed() -> None:
    table = pd.DataFrame(
        {"seed": [0, 1, 2, 1, 0], "arm": ["a", "a", "a", "b", "b"], "value": [5.0, 6.0, 9.0, 1.0, 2.0]}
    )
    less = paired(table, "value", by="arm", first="a", second="b")
    assert less.to_dict() == {0: 3.0, 1: 5.0}  # seed 2 has no partner
    with pytest.raises(ValueError, match="duplicate"):
        paired(pd.concat([table, table]), "value", by="arm", first="a", second="b")


def test_enough_seeds_in_every_arm() -> None:
    table = pd.DataFrame({"seed": [0, 1, 2, 0, 1, 1], "arm": list("aaabbb")})
    assert enough(table, seeds=3)
    assert enough(table, "arm", seeds=2)
    assert not enough(table, "arm", seeds=3)


def test_a_verdict_is_judged_from_the_records_it_needs_and_says_their_scale() -> None:
    runs = [record(seed, {}, dataset="mnist", samples=5000, epochs=[0, 8]) for seed in range(5)]
    judges = [
        ("01.1", lambda claim, found: Verdict(claim, "holds", f"{len(found)} runs"), ["01-toy"]),
        ("01.2", lambda claim, found, other: Verdict(claim, "holds", ""), ["01-toy", "01-other"]),
    ]
    first, second = judged({"01-toy": runs, "01-other": []}, judges)
    assert first == Verdict("01.1", "holds", "5 runs", scale="5 seeds · 5,000 images · 8 epochs · CPU")
    assert (second.outcome, second.evidence) == ("not tested", "No record of 01-other.")


def test_a_scale_says_ranges_and_all_images() -> None:
    runs = [record(0, {}, dataset="mnist", samples=n, epochs=e) for n, e in ((None, 4), (5000, 8))]
    assert scale(runs) == "1 seed · 5,000 to all images · 4 to 8 epochs · CPU"
    assert scale(runs[:1]) == "1 seed · all images · 4 epochs · CPU"
    assert scale([record(0, {}, samples=2000)]) == "1 seed · CPU"  # samples of a toy problem are no images
