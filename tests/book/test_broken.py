"""One broken chapter costs that chapter alone, in every command, and is named."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import toy

import maso_book
from maso import MasoError
from maso_book import claims, records, registry, runner, site, tree
from maso_book.__main__ import main

EXPERIMENTS = """
import dataclasses
import toy
EXPERIMENTS = [dataclasses.replace(toy.POWERS, name="98-powers")]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a chapter 98, beside those of the book."""
    folder = tmp_path / "package" / "ch98"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "experiments.py").write_text(EXPERIMENTS)
    (folder / "verdicts.py").write_text("def verdicts(records):\n    return []\n")
    (folder.parent / "_papermill.py").touch()
    monkeypatch.setattr(registry, "HOME", folder.parent)
    monkeypatch.setattr(maso_book, "__path__", [*maso_book.__path__, str(folder.parent)])
    registry._all.cache_clear()
    yield folder
    registry._all.cache_clear()
    for name in [name for name in sys.modules if name.startswith("maso_book.ch98")]:
        del sys.modules[name]


def test_a_whole_chapter_is_found(package: Path) -> None:
    assert [experiment.name for experiment in registry.of_chapter("98")] == ["98-powers"]
    assert registry.broken() == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXPERIMENTS = [", r"SyntaxError: '\[' was never closed \(experiments.py, line 1\)"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("EXPERIMENT = []", "has no attribute 'EXPERIMENTS'"),
        ("EXPERIMENTS = [3]", "AttributeError"),
        (EXPERIMENTS.replace("98-", ""), "an experiment has the name 'powers': expected \"98-…\""),
        (EXPERIMENTS.replace("98-", "97-"), "an experiment has the name '97-powers': expected \"98-…\""),
        (EXPERIMENTS + "EXPERIMENTS *= 2", "an experiment has the name '98-powers': .*each name once"),
        (EXPERIMENTS.replace("name=", "grid=lambda profile: 1 / 0, name="), "ZeroDivisionError: division by zero"),
        (None, "has no experiments.py"),
    ],
)
def test_a_chapter_that_cannot_be_loaded_leaves_the_others(text: str | None, message: str, package: Path) -> None:
    (package / "experiments.py").unlink() if text is None else (package / "experiments.py").write_text(text)
    assert list(registry.registry()) == ["00-front"]  # what is not a chapter's
    assert list(registry.broken()) == ["98"]
    for asked in (lambda: registry.of_chapter("98"), lambda: registry.named("98-powers")):
        with pytest.raises(MasoError, match=message):
            asked()
    assert registry.of_chapter("97") == []


@pytest.mark.parametrize("room", ["verdicts", "figures"])
def test_a_module_that_is_no_python_is_named(
    room: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "PACKAGE", package.parent)
    root = toy.tree(tmp_path, n98_other=["print('other')"])
    (package / f"{room}.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(MasoError, match=rf"ch98/{room}.py is no Python in line 2: invalid syntax"):
        runner.digest(toy.chapter(root, "98"))


def broken_notebook(path: Path, how: str) -> str:
    """Break it; what is said of it then."""
    if how == "no JSON":
        path.write_text("{")
        return f"The notebook {path} cannot be read"
    if how == "no notebook":
        path.write_text("[1]")
        return f"The notebook {path} cannot be read"
    text = path.read_text()
    path.write_text(text.replace("1 / 0", "if:") if how == "syntax" else text.replace("seeds = None", "seeds = = 3"))
    cell = "code cell 3," if how == "syntax" else "the `parameters` cell,"
    return f"{path}, {cell} is no Python in line"


HOW = ["no JSON", "no notebook", "syntax", "parameters"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASO_ROOT", str(tmp_path))
    monkeypatch.setattr(registry, "registry", lambda: {"97-powers": toy.named("97-powers", worth=1.0)})
    monkeypatch.setattr(registry, "broken", lambda: {"96": MasoError("Chapter 96 is broken: why.")})
    return toy.tree(tmp_path, n97_whole=["print('whole')"], n98_other=["print('before')", "1 / 0"])


@pytest.mark.parametrize("how", HOW)
def test_each_command_goes_on_without_a_broken_notebook(
    how: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = broken_notebook(root / "notebooks" / "98-other.ipynb", how)
    ran: list[str] = []
    real = runner.run

    def run(which, parameters):
        ran.append(which.number)
        return which.output(parameters) if which.number == "97" else real(which, parameters)

    monkeypatch.setattr(runner, "run", run)
    assert main(["run"]) == 1
    printed = capsys.readouterr()
    assert ran == ["97", "98"]
    assert said in printed.err or (how == "parameters" and "the `parameters` cell, is no Python" in printed.err)
    assert printed.err.endswith("maso: failed: 98\n")

    monkeypatch.setattr(runner, "marker", lambda which: runner.digest(which) and root / "marker")
    assert main(["status"]) == 1
    printed = capsys.readouterr()
    assert "97-whole: to be run" in printed.out
    assert "97-powers: recorded: paper 0 of 2" in printed.out
    assert "98" in printed.err
    assert "Traceback" not in printed.err
    assert printed.err.endswith("maso: failed: 98, 96\n")


def test_each_command_goes_on_without_a_broken_module(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, about, failed in (
        (["queue"], "3 cells are missing", "96"),
        (["lease", "pack", str(tmp_path / "sent"), "--minutes", "1"], "3 cells, in ", "96"),
        (["verify", "--rerun"], "97-powers: nothing recorded", "96"),
        (["run", "--profile", "full"], "97-powers: 2 of 2 cells recorded", "96"),
        (["run", "96", "--profile", "full"], "", "96"),
        (["status"], "97-powers: recorded: paper 2 of 2", "96"),
    ):
        assert main(arguments) == 1
        printed = capsys.readouterr()
        assert about in printed.out
        assert "maso: 96: Chapter 96 is broken: why.\n" in printed.err
        assert printed.err.endswith(f"maso: failed: {failed}\n")


@pytest.mark.parametrize("how", HOW)
def test_the_book_is_built_and_says_so_in_the_place_of_a_broken_chapter(
    how: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = broken_notebook(root / "notebooks" / "98-other.ipynb", how)
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if "snakemake" in command:
            chapter = toy.chapter(root, "97")
            records.write(chapter.output({}), b"{}")
            records.write(runner.marker(chapter), runner._sha256(chapter.output({})).encode())
        else:
            pages = root / command[command.index("--path-output") + 1] / "_build" / "html"
            pages.mkdir(parents=True)
            (pages / "index.html").write_text("the site")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("maso_book.__main__.subprocess.run", run)
    monkeypatch.setattr(site, "write_generated", lambda folder: {"96": "The chapter cannot be judged: why."})
    if how == "parameters":  # the digest parses every cell
        said = "code cell 1, is no Python in line"
    assert main(["book"]) == 1
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.endswith("maso: failed: 98, 96\n")
    assert "The book is built." in printed.out
    assert (root / "_build" / "html" / "index.html").read_text() == "the site"
    assert "-W" not in commands[1]  # what is said of the broken chapter may lack what others refer to
    (page,) = nbformat.read(root / "book" / "chapters" / "98-other.ipynb", as_version=4).cells
    assert "This chapter could not be run." in page.source
    assert str(root) not in page.source


def test_a_wrong_list_of_claims_is_no_single_chapters(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = root / "book" / "chapters" / "97-whole.ipynb"
    records.write(copy, b"a run")
    (root / "book" / "claims.yml").write_text("- 3")
    assert main(["book"]) == 1
    assert "claims.yml: 3: missing" in capsys.readouterr().err
    assert copy.read_bytes() == b"a run"


def test_a_chapter_that_cannot_be_judged_is_not_tested(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = "kind: theorem, statement: A., criterion: B., source: []"
    (root / "book" / "claims.yml").write_text(
        "".join(f"- {{id: '{number}.1', chapter: '{number}', {about}}}\n" for number in ("97", "98"))
    )

    def judge(chapter: str, root: Path) -> list:
        if chapter == "98":
            raise KeyError("x")
        return []

    monkeypatch.setattr(site, "chapter_verdicts", judge)
    failed: dict[str, str] = {}
    found = site.verdicts(root, failed)
    assert found["98.1"].evidence == failed["98"] == "The chapter cannot be judged: KeyError('x')"
    assert found["97.1"].evidence == ""
    with pytest.raises(MasoError, match="Chapter 98: The chapter cannot be judged"):
        site.verdicts(root)


def test_a_claim_of_no_chapter_is_an_error(root: Path) -> None:
    about = "kind: theorem, statement: A., criterion: B., source: []"
    (root / "book" / "claims.yml").write_text(f"- {{id: '12.1', chapter: '12', {about}}}\n")
    assert len(claims.claims(root)) == 1
    with pytest.raises(MasoError, match=r"claim 12\.1 in book/claims\.yml: there is no chapter '12'"):
        site.verdicts(root)


@pytest.mark.parametrize("text", ["- 3", "- '01'", "1: {title: A}", '"01": {titel: A}', '"01": [A]'])
def test_a_wrong_list_of_chapters_is_named(text: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "book" / "chapters.yml").write_text(text)
    assert main(["status"]) == 1
    assert "maso: book/chapters.yml: a line is" in capsys.readouterr().err
