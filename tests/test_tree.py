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
    assert {"experiments/__init__.py", "records.py", "tree.py", "errors.py", "datasets.py"} <= used
    assert not {"runner.py", "__init__.py"} & used  # the package's own face only says where names are


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


@pytest.mark.parametrize("source", ["import maso\nmaso.trace(model)", "from maso import trace", "import maso.tracing"])
def test_a_name_of_the_package_stands_for_the_module_that_defines_it(source: str) -> None:
    assert names(tree.files_used(source=source)) == {"tracing.py", "graph.py", "operators.py", "errors.py"}


@pytest.mark.parametrize(
    "source", ["import maso\nprint(dir(maso))", "import maso as m\nm.trace(model)", "from maso import *"]
)
def test_the_package_used_as_a_whole_counts_whole(source: str) -> None:
    assert {"__init__.py", "tracing.py", "partition/run.py", "power.py"} <= names(tree.files_used(source=source))


def test_modules_offered_as_modules_and_packages_inside() -> None:
    assert "exact.py" in names(tree.files_used(source="from maso import exact"))
    assert "matched.py" in names(tree.files_used(source="import maso\nmaso.matched.share"))
    used = names(tree.files_used(source="from maso.training import fit"))
    assert {"training/__init__.py", "training/one.py"} <= used
    assert tree.files_used(source="import numpy") == []


def test_a_module_loaded_by_its_name() -> None:
    assert "codes.py" in names(tree.files_used(source="importlib.import_module('maso.codes')"))


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(MasoError, match=r"no module 'maso\.nothing'"):
        tree.files_used(["maso.nothing"])
