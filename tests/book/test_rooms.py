"""Which room may import which: the rules of the house, read from the imports."""

import ast
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
REACH_CHAPTERS = {"maso_book.registry", "maso_book.results", "maso_book.site"}
TOP_OF_A_CHAPTER = {"figures", "tables", "animation", "interactive"}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imports() -> list[tuple[str, str]]:
    """(module, what it imports), functions' own imports and modules loaded by name included."""
    found = []
    known = {module_of(file) for file in SOURCE.rglob("*.py")}
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: imports are absolute"
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in known else str(node.module) for name in inside]
            found += [(module_of(file), name) for name in names if name.partition(".")[0] in ("maso", "maso_book")]
    return found


IMPORTS = imports()


def chapter_of(module: str) -> str | None:
    """`"ch04"` for a module of that chapter's folder."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1].startswith("ch") and parts[1][2:].isdigit() else None


def test_the_library_knows_nothing_of_the_book_but_a_door() -> None:
    doors = {module for module, used in IMPORTS if module.startswith("maso.") and used.startswith("maso_book")}
    assert doors == {"maso.__main__"}


def test_only_registry_results_and_site_reach_the_chapters() -> None:
    shared = {(m, used) for m, used in IMPORTS if chapter_of(used) and not chapter_of(m)}
    assert {module for module, _ in shared} <= REACH_CHAPTERS


def test_a_chapter_imports_no_other_chapter() -> None:
    assert [(m, used) for m, used in IMPORTS if chapter_of(m) and chapter_of(used) not in (None, chapter_of(m))] == []


def test_inside_a_chapter_what_measures_and_judges_imports_no_figure() -> None:
    def room(module: str) -> str:
        return module.split(".")[-1]

    inside = [(m, used) for m, used in IMPORTS if chapter_of(m) and chapter_of(m) == chapter_of(used)]
    measured = [(m, used) for m, used in inside if room(m) not in TOP_OF_A_CHAPTER]
    assert [(m, used) for m, used in measured if room(used) in TOP_OF_A_CHAPTER] == []
    measures = [(m, u) for m, u in measured if room(m) not in ("experiments", "verdicts")]
    assert [(m, used) for m, used in measures if room(used) in ("experiments", "verdicts")] == []


def test_no_circle() -> None:
    modules = {m: {used for module, used in IMPORTS if module == m and used != m} for m, _ in IMPORTS}
    packages = {"maso", "maso_book", "maso.partition", "maso_book.training"}  # their `__init__` offers what is inside
    settled: set[str] = set(packages)
    while todo := {m for m, used in modules.items() if m not in settled and not (used & modules.keys()) - settled}:
        settled |= todo
    late = {"maso_book.registry"}  # imports the chapters when it is asked
    assert set(modules) - settled - late == set()


def test_every_chapter_has_its_rooms() -> None:
    for folder in sorted((SOURCE / "maso_book").glob("ch[0-9][0-9]")):
        assert {"__init__.py", "experiments.py", "verdicts.py", "figures.py"} <= {f.name for f in folder.iterdir()}
        assert len(ast.parse((folder / "__init__.py").read_text()).body) == 1, "only a docstring"


def test_library_tests_import_no_chapter() -> None:
    for file in sorted((ROOT / "tests" / "maso").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert chapter_of(f"{node.module}.x") is None, f"{file}: {node.module}"


@pytest.mark.slow
def test_the_wheel_holds_the_library_alone(tmp_path: Path) -> None:
    tree = tmp_path / "tree"  # setuptools writes beside the sources
    shutil.copytree(SOURCE, tree / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    ended = subprocess.run([*command, str(tree)], capture_output=True, text=True, check=False)
    if ended.returncode and "setuptools" in ended.stderr:
        pytest.skip("setuptools is not installed")
    assert ended.returncode == 0, ended.stderr
    (wheel,) = tmp_path.glob("maso-*.whl")
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"maso"}
    made = f"import setuptools.build_meta as build; build.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", made], cwd=tree, capture_output=True, check=True)
    (sdist,) = tmp_path.glob("maso-*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    assert {path.parts[1] for path in inside if len(path.parts) > 1} <= {"maso", "maso.egg-info"}
    assert not [path for path in inside if path.name.startswith("test_")], "tests need more than the library"
