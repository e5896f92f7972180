"""The same figure for a phone: its panels stand below each other, and no text is smaller than `SMALLEST`.

A small one shows figures 312 pixels wide, so that one of eleven inches would have letters of four pixels.  Panels of a
figure that is wider than `WIDTH` are set anew:

- panels side by side go below each other, in the order in which they are read, each with its own labels;
- a table of pictures is turned, its columns become rows, so that the shorter side lies across;
- a first panel that is as high as the figure goes on top of the others;
- a legend beside the panels goes below them.

A figure of any other layout stays as it is, and can be enlarged.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.text import Text

WIDTH = 5.0
"""Inches: shown 312 pixels wide, letters of `SMALLEST` points have nine pixels."""
SMALLEST = 11
"""Points."""
HEIGHT, MANY, LOWER = 2.7, 6, 2.0
"""Inches of a panel that need not be square, at least; from so many panels on, this much."""
PICTURES = 5
"""Columns of pictures, without names at their sides, that fit beside each other."""
LINE = 50
"""Letters in a line as long as the figure is wide."""
NAME, LEADING = 24, 0.19
"""Letters in a line of a name beside the vertical axis, and its height in inches."""
SIDES: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "right")


def narrow(fig: Figure) -> int:
    """Set the panels of a figure that was drawn anew, in place.

    Returns:
        How many there are; 0 for a figure that is narrow as it is, or of a layout that is not known here: it stays.
    """
    if fig.get_size_inches()[0] <= WIDTH * 1.05 or fig.subfigs or fig.texts:
        return 0
    empty = [ax for ax in fig.axes if not ax.axison and not ax.has_data()]
    panels = [ax for ax in fig.axes if ax not in empty]
    if any(ax.get_subplotspec() is None for ax in panels):  # a colour bar, or a panel set by hand
        return 0
    if len({id(_spec(ax).get_gridspec()) for ax in panels}) != 1:
        return 0
    if len({_place(ax) for ax in panels}) < len(panels):  # two axes in one place
        return 0
    places = _places(panels)
    if places is None:
        return 0

    for ax in empty:
        ax.remove()
    rows, columns = max(r.stop for r, _ in places), max(c.stop for _, c in places)
    for ax, (_, across) in zip(panels, places, strict=True):
        _label(ax, panels)
        _wrap(ax, LINE * (across.stop - across.start) // columns)
    if _pictures(panels) and len(panels) > 1 and places == _turned(panels):
        _swap_labels(panels)
    height = _height(fig, panels, rows, columns)
    fig.set_layout_engine("constrained")
    grid = GridSpec(rows, columns, figure=fig)
    for ax, (row, column) in zip(panels, places, strict=True):
        ax.set_subplotspec(grid[row, column])
    lines = _put_legend_below(fig, panels)
    for text in fig.findobj(Text):
        if isinstance(text, Text) and float(text.get_fontsize()) < SMALLEST:
            text.set_fontsize(SMALLEST)
    fig.set_size_inches(WIDTH, height + 0.25 * lines)
    if _pictures(panels) and rows == len(panels) > 1:
        _close_up(fig, grid, panels)
    return len(panels)


Place = tuple[slice, slice]


def _places(panels: list[Axes]) -> list[Place] | None:
    """Where each panel goes: its rows and columns of the new grid; None for a layout that is not known."""
    rows, columns = _shape(panels)
    tall = [ax for ax in panels if len(_spec(ax).rowspan) == rows > 1]
    if tall and tall[0] is panels[0] and len(tall) == 1 and _pictures(panels):
        others, wide = panels[1:], columns - len(_spec(tall[0]).colspan)
        if any(map(_spans, others)) or wide > PICTURES:
            return None
        first = _spec(tall[0]).colspan.stop
        top = (slice(0, wide), slice(0, wide))
        return [top, *(_cell(wide + _spec(ax).rowspan.start, _spec(ax).colspan.start - first) for ax in others)]
    if any(map(_spans, panels)):
        return None
    named = any(_said(ax.get_xticklabels()) or _said(ax.get_yticklabels()) for ax in panels)
    if _pictures(panels) and not named:
        if columns <= PICTURES:
            return [_cell(*_place(ax)) for ax in panels]
        return _turned(panels) if rows <= PICTURES else None
    if _pictures(panels) and rows > 1:  # a table of pictures with names at their sides
        return None
    across = 2 if len(panels) > 3 and all(ax.get_aspect() != "auto" for ax in panels) else 1
    return [_cell(*divmod(k, across)) for k in range(len(panels))]


def _cell(row: int, column: int) -> Place:
    return slice(row, row + 1), slice(column, column + 1)


def _height(fig: Figure, panels: list[Axes], rows: int, columns: int) -> float:
    """Inches: panels that need not be square keep their height or get what they need; others are as high as wide."""
    before, _ = _shape(panels)
    if _pictures(panels):
        titles = sum(any(_titles(ax) for ax in panels if _place(ax)[0] == row) for row in range(before))
        below = max(bool(ax.get_xlabel()) for ax in panels)
        return (WIDTH - 0.4) / columns * rows + 0.3 * ((rows if titles > 1 else 1) + below * rows)
    if all(ax.get_aspect() != "auto" for ax in panels):
        return WIDTH / columns * rows
    lines = max(len(names) * max(n.count("\n") + 1 for n in names) if (names := _names(ax)) else 0 for ax in panels)
    least = max(HEIGHT if len(panels) < MANY else LOWER, 0.7 + lines * LEADING)
    return rows * max(least, float(fig.get_size_inches()[1]) / before)


def _close_up(fig: Figure, grid: GridSpec, panels: list[Axes]) -> None:
    """Rows as high as the pictures are in them, which names at the side have made narrower."""
    fig.draw_without_rendering()
    there = [ax.get_position(original=True).height * fig.get_figheight() for ax in panels]
    used = [ax.get_position().height * fig.get_figheight() for ax in panels]
    grid.set_height_ratios(used)
    fig.set_figheight(fig.get_figheight() - sum(there) + sum(used))


def _pictures(panels: Iterable[Axes]) -> bool:
    """Whether most panels show an image."""
    shown = [bool(ax.images) for ax in panels]
    return 2 * sum(shown) > len(shown)


def _turned(panels: list[Axes]) -> list[Place]:
    """Rows as columns."""
    return [_cell(*reversed(_place(ax))) for ax in panels]


def _label(ax: Axes, panels: list[Axes]) -> None:
    """Give a panel what only the first of its row or of its column had, or the last: titles, labels, numbers, names."""
    if ax.images:
        return
    row, column = _place(ax)
    for side in SIDES:
        if row and not ax.get_title(loc=side):
            ax.set_title(next((o.get_title(loc=side) for o in panels if _place(o) == (0, column)), ""), loc=side)
    first = next(o for o in panels if _place(o)[0] == row)
    if (names := _names(first)) and not _said(ax.get_yticklabels()):
        ax.set_yticks(first.get_yticks(), names)
    if not ax.get_ylabel() and not _names(ax):
        ax.set_ylabel(first.get_ylabel())
    if not ax.get_xlabel():
        ax.set_xlabel(next((o.get_xlabel() for o in panels if _place(o)[1] == column and o.get_xlabel()), ""))
    if len(ax.get_shared_y_axes().get_siblings(ax)) > 1:
        ax.tick_params(labelleft=True)
    if len(ax.get_shared_x_axes().get_siblings(ax)) > 1:
        ax.tick_params(labelbottom=True)


def _names(ax: Axes) -> list[str]:
    """What the ticks of the vertical axis say, where they are words."""
    said = [text.get_text() for text in ax.get_yticklabels()]
    return said if any(re.search("[a-z]{3}", re.sub(r"\$.*?\$", "", text)) for text in said) else []


def _said(ticks: Iterable[Text]) -> bool:
    return any(tick.get_text() for tick in ticks)


def _wrap(ax: Axes, letters: int) -> None:
    """Break titles, and names along the vertical axis, into lines."""
    for side in SIDES:
        if len(title := ax.get_title(loc=side)) > letters:
            ax.set_title(_broken(title, letters), loc=side)
    if (names := _names(ax)) and max(map(len, names)) > NAME:
        ax.set_yticks(ax.get_yticks(), [_broken(name, NAME) for name in names])
        ax.set_xlabel(_broken(ax.get_xlabel(), letters * 3 // 5))


def _broken(text: str, letters: int) -> str:
    """In lines of so many letters, between words; a text with mathematics stays."""
    lines = textwrap.wrap(text, letters, break_long_words=False, break_on_hyphens=False)
    return text if "$" in text else "\n".join(lines)


def _swap_labels(panels: list[Axes]) -> None:
    """Titles of the first row name rows once it is turned, labels of the first column name columns."""
    if any(_titles(ax) for ax in panels if _place(ax)[0] > 0):
        return  # every picture has a title of its own
    titles = {_place(ax)[1]: "".join(map(ax.get_title, SIDES)) for ax in panels if _place(ax)[0] == 0}
    labels = {_place(ax)[0]: ax.get_ylabel() for ax in panels if _place(ax)[1] == 0}
    for ax in panels:
        row, column = _place(ax)
        for side in SIDES:
            ax.set_title("", loc=side)
        ax.set_ylabel(titles[column] if row == 0 else "")
        if column == 0:
            ax.set_title(labels[row], loc="center")


def _titles(ax: Axes) -> int:
    return sum(bool(ax.get_title(loc=side)) for side in SIDES)


def _put_legend_below(fig: Figure, panels: list[Axes]) -> int:
    """The legend of the figure, or beside a panel, goes below all panels, if there is one that must.

    Returns:
        How many lines it has there.
    """
    legends = [*fig.legends, *(legend for ax in panels if (legend := ax.get_legend()) and _needs_room(legend, ax))]
    if len(legends) != 1:
        return 0
    (legend,) = legends
    texts, title = [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()
    columns = max(1, min(len(texts), LINE // (6 + max(map(len, texts), default=1))))
    handles: Any = legend.legend_handles
    legend.remove()
    fig.legend(handles, texts, title=title or None, loc="outside lower center", ncols=columns)
    return -(-len(texts) // columns) + bool(title)


def _needs_room(legend: Legend, ax: Axes) -> bool:
    """Whether a legend stands outside of its panel, or would cover half of it."""
    anchor, lengths = legend.get_bbox_to_anchor(), [len(text.get_text()) for text in legend.get_texts()]
    return bool(anchor.x0 >= ax.bbox.x1 - 1 or anchor.y0 >= ax.bbox.y1 - 1 or max(lengths, default=0) > LINE // 2)


def _shape(panels: list[Axes]) -> tuple[int, int]:
    rows, columns = _spec(panels[0]).get_gridspec().get_geometry()
    return rows, columns


def _spans(ax: Axes) -> bool:
    """Whether a panel takes several rows or columns."""
    return len(_spec(ax).rowspan) > 1 or len(_spec(ax).colspan) > 1


def _place(ax: Axes) -> tuple[int, int]:
    return _spec(ax).rowspan.start, _spec(ax).colspan.start


def _spec(ax: Axes) -> Any:
    return ax.get_subplotspec()
