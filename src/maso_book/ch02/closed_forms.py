"""Two closed forms that the cells of a network in a square obey, and that need no second algorithm.

*Lines* (Zaslavsky).  Draw the lines of a layer one after the other.  Each one that meets the square adds one cell, and
one more for every place inside at which it meets earlier lines.  In general position that makes

    1 + lines that meet the square + crossings inside.

*Neighbours.*  Where every inner corner has at least four edges, as in networks of gates, a cell has fewer than four
neighbours on average.  With F cells, E edges between two of them, V inner corners and e edges that end at the frame,
Euler's formula gives F ≥ 1 + E − V, and counting ends of edges 4 V + e ≤ 2 E: so 2 E / F < 4.

Sources: Facing up to Arrangements; Characterizing the Discrete Geometry of ReLU Networks (at most 2 d in d dimensions).
"""

from __future__ import annotations

import numpy as np

from maso.partition import Partition

PLACE = 9
"""Decimals to which two crossings on a line are the same place."""


def cells_of_lines(weights: np.ndarray, biases: np.ndarray, low: float, high: float) -> int:
    """Cells of the square [low, high]² between lines ⟨w, x⟩ + b = 0, from the lines alone.

    Args:
        weights: (n, 2), no two lines the same.
        biases: (n,).
        low, high: the square, no side of it on a line.
    """
    size = np.linalg.norm(weights, axis=1)
    normal, offset = weights / size[:, None], biases / size
    cells = 1
    for line, (w, b) in enumerate(zip(normal, offset, strict=True)):
        foot, along = -b * w, np.array([-w[1], w[0]])  # the points of the line are foot + t along
        with np.errstate(divide="ignore"):
            ends = (np.array([[low], [high]]) - foot) / along  # (2, 2): where it enters and leaves each strip
            enters, leaves = ends.min(0).max(), ends.max(0).min()
            crossings = -(normal[:line] @ foot + offset[:line]) / (normal[:line] @ along)
        if enters < leaves:
            inside = crossings[(enters < crossings) & (crossings < leaves)]
            cells += 1 + len(np.unique(inside.round(PLACE)))
    return cells


def mean_neighbours(p: Partition) -> float:
    """How many cells a cell shares an edge with, on average."""
    return 2 * len(np.unique(p.adjacency, axis=0)) / len(p)
