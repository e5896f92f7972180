"""The book's own parts: claims as data, README.md against the records, provenance lines, the pages made from them."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import toy
import yaml
from torch import Tensor, nn

import maso
import maso_book.tree
from maso import operators
from maso.errors import MasoError
from maso_book import chapters, records, results
from maso_book import site as book
from maso_book import style as plots
from maso_book.claims import claims
from maso_book.front import figure as front
from maso_book.records import Record
from maso_book.verdict import Verdict

ROOT = maso_book.tree.root()
MADE = {"device_name": "Some Processor", "device": "cpu", "start": "2026-01-31T12:00:00+00:00"}
RECORD = Record(
    "01-rates", {"seed": 0}, {}, {}, MADE, "0123456789abcdef", Path("results/01-rates/0123456789abcdef.json")
)


def test_claims_are_numbered_in_order_and_complete() -> None:
    numbers = [chapter.number for chapter in chapters.listed(ROOT)]
    assert numbers == sorted(set(numbers))
    for number in numbers:
        ids = [claim.id for claim in claims(ROOT) if claim.chapter == number]
        assert ids == [f"{number}.{k}" for k in range(1, len(ids) + 1)]
        assert ids
    assert [claim.chapter for claim in claims(ROOT)] == sorted(claim.chapter for claim in claims(ROOT))


def test_every_claim_has_its_words_and_known_sources() -> None:
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text()))
    for claim in claims(ROOT):
        assert claim.statement.endswith((".", "?")), claim.id
        assert claim.criterion.endswith("."), claim.id
        assert set(claim.source) <= known, claim.id


def test_every_notebook_is_in_the_table_of_contents_and_the_list_of_chapters() -> None:
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {Path(file).name for file in files if file.startswith("chapters/")} == notebooks
    assert {chapter.name for chapter in chapters.written(ROOT)} == notebooks
    for file in files:
        assert file.startswith("chapters/") or (ROOT / "book" / f"{file}.md").is_file()


def test_readme_code_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) == 10
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert largest_error(printed) < 1e-12


def largest_error(printed: str) -> float:
    return max(float(error) for error in re.findall(r"largest error (\S+)", printed))


def test_readme_code_would_notice_a_wrong_map(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(model: nn.Module, x: Tensor) -> maso.AffineMap:
        A = torch.randn(len(x), 10, *x.shape[1:], dtype=x.dtype)
        return maso.AffineMap(A, model(x) - torch.einsum("nkchw,nchw->nk", A, x))

    monkeypatch.setattr(maso, "affine_map", off)
    monkeypatch.setattr(maso, "boundary_distance", lambda model, x: torch.full((len(x),), 1e-4, dtype=x.dtype))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert largest_error(capsys.readouterr().out) > 1e-7


def test_the_codes_of_the_page_how_to_extend_run_as_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for table in ("AFFINE", "AXES", "GATES"):
        monkeypatch.setattr(operators, table, dict(getattr(operators, table)))
    codes = re.findall(r"```python\n(.*?)```", (ROOT / "book" / "extend.md").read_text(), re.DOTALL)
    page: dict[str, Any] = {}
    for code in codes:
        exec(compile(code, "extend.md", "exec"), page)
        if "largest error" in code:
            assert largest_error(capsys.readouterr().out) < 1e-12
    assert {"mirror", "hinge"} <= {node.op for node in maso.trace(page["model"], page["x"]).nodes}
    with pytest.raises(maso.NotPiecewiseAffine, match="samples"):
        maso.affine_map(Sideways(page["mirror"]), torch.randn(3, 2))


class Sideways(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x.T, torch.zeros(2, 1)).T


def test_readme_table_is_that_of_the_records() -> None:
    text = (ROOT / "README.md").read_text()
    table = text.split(book.TABLE_BEGIN)[1].split(book.TABLE_END)[0].strip()
    advice = "python -c 'import maso_book.site, maso_book.tree; maso_book.site.update_readme(maso_book.tree.root())'"
    assert table == book.chapter_table(ROOT), f"README.md is behind the records: {advice}"


def test_readme_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_every_claim_has_one_verdict_of_a_known_outcome() -> None:
    found = book.verdicts(ROOT)
    assert list(found) == [claim.id for claim in claims(ROOT)]
    assert {verdict.outcome for verdict in found.values()} <= set(plots.OUTCOMES)


def test_a_verdict_on_an_unknown_claim_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "chapter_verdicts", lambda chapter, root: [Verdict("99.9", "holds", "")])
    with pytest.raises(MasoError, match=r"99\.9.*claims\.yml"):
        book.verdicts(ROOT)


def test_words_are_no_html_and_mathematics_stays() -> None:
    text = "Where $a < b$ & `x < y`: <script>alert(1)</script>, {cite:p}`a`"
    assert book.words(text) == "Where $a < b$ &amp; `x < y`: &lt;script&gt;alert(1)&lt;/script&gt;, {cite:p}`a`"


def test_claims_and_devices_reach_the_page_as_text(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "notebooks" / "01-maso-proof-checks.ipynb").unlink()
    monkeypatch.setattr(front, "stained_glass", lambda record: (plt.figure(), 0))
    about = "kind: observation, criterion: '<b>c</b>', least: '<b>l</b>', source: []"
    (tree / "book" / "chapters.yml").write_text('"77": {title: "<b>t</b>", question: "<b>q</b>"}\n')
    (tree / "book" / "claims.yml").write_text(f"[{{id: '77.1', chapter: '77', statement: '<b>s</b>', {about}}}]")
    device = {"device_name": "<b>GPU</b> | fast"}
    records.save("77-x", {"seed": 0}, {}, {}, toy.MADE | device, root=tree / "results")
    book.write_generated(tree)
    folder = tree / "book" / "generated"
    for name in ("claims.md", "front.md", "records.md"):
        assert "<b>" not in (folder / name).read_text()
    assert "&lt;b&gt;GPU&lt;/b&gt; &#124; fast (cpu) |" in (folder / "records.md").read_text()
    costs = plots.costs({"77-x": records.find("77-x", tree / "results")})
    assert "&lt;b&gt;GPU&lt;/b&gt; &#124; fast |" in costs


def test_readmes_picture_is_drawn_again_where_its_record_is_new(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "stained_glass", lambda record: (plt.figure(), 0))
    (tree / "README.md").write_text(f"{book.TABLE_BEGIN}\n{book.TABLE_END}")
    picture = tree / "docs" / "front.svg"
    picture.parent.mkdir()
    book.update_readme(tree)
    made_of = picture.read_text().splitlines()[-1]
    picture.write_text(f"drawn by another version\n{made_of}\n")
    book.update_readme(tree)
    assert picture.read_text().startswith("drawn by another version")
    picture.write_text("of another record")
    book.update_readme(tree)
    assert "<svg" in picture.read_text()
    plt.close("all")


def test_a_chip_says_outcome_part_effect_and_scale() -> None:
    said = book.chip(Verdict("01.1", "holds in part", "", effect="+1 < 2", part="with bias", scale="5 seeds · CPU"))
    assert "◐ holds in part" in said
    assert "with bias · +1 &lt; 2 · 5 seeds · CPU" in said
    assert "maso-scale" not in book.chip(Verdict("01.1", "not tested", ""))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small working tree: the book's data, one notebook, a quickly trained front page network."""
    for name in ("book", "notebooks", "results"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "_config.yml", tmp_path)
    for name in ("claims.yml", "chapters.yml"):
        shutil.copy(ROOT / "book" / name, tmp_path / "book")
    (tmp_path / "notebooks" / "01-maso-proof-checks.ipynb").write_text("{}")
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    quick = results.results("00-front", "quick")
    monkeypatch.setattr(results, "results", lambda name: quick)
    return tmp_path


