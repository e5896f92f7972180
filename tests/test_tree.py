"""Where the working tree is, and which files a piece of code uses."""

from pathlib import Path

import pytest
import toy

from maso import MasoError, tree


def names(files: list[Path]) -> set[str]:
    return {file.relative_to(tree.PACKAGE).as_posix() for file in files}


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


def test_files_used_are_the_closure_of_the_imports() -> None:
    used = names(tree.files_used(["maso.experiments"]))
    assert {"__init__.py", "experiments/__init__.py", "records.py", "tree.py", "errors.py", "datasets.py"} <= used
    assert "runner.py" not in used


@pytest.mark.parametrize(
    "source",
    [
        "import maso.records",
        "from maso import records",
        "from maso.records import save",
        "import maso\nmaso.records.save",
    ],
)
def test_every_way_to_name_a_module_counts(source: str) -> None:
    assert "records.py" in names(tree.files_used(source=source))


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(MasoError, match=r"no module 'maso\.nothing'"):
        tree.code_digest(["maso.nothing"])
