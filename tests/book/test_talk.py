"""The page of the talk: what it names exists, its words agree with the verdicts, and it types no result."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import maso_book.tree
from maso.errors import MasoError
from maso_book import chapters, site
from maso_book.claims import claims
from maso_book.talk import Question, Slide, talk

ROOT = maso_book.tree.root()
SLIDES, QUESTIONS = talk(ROOT)
ENTRIES: list[Slide | Question] = [*SLIDES, *QUESTIONS]


CELLS = [cell for c in chapters.written(ROOT) for cell in json.loads(c.source.read_text())["cells"]]


def test_every_figure_and_claim_that_is_named_exists() -> None:
    assert SLIDES
    assert QUESTIONS
    figures = {cell["metadata"]["mystnb"]["figure"]["name"] for cell in CELLS if "mystnb" in cell["metadata"]}
    assert {name for entry in ENTRIES for name in entry.figures} <= figures
    assert {claim for entry in ENTRIES for claim in entry.claims} <= {claim.id for claim in claims(ROOT)}


def test_every_link_within_the_texts_leads_to_a_heading() -> None:
    links = set(re.findall(r"\]\(#([\w-]+)\)", (ROOT / "book" / "talk.yml").read_text()))
    assert links <= {name for cell in CELLS for name in re.findall(r"^\((.+)\)=$", "".join(cell["source"]), re.M)}


def test_what_was_refuted_is_not_called_reproduced() -> None:
    found = site.verdicts(ROOT, {})
    corrected = {claim.id for claim in claims(ROOT) if claim.corrects and "baraniuk2019talk" in claim.source}
    for slide in SLIDES:
        outcomes = {found[claim].outcome for claim in slide.claims}
        assert slide.word != "reproduced" or not outcomes & {"does not hold", "too small to matter"}, slide.title
    assert corrected <= {claim for slide in SLIDES if slide.word == "corrected" for claim in slide.claims}


def test_no_result_is_typed() -> None:
    for entry in ENTRIES:
        text = entry.here if isinstance(entry, Slide) else entry.answer
        assert not re.search(r"\d+ ?%|\d[.,]\d", text), text


def test_the_page_shows_slides_with_their_figures_and_signs() -> None:
    found = site.verdicts(ROOT, {})
    slide = Slide(title="T", says="S", word="corrected", here="H", slide="19", claims=("01.3",))
    text = site._slide(slide, {}, found)
    assert "**Slide 19. T: *corrected***" in text
    assert f"[01.3](#claim-01-3) {site.chip(found['01.3'])}" in text


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("{title: T, says: S, word: repeated, here: H}", "none of reproduced"),
        ("{title: T, says: S, word: corrected}", "here"),
        ("{title: T, says: S, word: corrected, here: H, colour: red}", "colour"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: str, wrong: str) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "talk.yml").write_text(f"slides: [{entry}]\n")
    with pytest.raises(MasoError, match=wrong):
        talk(tmp_path)


def test_only_figures_that_were_drawn_are_named(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    page = tmp_path / "book" / "chapters" / "01-x.ipynb"
    page.parent.mkdir(parents=True)
    (tmp_path / "notebooks" / page.name).write_text("{}")
    (tmp_path / "book" / "chapters.yml").write_text((ROOT / "book" / "chapters.yml").read_text())
    assert site._drawn(tmp_path) == {}
    cells = [
        {"metadata": {"mystnb": {"figure": {"name": name}}}, "outputs": outputs}
        for name, outputs in (("fig-01-a", [{"data": {"image/png": ""}}]), ("fig-01-b", []))
    ]
    page.write_text(json.dumps({"cells": cells}))
    assert set(site._drawn(tmp_path)) == {"fig-01-a"}
