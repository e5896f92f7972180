"""The form that figures have on a phone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from maso_book import style
from maso_book.narrow import SMALLEST, WIDTH, narrow


def drawn(fig: Figure) -> Figure:
    style.render(fig, "png")
    return fig


def tops(axes: np.ndarray) -> list[float]:
    return [ax.get_position().y1 for ax in axes.flat]


def lines(ax: Axes, **about: str) -> None:
    ax.plot([0, 1, 2], [1, 3, 2], label="a line")
    ax.set(**about)


@pytest.fixture(autouse=True)
def _no_figure_stays() -> object:
    yield
    plt.close("all")


def test_panels_side_by_side_go_below_each_other_with_their_own_labels() -> None:
    fig, axes = plt.subplots(1, 3, figsize=(11, 3), sharey=True)
    for k, ax in enumerate(axes):
        lines(ax, title=f"panel {k}", xlabel="epoch")
    axes[0].set_ylabel("loss")
    axes[1].text(0, 1, "small", fontsize=6)
    assert narrow(drawn(fig)) == 3
    drawn(fig)
    assert fig.get_size_inches()[0] == WIDTH
    assert tops(axes) == sorted(tops(axes), reverse=True)
    assert len({round(ax.get_position().x0, 3) for ax in axes}) == 1
    assert [ax.get_ylabel() for ax in axes] == ["loss"] * 3
    assert all(tick.get_visible() for tick in axes[2].get_yticklabels())
    assert min(text.get_fontsize() for text in fig.findobj(Text)) >= SMALLEST


def test_the_lower_rows_of_a_grid_get_the_titles_of_their_columns() -> None:
    fig, axes = plt.subplots(2, 2, figsize=(9, 5))
    for k, ax in enumerate(axes.flat):
        lines(ax, title=f"column {k}" if k < 2 else "", xlabel="epoch" if k > 1 else "")
    narrow(drawn(fig))
    assert [ax.get_title(loc="left") for ax in axes.flat] == ["column 0", "column 1"] * 2
    assert [ax.get_xlabel() for ax in axes.flat] == ["epoch"] * 4


def test_a_panel_does_not_get_the_label_of_a_later_one() -> None:
    fig, axes = plt.subplots(1, 2, figsize=(9, 4))
    lines(axes[0], title="a map")
    lines(axes[1], title="bars", ylabel="output")
    narrow(drawn(fig))
    assert [ax.get_ylabel() for ax in axes] == ["", "output"]


def test_a_table_of_pictures_is_turned_with_its_names() -> None:
    fig, axes = plt.subplots(2, 8, figsize=(11, 3))
    for (row, column), ax in np.ndenumerate(axes):
        ax.imshow(np.eye(3))
        ax.set(xticks=[], yticks=[], title=f"class {column}" if row == 0 else "", ylabel="" if column else "ab"[row])
    assert narrow(drawn(fig)) == 16
    drawn(fig)
    assert axes[0, 5].get_position().y1 < axes[0, 0].get_position().y1
    assert axes[1, 0].get_position().x0 > axes[0, 0].get_position().x0
    assert [ax.get_ylabel() for ax in axes[0]] == [f"class {k}" for k in range(8)]
    assert [ax.get_title() for ax in axes[:, 0]] == ["a", "b"]


def test_pictures_with_names_at_their_sides_go_below_each_other() -> None:
    fig, axes = plt.subplots(1, 2, figsize=(10, 4))
    for ax, names in zip(axes, ([], ["a long name", "another one", "and a third"]), strict=True):
        ax.imshow(np.eye(3))
        ax.set(xticks=[], yticks=range(len(names)), yticklabels=names)
    assert narrow(drawn(fig)) == 2
    drawn(fig)
    gap = axes[0].get_position().y0 - axes[1].get_position().y1
    assert 0 < gap * fig.get_figheight() < 0.5  # inches


def test_a_tall_first_picture_goes_on_top() -> None:
    fig, axes = plt.subplot_mosaic("ABC;ADE", figsize=(9, 4))
    for ax in axes.values():
        ax.imshow(np.eye(3))
        ax.set(xticks=[], yticks=[])
    assert narrow(drawn(fig)) == 5
    drawn(fig)
    place = {name: ax.get_position() for name, ax in axes.items()}
    assert place["A"].y0 > place["B"].y1 > place["D"].y1
    assert place["C"].x0 > place["B"].x1


def test_a_legend_beside_the_panels_goes_below_and_long_names_are_broken() -> None:
    fig, ax = plt.subplots(figsize=(9, 3))
    lines(ax)
    ax.set_yticks([1, 2, 3], ["one", "a name that is longer than a line", "three"])
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    assert narrow(drawn(fig)) == 1
    drawn(fig)
    (legend,) = fig.legends
    assert legend.get_window_extent().y1 < ax.bbox.y0
    assert [text.get_text() for text in legend.get_texts()] == ["a line"]
    assert ax.get_yticklabels()[1].get_text() == "a name that is longer\nthan a line"


@pytest.mark.parametrize("made", ["narrow", "subfigures", "with words of its own"])
def test_other_figures_stay(made: str) -> None:
    fig = plt.figure(figsize=(4, 3) if made == "narrow" else (9, 3))
    for part in fig.subfigures(1, 2) if made == "subfigures" else [fig]:
        part.add_subplot()
    if made == "with words of its own":
        fig.text(0.5, 0.5, "words")
    before = fig.get_size_inches().tolist()
    assert narrow(drawn(fig)) == 0
    assert fig.get_size_inches().tolist() == before
