"""What a user installs and clones: the lists of packages agree, the tree is small and says nothing of a machine."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from maso_book import chapters, runner

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def requirements() -> dict[str, Requirement]:
    texts = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    found = {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, texts)}
    return {name: requirement for name, requirement in found.items() if name != "maso"}


def constraints() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}


def tracked() -> list[Path]:
    """Files that git has or would take."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git working tree")
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_every_package_is_constrained_to_a_version_that_pyproject_allows() -> None:
    needed, pinned = requirements(), constraints()
    assert set(needed) == set(pinned)
    refused = [name for name, version in pinned.items() if not needed[name].specifier.contains(version)]
    assert refused == []


def test_jupyter_book_stays_below_2() -> None:
    assert "2.0.0" not in requirements()["jupyter-book"].specifier


def test_conda_users_get_the_same_packages() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, from_pip = environment["dependencies"]
    assert from_pip == {"pip": ["-c constraints.txt", "-e .[test]"]}
    (python,) = (name.removeprefix("python ") for name in packages if name.startswith("python "))
    for version in ("3.10", *PYTHONS, "3.14"):
        assert (version in SpecifierSet(python)) == (version in PYTHONS)
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in PYTHONS)
    assert "3.10" not in SpecifierSet(PROJECT["requires-python"])


def test_the_package_alone_loads_nothing_of_the_book() -> None:
    code = "import maso, sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert {"matplotlib", "torchvision", "papermill", "z3", "nbformat", "snakemake"} & set(loaded) == set()


def test_the_tracked_tree_is_small() -> None:
    assert sum(path.stat().st_size for path in tracked()) < 20e6


def test_no_tracked_file_holds_a_path_of_a_machine() -> None:
    personal = re.compile(rb"(?<![\w.])/(?:root|home|Users|work|mnt)/[\w.]|[A-Z]:\\\\Users\\\\")
    found = {str(path.relative_to(ROOT)): personal.search(path.read_bytes()) for path in tracked()}
    assert {name: match[0] for name, match in found.items() if match} == {}


@pytest.mark.parametrize("chapter", chapters.written(ROOT), ids=lambda chapter: chapter.name)
def test_a_source_notebook_has_the_common_parameters_and_no_outputs(chapter: chapters.Chapter) -> None:
    assert runner.defaults(chapter) == {
        "profile": "paper",
        "dataset": None,
        "seeds": None,
        "device": None,
        "recompute": False,
    }
    cells = json.loads(chapter.source.read_text())["cells"]
    assert all("id" in cell for cell in cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert f'opened("{chapter.number}", globals()' in "".join(code[1]["source"]), "the cell after `parameters` opens it"


# Set-up -------------------------------------------------------------------------------------------------------------


PYTHON = """#!/bin/sh
echo "$@" | head -1 >>"$(dirname "$0")/../calls"
case "$*" in
    *version_info*) exit ${VERSION_REFUSED:-0} ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


def test_the_environment_is_made_once_and_again_when_its_lists_change(tmp_path: Path) -> None:
    def make(extra: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / "tools" / "environment"), extra]
        path = f"{tmp_path / 'bin'}:{os.defpath}"
        return subprocess.run(command, env={"PATH": path, **variables}, capture_output=True, text=True, check=False)

    def pip() -> list[str]:
        logs = [log.read_text() for log in (tmp_path / "calls", tmp_path / ".venv" / "calls") if log.exists()]
        return [line for log in logs for line in log.splitlines() if line.startswith("-m pip")]

    for folder in ("bin", "tools"):
        (tmp_path / folder).mkdir()
    for name in ("pyproject.toml", "constraints.txt", "tools/environment"):
        shutil.copy(ROOT / name, tmp_path / name)
    stub = tmp_path / "bin" / "python3"
    stub.write_text(PYTHON)
    stub.chmod(0o755)

    refused = make("book", VERSION_REFUSED="1", PYTHON=str(stub))
    assert refused.returncode == 1
    assert "No Python 3.11 to 3.13 was found" in refused.stderr
    assert not (tmp_path / ".venv").exists()

    assert make("test").returncode == 0
    (installed,) = pip()
    assert installed.endswith("install --quiet --disable-pip-version-check -c constraints.txt -e .[test]")
    assert make("test").stdout == ""
    assert make("book").stdout == ""  # the tests' packages hold the book's
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert "Installing" in make("book").stdout
    assert len(pip()) == 2


@pytest.fixture
def chromium() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chromium", ROOT / "tools" / "chromium.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_chromium_that_is_there_is_used(
    chromium: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\nexit 0\n")
    browser.chmod(0o755)
    monkeypatch.setenv("MASO_CHROMIUM", str(browser))
    assert chromium.main() == 0
    assert capsys.readouterr().out == f"{browser}\n"


def test_without_a_chromium_each_way_is_tried_and_the_end_says_what_to_do(
    chromium: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        tried.append(" ".join(command))
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(chromium, "find", lambda: None)
    monkeypatch.setattr(chromium.subprocess, "run", run)
    monkeypatch.setattr(chromium.shutil, "which", lambda name: name)
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 1000)
    assert chromium.main() == 1
    assert tried == [
        "sudo -n apt-get -qq update",
        "brew install --cask google-chrome",
        f"{sys.executable} -m playwright install chromium",
    ]
    assert "MASO_CHROMIUM=/path/to/chromium" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["book", "pdf", "test", "lint", "clean"])
def test_make_knows_its_targets(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


def test_a_new_user_is_told_where_the_commands_live() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "book"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert ".venv/bin/python -m maso run 05 --profile quick" in printed.splitlines()[-1]
    page = (ROOT / "book" / "rerun.md").read_text()
    assert ".venv/bin/python -m maso run 01" in page
    assert "up to two minutes of CPU a chapter" in page


def test_nothing_advises_to_install_what_is_not_on_an_index() -> None:
    """`pip install maso` would fetch what anybody registered under the name: the checkout is named instead."""
    texts = {path: path.read_bytes() for path in tracked() if path.suffix in (".py", ".md", ".ipynb", ".yml")}
    advice = re.compile(rb"pip install (-\S+ )*['\"]?maso\b")
    assert [str(path) for path, text in texts.items() if advice.search(text) and path != Path(__file__)] == []


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("make test")
