"""Cutting a complex by many units at once.

A unit is a function that is affine on every region; it is given by its values at the vertices.  Signs are three-valued:
|z| ≤ tolerance counts as zero.  Then

1. a region is cut by a unit iff it has corners of both strict signs; an edge is cut iff its ends have opposite signs;
2. in a convex region the cut is one *chord*, between two points of the border: each a cut of an edge, or a corner where
   the unit is zero; going round, the unit falls at one and rises at the other;
3. two chords of a region cross iff each one's unit takes opposite signs at the ends of the other.  That is decided from
   the signs at the vertices and the order of cuts along an edge, never from new floating-point numbers;
4. keys along an edge or a chord follow by prefix sums of the tokens of the units crossed.

The stages are frozen values, each made of those before it (`edges` and `chords` define them):

    Units → EdgeCuts, Corners → EdgePieces → Ends → Chords → Crossings → ChordCuts → ChordPieces → the new complex

One thread makes them all; only loops over blocks of vertices and edges run on several, each block writing rows of its
own.  The values are written to by the first stage, the complex by the last, nothing else by any.

Certificates, always checked: every (region, unit) has exactly two ends, one falling and one rising; the key summed
along a chord is the key at its far end; there are as many keys as Euler's formula has faces.  Where one fails (several
units through one point, one line twice), the units are cut one half after the other; with one unit at a time this is
polygon clipping.  No Python loop runs over cells, units or edges.

Source: batched edge subdivision, after Berzins, "Polyhedral complex extraction from ReLU networks using edge
subdivision" (ICML 2023).
"""

from __future__ import annotations

import numpy as np

from maso.partition import chords as ch
from maso.partition import edges as ed
from maso.partition.bits import Array, order_of
from maso.partition.chords import TooMany
from maso.partition.complex import OUTSIDE, Complex, Degenerate, Sorted
from maso.partition.split import Split

__all__ = ["TooMany", "cut"]


def cut(
    cells: Complex,
    z: Array,
    tokens: Array,
    tolerance: Array,
    most: int,
    *,
    limits: tuple[Array, Array] | None = None,
) -> list[Split]:
    """Cut all regions by all units; keys grow by the token of every unit that is positive in the region.

    Args:
        cells: cut in place.
        z: (V, n) values at the vertices; values within the tolerance become zero, in place.
        tokens: (n,) int64.
        tolerance: (n,) what counts as zero.
        most: regions allowed.
        limits: (low, high), each (n,), to be filled with the ranges of the values.

    Returns:
        The cuts made, one after the other (one, unless the arrangement is degenerate).

    Raises:
        Degenerate: a single unit cannot be cut.
        TooMany: there would be more than `most` regions.
    """
    if z.shape[1] == 0:
        return []
    units = ed.signs(z, tokens, tolerance, limits)
    try:
        return [_cut_at_once(cells, units, most)]
    except Degenerate:
        if z.shape[1] == 1:
            raise
    return _cut_by_halves(cells, units, most)


def _cut_by_halves(cells: Complex, units: ed.Units, most: int) -> list[Split]:
    """The second half of the units cuts what the first half has left."""
    z, tokens, tolerance = units.z, units.tokens, units.tolerance
    half = len(tokens) // 2
    first = cut(cells, np.ascontiguousarray(z[:, :half]), tokens[:half], tolerance[:half], most)
    others = np.ascontiguousarray(z[:, half:])
    for split in first:
        others = split.extend(others)
    second = cut(cells, others, tokens[half:], tolerance[half:], most)
    return first + [split.renumbered(half) for split in second]


def _cut_at_once(cells: Complex, units: ed.Units, most: int) -> Split:
    """All stages; the complex is replaced once all certificates hold.

    Raises:
        Degenerate: one does not.
    """
    edge_cuts, corners = ed.cut_edges(cells, units), ed.find_corners(cells, units)
    edge_pieces = ed.key_pieces(cells, units, edge_cuts, corners)

    ends = ch.find_ends(cells, units, edge_cuts, corners)
    chords = ch.pair_ends(units, ends)
    crossings = ch.cross_chords(chords, most - cells.count() - len(chords.p))  # each chord and crossing adds a region
    token = ch.turned(chords, crossings, ch.key_ends(cells, units, corners, edge_pieces, ends))

    before = len(cells.x)
    first = before + len(edge_cuts.edge)  # the vertices are the old ones, then the cuts of edges, then the crossings
    chord_cuts = ch.cut_chords(chords, crossings)
    chord_pieces = ch.key_chords(chords, chord_cuts, token, first)

    after = first + len(crossings.one)
    at_crossings = np.arange(first, after)
    split = Split(
        before=before,
        after=after,
        edges=ed.points_on_edges(cells, units, edge_cuts),
        chords=ch.points_on_chords(chords, chord_cuts, first),
        zero_vertex=np.concatenate([np.arange(before, first), at_crossings, at_crossings]),
        zero_unit=np.concatenate([edge_cuts.unit, chords.unit[crossings.one], chords.unit[crossings.two]]),
    )
    x = np.concatenate([cells.x, edge_cuts.x, chord_cuts.x])
    _replace(cells, x, edge_pieces, chord_pieces, corners.snapped)
    return split


def _replace(
    cells: Complex, x: Array, edge_pieces: ed.EdgePieces, chord_pieces: ch.ChordPieces, snapped: Array
) -> None:
    """The pieces of edges and chords are the new edges, x (V', 2) the new vertices; `snapped` are old ones.

    Raises:
        Degenerate: there are not as many keys as Euler's formula has faces.
    """
    edges, chords = edge_pieces.pieces, chord_pieces.pieces
    start, end = np.concatenate([edges.start, chords.start]), np.concatenate([edges.end, chords.end])
    left = np.concatenate([edge_pieces.left, chord_pieces.left])
    right = np.concatenate([edge_pieces.right, chord_pieces.right])

    order, keys = order_of(np.concatenate([left, right[right != OUTSIDE]]))
    regions, faces = int((keys[1:] != keys[:-1]).sum()) + 1, len(start) - len(x) + 1
    if regions != faces:
        raise Degenerate(f"{regions} keys for {faces} faces")

    new = np.zeros(len(x) - len(cells.x), bool)
    cells.snapped[snapped] = True
    cells.snapped = np.concatenate([cells.snapped, new])
    cells.corner = np.concatenate([cells.corner, new])
    cells.x, cells.start, cells.end, cells.left, cells.right = x, start, end, left, right
    cells.sorted = Sorted(left, right, order, keys)
