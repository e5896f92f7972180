"""Where the working tree is."""

from pathlib import Path

import pytest
import toy

from maso import MasoError
from maso_book import tree


def test_the_working_tree_is_found_from_inside_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASO_ROOT", raising=False)
    toy.tree(tmp_path)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert tree.root() == tmp_path.resolve()
    monkeypatch.chdir("/")
    assert tree.root() == tree.PACKAGE.parents[1]  # an editable install knows its own
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    assert tree.root() == tmp_path.resolve()
    monkeypatch.setenv("MASO_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(MasoError, match="Clone the repository, then run this inside it or set MASO_ROOT"):
        tree.root()
