"""Chapter 07: agreement and axioms against brute force on small cells; its verdicts; its figures."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maso.partition import Plane
from maso_book import trained
from maso_book.ch07 import agreement as ch07_agreement
from maso_book.ch07 import experiments as ch07
from maso_book.ch07 import figures as plots
from maso_book.ch07 import metric as ch07_metric
from maso_book.ch07.agreement import Agreement, last_layer, recipe
from maso_book.ch07.speed import Speed
from maso_book.experiment import Experiment
from maso_book.records import Record
from maso_book.results import compute
from maso_book.trained import data

SMALL = Agreement(0, epochs=2, shown=2, **ch07.QUICK)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Record:
    found = trained.trained(recipe(SMALL), folder=tmp_path_factory.mktemp("networks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ch07_agreement, "trained", lambda _: found)
        return compute(Experiment("07-agreement", ch07_agreement.run_agreement, list), SMALL)


def test_agreement_of_pixels_is_that_of_a_plain_search(cell: Record) -> None:
    d = data(recipe(SMALL))
    queries, images = d.x_test[: SMALL.queries].flatten(1).double(), d.x[: SMALL.images].flatten(1).double()
    nearest = (queries[:, None] - images[None]).square().sum(2).argsort(1)[:, :5]
    share = (d.y[nearest] == d.y_test[: SMALL.queries, None]).double().mean()
    assert ch07.euclid(cell, 0, "pixels", 5) == pytest.approx(float(share), abs=1e-3)


def test_neighbours_that_are_shown_have_the_labels_that_are_counted(cell: Record) -> None:
    pictures, index = cell.arrays["labels"], cell.arrays["neighbours"]
    d = data(recipe(SMALL))
    assert np.array_equal(cell.arrays["images"][:2], d.x_test[:2].numpy())
    assert index.min() == 2
    assert index.max() == len(pictures) - 1
    first = ch07.rows(cell, 0)[0]
    assert index.shape == (2, len(ch07.rows(cell, 0)), 2, 15)
    assert first["kind"] == "ReLU"


def test_permuted_labels_are_not_those_that_agreement_is_counted_with() -> None:
    true = data(recipe(SMALL))
    permuted = data(recipe(Agreement(0, labels="permuted", **ch07.QUICK)))
    assert torch.equal(true.x, permuted.x)
    assert not torch.equal(true.y, permuted.y)


def test_histograms_count_every_pair(cell: Record) -> None:
    histograms = cell.arrays["histograms"]
    layers = [row for row in ch07.rows(cell, 0) if row["kind"] != "Euclid"]
    assert histograms.shape[:3] == (2, len(layers), 2)
    n, m = SMALL.pairs
    assert (histograms.sum((2, 3)) == n * m).all()
    middle = (ch07_agreement.BINS[1:] + ch07_agreement.BINS[:-1]) / 2
    within = histograms[0, :, 0]
    assert np.allclose((within @ middle) / within.sum(1), [row["within"] for row in layers], atol=0.01)


def test_the_last_layer_is_what_enters_and_leaves_the_dense_one() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(7, 3)
    features, outputs = last_layer(model, x)
    assert torch.equal(features, model[:2](x))
    assert torch.equal(outputs, model(x))


def test_a_broken_triangle_is_noticed() -> None:
    n = torch.tensor([[0, 3, 1], [3, 0, 1], [1, 1, 0]])
    assert ch07_metric.broken_triangles(n) == 2
    assert ch07_metric.broken_triangles(n.clamp(max=2)) == 0


def test_a_quick_cell_of_the_axioms_has_no_violation() -> None:
    experiment = next(e for e in ch07.EXPERIMENTS if e.name == "07-metric")
    record = compute(experiment, ch07_metric.Metric(5, 60))
    (verdict,) = [v for v in ch07.verdicts({"07-metric": [record]}) if v.claim == "07.3"]
    assert " 0 violations" in verdict.evidence
    assert " 0 disagreements" in verdict.evidence
    assert verdict.outcome == "not tested"  # too few networks for the criterion
    broken = copy.deepcopy(record)
    broken.metrics["networks"][0]["distance 0, other polygon"] = 1
    assert {v.outcome for v in ch07.verdicts({"07-metric": [broken]}) if v.claim == "07.3"} == {"does not hold"}


def made_up(
    trained: list[float], untrained: list[float], outputs: float = 0.3, seeds: int = 5, **config: Any
) -> list[Record]:
    """Records with these agreements in three ReLU layers and three pools, a little different for each seed."""
    found = []
    for seed in range(seeds):
        asked = {"dataset": "cifar10", "network": "small_cnn", "labels": "true", "seed": seed, "epochs": 3} | config
        rows = [
            {"epoch": epoch, "layer": f"{kind} {i}", "kind": kind} | {f"k = {k}": a + seed / 1000 for k in ch07.KS}
            for epoch, values in ((0, untrained), (3, trained))
            for kind in ch07.KINDS
            for i, a in enumerate(values)
        ]
        rows += [
            {"epoch": epoch, "layer": name, "kind": "Euclid"} | dict.fromkeys((f"k = {k}" for k in ch07.KS), value)
            for epoch in (0, 3)
            for name, value in (("pixels", 0.25), ("features", 0.3), ("outputs", outputs))
        ]
        found.append(Record("07-agreement", asked, {"diverged": False, "rows": rows}, {}, {}, ""))
    return found


RISES, FLAT, FALLS = [0.2, 0.3, 0.5], [0.2, 0.21, 0.22], [0.4, 0.3, 0.2]


@pytest.mark.parametrize(("trained", "outcome"), [(RISES, "holds"), (FALLS, "does not hold")])
def test_depth_is_judged_by_gain_and_order(trained: list[float], outcome: str) -> None:
    (verdict,) = [v for v in ch07.verdicts({"07-agreement": made_up(trained, FLAT)}) if v.claim == "07.1"]
    assert verdict.outcome == outcome


def test_depth_that_helps_one_kind_of_layer_only_is_a_condition() -> None:
    records = made_up(RISES, FLAT)
    for record in records:
        for row, value in zip(ch07.rows(record, -1, "pool"), FALLS, strict=True):
            row["k = 5"] = value
    (verdict,) = [v for v in ch07.verdicts({"07-agreement": records}) if v.claim == "07.1"]
    assert verdict.outcome == "holds with conditions"


@pytest.mark.parametrize(
    ("untrained", "permuted", "outputs", "outcome"),
    [
        (FLAT, FLAT, 0.3, "holds"),
        (FLAT, FLAT, 0.6, "holds with conditions"),  # Euclid in the last layer groups better
        (FLAT, RISES, 0.3, "does not hold"),  # random labels do as well
        (RISES, FLAT, 0.3, "does not hold"),  # and so does no training
        ([0.1, 0.2, 0.45], FLAT, 0.3, "holds with conditions"),  # the rise is the architecture's
    ],
)
def test_learning_is_judged_against_every_control(
    untrained: list[float], permuted: list[float], outputs: float, outcome: str
) -> None:
    labels = made_up(RISES, FLAT) + made_up(permuted, FLAT, labels="permuted")
    results = {"07-agreement": made_up(RISES, untrained, outputs), "07-labels": labels}
    (verdict,) = [v for v in ch07.verdicts(results) if v.claim == "07.2"]
    assert verdict.outcome == outcome


def test_too_few_seeds_decide_nothing() -> None:
    assert {v.outcome for v in ch07.verdicts({"07-agreement": made_up(RISES, FLAT, seeds=3)})} == {"not tested"}
    assert {v.outcome for v in ch07.verdicts({})} == {"not tested"}


def test_figures_show_every_layer_and_say_what_agrees(cell: Record) -> None:
    words = plots.names(cell)
    assert words[:3] == ["ReLU 1", "pool 1", "ReLU 2"]
    permuted = dataclasses.replace(cell, config=cell.config | {"labels": "permuted"})
    fig = plots.agreement([cell], [cell, permuted], 5)
    labels = {line.get_label() for ax in fig.axes for line in ax.lines}
    assert {"trained", "untrained", "true labels", "permuted labels", "pixels, Euclid", "outputs, Euclid"} <= labels
    rows = plots.neighbours(cell, 1, trained=True).axes[1]
    assert [tick.get_text() for tick in rows.get_yticklabels()] == words
    assert len(plots.distances([cell]).axes) == 12
    table = plots.agreement_table([cell], [cell, permuted])
    assert table.count("ReLU 3") == 4


def test_cells_are_coloured_by_the_cuts_between() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    fig = plots.cells(model, Plane.square(-4, 4), torch.zeros(1, 2, dtype=torch.float64))
    colours = fig.axes[0].collections[0].get_array()
    assert sorted(set(np.asarray(colours).tolist()))[0] == 0
    assert np.asarray(colours).max() <= 3


def test_comparisons_have_a_row_for_each_control() -> None:
    labels = made_up(RISES, FLAT) + made_up(FLAT, FLAT, labels="permuted")
    fig = plots.comparisons(made_up(RISES, FLAT), labels)
    assert len(fig.axes[0].get_yticklabels()) == len(ch07.CONTROLS)


def test_ways_to_compare_codes_find_the_same() -> None:
    record = compute(next(e for e in ch07.EXPERIMENTS if e.name == "07-speed"), Speed(0, 40, 300, 200, repeats=1))
    assert [row["other neighbours"] for row in record.metrics["rows"]] == [0, 0, 0]
    assert plots.speed_table([record]).count("\n") == 5


def test_networks_that_diverged_are_left_out() -> None:
    records = made_up(RISES, FLAT, seeds=6)
    records[2].metrics.clear()
    records[2].metrics["diverged"] = True
    (depth, *_) = ch07.verdicts({"07-agreement": records})
    assert depth.outcome == "holds"
    (depth, *_) = ch07.verdicts({"07-agreement": records[:5]})
    assert depth.outcome == "not tested"
