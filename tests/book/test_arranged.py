"""What `maso_book.pages` makes of a chapter's notebook, of names in code and of docstrings, before Sphinx writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import maso_book.tree
from maso_book import pages
from maso_book.style import NARROW, PROVENANCE

PICTURE = {"output_type": "display_data", "data": {"image/svg+xml": "<svg/>"}, "metadata": {}}
LINE = {"output_type": "display_data", "data": {"text/html": f"{PROVENANCE}Recorded</div>"}, "metadata": {}}
PRINTED = {"output_type": "stream", "name": "stdout", "text": "what waits"}
VERDICT = {"output_type": "execute_result", "data": {"text/markdown": "**Verdict.** {cite:p}`a`"}, "metadata": {}}


def cell(source: str, *outputs: dict[str, Any], kind: str = "code") -> dict[str, Any]:
    return {"cell_type": kind, "id": "c", "metadata": {}, "source": source, "outputs": list(outputs)}


def arranged(*cells: dict[str, Any]) -> list[dict[str, Any]]:
    source = [json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})]
    pages._arrange_chapter(None, "chapters/01-title", source)  # type: ignore[arg-type]
    return json.loads(source[0])["cells"]


def test_a_chapter_opens_with_its_picture_and_one_fold_of_code_below() -> None:
    title, section = cell("# A chapter", kind="markdown"), cell("## A section", kind="markdown")
    found = arranged(
        title, cell("seeds = 1"), cell("verdict", PRINTED, VERDICT), cell("show()", PICTURE), section, cell("more()")
    )
    assert [c["source"] for c in found[:2]] == ["# A chapter", "verdict"]
    verdict, picture = found[1:3]
    assert verdict["metadata"]["tags"] == ["remove-input"]
    assert verdict["outputs"] == [VERDICT]
    assert picture["source"] == "seeds = 1\n\nverdict\n\nshow()"
    assert picture["metadata"]["tags"] == ["hide-input"]
    assert picture["outputs"] == [PICTURE, PRINTED]
    assert found[4]["metadata"] == {}
    assert found[-1]["source"] == pages.SOURCES


def test_a_chapter_without_opening_code_or_citations_stays() -> None:
    found = arranged(cell("# A chapter", kind="markdown"), cell("## A section", kind="markdown"), cell("more()"))
    assert [c["source"] for c in found] == ["# A chapter", "## A section", "more()"]


def test_provenance_lines_get_links_to_code_and_notebook() -> None:
    code, line = arranged(cell("show()", PICTURE, LINE))
    assert code["outputs"] == [PICTURE]
    assert f'href="#{code["metadata"]["maso_anchor"]}"' in line["source"]
    assert '<a href="../notebooks/01-title.ipynb" download>' in line["source"]


def test_the_narrow_form_of_a_figure_gets_a_cell_of_its_own() -> None:
    form = {"panels": 3, "kind": "svg", "image": "<svg>narrow</svg>"}
    both = PICTURE | {"data": PICTURE["data"] | {NARROW: form}}
    code, extra, _ = arranged(cell("show()", PICTURE, both, LINE))
    assert code["outputs"] == [PICTURE, PICTURE]
    assert extra["outputs"][0]["data"] == {"image/svg+xml": "<svg>narrow</svg>"}
    assert extra["metadata"] == {"maso_narrow": [1, 3], "tags": ["remove-input"]}


def test_names_of_the_package_are_linked_in_code() -> None:
    def described(name: str) -> str | None:
        return f"api.html#{name}" if name in ("maso.codes", "maso.power.bends") else None

    dot, new = '<span class="o">.</span>', '<span class="n">bends</span>'
    dotted = f'<span class="n">maso</span>{dot}<span class="n">codes</span>'
    for code, linked in {
        dotted: f'<a class="maso-api" href="api.html#maso.codes">{dotted}</a>',
        dotted.replace("codes", "other"): None,
        f"from maso.power import bends\n{new}(x)": f'<a class="maso-api" href="api.html#maso.power.bends">{new}</a>(x)',
        f"from masonry import bends\n{new}": None,
        f"from maso.power import bends\nx{dot}{new}": None,
        f'from maso.power import bends\nf({new}<span class="o">=</span>1)': None,
    }.items():
        body = pages._link_code(f"<pre>{code}</pre>", described)
        assert body == f"<pre>{code}</pre>" if linked is None else linked in body


def test_lines_of_a_signature_are_no_list() -> None:
    line = '<dd><em class="sig-param">x</em></dd>'
    assert pages._proper_roles(f"<dl>\n{line}\n{line}\n</dl><dl>\n<dd>y</dd></dl>") == (
        f'<div class="maso-lines">{line}\n{line}\n</div>'.replace("dd>", "div>") + "<dl>\n<dd>y</dd></dl>"
    )


def test_docstrings_become_restructuredtext() -> None:
    lines = ["`x` of (N, *shape), `Fraction`s", ">>> f(*x)  # `x`", "out * 2", "", "a * b"]
    pages._plain_docstring(None, "", "", None, None, lines)  # type: ignore[arg-type]
    assert lines == [r"``x`` of (N, \*shape), ``Fraction``\ s", ">>> f(*x)  # `x`", "out * 2", "", r"a \* b"]


def test_every_source_says_where_it_is_to_be_had() -> None:
    entries = re.split(r"^@", (Path(maso_book.tree.root()) / "book" / "references.bib").read_text(), flags=re.MULTILINE)
    missing = [
        entry.split(",")[0] for entry in entries[1:] if not re.search(r"^  (doi|eprint|url) = ", entry, re.MULTILINE)
    ]
    assert not missing
