"""The second half of a cut: chords of the regions, where they cross, and keys of their pieces.

`Ends` → `Chords` → `Crossings` → `ChordPieces`; each is found once and never changed again.  In shapes, N is the number
of ends of chords, K = N / 2 that of chords, X that of crossings, and P = K + 2 X that of the pieces of chords.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maso.partition.bits import Array, bit, mix, order_along, order_of, runs
from maso.partition.complex import OUTSIDE, Complex, Degenerate
from maso.partition.constants import PAIRS
from maso.partition.edges import Corners, EdgeCuts, EdgePieces, Units
from maso.partition.segments import Pieces, between, check_apart, insert, sum_along
from maso.partition.split import Points

_NAMES = 7919  # units are hashed from this number on, so that no hash is that of a unit's token
_NONE = np.zeros(0, np.int64)


class TooMany(Exception):
    """More regions than allowed."""


@dataclass(frozen=True, eq=False)
class Ends:
    """Ends of chords: every cut of an edge seen from the left, then from the right, then corners where a unit is zero.

    Attributes:
        region, unit: (N,) key of the region and unit whose chord it is.
        rises: (N,) whether the unit grows there, going round the region counter-clockwise.
        edge, cut: (N,) the edge and which of the cuts; −1 at corners.
        vertex: (N,) number of the vertex, in the new complex.
        a, b, t: (N,) it lies at parameter t from vertex a to vertex b of the old complex.
        ahead: (N,) the next vertex round the region; −1 at cuts of edges.
        x: (N, 2) the point.
    """

    region: Array
    unit: Array
    rises: Array
    edge: Array
    cut: Array
    vertex: Array
    a: Array
    b: Array
    t: Array
    ahead: Array
    x: Array


def find_ends(cells: Complex, units: Units, cuts: EdgeCuts, corners: Corners) -> Ends:
    """Both sides of every cut that has a region on them, and the corners."""
    inner = np.flatnonzero(cells.right[cuts.edge] != OUTSIDE)
    seen = np.concatenate([np.arange(len(cuts.edge)), inner])
    edge, no_cut = cuts.edge[seen], np.full(len(corners.vertex), -1)
    return Ends(
        region=np.concatenate([cells.left[cuts.edge], cells.right[cuts.edge[inner]], corners.region]),
        unit=np.concatenate([cuts.unit[seen], corners.unit]),
        rises=np.concatenate([~cuts.falls, cuts.falls[inner], corners.rises]),
        edge=np.concatenate([edge, no_cut]),
        cut=np.concatenate([seen, no_cut]),
        vertex=np.concatenate([len(units.z) + seen, corners.vertex]),
        a=np.concatenate([cells.start[edge], corners.vertex]),
        b=np.concatenate([cells.end[edge], corners.vertex]),
        t=np.concatenate([cuts.t[seen], np.zeros(len(corners.vertex))]),
        ahead=np.concatenate([np.full(len(seen), -1), corners.ahead]),
        x=np.concatenate([cuts.x.take(seen, 0), cells.x.take(corners.vertex, 0)]),
    )


def key_ends(cells: Complex, units: Units, corners: Corners, edges: EdgePieces, ends: Ends) -> Array:
    """Sum of the tokens of the units positive at each end, its own excluded, in the direction of the edge: (N,)."""
    reversed_half = corners.half >= len(cells.start)  # half-edges after the first E are edges reversed
    ahead = np.where(reversed_half, edges.pieces.last[corners.edge], edges.pieces.first[corners.edge])
    at_corner = edges.token[ahead] - np.where(corners.rises, units.tokens[corners.unit], 0)
    cut = ends.cut[: len(ends.cut) - len(at_corner)]
    token = np.concatenate([edges.cut_token[cut], at_corner])

    if corners.along is not None:
        cuts = len(edges.cut_token)
        left, right = edges.along_left[ends.edge[:cuts]], edges.along_right[ends.edge[cuts : len(cut)]]
        token += np.concatenate([left, right, corners.along[corners.half]])
    return token


@dataclass(frozen=True, eq=False)
class Chords:
    """The chord p → q of every region and unit that cuts it, the unit's positive side on its left; sorted by region.

    Attributes:
        units, ends: the units and the ends that the numbers below count.
        p, q: (K,) the ends where the unit falls and where it rises, going round the region.
        region, unit: (K,) key of the region, and the unit.
        edges, cuts: for p and for q, (K,) as in `Ends`.
    """

    units: Units
    ends: Ends
    p: Array
    q: Array
    region: Array
    unit: Array
    edges: tuple[Array, Array]
    cuts: tuple[Array, Array]

    def sign_at(self, end: Array, chord: Array, other: Array) -> Array:
        """Signs of the units of some chords at an end of other chords of their regions; from the signs at the vertices
        and the order of the cuts alone.

        Args:
            end: `p` or `q`, whichever end is asked for.
            chord, other: (N,) at an end of `chord`, the unit of `other`.

        Returns:
            −1, 0 or 1, (N,) int8.
        """
        units, ends, unit = self.units, self.ends, self.unit.take(other)
        at = end.take(chord)
        a, edge, cut = ends.a.take(at), ends.edge.take(at), ends.cut.take(at)
        sign = units.sign(a, unit)
        if units.negative is not None:  # a unit that is zero where the edge starts has one sign along it
            zero = np.flatnonzero(sign == 0)
            sign[zero] = units.sign(ends.b[at[zero]], unit[zero])

        for other_edges, other_cuts in zip(self.edges, self.cuts, strict=True):  # it may cut the same edge before
            passed = (other_edges.take(other) == edge) & (other_cuts.take(other) < cut)
            sign = np.where(passed, -sign, sign)
        return sign

    def value_at(self, end: Array, unit: Array) -> Array:
        """Values of units at ends: (N,) numbers of ends, (N,) → (N,)."""
        return self.units.value(self.ends.a[end], self.ends.b[end], self.ends.t[end], unit)


def pair_ends(units: Units, ends: Ends) -> Chords:
    """The two ends of every chord, found by sorting hashes of region and unit.

    Raises:
        Degenerate: a region and unit have not two ends, one rising and one falling.
    """
    name = mix(np.arange(len(units.tokens)) + _NAMES)
    order, key = order_of(ends.region + name.take(ends.unit))
    if len(key) % 2 or (key[0::2] != key[1::2]).any() or (key[1:-1:2] == key[2::2]).any():
        raise Degenerate("a unit does not cut a region in two points")

    one, two = order[0::2], order[1::2]
    rises = ends.rises.take(one)
    p, q = np.where(rises, two, one), np.where(rises, one, two)
    if ends.rises.take(p).any() or not ends.rises.take(q).all():
        raise Degenerate("a unit rises twice round a region")

    order, region = order_of(ends.region.take(p))
    p, q = p.take(order), q.take(order)
    edges, cuts = (ends.edge.take(p), ends.edge.take(q)), (ends.cut.take(p), ends.cut.take(q))
    return Chords(units, ends, p, q, region, ends.unit.take(p), edges, cuts)


@dataclass(frozen=True, eq=False)
class Crossings:
    """Pairs of chords of one region that cross.

    Attributes:
        one, two: (X,) the chords.
        side: (X,) sign of the unit of `two` at the start of `one`.
        touching: (2, T) pairs of chords, each in both orders, of which one ends where the other's unit is zero.
    """

    one: Array
    two: Array
    side: Array
    touching: Array


def cross_chords(chords: Chords, most: int) -> Crossings:
    """Two chords of a region cross iff the unit of one has opposite strict signs at the ends of the other.

    Args:
        most: crossings allowed.

    Raises:
        TooMany: there are more.
    """
    number, (first, in_region) = len(chords.p), runs(chords.region)
    yet_to_come = np.repeat(first + in_region, in_region) - 1 - np.arange(number)  # later chords of the same region
    total = np.cumsum(yet_to_come)
    ones, twos, sides, touching = [_NONE], [_NONE], [np.zeros(0, np.int8)], [np.zeros((2, 0), np.int64)]
    i = crossings = 0
    while i < number:
        j = max(int(np.searchsorted(total, (total[i - 1] if i else 0) + PAIRS, "right")), i + 1)
        count = yet_to_come[i:j]
        one = np.repeat(np.arange(i, j), count)
        two = np.arange(len(one)) + np.repeat(np.arange(i + 1, j + 1) + count - np.cumsum(count), count)

        at_p, at_q = chords.sign_at(chords.p, one, two), chords.sign_at(chords.q, one, two)
        hit = np.flatnonzero(at_p * at_q < 0)
        crossings += len(hit)
        if crossings > most:
            raise TooMany
        ones.append(one[hit])
        twos.append(two[hit])
        sides.append(at_p[hit])
        if chords.units.negative is not None:
            touch = np.flatnonzero((at_p == 0) | (at_q == 0))
            touching.append(np.stack([one[touch], two[touch]]))
        i = j
    touched = np.concatenate(touching, 1)
    both = np.concatenate([touched, touched[::-1]], 1)
    return Crossings(np.concatenate(ones), np.concatenate(twos), np.concatenate(sides), both)


def turned(chords: Chords, crossings: Crossings, token: Array) -> Array:
    """The sums of `key_ends` (N,) in the direction of the chord instead of the edge's, where other chords end too.

    Raises:
        Degenerate: two chords coincide.
    """
    chord, other = crossings.touching
    if not len(chord):
        return token
    units, ends, token = chords.units, chords.ends, token.copy()
    at_p, at_q = chords.sign_at(chords.p, chord, other), chords.sign_at(chords.q, chord, other)
    if ((at_p == 0) & (at_q == 0)).any():
        raise Degenerate("two chords coincide")
    for end, sign_here, sign_there in ((chords.p, at_p, at_q), (chords.q, at_q, at_p)):
        touch = np.flatnonzero(sign_here == 0)
        at, unit = end[chord[touch]], chords.unit[other[touch]]
        change = (sign_there[touch] > 0).astype(np.int64) - bit(units.positive, ends.ahead[at], unit)
        np.add.at(token, at, units.tokens[unit] * change)
    return token


@dataclass(frozen=True, eq=False)
class ChordCuts:
    """The crossings as points on chords, two for each; sorted by chord, then along each chord.

    Attributes:
        chord, unit: (2 X,) the unit of the other chord is zero there.
        t: (2 X,) parameter 0 < t < 1 from p to q.
        bend: (2 X,) |change of that unit along the whole chord|.
        step: (2 X,) what the key gains there: the unit's token, or minus it.
        crossing: (2 X,) which crossing it is.
        wanted: (X,) the point of every crossing that lies on its first chord.
        x: (X, 2) the crossings themselves.
        count: (K,) points on every chord.
    """

    chord: Array
    unit: Array
    t: Array
    bend: Array
    step: Array
    crossing: Array
    wanted: Array
    x: Array
    count: Array


def cut_chords(chords: Chords, crossings: Crossings) -> ChordCuts:
    """Where chords cross, from the values at their ends.

    Raises:
        Degenerate: a crossing is not inside its chords, or two of a chord coincide.
    """
    units, p, q = chords.units, chords.p, chords.q
    one, two, number = crossings.one, crossings.two, len(crossings.one)
    unit_one, unit_two = chords.unit[one], chords.unit[two]
    start_one, end_one = chords.value_at(p[one], unit_two), chords.value_at(q[one], unit_two)
    start_two, end_two = chords.value_at(p[two], unit_one), chords.value_at(q[two], unit_one)
    with np.errstate(all="ignore"):
        t_one, t_two = start_one / (start_one - end_one), start_two / (start_two - end_two)
        if not ((t_one > 0) & (t_one < 1) & (t_two > 0) & (t_two < 1)).all():
            raise Degenerate("a crossing is not inside its chords")
    x = between(chords.ends.x, p[one], q[one], t_one)

    chord, t = np.concatenate([one, two]), np.concatenate([t_one, t_two])
    unit = np.concatenate([unit_two, unit_one])
    leaves = np.concatenate([crossings.side, chords.sign_at(p, two, one)]) > 0  # the unit's positive side
    step = np.where(leaves, -units.tokens[unit], units.tokens[unit])
    bend = np.abs(np.concatenate([end_one - start_one, end_two - start_two]))

    order = order_along(chord, t)
    chord, t, unit, step, bend = chord[order], t[order], unit[order], step[order], bend[order]
    check_apart(chord, t, units.tolerance[unit] / bend)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return ChordCuts(
        chord=chord,
        unit=unit,
        t=t,
        bend=bend,
        step=step,
        crossing=order - number * (order >= number),
        wanted=place[:number],
        x=x,
        count=np.bincount(chord, minlength=len(p)),
    )


@dataclass(frozen=True, eq=False)
class ChordPieces:
    """The chords, cut; they are edges of the new complex.

    Attributes:
        pieces: of the chords.
        left, right: (P,) keys of the regions on the two sides.
    """

    pieces: Pieces
    left: Array
    right: Array


def key_chords(chords: Chords, cuts: ChordCuts, token: Array, first: int) -> ChordPieces:
    """Keys along the chords: sums of tokens that change at every crossing.

    Args:
        token: (N,) sum at every end.
        first: number of the vertex at the first crossing.

    Raises:
        Degenerate: the sum along a chord is not the one at its far end.
    """
    vertex = chords.ends.vertex
    pieces = insert(vertex[chords.p], vertex[chords.q], cuts.count, cuts.chord, first + cuts.crossing)
    piece_token = sum_along(pieces, cuts.count, token[chords.p], cuts.step)
    if (piece_token[pieces.last] != token[chords.q]).any():
        raise Degenerate("a chord ends in the wrong region")
    chord = np.repeat(np.arange(len(chords.p)), cuts.count + 1)
    right = chords.region[chord] + piece_token
    return ChordPieces(pieces, right + chords.units.tokens[chords.unit[chord]], right)


def points_on_chords(chords: Chords, cuts: ChordCuts, first: int) -> Points:
    """The crossings as points inserted into the chords; each is a new vertex, evaluated on its first chord."""
    return Points(
        a=chords.ends.vertex[chords.p],
        b=chords.ends.vertex[chords.q],
        count=cuts.count,
        t=cuts.t,
        unit=cuts.unit,
        bend=cuts.bend,
        first=first,
        wanted=cuts.wanted,
    )
