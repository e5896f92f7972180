"""The lines to move in chapter 01: what they carry, and what they do in headless Chromium."""

from __future__ import annotations

import json
import re

import pytest
import torch
from playwright.sync_api import Browser
from torch import nn

from maso import MASO, from_layer
from maso_book.ch01.interactive import lines

SPLINE = MASO(torch.tensor([[[-1.5], [-0.5], [0.25], [1.5]]]), torch.tensor([[-1.5, -0.25, 0.0, -1.5]]))
PAGE = lines({"a ReLU": from_layer(nn.ReLU(), (1,)), "four pieces": SPLINE}).data


def test_the_page_carries_the_pieces_and_needs_nothing_from_outside() -> None:
    data = PAGE.partition('class="start">')[2].partition("</script>")[0]
    assert json.loads(data)["pieces"]["a ReLU"] == [[0.0, 0.0], [1.0, 0.0]]
    assert "http" not in PAGE.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.browser
def test_the_largest_line_wins_and_lines_move(browser: Browser) -> None:
    page = browser.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_content(PAGE)
    assert not page.locator(".still").is_visible()

    page.get_by_label("Start from").select_option("four pieces")
    for x in (-2.9, -0.65, 0.4, 2.0):
        page.locator(".input").fill(str(x))
        at = torch.tensor([[x]])
        said = page.locator(".status").inner_text().replace("\u2212", "-")
        assert f"piece {int(SPLINE.code(at)) + 1} is the largest" in said
        assert float(re.findall(r"= (-?\d+\.\d+)\. ", said)[0]) == pytest.approx(float(SPLINE(at)), abs=0.006)
    assert "4 of 4 pieces" in said

    offset = page.locator("fieldset").nth(2).get_by_label("offset")
    offset.focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")  # a step is 0.05
    assert page.locator("legend").nth(2).inner_text() == "piece 3: 0.25 x \u2212 1.00"
    assert "3 of 4 pieces" in page.locator(".status").inner_text()
    assert not wrong
    page.close()


@pytest.mark.browser
def test_without_javascript_there_is_a_still(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(PAGE)
    assert page.locator(".still img").is_visible()
    assert not page.locator(".live").is_visible()
    context.close()
