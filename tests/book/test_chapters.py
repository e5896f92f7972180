"""Every chapter runs from its first to its last cell in the quick profile, with no data set and nothing written."""

from pathlib import Path

import nbformat
import pytest

from maso_book import chapters, runner, tree


@pytest.mark.slow
@pytest.mark.parametrize("chapter", chapters.written(tree.root()), ids=lambda chapter: chapter.name)
def test_quick_profile(chapter: chapters.Chapter, tmp_path: Path) -> None:
    before = sorted((tree.root() / "results").rglob("*"))
    output = runner.run(chapter, {"profile": "quick"}, output=tmp_path / "quick.ipynb")
    notebook = nbformat.read(output, as_version=4)
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert sorted((tree.root() / "results").rglob("*")) == before
