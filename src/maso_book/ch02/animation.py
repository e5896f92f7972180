"""The learning animation of chapter 02: a self-contained piece of HTML that plays without internet.

The frames travel as numbers (corners of all cells, 16 bits each, and one colour per cell) and are drawn on a canvas, so
that they are sharp at every size.  It does not start by itself; there is a button, and a slider for single frames.
"""

from __future__ import annotations

import base64
import html
import json

import numpy as np

from maso.partition import Partition
from maso_book.ch02.figures import learned, toy_colours
from maso_book.records import Record

_STEPS = 65_535  # places along one side of the window


def frame(p: Partition) -> bytes:
    """One picture: number of cells, then for each its corners, red, green and blue, then all corners; uint16.

    A corner is two numbers from 0 to 65,535 across the window, the second one downwards as on a screen.
    """
    s0, s1, t0, t1 = p.plane.bounds
    first, vertex = p.corners
    place = (p.vertices[vertex] - (s0, t0)) / (s1 - s0, t1 - t0)
    corners = np.round(np.stack([place[:, 0], 1 - place[:, 1]], 1).clip(0, 1) * _STEPS)
    head = np.column_stack([np.diff(first), np.round(toy_colours(p)["joint"] * 255)])
    return np.concatenate([[len(p)], head.ravel(), corners.ravel()]).astype("<u2").tobytes()


def animation(film: Record) -> str:
    """The film's cells over the epochs as HTML, with a play button, a slider, and the count beside it.

    In print it is left out: the chapter's still stands below it.
    """
    frames = []
    for place, (epoch, accuracy) in enumerate(zip(film.config["epochs"], film.metrics["accuracy"], strict=True)):
        p = learned(film, place)
        packed = base64.b64encode(frame(p)).decode()
        frames.append({"epoch": epoch, "cells": len(p), "accuracy": f"{accuracy:.1%}", "data": packed})
    label = html.escape("Cells of the toy network while it learns; the slider chooses the epoch.")
    return _PAGE.replace("LABEL", label).replace("FRAMES", json.dumps(frames)).replace("LAST", str(len(frames) - 1))


_PAGE = """
<div class="maso-film" style="max-width:460px;margin:1em auto;background:#fff;color:#1a1a1a;padding:8px">
<style>@media print {.maso-film {display: none}}</style>
<canvas width="920" height="920" style="width:100%" role="img" aria-label="LABEL"></canvas>
<div style="display:flex;gap:8px;align-items:center">
<button type="button" style="min-width:5em">Play</button>
<input type="range" min="0" max="LAST" value="0" aria-label="epoch" style="flex:1">
</div>
<p aria-live="off" style="margin:4px 0;font-variant-numeric:tabular-nums"></p>
<script>
(() => {
  const frames = FRAMES;
  const root = document.currentScript.parentElement;
  const [canvas, button, slider, text] = ["canvas", "button", "input", "p"].map(name => root.querySelector(name));
  const pen = canvas.getContext("2d"), scale = canvas.width / 65535;
  let timer = null;
  function draw(number) {
    const frame = frames[number];
    const bytes = Uint8Array.from(atob(frame.data), c => c.charCodeAt(0));
    const value = new Uint16Array(bytes.buffer), cells = value[0];
    let at = 1 + 4 * cells;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = "#fff";
    pen.lineWidth = 0.8;
    for (let i = 0; i < cells; i++) {
      const [corners, red, green, blue] = value.subarray(1 + 4 * i, 5 + 4 * i);
      pen.beginPath();
      for (let k = 0; k < corners; k++, at += 2) pen.lineTo(value[at] * scale, value[at + 1] * scale);
      pen.closePath();
      pen.fillStyle = `rgb(${red},${green},${blue})`;
      pen.fill();
      pen.stroke();
    }
    text.textContent = `epoch ${frame.epoch}: ${frame.cells} cells, test accuracy ${frame.accuracy}`;
    slider.value = number;
  }
  function stop() { clearInterval(timer); timer = null; button.textContent = "Play"; }
  button.onclick = () => {
    if (timer) return stop();
    let number = Number(slider.value) === frames.length - 1 ? 0 : Number(slider.value);
    button.textContent = "Pause";
    draw(number);
    timer = setInterval(() => { if (number === frames.length - 1) stop(); else draw(++number); }, 250);
  };
  slider.oninput = () => { stop(); draw(Number(slider.value)); };
  draw(0);
})();
</script>
</div>
"""
