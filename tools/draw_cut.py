"""Draw book/_static/cut.svg: how two units cut a square, the example in the docstring of `maso.partition`.

    python tools/draw_cut.py

Vertices, edges and keys are the engine's own, so that the picture cannot differ from it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maso.partition.complex import Complex
from maso.partition.cut import cut

PATH = Path(__file__).parents[1] / "book" / "_static" / "cut.svg"
SIDE, GAP, MARGIN, TITLE = 200, 50, 34, 34  # pixels
COLOURS = {1: "#e8e8e8", 11: "#a9cce8", 101: "#f6d3a3", 111: "#b9dcc4"}
NAMES = {1: "1", 11: "1 + a", 101: "1 + b", 111: "1 + a + b"}
UNITS = ("#0072b2", "#d55e00")  # of z₁ and z₂, told apart by the colour-blind too


def at(panel: int, point: np.ndarray) -> tuple[float, float]:
    """Pixels of a point of [−1, 1]² in one of the panels."""
    s, t = point
    return MARGIN + panel * (SIDE + GAP) + SIDE * (s + 1) / 2, TITLE + SIDE * (1 - t) / 2


def text(x: float, y: float, label: str, colour: str = "#222", size: int = 13) -> str:
    """Text around a point."""
    return f'<text x="{x:.1f}" y="{y + size / 3:.1f}" font-size="{size}" fill="{colour}">{label}</text>'


def line(panel: int, a: np.ndarray, b: np.ndarray, colour: str = "#222", width: float = 1.5) -> str:
    """A segment."""
    (x1, y1), (x2, y2) = at(panel, a), at(panel, b)
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def dots(panel: int, x: np.ndarray, first: int) -> list[str]:
    """Vertices with their numbers, written outside the window or beside the middle."""
    marks = []
    for number, point in enumerate(x, first):
        column, row = at(panel, point)
        away = 15 * np.sign(point) * (np.abs(point) == 1) if np.abs(point).max() == 1 else np.array([12, 10])
        marks += [
            f'<circle cx="{column:.1f}" cy="{row:.1f}" r="3.5" fill="#222"/>',
            text(column + away[0], row - away[1], str(number)),
        ]
    return marks


def main() -> None:
    before, cells = Complex((-1, 1, -1, 1)), Complex((-1, 1, -1, 1))
    s, t = before.x.T
    z = np.stack([s - t / 2, t], 1)
    cut(cells, z.copy(), tokens=np.array([10, 100]), tolerance=np.zeros(2), most=4)
    x, border = cells.x, list(zip(before.start, before.end, strict=True))

    marks = [text(at(p, np.zeros(2))[0], 14, title, size=14) for p, title in enumerate(("signs", "chords", "keys"))]
    for a, b in border:
        marks += [line(0, before.x[a], before.x[b]), line(1, before.x[a], before.x[b])]
    marks += dots(0, before.x, 0)
    for point, values in zip(before.x, z, strict=True):
        for k, (value, colour) in enumerate(zip(values, UNITS, strict=True)):
            column, row = at(0, point * 0.72)
            sign = "+" if value > 0 else "−"
            marks.append(text(column, row + 18 * k - 9, f"z{'₁₂'[k]} {sign}", colour))

    for (a, b), colour in zip(((6, 4), (7, 5)), UNITS, strict=True):
        marks.append(line(1, x[a], x[b], colour, 2.5))
    marks += dots(1, x, 0)

    faces = cells.faces(4.0)
    for i, key in enumerate(faces.key.tolist()):
        half = slice(faces.first[i], faces.first[i + 1])
        corners = x[faces.start[half]] - faces.centre[i]
        around = x[faces.start[half]][np.argsort(np.arctan2(corners[:, 1], corners[:, 0]))]
        points = " ".join("{:.1f},{:.1f}".format(*at(2, corner)) for corner in around)
        marks.append(f'<polygon points="{points}" fill="{COLOURS[key]}" stroke="#222" stroke-width="1.5"/>')
        marks.append(text(*at(2, faces.centre[i]), NAMES[key]))

    width, height = 2 * MARGIN + 3 * SIDE + 2 * GAP, TITLE + SIDE + MARGIN
    PATH.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" text-anchor="middle">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(marks) + "\n</svg>\n"
    )


if __name__ == "__main__":
    main()
