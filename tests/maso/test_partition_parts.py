"""Parts of the partition engine: sorting by numbers that carry their place, and values along segments."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from maso.partition.bits import order_along, order_of, runs
from maso.partition.split import Points


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=40))
def test_keys_that_agree_in_their_high_bits_are_sorted_too(keys: list[int]) -> None:
    given_keys = np.array(keys, np.int64)
    order, found = order_of(given_keys)
    assert found.tolist() == sorted(keys)
    assert np.array_equal(given_keys[order], found)
    assert np.array_equal(np.sort(order), np.arange(len(keys)))


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
