"""Statistics over seeds, against their formulas written out."""

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from maso_book.statistics import Interval, auc, bootstrap, holm, interval, p_value, rank_correlation, student
from maso_book.verdict import outcome_of


def test_interval_is_students() -> None:
    values = [1.0, 1.5, 0.25, 2.0, 1.125]
    half = student_t.ppf(0.975, 4) * np.std(values, ddof=1) / math.sqrt(5)
    found = interval(values)
    assert found.mean == pytest.approx(1.175)
    assert (found.low, found.high) == pytest.approx((1.175 - half, 1.175 + half))
    assert student(values) == (found.low, found.high)


def test_intervals_of_one_seed_and_of_equal_values_have_no_sign() -> None:
    assert interval([1.0]).sign == 0
    assert math.isnan(interval([1.0]).low)
    assert interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0)
    assert interval([2.0, 2.0, 2.0]).sign == 0
    assert outcome_of(interval([2.0, 2.0, 2.0]), least=1.0) == "not decided"
    assert [interval(v).sign for v in ([1.0, 1.1, 0.9], [-1.0, -1.1, -0.9], [-1.0, 1.0])] == [1, -1, 0]


def test_an_interval_writes_itself() -> None:
    assert f"{Interval(0.25, -0.5, 1.0):+.2f}" == "+0.25 [-0.50, +1.00]"
    assert f"{Interval(0.25, 0.2, 0.3):.0%}" == "25% [20%, 30%]"


def test_auc_counts_pairs() -> None:
    positive, negative = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 0.0, 3.0])
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auc(positive, negative) == pytest.approx(np.mean(pairs))
    many = np.random.default_rng(0).normal(size=(2, 5000)).astype(np.float32)
    assert auc(*many) == auc(*many.astype(np.float64))


def test_rank_correlation_row_by_row() -> None:
    a = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    b = np.array([[10.0, 20.0, 25.0, 90.0], [1.0, 2.0, 3.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    assert rank_correlation(a, b) == pytest.approx([1.0, -1.0, 0.0])


def test_holm_multiplies_by_the_number_that_is_left() -> None:
    assert holm([0.01, 0.02, 0.5]) == pytest.approx([0.03, 0.04, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0]  # no p exceeds 1, and a larger p never becomes the smaller
    assert holm([]) == []


def test_p_is_that_of_the_interval_and_equal_values_decide_nothing() -> None:
    values = [1.0, 1.5, 0.25, 2.0, 1.125]
    t = np.mean(values) / (np.std(values, ddof=1) / math.sqrt(5))
    assert p_value(values) == pytest.approx(2 * student_t.sf(t, 4))
    assert p_value([0.3, 0.3, 0.3]) == p_value([0.3]) == 1.0


def test_the_bootstrap_draws_seeds_and_images() -> None:
    rng = np.random.default_rng(0)
    seeds, images = rng.normal(0, 0.5, (40, 1)), rng.normal(0, 2.0, (1, 100))
    found = bootstrap(1.0 + seeds + images, draws=1000)
    half = 1.96 * math.sqrt(0.5**2 / 40 + 2.0**2 / 100)  # both are sampled
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.25)
    assert found.low < found.mean < found.high