def test_front_picture_shows_every_cell_in_the_colour_of_its_class(tree: Path) -> None:
    (record,) = results.results("00-front")
    model = front.trained(record)
    cells, glass = front.panes(model)
    points = torch.from_numpy(np.random.default_rng(0).uniform(*np.reshape(front.WINDOW, (2, 2)).T, (300, 2)))
    kind = model(points).argmax(1).numpy()
    pane = glass.locate(points.numpy())
    assert ((pane[:, None] == pane) <= (kind[:, None] == kind)).all()
    figure, count = front.stained_glass(record)
    glazing, lead = figure.axes[0].collections
    assert count == len(cells) <= len(glass) == len(glazing.get_paths())
    assert len({tuple(colour) for colour in glazing.get_facecolor()}) == len(glass)
    assert len(lead.get_segments()) == len(cells.decision_boundary())
    plt.close(figure)


def test_findings_are_the_sentences_of_what_was_tested(tree: Path) -> None:
    found = {claim.id: Verdict(claim.id, "not tested", "", finding="not shown") for claim in claims(tree)}
    assert book._findings(tree, found) == "Nothing is recorded yet.\n"
    found["03.3"] = Verdict("03.3", "holds", "", "× 10", finding="It turns 10 < 11 times as much.")
    (item,) = re.findall("<li>(.*)</li>", book._findings(tree, found))
    assert "It turns 10 &lt; 11 times as much." in item
    assert 'href="claims.html#claim-03-3" title="holds · × 10">✔ 03.3</a>' in item


