"""Chapter 05: the closed forms, `maso.memorization` on a foreign network, the verdicts, the figures."""

import dataclasses
import math

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
from maso_book.ch05 import experiments as ch05
from maso_book.ch05 import figures as plots
from maso_book.ch05.optimum import Growth, Optimum, excess, run_growth, run_optimum
from maso_book.ch05.templates import PLACES, READINGS, Templates
from maso_book.experiment import Experiment, records
from maso_book.records import Record
from maso_book.results import cells, compute
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
    config = Optimum(1, 5, (3, 10), steps=800)
    right, _ = run_optimum(config)
    assert max(row["largest error"] for row in right["rows"]) < ch05.TOLERANCE
    monkeypatch.setattr("maso_book.ch05.optimum.optimal_templates", optimal_templates_per_class)
    wrong, _ = run_optimum(config)
    assert max(row["largest error"] for row in wrong["rows"]) > 0.1


def test_the_flow_from_zero_follows_the_formula() -> None:
    metrics, arrays = run_growth(Growth(3, classes=4, starts=1, decades=3))
    u = np.log(3 / np.expm1(arrays["loss"][0]))  # the margin ⟨A_y − A_c, x⟩
    assert np.allclose(np.exp(u) + 3 * u, 1 + 4 * arrays["times"], rtol=1e-6)
    assert np.allclose(arrays["norm"][0], u * math.sqrt(3 / 4), atol=1e-7)
    assert metrics["error of the flow from zero"] < ch05.TOLERANCE


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
    return next(e for e in ch05.EXPERIMENTS if e.name == name)


def outcome(claim: str, results: dict[str, list[Record]]) -> Verdict:
    return next(v for v in ch05.verdicts(results) if v.claim == claim)


@pytest.mark.parametrize("profile", ["quick", "paper", "full"])
def test_grids_pair_the_labels_by_seed(profile: str) -> None:
    for name in ("05-templates", "05-widths"):
        configs = cells(experiment(name), profile)
        assert len({c.seed for c in configs}) >= (2 if profile == "quick" else 5)
        true, permuted = (
            {dataclasses.replace(c, labels="true") for c in configs if c.labels == k} for k in ch05.LABELS
        )
        assert true == permuted


@pytest.mark.parametrize(("name", "claim"), [("05-optimum", "05.1"), ("05-growth", "05.2")])
def test_a_quick_cell_is_right_but_not_enough(name: str, claim: str) -> None:
    record = compute(experiment(name), cells(experiment(name), "quick")[0])
    verdict = outcome(claim, {name: [record]})
    assert verdict.outcome == "not tested"  # too few problems and seeds for the criterion
    assert verdict.evidence.startswith("Proof above")


def test_without_records_nothing_is_tested() -> None:
    assert [(v.claim, v.outcome) for v in ch05.verdicts({})] == [(f"05.{n}", "not tested") for n in (1, 2, 3, 4)]


def invented(seed: int, labels: str, width: int | None, pattern: float, gap: float, dataset: str = "mnist") -> Record:
    """A record whose pattern and gap grow from nothing to these values, a little different for every seed."""
    config = Templates(seed, labels, dataset, width=width, epochs=10, keep=(0, 3))  # type: ignore[arg-type]
    rows = [
        {
            "epoch": epoch,
            "place": place,
            "reading": reading,
            "pattern": share * (pattern + 0.001 * seed),
            "pattern of others": 0.5 * share * pattern,
            "cosine": share * (gap + 0.001 * seed) + 0.1,
            "cosine to others": 0.1,
        }
        for epoch, share in ((0, 0.0), (3, 0.5), (10, 1.0))
        for place in PLACES
        for reading in READINGS
    ]
    asked = records.as_dict(config)
    return Record(
        "05-templates", asked, {"diverged": False, "rows": rows}, {}, {}, records.content_hash("05-templates", config)
    )


def invented_results(
    pattern: float = 0.8,
    gaps: tuple[float, float] = (0.1, 0.2),
    growth: float = 0.1,
    offset: float = 0.1,
    seeds: int = 5,
) -> dict[str, list[Record]]:
    both = list(zip(ch05.LABELS, gaps, strict=True))
    return {
        "05-templates": [invented(s, labels, None, pattern, g) for s in range(seeds) for labels, g in both],
        "05-widths": [
            invented(s, labels, width, pattern, offset + growth * math.log2(width))
            for s in range(seeds)
            for labels in ch05.LABELS
            for width in (8, 16)
        ],
    }


