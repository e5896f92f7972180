"""Every exercise has a folded solution, and the code of each runs as written and prints what the page says."""

from __future__ import annotations

import json
import re
import textwrap

import pytest

from maso_book import chapters

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?")


def exercises() -> dict[str, str]:
    """ "NN.k" → the exercise with its solution, Markdown."""
    found = {}
    for chapter in chapters.written():
        cells = json.loads(chapter.source.read_text())["cells"]
        text = next("".join(cell["source"]) for cell in cells if cell["id"] == "exercises")
        parts = re.split(r"^(\d+)\. ", text, flags=re.MULTILINE)[1:]
        found |= {f"{chapter.number}.{k}": part for k, part in zip(parts[::2], parts[1::2], strict=True)}
    return found


EXERCISES = exercises()


def test_every_chapter_has_exercises_and_each_a_solution() -> None:
    assert {name[:2] for name in EXERCISES} == {chapter.number for chapter in chapters.written()}
    for name, text in EXERCISES.items():
        assert text.count("\n   :::{dropdown} Solution\n") == 1, name
        assert text.rstrip().endswith("\n   :::"), name


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_a_solution_runs_and_prints_what_it_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^   ```(\w+)\n(.*?)^   ```$", EXERCISES[name], re.MULTILINE | re.DOTALL)
    said = [textwrap.dedent(text) for language, text in blocks if language == "text"]
    trains = any("fit(" in text for _, text in blocks)
    printed = []
    for language, text in blocks:
        if language == "python":
            exec(compile(textwrap.dedent(text), f"exercise {name}", "exec"), {"__name__": "solution"})
            printed.append(capsys.readouterr().out)
    for ours, theirs in zip(printed, said, strict=False):
        assert NUMBER.sub("#", ours) == NUMBER.sub("#", theirs)
        if not trains:  # what is trained differs between machines
            numbers, expected = ([float(n) for n in NUMBER.findall(text)] for text in (ours, theirs))
            assert numbers == pytest.approx(expected, rel=0.01, abs=0.005)
