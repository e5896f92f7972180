"""Chapter 09: its measurement against a count by hand, its verdict on tables made up."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from maso_book.ch09.figures import smallest_effect
from maso_book.ch09.units import Units, network, run_units
from maso_book.ch09.verdicts import LEAST, verdicts
from maso_book.records import Record


def test_shares_are_those_counted_by_hand() -> None:
    config = Units(seed=3, width=7, depth=3, points=20)
    tables, _ = run_units(config)

    torch.manual_seed(config.seed)
    model, x = network(config), torch.randn(config.points, 8, dtype=torch.float64)
    for row, layer in zip(tables["layers"], range(3), strict=True):
        values = model[: 2 * layer + 2](x)
        by_hand = sum(all(value == 0 for value in unit) for unit in values.T.tolist()) / config.width
        assert row == {"layer": layer + 1, "off_share": pytest.approx(by_hand)}


def records(rise: float, seeds: int = 5) -> list[Record]:
    """Runs in which the share rises so much, give or take a thousandth."""
    return [
        Record(
            "09-units",
            {"seed": seed},
            {"layers": [{"layer": 1, "off_share": 0.0}, {"layer": 2, "off_share": rise + 0.001 * (seed % 2)}]},
            {},
            {"device": "cpu"},
            f"{seed}",
        )
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(
    ("rise", "seeds", "outcome"),
    [(0.3, 5, "holds"), (0.01, 5, "too small to matter"), (-0.3, 5, "does not hold"), (0.3, 4, "not tested")],
)
def test_verdict(rise: float, seeds: int, outcome: str) -> None:
    (verdict,) = verdicts({"09-units": records(rise, seeds)})
    assert verdict.outcome == outcome


def test_the_line_lies_at_the_smallest_effect() -> None:
    _, ax = plt.subplots()
    (line,) = smallest_effect(ax, start=0.2).lines
    assert np.asarray(line.get_ydata()).tolist() == pytest.approx([0.2 + LEAST] * 2)
    plt.close("all")