@pytest.mark.parametrize(
    ("settings", "pattern", "gap"),
    [
        ({}, "holds", "holds"),
        ({"pattern": 0.4}, "holds with conditions", "holds"),
        ({"pattern": -0.1}, "does not hold", "holds"),
        ({"gaps": (0.2, 0.1)}, "holds", "holds with conditions"),
        ({"growth": -0.01}, "holds", "holds with conditions"),
        ({"offset": -0.9}, "holds", "holds with conditions"),
        ({"gaps": (-0.1, 0.1)}, "holds", "does not hold"),
        ({"seeds": 4}, "not tested", "not tested"),
    ],
)
def test_verdicts_follow_the_criteria(settings: dict, pattern: str, gap: str) -> None:
    results = invented_results(**settings)
    assert outcome("05.3", results).outcome == pattern
    assert outcome("05.4", results).outcome == gap


def test_a_diverged_network_is_left_out() -> None:
    results = invented_results()
    lost = results["05-templates"][0]
    results["05-templates"][0] = dataclasses.replace(lost, metrics={"diverged": True})
    assert [r.config["seed"] for r in ch05.arms(results["05-templates"])["small_cnn", "true"]] == [1, 2, 3, 4]
    assert outcome("05.3", results).outcome == outcome("05.4", results).outcome == "not tested"


def test_growth_is_a_slope_for_each_doubling() -> None:
    results = invented_results()
    assert ch05.growth_with_width(results["05-widths"], "true").mean == pytest.approx(0.1)
    steps = np.polyfit(np.log2([1, 4, 11]), [0, 0.5, 1.0], 1)[0]
    arm = ch05.arms(results["05-templates"])["small_cnn", "true"]
    assert ch05.growth_with_epochs(arm).mean == pytest.approx(steps * 0.102)


# Figures --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick() -> dict[str, list[Record]]:
    """Every experiment on very little: two seeds, a fully connected network on drawn digits."""
    small = Templates(0, "true", "digits", "mlp", 8, 60, 1, keep=(0,), points=40, pictures=2)
    configs = {
        "05-optimum": [Optimum(0, 3, (2, 10), steps=100)],
        "05-growth": [Growth(0, decades=3)],
        "05-templates": [
            dataclasses.replace(small, seed=seed, labels=labels) for seed in (0, 1) for labels in ch05.LABELS
        ],
    }
    configs["05-widths"] = [
        dataclasses.replace(c, width=width, pictures=0) for c in configs["05-templates"] for width in (8, 16)
    ]
    return {name: [compute(experiment(name), c) for c in cells] for name, cells in configs.items()}


def test_a_cell_measures_every_epoch_place_and_reading(quick: dict[str, list[Record]]) -> None:
    record = quick["05-templates"][0]
    found = {(r["epoch"], r["place"], r["reading"]) for r in record.metrics["rows"]}
    assert found == {(e, p, r) for e in (0, 1) for p in PLACES for r in READINGS}
    assert record.arrays["templates"].shape == (2, 2, 3, 32, 32)
    assert record.arrays["templates"].dtype == np.uint8
    centred = ch05.row(record, 1)
    true, _ = plots.inner_by_truth(record, 1)
    assert centred["true class positive"] == pytest.approx((true > 0).mean())
    assert not quick["05-widths"][0].arrays


def test_drawn_digits_decide_nothing(quick: dict[str, list[Record]]) -> None:
    assert {v.outcome for v in ch05.verdicts(quick)} == {"not tested"}


def test_figures_show_the_records(quick: dict[str, list[Record]]) -> None:
    templates, widths = quick["05-templates"], quick["05-widths"]
    left, right = plots.optimum(quick["05-optimum"]).axes
    assert sorted({round(bar.get_height(), 3) for bar in left.patches}) == [-1.0, -0.105, 0.949, 1.0]
    assert sum(len(a) for a in quick["05-optimum"][0].arrays.values()) == 12
    assert right.get_title(loc="left") == "errors of the templates"
    norm = plots.growth(quick["05-growth"]).axes[0].lines[0].get_ydata()
    assert np.array_equal(norm, quick["05-growth"][0].arrays["norm"][0, 1:])
    pictures = [ax.images[0].get_array() for ax in plots.strips(templates, "mlp").axes]
    assert np.array_equal(pictures[0], templates[0].arrays["images"][0].transpose(1, 2, 0))
    assert len(pictures) == 2 * (1 + 2 + 2)
    assert len(plots.inner_products(templates, "mlp").axes) == 4
    share = plots.patterns(templates, "mlp").axes[0].lines[0].get_ydata()
    assert share[1] == pytest.approx(np.mean([ch05.row(r, 1)["pattern"] for r in templates[::2]]))
    gap = plots.gaps(templates, widths, "mlp").axes[0].lines[0].get_ydata()
    assert gap[1] == pytest.approx(np.mean(ch05.gap_after(templates[::2])))
    plots.plt.close("all")


def test_tables_have_a_line_for_every_arm(quick: dict[str, list[Record]]) -> None:
    templates, widths = quick["05-templates"], quick["05-widths"]
    assert plots.readings_table(templates).count("\n") == 1 + 2 * len(READINGS)
    assert plots.gap_table(templates, widths).count("\n") == 1 + 2 * (2 + 4)
