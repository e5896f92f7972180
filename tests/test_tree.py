"""What a piece of code uses of the package: modules found through the names that `import maso` offers."""

import pytest

from maso import MasoError, tree


def names(source: str) -> set[str]:
    return {file.relative_to(tree.PACKAGE).as_posix() for file in tree.files_used(source=source)}


@pytest.mark.parametrize("source", ["import maso\nmaso.trace(model)", "from maso import trace", "import maso.tracing"])
def test_a_name_of_the_package_stands_for_the_module_that_defines_it(source: str) -> None:
    assert names(source) == {"tracing.py", "graph.py", "operators.py", "errors.py"}


@pytest.mark.parametrize(
    "source", ["import maso\nprint(dir(maso))", "import maso as m\nm.trace(model)", "from maso import *"]
)
def test_the_package_used_as_a_whole_counts_whole(source: str) -> None:
    assert {"__init__.py", "tracing.py", "partition/run.py", "power.py"} <= names(source)


def test_modules_offered_as_modules_and_packages_inside() -> None:
    assert "exact.py" in names("from maso import exact")
    assert "matched.py" in names("import maso\nmaso.matched.share")
    assert {"training/__init__.py", "training/one.py"} <= names("from maso.training import fit")
    assert names("import numpy") == set()


def test_a_module_loaded_by_its_name() -> None:
    assert "codes.py" in names("importlib.import_module('maso.codes')")


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(MasoError, match=r"no module 'maso\.nothing'"):
        tree.files_used(["maso.nothing"])
