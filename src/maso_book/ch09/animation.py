"""The melting of chapter 09 as an animation: a self-contained piece of HTML that plays without internet.

The frames travel as small PNGs.  It does not start by itself; there is a button, and a slider for single frames, and
both are reached with the keyboard.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image
from torch import nn

from maso_book.ch09.figures import bending, shade
from maso_book.shared.film import script

PLAYER = Path(__file__).with_name("animation.js")
LABEL = (
    "The plane of the network's inputs: dark where its gradient turns fast. Sharp polygons at β = 1 that widen and run "
    "into each other as β falls."
)
BETAS = (1.0, 0.998, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.75, 0.7, 0.6, 0.5)
SHADES = 64
"""Colours of a frame: few enough for small files, more than an eye tells apart."""


def frame(bends: np.ndarray) -> bytes:
    """One picture as PNG, (SIDE, SIDE) of `bending` → a palette image, x₂ upwards as in the figure."""
    levels = np.round(shade(bends).T[::-1].clip(0, 1) * (SHADES - 1)).astype(np.uint8)
    colours = mpl.colormaps["magma_r"](np.linspace(0, 1, SHADES), bytes=True)[:, :3]
    picture = Image.fromarray(levels)
    picture.putpalette(colours.tobytes())
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def animation(model: nn.Module) -> str:
    """Where a network of two inputs bends, for falling β, as HTML with a play button and a slider.

    In print it is left out: the chapter's still stands beside it.

    Args:
        model: (N, 2) → (N, 1), float64.
    """
    frames = [{"beta": f"{beta:g}", "data": base64.b64encode(frame(bending(model, beta))).decode()} for beta in BETAS]
    return f"""
<div class="maso-melting">
<style>
.maso-melting {{ color-scheme: light; background: #f7f6f2; color: #1a1a1a; border-radius: 6px; box-sizing: border-box;
  max-width: 26em; margin: 1em auto; padding: 0.8em; }}
.maso-melting img {{ display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated; background: none; }}
.maso-melting .row {{ display: flex; gap: 0.6em; align-items: center; margin-top: 0.6em; }}
.maso-melting button {{ min-width: 5em; border: 1px solid #444; border-radius: 4px; background: #fff; color: #1a1a1a; }}
.maso-melting input {{ flex: 1; min-width: 0; }}
.maso-melting output {{ min-width: 5.5em; font-variant-numeric: tabular-nums; }}
.maso-melting :is(button, input):focus-visible {{ outline: 3px solid #d55e00; }}
@media print {{ .maso-melting {{ display: none; }} }}
</style>
<img src="data:image/png;base64,{frames[0]["data"]}" alt="{LABEL}">
<div class="row">
<button type="button">Play</button>
<input type="range" min="0" max="{len(frames) - 1}" value="0" aria-label="softness, from hard to soft">
<output aria-live="off">β = {frames[0]["beta"]}</output>
</div>
{script(PLAYER, "playMelting", frames)}
</div>
"""
