"""The learning animation of chapter 02: a self-contained piece of HTML that plays without internet.

The frames travel as numbers (corners of all cells, 16 bits each, and one colour per cell) and are drawn on a canvas, so
that they are sharp at every size.  It does not start by itself; there is a button, and a slider for single frames.
"""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from maso.partition import Partition
from maso_book.ch02.figures import learned, toy_colours
from maso_book.records import Record
from maso_book.shared.film import script

PLAYER = Path(__file__).with_name("animation.js")
LABEL = "Cells of the toy network while it learns; the slider chooses the epoch."
STEPS = 65_535
"""Places along one side of the window."""


def frame(p: Partition) -> bytes:
    """One picture: number of cells, then for each its corners, red, green and blue, then all corners; uint16.

    A corner is two numbers from 0 to 65,535 across the window, the second one downwards as on a screen.
    """
    s0, s1, t0, t1 = p.plane.bounds
    first, vertex = p.corners
    place = (p.vertices[vertex] - (s0, t0)) / (s1 - s0, t1 - t0)
    corners = np.round(np.stack([place[:, 0], 1 - place[:, 1]], 1).clip(0, 1) * STEPS)
    head = np.column_stack([np.diff(first), np.round(toy_colours(p)["joint"] * 255)])
    return np.concatenate([[len(p)], head.ravel(), corners.ravel()]).astype("<u2").tobytes()


def animation(film: Record) -> str:
    """The film's cells over the epochs as HTML, with a play button, a slider, and the count beside it.

    In print it is left out: the chapter's still stands below it.
    """
    frames = []
    for place, row in enumerate(film.tables["epochs"]):
        p = learned(film, place)
        packed = base64.b64encode(frame(p)).decode()
        frames.append({"epoch": row["epoch"], "cells": len(p), "accuracy": f"{row['accuracy']:.1%}", "data": packed})
    return f"""
<div class="maso-film" style="max-width:460px;margin:1em auto;background:#fff;color:#1a1a1a;padding:8px">
<style>@media print {{.maso-film {{display: none}}}}</style>
<canvas width="920" height="920" style="width:100%" role="img" aria-label="{LABEL}"></canvas>
<div style="display:flex;gap:8px;align-items:center">
<button type="button" style="min-width:5em">Play</button>
<input type="range" min="0" max="{len(frames) - 1}" value="0" aria-label="epoch" style="flex:1">
</div>
<p aria-live="off" style="margin:4px 0;font-variant-numeric:tabular-nums"></p>
{script(PLAYER, "playFilm", frames)}
</div>
"""
