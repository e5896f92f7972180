"""Figures of chapter 00 that are longer than a cell of its notebook."""

from __future__ import annotations

from matplotlib.axes import Axes

from maso_book.style import PALETTE
from maso_book.template.verdicts import LEAST


def smallest_effect(ax: Axes, start: float) -> Axes:
    """Marks on `ax` how much above `start` the smallest effect of interest lies."""
    ax.axhline(start + LEAST, color=PALETTE["black"], ls=":", lw=1.2, label="smallest effect of interest")
    return ax
