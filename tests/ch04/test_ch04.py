"""Chapter 04: the network written out by hand, statistics against known values, verdicts, figures."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maso import MasoError, affine_map
from maso_book import networks
from maso_book.ch04 import experiments as ch04
from maso_book.ch04 import figures as plots
from maso_book.ch04 import networks as ch04_networks
from maso_book.ch04 import pictures as ch04_pictures
from maso_book.ch04 import tables
from maso_book.ch04 import templates as ch04_templates
from maso_book.experiment import Experiment
from maso_book.records import Record
from maso_book.results import cells, compute
from maso_book.statistics import auc, dip, rank_correlation
from maso_book.trained import data


@pytest.mark.parametrize("make", [networks.small_cnn, networks.large_cnn])
def test_the_network_by_hand_is_the_network(make) -> None:
    model = make((3, 24, 24), 4)
    model(torch.rand(16, 3, 24, 24))  # statistics of BatchNorm
    model, x = model.double().eval(), torch.rand(2, 3, 24, 24, dtype=torch.float64)
    u = torch.randn_like(x)
    Au, b = ch04_networks.by_hand(model, x, u)
    found = affine_map(model, x)
    assert torch.allclose(Au, torch.einsum("ncijk,nijk->nc", found.A, u), atol=1e-12)
    assert torch.allclose(b, found.b, atol=1e-12)


def test_a_layer_without_a_formula_is_refused() -> None:
    x = torch.zeros(1, 3)
    with pytest.raises(MasoError, match="no formula for a Tanh"):
        ch04_networks.by_hand(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), x, x)


def test_area_under_the_curve_counts_pairs() -> None:
    positive, negative = np.array([3.0, 1.0, 2.0]), np.array([0.0, 2.0])
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert auc(positive, negative) == pytest.approx(np.mean(wins))


def test_dip_tells_one_mode_from_two() -> None:
    rng = np.random.default_rng(0)
    one, far = rng.normal(size=500), rng.normal(4, 1, 500)
    assert dip(one)[1] > 0.1
    assert dip(np.concatenate([one, far]))[1] < 1e-3
    height, _ = dip(np.array([0.0, 0.0, 1.0, 1.0]))
    assert height == pytest.approx(0.25)  # two equal atoms: the largest dip there is


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    a, b = np.random.default_rng(0).normal(size=(2, 3, 50)).round(1)  # with ties
    assert rank_correlation(a, b) == pytest.approx([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert rank_correlation(np.ones((1, 4)), a[:1, :4]).tolist() == [0.0]


def test_partners_are_the_next_of_the_class_or_of_another() -> None:
    y = torch.tensor([0, 1, 0, 1, 2])
    assert ch04_templates.partner(y, same=True).tolist() == [2, 3, 0, 1, 4]
    assert ch04_templates.partner(y, same=False).tolist() == [1, 2, 3, 4, 0]


def test_skewed_classes_are_as_frequent_as_their_shares() -> None:
    config = dataclasses.replace(ch04._prior("quick")[0], seed=1)
    recipe = ch04_networks.skewed(dataclasses.replace(config, samples=None).recipe, 0.1)
    assert np.roll(recipe.shares, -2) == pytest.approx(np.geomspace(1, 0.1, 10))  # seed 1 begins at class 2
    counts = np.bincount(data(recipe).y.numpy(), minlength=10)
    assert counts[2] > 3 * counts[0] > 0


def test_the_common_part_of_the_templates_is_taken_out() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    A = affine_map(ch04_templates.without_common_part(model, 3), torch.randn(5, 4)).A
    assert A.sum(1).abs().max() < 1e-6
    assert torch.allclose(A, affine_map(model, torch.zeros(5, 4)).A * 0 + A)


def test_int8_keeps_sign_and_largest_value() -> None:
    picture = np.array([0.0, -2.0, 1.0, 0.5]).reshape(1, 1, 2, 2)
    assert ch04_pictures.int8(picture).flatten().tolist() == [0, -127, 64, 32]
    assert not ch04_pictures.int8(0 * picture).any()


# Verdicts on records made by hand -------------------------------------------------------------------------------------


def record(experiment: str, config: Any, metrics: dict[str, Any]) -> Record:
    return Record(experiment, dataclasses.asdict(config), metrics, {}, {}, f"{experiment}{config}")


def templates(agree: float = 0.97, others: float = -0.2, p: float = 0.0, *, seeds: int = 5) -> list[Record]:
    made = []
    for seed in range(seeds):
        noise = seed * 1e-3
        start = {"own, image": 0.0, "others, image": 0.0, "own, class mean": 0.0, "auc": 0.5}
        last = {
            "agreement, inner": agree + noise,
            "agreement, bias": 0.2,
            "own, image": 0.3 + noise,
            "others, image": others + noise,
            "own, elsewhere": 0.1,
            "own, class mean": 0.2 + noise,
            "own, mean elsewhere": 0.1,
            "auc": 0.9 + noise,
            "dip p": p,
        }
        rows = [
            {"epoch": epoch, "part": part} | row for part in ("test", "train") for epoch, row in ((0, start), (4, last))
        ]
        metrics = {"rows": rows} | {f"error, {part}": 1e-14 for part in ("sum", "inner", "bias")}
        made.append(record("04-templates", ch04_templates.Templates(seed, "mnist", 20_000, 4), metrics))
    return made


def outcomes(**results: list[Record]) -> dict[str, str]:
    return {v.claim: v.outcome for v in ch04.verdicts({f"04-{name}": records for name, records in results.items()})}


def test_verdicts_follow_their_criteria() -> None:
    assert set(outcomes().values()) == {"not tested"}
    found = outcomes(templates=templates())
    assert [found[f"04.{i}"] for i in range(1, 7)] == ["holds"] * 4 + ["not tested"] * 2
    assert set(outcomes(templates=templates(seeds=4)).values()) == {"not tested"}
    found = outcomes(templates=templates(agree=0.6, others=0.1, p=0.5))
    assert found["04.2"] == found["04.3"] == "holds with conditions"
    assert found["04.4"] == "does not hold"
    assert outcomes(templates=templates(agree=0.1))["04.2"] == "does not hold"


def test_the_sanity_check_can_fail() -> None:
    def made(signed: float, magnitude: float) -> list[Record]:
        metrics = {
            "identity error": 1e-15,
            "signed": [0.1, signed],
            "magnitude": [0.6, magnitude],
            "signed, other seed": 0.3,
            "magnitude, other seed": 0.5,
        }
        return [
            record("04-sanity", ch04.Sanity(s, "cifar10", 20_000, 8), metrics | {"signed": [0.1, signed + s * 1e-3]})
            for s in range(5)
        ]

    assert outcomes(sanity=made(0.0, 0.4))["04.5"] == "holds"
    assert outcomes(sanity=made(0.0, 0.6))["04.5"] == "holds with conditions"
    assert outcomes(sanity=made(0.2, 0.4))["04.5"] == "does not hold"


def test_the_prior_is_judged_against_the_balanced_network() -> None:
    def made(bias: float) -> list[Record]:
        slopes = {"outputs": 0.8, "inner": 0.8 - bias, "bias": bias, "output bias": 0.1}
        return [
            record(
                "04-prior",
                ch04.Prior(s, d, 10_000, 4),
                {f"slope, {place}, skewed": slope + 0.2 + s * 1e-3 for place, slope in slopes.items()}
                | {f"slope, {place}, balanced": 0.2 for place in slopes},
            )
            for d in ("fashion_mnist", "cifar10")
            for s in range(5)
        ]

    assert outcomes(prior=made(0.6))["04.6"] == "holds"
    assert outcomes(prior=made(0.2))["04.6"] == "holds with conditions"
    assert outcomes(prior=made(-0.1))["04.6"] == "does not hold"


@pytest.mark.parametrize("profile", ["paper", "full"])
def test_grids_have_five_seeds_and_share_their_networks(profile: str) -> None:
    made = {e.name: cells(e, profile) for e in ch04.EXPERIMENTS}
    recipes = {config.recipe for config in made["04-templates"]}
    for name, configs in made.items():
        if name != "04-pictures":
            assert {config.seed for config in configs} == set(range(5)), name
    for name in ("04-pictures", "04-sanity"):
        assert {config.recipe for config in made[name]} <= recipes


# A quick run ----------------------------------------------------------------------------------------------------------


def quick(name: str) -> Experiment:
    return next(e for e in ch04.EXPERIMENTS if e.name == name)


def test_quick_cells_and_their_figures() -> None:
    made = {e.name: [compute(e, config) for config in cells(e, "quick")[:1]] for e in ch04.EXPERIMENTS}
    first = made["04-templates"][0]
    assert max(first.metrics[f"error, {part}"] for part in ("sum", "inner", "bias")) < ch04.EXACT
    assert made["04-sanity"][0].metrics["identity error"] < ch04.EXACT
    whole = {place: made["04-prior"][0].metrics[f"slope, {place}, skewed"] for place in ("outputs", "inner", "bias")}
    assert whole["outputs"] == pytest.approx(whole["inner"] + whole["bias"], abs=1e-5)
    assert {v.outcome for v in ch04.verdicts(made)} == {"not tested"}
    bank = plots.bank(made["04-pictures"][0], 3)
    heights = [bar.get_height() for bar in bank.axes[-1].patches]
    outputs = made["04-pictures"][0].arrays["inner"][3] + made["04-pictures"][0].arrays["bias"][3]
    assert np.add(heights[:10], heights[10:]) == pytest.approx(outputs)
    assert len(plots.strip(made["04-sanity"][0]).axes) == 4 * 10
    assert [ax.get_title("left") for ax in plots.cascade(made["04-sanity"]).axes] == ["digits grey (600 × 3)"]
    for figure in (plots.likeness, plots.histograms, plots.modes):
        figure(made["04-templates"])
    plots.prior(made["04-prior"])
    plots.classical(made["04-pictures"], (0, 7))
    for table in (tables.deciding, tables.common_part):
        assert table(made["04-templates"]).count("\n") == 2
    assert tables.classical(made["04-pictures"], made["04-templates"]).count("\n") == 4
    assert tables.priors(made["04-prior"]).count("\n") == 2
