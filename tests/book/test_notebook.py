"""What a notebook's first call gives, on the toy experiment."""

import dataclasses
import types
from pathlib import Path
from typing import Any

import pytest
import toy

import maso_book
from maso import MasoError
from maso_book import registry
from maso_book.notebook import Opened, opened
from maso_book.records import Record
from maso_book.verdict import Verdict, judged

PARAMETERS = {"profile": "quick", "dataset": None, "seeds": None, "device": None, "recompute": False}
CLAIMS = """
- {id: "01.1", chapter: "01", kind: theorem, statement: It is so., criterion: None differs., source: []}
- {id: "01.2", chapter: "01", kind: observation, statement: It is., criterion: It is seen., least: 1 s., source: []}
"""


def judge(results: dict[str, list[Record]]) -> list[Verdict]:
    rules: list[Any] = [
        ("01.1", lambda claim, records: Verdict(claim, "holds", "0 differ.", effect="0 of 5"), ["01-powers"]),
        ("01.2", lambda claim, records: Verdict(claim, "holds", ""), ["01-none"]),
    ]
    return judged(results, rules)


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.tree(tmp_path)
    (tmp_path / "book" / "claims.yml").write_text(CLAIMS)
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    drawn = dataclasses.replace(toy.POWERS, name="01-drawn", grid=lambda profile: [toy.Drawn(0)], run=toy.draw)
    monkeypatch.setattr(registry, "registry", lambda: {"01-powers": toy.POWERS, "01-drawn": drawn})
    monkeypatch.setattr(registry, "module_of", lambda chapter, room: types.SimpleNamespace(verdicts=judge))
    monkeypatch.setattr(registry, "broken", dict)


def test_records_tables_and_verdicts() -> None:
    chapter = opened("01", PARAMETERS)
    assert isinstance(chapter, Opened)
    (record,) = chapter["01-powers"]
    assert chapter.table("01-powers")["mean"].tolist() == [record.tables["draws"][0]["mean"]]
    assert [verdict.outcome for verdict in chapter.verdicts] == ["holds", "not tested"]
    line = chapter._repr_markdown_()
    assert line.startswith("**Verdict.** 01.1")
    assert "✔ holds" in line
    head, first, second, last, *_ = chapter.claim_box().data.splitlines()
    assert "In short" in head
    for words in ("✔ holds", "It is so.", "01.1 · 0 of 5"):
        assert words in first
    assert "○ not tested" in second
    assert "2 runs · 1 seed · CPU · 0 seconds in all" in last
    assert chapter.evidence("01.1").data.endswith("✔ holds</span> **01.1.** 0 differ.")
    with pytest.raises(MasoError, match="Chapter 01 has no experiment '01-other': 01-powers, 01-drawn"):
        chapter["01-other"]


def test_evidence_is_folded_where_it_is_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maso_book.notebook.FEW", 5)
    first, fold, numbers, end = opened("01", PARAMETERS).evidence("01.1").data.split("\n\n")
    assert "**01.1**" in first
    assert "0 of 5 · 1 seed · CPU" in first
    assert fold.startswith("<details>")
    assert (numbers, end) == ("0 differ.", "</details>")


def test_boxes_say_claim_criterion_and_verdict() -> None:
    chapter = opened("01", PARAMETERS)
    claimed = chapter.claim_box().data
    for words in ("It is so.", "None differs.", "(theorem)", "(observation)", "*Smallest effect of interest.* 1 s."):
        assert words in claimed
    said = chapter.verdict_box().data
    for words in ("✔ holds", "0 of 5 · 1 seed · CPU", "It is so.", "○ not tested"):
        assert words in said
    assert "01-powers | 1 |" in chapter.costs().data


def test_data_set_and_seeds_reach_the_experiments_that_have_them() -> None:
    chapter = opened("01", PARAMETERS | {"dataset": "mnist", "seeds": 2}, seeds_of=["01-powers"])
    assert [record.config["seed"] for record in chapter["01-powers"]] == [0, 1]
    assert [record.config for record in chapter["01-drawn"]] == [{"seed": 0, "dataset": "mnist"}]


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(MasoError, match="Unknown parameter profil"):
        opened("01", PARAMETERS | {"profil": "quick"})


def test_the_table_of_an_experiment_by_its_name() -> None:
    assert list(maso_book.table("01-powers", profile="quick")) == [
        "record", "seed", "power", "mean", "kind", "seconds",
    ]  # fmt: skip
