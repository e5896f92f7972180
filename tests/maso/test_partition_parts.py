"""Parts of the partition engine: sorting, values along segments, costs, and the stages of a cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maso.partition import chords, edges
from maso.partition.bits import order_along, order_of, runs
from maso.partition.complex import OUTSIDE, Complex, Degenerate
from maso.partition.constants import MULTIPLICATION, NUMBER, PATCH, RADIX, SAMPLE, SHARE
from maso.partition.cost import centres_to_check, row_costs
from maso.partition.network import read_network
from maso.partition.split import Points
from maso.partition.threads import lend_threads


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=40))
def test_keys_that_agree_in_their_high_bits_are_sorted_too(keys: list[int]) -> None:
    given_keys = np.array(keys, np.int64)
    order, found = order_of(given_keys)
    assert found.tolist() == sorted(keys)
    assert np.array_equal(given_keys[order], found)
    assert np.array_equal(np.sort(order), np.arange(len(keys)))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, RADIX // 2 - 1, RADIX - 1, RADIX, 3 * RADIX, 20 * RADIX + 7])
def test_many_keys_with_repeats_are_sorted_in_their_order_whatever_the_number_of_threads(
    threads: int, size: int
) -> None:
    keys = np.random.default_rng(size).integers(-(2**63), 2**63, size) // 2**60 * 2**60
    keys[1::3] = 2**63 - 1
    keys[::3] = np.random.default_rng(1).integers(-(2**63), 2**63, len(keys[::3]))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with lend_threads():
            order, found = order_of(keys)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(order, np.argsort(keys, kind="stable"))
    assert np.array_equal(found, keys[order])


def test_where_keys_begin() -> None:
    first, count = runs(np.array([4, 4, 5, 9, 9]))
    assert first.tolist() == [0, 2, 3]
    assert count.tolist() == [2, 1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_points_closer_than_the_bits_that_are_left_are_sorted(seed: int, fine: int) -> None:
    """Parameters that differ by rounding only, on many segments of which most are far apart."""
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 300)
    segment = rng.integers(0, 1 + rng.integers(1, 2**20), n)
    t = 0.3 + rng.integers(1, 9, n) * 2.0**-fine / 20
    segment[: n // 2] = segment[: n // 2] % 3
    order = order_along(segment, t)
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(segment[order], np.sort(segment))
    same = segment[order][1:] == segment[order][:-1]
    assert (t[order][1:] >= t[order][:-1])[same].all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 7, 8, 9, 70, 600]))
def test_bent_values_are_those_of_a_piecewise_linear_function(seed: int, most: int) -> None:
    """f(t) = a + t d + Σ_k c_k max(0, t − t_k), whatever the number of points between those evaluated."""
    rng = np.random.default_rng(seed)
    segments, units = 4, 5
    count = rng.integers(0, most + 1, segments)
    n = int(count.sum())
    segment = np.repeat(np.arange(segments), count)
    t = np.concatenate([np.sort(rng.uniform(0.01, 0.99, c)) for c in count])
    unit, bend = rng.integers(0, units, n), rng.uniform(0, 1, n)
    jump, direction = rng.normal(size=units), rng.normal(size=(units, 3))
    start, slope = rng.normal(size=(segments, 3)), rng.normal(size=(segments, 3))

    turn = (bend * jump[unit])[:, None] * direction[unit]
    kink = (segment[:, None] == segment) * np.maximum(0, t[:, None] - t)
    true = start[segment] + t[:, None] * slope[segment] + kink @ turn
    end = start + slope + np.stack([((1 - t) * turn.T * (segment == s)).sum(1) for s in range(segments)])

    wanted = rng.permutation(np.flatnonzero(rng.random(n) < 0.7))
    ends = np.arange(2 * segments)
    points = Points(ends[:segments], ends[segments:], count, t, unit, bend, len(ends), wanted)
    spare = len(ends) + len(wanted) + units
    rows = np.full((spare + points.ahead, 3), np.nan)
    rows[:segments], rows[segments : 2 * segments] = start, end
    row = len(ends) + len(wanted) + np.arange(units)
    rows[row] = direction
    for combination in points.bent(row, jump, spare):
        combination.apply(rows)
    scale = 1 + np.abs(turn).sum()
    assert np.abs(rows[len(ends) : len(ends) + len(wanted)] - true[wanted]).max(initial=0.0) <= 1e-13 * scale


# ---------------------------------------------------------------- costs
def test_multiplications_of_a_network_are_counted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 10)).double()
    graph, snapshot = read_network(model, torch.zeros(3, 8, 8))
    costs = {node.op: cost for node, cost in row_costs(graph, snapshot).items()}
    weight = 8 * 3 * 3 * 3
    assert costs["conv2d"] == pytest.approx(288 * NUMBER + 36 * (weight * MULTIPLICATION + weight / 8 * PATCH))
    assert costs["linear"] == pytest.approx(10 * NUMBER + 2880 * MULTIPLICATION)
    assert costs["flatten"] == 288 * NUMBER


def test_all_centres_are_forwarded_where_that_costs_no_more_than_the_run() -> None:
    assert centres_to_check(regions=1000, run=1e6, point=1e3) == 1000
    assert centres_to_check(regions=10_001, run=1e7, point=1e3) == int(SHARE * 10_000)
    assert centres_to_check(regions=1001, run=1e4, point=1e3) == SAMPLE
    assert centres_to_check(regions=10, run=1.0, point=1e3) == 10


# ---------------------------------------------------------------- the stages of a cut
def test_two_units_cut_a_square_as_by_hand() -> None:
    """The example of the package's docstring, stage by stage."""
    cells = Complex((-1, 1, -1, 1))
    s, t = cells.x.T
    units = edges.signs(np.stack([s - t / 2, t], 1), np.array([10, 100]), np.zeros(2), None)
    assert units.negative is None

    cuts = edges.cut_edges(cells, units)
    assert list(zip(cuts.edge, cuts.unit, cuts.t, strict=True)) == [
        (0, 0, 0.25),
        (1, 1, 0.5),
        (2, 0, 0.25),
        (3, 1, 0.5),
    ]
    corners = edges.find_corners(cells, units)
    pieces = edges.key_pieces(cells, units, cuts, corners)
    assert pieces.left.tolist() == [1, 11, 11, 111, 111, 101, 101, 1]
    assert (pieces.right == OUTSIDE).all()

    ends = chords.find_ends(cells, units, cuts, corners)
    lines = chords.pair_ends(units, ends)
    assert sorted(zip(ends.vertex[lines.p], ends.vertex[lines.q], strict=True)) == [(6, 4), (7, 5)]
    crossings = chords.cross_chords(lines, most=1)
    assert len(crossings.one) == 1
    assert crossings.touching.shape == (2, 0)
    with pytest.raises(chords.TooMany):
        chords.cross_chords(lines, most=0)

    points = chords.cut_chords(lines, crossings)
    assert points.x.tolist() == [[0.0, 0.0]]
    assert points.t.tolist() == [0.5, 0.5]
    token = chords.key_ends(cells, units, corners, pieces, ends)
    keyed = chords.key_chords(lines, points, token, first=8)
    assert sorted(zip(keyed.right.tolist(), keyed.left.tolist(), strict=True)) == [
        (1, 11),
        (1, 101),
        (11, 111),
        (101, 111),
    ]


def test_a_wrong_sum_along_a_chord_is_refused() -> None:
    cells = Complex((-1, 1, -1, 1))
    units = edges.signs(cells.x[:, :1].copy(), np.array([10]), np.zeros(1), None)
    cuts, corners = edges.cut_edges(cells, units), edges.find_corners(cells, units)
    ends = chords.find_ends(cells, units, cuts, corners)
    lines = chords.pair_ends(units, ends)
    points = chords.cut_chords(lines, chords.cross_chords(lines, most=9))
    token = chords.key_ends(cells, units, corners, edges.key_pieces(cells, units, cuts, corners), ends)
    chords.key_chords(lines, points, token, first=6)
    with pytest.raises(Degenerate, match="wrong region"):
        chords.key_chords(lines, points, token + np.arange(len(token)), first=6)
