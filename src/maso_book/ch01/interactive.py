"""The lines of a unit to move, in chapter 01: one block of HTML, CSS and JavaScript that needs no network.

Without JavaScript, and in print, a still of the first unit stands in its place. What it does is in `interactive.js`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import HTML

from maso.spline import MASO
from maso_book.ch01 import figures
from maso_book.style import PALETTE, render


def lines(starts: Mapping[str, MASO]) -> HTML:
    """Max-affine splines of one number to play with: slopes and offsets of their pieces, and the input, can be moved.

    Args:
        starts: by name, what it can start from: K = 1, D = 1, up to seven pieces. The first one is shown.
    """
    first = next(iter(starts.values()))
    figure = figures.envelope(first)
    still = base64.b64encode(render(figure, "svg")).decode()
    plt.close(figure)
    start = {
        "pieces": {name: list(zip(m.A[0, :, 0].tolist(), m.B[0].tolist(), strict=True)) for name, m in starts.items()},
        "colours": list(PALETTE.values()),
    }
    options = "".join(f"<option>{name}</option>" for name in starts)
    style, script = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))
    data = f'<script type="application/json" class="start">{json.dumps(start)}</script>'
    body = _HTML.replace("STILL", still).replace("OPTIONS", options)
    return HTML(f"{body}<style>\n{style}</style>\n{data}\n<script>\n{script}</script>\n</div>\n")


_HTML = """
<div class="maso-lines" id="maso-lines">
<div class="still"><img src="data:image/svg+xml;base64,STILL"
alt="The first unit: its lines dashed, the largest of them thick, its cells as a bar below."></div>
<div class="live" hidden>
<div class="maso-row">
<svg viewBox="0 0 400 330" role="img"></svg>
<div class="maso-side">
<label>Start from <select>OPTIONS</select></label>
<label>input <i>x</i> <input type="range" class="input" min="-3" max="3" step="0.05" value="1"></label>
<p class="status" role="status"></p>
</div>
</div>
<div class="pieces"></div>
</div>
"""
