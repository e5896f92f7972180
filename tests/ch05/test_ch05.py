"""Chapter 05: the closed forms, `maso.memorization` on a foreign network, the verdicts, the figures."""

import dataclasses
import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maso import MasoError, affine_map
from maso.memorization import (
    balanced,
    compare,
    optimal_templates,
    optimal_templates_per_class,
    sign_pattern,
    smallest_loss,
)
from maso_book.ch05 import figures
from maso_book.ch05.experiments import EXPERIMENTS
from maso_book.ch05.optimum import CLOSED_FORMS, PER_DECADE, Growth, Optimum, excess, run_growth, run_optimum
from maso_book.ch05.templates import LABELS, READINGS, SPLITS, Templates
from maso_book.ch05.verdicts import TOLERANCE, verdicts
from maso_book.experiment import Experiment
from maso_book.records import Record, as_dict, content_hash, tidy
from maso_book.results import cells, compute
from maso_book.tidy import as_table
from maso_book.verdict import Verdict

# The closed forms -----------------------------------------------------------------------------------------------------


def problem(classes: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % classes, torch.rand(6, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_optimal_templates_use_the_budget_and_reach_the_smallest_loss(classes: int) -> None:
    x, y, budget = problem(classes)
    A = optimal_templates(x, y, classes, budget)
    assert torch.allclose((A**2).sum((1, 2)), budget)
    assert A.sum(1).abs().max() < 1e-12
    least = [smallest_loss(float(v.norm()), classes, float(k)) for v, k in zip(x, budget, strict=True)]
    loss = nn.functional.cross_entropy(torch.einsum("ncd,nd->nc", A, x), y, reduction="none")
    assert torch.allclose(loss, torch.tensor(least, dtype=torch.float64))
    per_class = optimal_templates_per_class(x, y, classes, budget)
    assert torch.allclose((per_class**2).sum(2), budget[:, None].expand(-1, classes))
    for templates in (A, per_class):
        assert sign_pattern(torch.einsum("ncd,nd->nc", templates, x), y).all()


def test_the_gradient_is_that_of_autograd() -> None:
    x, y, _ = problem(4)
    A = torch.randn(6, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.cross_entropy(torch.einsum("ncd,nd->nc", A, x), y, reduction="none")
    loss, slope = excess(A.detach(), x, y)
    assert torch.allclose(loss, expected.detach())
    (gradient,) = torch.autograd.grad(expected.sum(), A)
    assert torch.allclose(gradient, slope[:, :, None] * x[:, None])


def test_no_optimum_is_refused() -> None:
    x, y, budget = problem(3)
    with pytest.raises(MasoError, match="at least 2 classes"):
        optimal_templates(x, y, 1, budget)
    with pytest.raises(MasoError, match="positive"):
        optimal_templates_per_class(x, y, 3, 0 * budget)


def test_a_wrong_closed_form_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Optimum(1, problems=5, classes=(3, 10), steps=800)
    right, arrays = run_optimum(config)
    errors = arrays["template_errors"]
    assert errors.shape == (2, 2, 5)
    assert errors.max() < TOLERANCE
    assert [row["max_template_error"] for row in right["optima"]] == errors.max(2).ravel().tolist()
    assert [(row["n_classes"], row["budget"]) for row in right["optima"]] == [
        (classes, budget) for classes in (3, 10) for budget in ("total", "per class")
    ]
    ratios = [row["min_ratio"] for row in right["optima"]]
    assert ratios == pytest.approx([-1 / 2, -1, -1 / 9, -1], rel=1e-6)

    monkeypatch.setitem(CLOSED_FORMS, "total", optimal_templates_per_class)
    wrong, _ = run_optimum(config)
    assert max(row["max_template_error"] for row in wrong["optima"]) > 0.1


def test_the_flow_from_zero_follows_the_formula() -> None:
    found, _ = run_growth(Growth(3, classes=4, starts=1, decades=3))
    flow = [row for row in found["flow"] if row["start"] == 0]
    time, norm, loss = (np.array([row[column] for row in flow]) for column in ("time", "norm", "loss"))
    assert len(found["flow"]) == 2 * (2 + 3 * PER_DECADE)
    margin = np.log(3 / np.expm1(loss))  # ⟨A_y − A_c, x⟩
    assert np.allclose(np.exp(margin) + 3 * margin, 1 + 4 * time, rtol=1e-6)
    assert np.allclose(norm, margin * math.sqrt(3 / 4), atol=1e-7)

    (bounds,) = found["bounds"]
    assert (bounds["rate_lower"], bounds["rate_upper"]) == (4 / 3, 2)
    assert bounds["zero_start_error"] < TOLERANCE
    assert bounds["min_rate"] == pytest.approx(4 / 3, rel=1e-6)


# A network and data that are not in the package -----------------------------------------------------------------------


class Mine(nn.Module):
    """Not in the package."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 9), nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.flatten(1)).abs())


def test_compare_against_loops() -> None:
    model, x, y = Mine().double(), torch.randn(12, 2, 3, dtype=torch.float64), torch.arange(12) % 3
    y[-1] = 0
    origin = torch.randn(2, 3, dtype=torch.float64)
    templates = affine_map(model, x)
    found = compare(templates, x, y, origin=origin)
    assert torch.allclose(found.inner + found.bias, model(x))
    cosine = nn.functional.cosine_similarity
    for n in range(len(x)):
        others = [m for m in range(len(x)) if m != n and y[m] == y[n]]
        own = templates.A[n, y[n]].flatten()
        assert found.cosine[n].isclose(cosine(own, (x[n] - origin).flatten(), 0))
        to_others = [float(cosine(own, (x[m] - origin).flatten(), 0)) for m in others]
        assert float(found.cosine_others[n]) == pytest.approx(np.mean(to_others))
        best = optimal_templates((x[n] - origin).reshape(1, 6), y[n : n + 1], 3, torch.ones(1, dtype=torch.float64))
        assert found.alignment[n].isclose(cosine(templates.A[n].flatten(), best.flatten(), 0))
        signs = [(templates.A[m] * (x[n] - origin)).sum((1, 2)) for m in (n, *others)]
        shown = [bool(z[y[n]] > 0 and all(z[c] < 0 for c in range(3) if c != y[n])) for z in signs]
        assert bool(found.pattern[n]) == shown[0]
        assert float(found.pattern_others[n]) == pytest.approx(np.mean(shown[1:]))


def test_an_input_alone_in_its_class_has_no_others() -> None:
    x = torch.randn(3, 2, 3)
    found = compare(affine_map(Mine(), x), x, torch.tensor([0, 0, 1]))
    assert found.cosine_others.isnan().tolist() == [False, False, True]
    assert found.pattern_others.isnan().tolist() == [False, False, True]


def test_balanced_templates_have_the_same_softmax() -> None:
    model, x = Mine().double(), torch.randn(4, 2, 3, dtype=torch.float64)
    found = balanced(affine_map(model, x))
    assert found.A.sum(1).abs().max() < 1e-12
    assert torch.allclose(found(x).softmax(1), model(x).softmax(1))


def test_what_does_not_fit_is_refused() -> None:
    x = torch.randn(3, 2, 3)
    with pytest.raises(MasoError, match=r"expected \(N, C"):
        compare(affine_map(Mine(), x), x, torch.tensor([0, 1]))


# Experiments and verdicts ---------------------------------------------------------------------------------------------


def experiment(name: str) -> Experiment:
    return next(e for e in EXPERIMENTS if e.name == name)


def verdict(claim: str, results: dict[str, list[Record]]) -> Verdict:
    return next(v for v in verdicts(results) if v.claim == claim)


def record(name: str, config: Any, made: dict[str, list[dict[str, Any]]]) -> Record:
    return Record(name, as_dict(config), tidy(made), {}, {"device": "cpu"}, content_hash(name, config))


@pytest.mark.parametrize("profile", ["quick", "paper", "full"])
def test_grids_pair_the_labels_by_seed(profile: str) -> None:
    for name in ("05-templates", "05-widths", "05-memory", "05-memory-widths"):
        configs = cells(experiment(name), profile)
        assert len({c.seed for c in configs}) >= (2 if profile == "quick" else 5)
        true, permuted = ({dataclasses.replace(c, labels="true") for c in configs if c.labels == k} for k in LABELS)
        assert true == permuted


def test_without_records_nothing_is_tested() -> None:
    assert [(v.claim, v.outcome) for v in verdicts({})] == [(f"05.{n}", "not tested") for n in range(1, 7)]


@pytest.mark.parametrize(
    ("problems", "error", "loss_error", "outcome"),
    [
        (500, 1e-8, 1e-8, "holds"),
        (499, 1e-8, 1e-8, "not tested"),  # 998 of each kind
        (500, 2e-6, 1e-8, "does not hold"),
        (500, 1e-8, 2e-6, "does not hold"),
    ],
)
def test_the_verdict_on_the_optimum(problems: int, error: float, loss_error: float, outcome: str) -> None:
    worse = {"per class": (error, loss_error), "total": (1e-9, 1e-9)}
    optima = [
        {"n_classes": n, "budget": budget, "max_template_error": worse[budget][0], "max_loss_error": worse[budget][1]}
        for n in (2, 10)
        for budget in CLOSED_FORMS
    ]
    found = verdict("05.1", {"05-optimum": [record("05-optimum", Optimum(0, problems, (2, 10)), {"optima": optima})]})
    assert found.outcome == outcome
    assert f"{error:.1e}" in found.effect
    assert f"{4 * problems:,} problems" in found.effect


def flow(seed: int, *, decades: int, last: float, **bounds: Any) -> Record:
    """A flow of two classes whose norm is log t, but at the end."""
    times = np.logspace(0, decades, PER_DECADE * decades + 1)
    rows = [{"start": 0, "time": t, "norm": math.log(t), "loss": 1 / t} for t in times]
    rows[-1]["norm"] = last
    kept = {"loss_falls": True, "min_rate": 2.0, "max_rate": 2.0, "rate_lower": 2.0, "rate_upper": 2.0}
    row = {**kept, "zero_start_error": 0.0, **bounds}
    return record("05-growth", Growth(seed, classes=2, decades=decades), {"flow": rows, "bounds": [row]})


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, "holds"),
        ({"seeds": 4}, "not tested"),
        ({"decades": 5}, "not tested"),
        ({"last": 13.0}, "does not hold"),  # less than one decade before, 6 log 10
        ({"loss_falls": False}, "does not hold"),
        ({"min_rate": 2.0 - 4e-6}, "does not hold"),
        ({"max_rate": 2.0 + 4e-6}, "does not hold"),
        ({"max_rate": 2.0 + 1e-6}, "holds"),
    ],
)
def test_the_verdict_on_the_growth(change: dict[str, Any], outcome: str) -> None:
    settings = {"decades": 7 if "last" in change else 6, "last": 20.0, **change}
    seeds = settings.pop("seeds", 5)
    assert verdict("05.2", {"05-growth": [flow(seed, **settings) for seed in range(seeds)]}).outcome == outcome


# Cells and figures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick() -> dict[str, list[Record]]:
    """Every experiment on very little: two seeds, a fully connected network on drawn digits."""
    small = Templates(0, "true", "digits", "mlp", 8, samples=60, epochs=1, keep=(0,), points=40, pictures=2)
    configs: dict[str, list[Any]] = {
        "05-optimum": [Optimum(0, problems=3, classes=(2, 10), steps=100)],
        "05-growth": [Growth(0, decades=3)],
        "05-templates": [dataclasses.replace(small, seed=seed, labels=labels) for seed in (0, 1) for labels in LABELS],
    }
    configs["05-widths"] = [dataclasses.replace(small, labels=labels, width=16, pictures=0) for labels in LABELS]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is done sooner on one
    try:
        return {name: [compute(experiment(name), c) for c in cells] for name, cells in configs.items()}
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def closed() -> Any:
    yield
    plt.close("all")


def test_a_cell_measures_every_epoch_split_and_reading(quick: dict[str, list[Record]]) -> None:
    cell = quick["05-templates"][0]
    table = as_table([cell], "templates").set_index(["epoch", "split", "reading"])
    assert list(table.index) == [(e, s, r) for e in (0, 1) for s in SPLITS for r in READINGS]
    assert [row["epoch"] for row in cell.tables["training"]] == [1]
    assert [(row["epoch"], row["picture"]) for row in cell.tables["pictures"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert cell.arrays["templates"].shape == (2, 2, 3, 32, 32)
    assert cell.arrays["templates"].dtype == np.uint8

    inner, y = cell.arrays["inner_products"][1], cell.arrays["labels"]
    true = inner[np.arange(40), y]
    centred = table.loc[(1, "train", "centred")]
    assert centred["true_class_positive"] == pytest.approx((true > 0).mean())
    assert centred["pattern"] == pytest.approx(((true > 0) & ((inner > 0).sum(1) == 1)).mean())
    assert quick["05-widths"][0].arrays == {}


def test_quick_cells_decide_nothing(quick: dict[str, list[Record]]) -> None:
    assert {v.outcome for v in verdicts(quick)} == {"not tested"}


def test_the_optimum_is_drawn_with_the_errors_of_all_problems(quick: dict[str, list[Record]]) -> None:
    _, (left, right) = plt.subplots(1, 2)
    heights = [bar.get_height() for bar in figures.optimal_multiples(left, classes=10).patches]
    assert heights == pytest.approx([math.sqrt(0.9), *[-1 / math.sqrt(90)] * 9, 1, *[-1] * 9])

    figures.template_errors(right, quick["05-optimum"])
    filled, outlined = (patch.get_xy() for patch in right.patches)
    assert filled[:, 1].max() <= 6  # 2 numbers of classes × 3 problems of each kind
    assert outlined[:, 0].min() == -17
    assert right.lines[0].get_xdata()[0] == -6


def test_the_theory_meets_the_flow_from_zero(quick: dict[str, list[Record]]) -> None:
    start = as_table(quick["05-growth"], "flow").query("start == 0 and time >= 100")
    _, axes = plt.subplots(1, 2)
    figures.flow_from_zero(axes, [10], np.concatenate([[1.0, 10.0], start["time"]]))
    (norm,), (loss,) = (ax.lines for ax in axes)
    assert norm.get_xdata() == pytest.approx(start["time"])
    assert norm.get_ydata() == pytest.approx(start["norm"], rel=0.01)
    assert loss.get_ydata() == pytest.approx(start["loss"], rel=0.1)


def test_strips_show_the_images_and_their_templates(quick: dict[str, list[Record]]) -> None:
    true, permuted = quick["05-templates"][:2]
    axes = figures.strips(quick["05-templates"]).axes
    pictures = [ax.images[0].get_array() for ax in axes]
    assert len(pictures) == 2 * (1 + 2 + 2)
    assert np.array_equal(pictures[0], true.arrays["images"][0].transpose(1, 2, 0))
    assert np.array_equal(pictures[2], true.arrays["templates"][0, 1].transpose(1, 2, 0))
    assert np.array_equal(pictures[9], permuted.arrays["templates"][1, 1].transpose(1, 2, 0))
    assert axes[9].get_xlabel() == f"{permuted.tables['pictures'][3]['cosine']:+.2f}"
    assert [ax.get_title(loc="center") for ax in axes[:5]] == ["", "0", "1", "0", "1"]


def test_inner_products_are_over_the_median_of_the_true_class(quick: dict[str, list[Record]]) -> None:
    table = figures.inner_products(quick["05-templates"][:1])
    assert table.groupby(["training", "of"]).size().to_dict() == {
        (training, of): n for training in ("before", "after") for of, n in (("true class", 40), ("false classes", 360))
    }
    sizes = table[table["of"] == "true class"].groupby("training")["product"].agg(lambda values: values.abs().median())
    assert sizes.to_list() == pytest.approx([1, 1])


def test_axes_have_a_tick_for_each_value() -> None:
    fig, (left, right) = plt.subplots(1, 2)
    figures.epoch_axis(left, [0, 5, 0, 5, 20])
    figures.width_axis(right, [64, 32, 64])
    assert [[label.get_text() for label in ax.get_xticklabels()] for ax in (left, right)] == [
        ["0", "5", "20"],
        ["32", "64"],
    ]
    left.plot([0, 5], [1, 2], label="a line")
    left.legend()
    figures.legend_below(left, columns=1)
    assert left.get_legend() is None
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a line"]
