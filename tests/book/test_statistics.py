"""Statistics over seeds."""

from maso_book.statistics import interval


def test_interval_of_one_seed_has_no_sign() -> None:
    assert interval([1.0]).sign == 0
    assert interval([1.0, 1.1, 0.9]).sign == 1
    assert interval([-1.0, -1.1, -0.9]).sign == -1
