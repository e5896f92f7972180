"""The interactive power diagram of chapter 03: one block of HTML, CSS and JavaScript that needs no network.

It starts with the layer that `coded_cells` and `centroids` of `maso_book.ch03.figures` draw, which are its still for
print. What it does is in `interactive.js`.
"""

from __future__ import annotations

import json
from pathlib import Path

from IPython.display import HTML

from maso.spline import MASO


def power_diagram(m: MASO, *, reach: float, colours: list[str]) -> HTML:
    """A layer to play with: drag the weights of its units or change its biases, or set every centroid and radius free.

    Args:
        m: a layer of up to four ReLUs on the plane: K units, R = 2, D = 2, first piece 0.
        reach: the window is [−reach, reach]².
        colours: one for each of the 2^K codes.
    """
    start = {
        "weights": m.A[:, 1].tolist(),
        "biases": m.B[:, 1].tolist(),
        "reach": reach,
        "colours": colours,
    }
    style, script = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js"))
    data = f'<script type="application/json" class="start">{json.dumps(start)}</script>'
    return HTML(f"{_HTML}<style>\n{style}</style>\n{data}\n<script>\n{script}</script>\n</div>\n")


_HTML = """
<div class="maso-power" id="maso-power">
<div class="maso-row">
<svg viewBox="-200 -200 400 400" role="group" aria-label="Power diagram with handles"></svg>
<div class="maso-side">
<fieldset><legend>What moves</legend>
<label><input type="radio" name="maso-mode" value="layer" checked> the units of a layer</label>
<label><input type="radio" name="maso-mode" value="free"> every centroid and radius</label>
</fieldset>
<div class="sliders"></div>
<label><input type="checkbox" class="circles" checked> circles of the radii</label>
<button type="button" class="reset">Start again</button>
<p class="status" role="status"></p>
</div>
</div>
<p>Drag a handle, or reach it with the Tab key and move it with the arrow keys (with Shift: larger steps).</p>
"""