def test_generated_pages_and_the_files_they_link_to(tree: Path) -> None:
    book.write_generated(tree)
    folder = tree / "book" / "generated"
    page = (folder / "claims.md").read_text()
    for claim in claims(tree):
        assert f"(claim-{claim.id.replace('.', '-')})=" in page
        assert book.words(claim.criterion) in page
    listed, per_chapter = (folder / "front.md").read_text(), Counter(claim.chapter for claim in claims(tree))
    assert "0 of" not in listed
    for name, told in {
        "corrected.md": [claim for claim in claims(tree) if claim.corrects],
        "new.md": [claim for claim in claims(tree) if not claim.source],
    }.items():
        text = (folder / name).read_text()
        assert re.findall(r"\*\*\[([\d.]+)\]", text) == [claim.id for claim in told]
        assert all(book.words(claim.corrects) in text for claim in told)
    untested = re.findall(r"maso-chip[^>]*>○ (\d+) not tested", listed)
    tested = re.findall(r"maso-chip[^>]*>\S (\d\d\.\d+)<", listed)
    assert len(untested) <= len(per_chapter)
    assert sum(map(int, untested)) + len(tested) == len(claims(tree))
    assert (folder / "site" / "notebooks" / "01-maso-proof-checks.ipynb").is_file()
    assert "<svg" in (folder / "front.svg").read_text()
    assert "Live run" in (folder / "picture.md").read_text()
    for name in maso.__all__:
        assert name in (folder / "api.md").read_text()
    book.write_generated(tree)  # a second time: what is there is replaced


def test_a_corrupt_record_is_named_and_leaves_what_was_generated(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "stained_glass", lambda record: (plt.figure(), 0))
    book.write_generated(tree)
    before = (tree / "book" / "generated" / "claims.md").stat()
    record = records.save("77-x", {"seed": 0}, {}, {}, toy.MADE, root=tree / "results")
    assert record.path is not None
    record.path.write_text(record.path.read_text()[:-9])
    with pytest.raises(MasoError, match=f"{record.hash}.json is corrupt"):
        book.write_generated(tree)
    assert (tree / "book" / "generated" / "claims.md").stat() == before
    plt.close("all")


def test_provenance_names_device_and_day_and_links_records() -> None:
    assert plots.provenance_text(RECORD) == "Recorded run on Some Processor (cpu), 2026-01-31"
    line = plots.provenance_line(RECORD)
    assert 'href="../results/01-rates/0123456789abcdef.json"' in line
    assert "<details>" in plots.provenance_line(*[RECORD] * 5)
    live = plots.provenance_line()
    assert "Live run on" in live
    assert "href" not in live


def test_show_gives_a_picture_then_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def figure() -> plt.Figure:
        fig, axes = plt.subplots()
        axes.plot([0, 1])
        return fig

    assert plots.render(figure(), "svg") == plots.render(figure(), "svg")
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(plots, "display", lambda data, raw: shown.append(data))
    plots.show(figure(), RECORD)
    picture, line = shown
    assert "image/svg+xml" in picture
    assert line["text/html"] == plots.provenance_line(RECORD)
    monkeypatch.setattr(plots, "LARGEST_SVG", 10)
    plots.show(figure())
    assert "image/png" in shown[2]
    plt.close("all")


def test_palette_is_told_apart() -> None:
    colours = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in plots.PALETTE.values()])
    distance = np.abs(colours[:, None] - colours[None]).sum(2) + 1000 * np.eye(len(colours))
    assert distance.min() > 60
