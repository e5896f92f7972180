"""The front page's picture to touch: what it carries, and what it does in headless Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

import maso
from maso_book import results
from maso_book.front import figure as front
from maso_book.front.experiments import Toy, run
from maso_book.records import Record

FIGURE = """<figure id="fig-front"><img alt="still" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
width="600"><figcaption></figcaption></figure>"""


HIGHLIGHTED = "shapes => shapes.flatMap((shape, i) => shape.classList.contains('here') ? [i] : [])"


@pytest.fixture(scope="module")
def record() -> Record:
    (record,) = results.results("00-front", "quick")
    return record


@pytest.fixture
def page(browser: Browser, record: Record) -> Iterator[Page]:
    page = browser.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.set_content(FIGURE + front.touchable(record))
    yield page
    page.close()


def carried(record: Record) -> list[dict[str, Any]]:
    """What the page has of every epoch."""
    text = front.touchable(record).partition('class="start">')[2].partition("</script>")[0]
    epochs: list[dict[str, Any]] = json.loads(text)["epochs"]
    return epochs


def test_weights_are_kept_as_they_are_learned() -> None:
    tables, arrays = run(Toy(samples=300, epochs=2))
    assert [row["epoch"] for row in tables["networks"]] == Toy(samples=300, epochs=2).kept == [0, 1, 2]
    assert sorted({name.split(".")[0] for name in arrays}) == ["0", "1", "2"]
    assert not np.array_equal(arrays["1.0.weight"], arrays["2.0.weight"])
    assert Toy().kept == [0, 1, 2, 4, 8, 16, 32, 60]


def test_the_page_carries_every_pane_and_needs_nothing_from_outside(record: Record) -> None:
    assert "http" not in front.touchable(record).replace("http://www.w3.org/2000/svg", "")
    assert [epoch["epoch"] for epoch in carried(record)] == front.epochs(record)
    for epoch in carried(record):
        cells, glass = front.panes(front.trained(record, epoch["epoch"]))
        assert (epoch["cells"], len(epoch["panes"])) == (len(cells), len(glass))
        assert {cell for _, _, cell, _ in epoch["panes"]} == set(range(len(cells)))


@pytest.mark.browser
def test_the_map_that_is_shown_is_the_networks(page: Page, record: Record) -> None:
    assert not page.locator("img").is_visible()
    box = page.locator("svg").bounding_box()
    assert box
    left, right, bottom, top = front.WINDOW
    model, panes = front.trained(record), carried(record)[-1]["panes"]
    for x in ([0.1, 0.2], [-1.3, -0.8], [2.0, 0.5]):
        page.mouse.move(
            box["x"] + box["width"] * (x[0] - left) / (right - left),
            box["y"] + box["height"] * (top - x[1]) / (top - bottom),
        )
        lines = [line.replace("\u2212", "-") for line in page.locator(".maso-glass li").all_inner_texts()]
        found = maso.affine_map(model, torch.tensor([x], dtype=torch.float64))
        for k, line in enumerate(lines):
            a, b, c, value = (float(v.replace(" ", "")) for v in re.findall(r"[-+]? ?\d+\.\d\d", line))
            assert [a, b, c] == pytest.approx([*found.A[0, k].tolist(), float(found.b[0, k])], abs=0.006)
            at = a * x[0] + b * x[1] + c
            assert value == pytest.approx(at, abs=0.05)
        (best,) = page.locator(".maso-glass li.wins").all()
        with torch.no_grad():
            answer = int(model(torch.tensor([x], dtype=torch.float64)).argmax())
        assert best.get_attribute("class") == f"{front.CLASSES[answer]} wins"
        cells = front.Glass.of(model).cells
        (here,) = cells.locate(np.array([x]))
        expected = [i for i, pane in enumerate(panes) if pane[2] == here]
        assert page.locator("polygon").evaluate_all(HIGHLIGHTED) == expected


@pytest.mark.browser
def test_epochs_and_arrow_keys(page: Page, record: Record) -> None:
    slider, said = page.locator("input"), page.locator("output")
    assert said.inner_text().startswith("2: ")
    slider.fill("0")
    assert said.inner_text().startswith("0: ")
    assert f"one of {len(front.panes(front.trained(record, 0))[0])}," in page.locator(".maso-map").inner_text()
    before = page.locator(".maso-map").inner_text()
    page.locator("svg").focus()
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
    assert page.locator(".maso-map").inner_text() != before


@pytest.mark.browser
def test_print_has_the_still(page: Page) -> None:
    page.emulate_media(media="print")
    assert page.locator("img").is_visible()
    assert not page.locator(".maso-glass").is_visible()
