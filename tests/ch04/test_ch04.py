"""Chapter 04: the network written out by hand, statistics against known values, verdicts, figures."""

import dataclasses
import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from maso import MasoError, affine_map
from maso.matched import Match
from maso_book import networks
from maso_book.ch04 import experiments as ch04
from maso_book.ch04 import figures, tables, verdicts
from maso_book.ch04 import networks as ch04_networks
from maso_book.ch04 import pictures as ch04_pictures
from maso_book.ch04 import templates as ch04_templates
from maso_book.records import Record, tidy
from maso_book.results import cells, compute
from maso_book.statistics import auc, dip, rank_correlation
from maso_book.tidy import as_table
from maso_book.trained import data
from maso_book.verdict import Verdict


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
    x = torch.randn(5, 4)
    gates = (model[0](x) > 0).float()
    A = torch.einsum("ch,nh,hd->ncd", model[2].weight, gates, model[0].weight)  # written out
    relative = affine_map(ch04_templates.without_common_part(model, 3), x).A
    assert torch.allclose(relative, A - A.mean(1, keepdim=True), atol=1e-6)


def test_int8_keeps_sign_and_largest_value() -> None:
    picture = np.array([0.0, -2.0, 1.0, 0.5]).reshape(1, 1, 2, 2)
    assert ch04_pictures.int8(picture).flatten().tolist() == [0, -127, 64, 32]
    assert not ch04_pictures.int8(0 * picture).any()


# Tables of the measurements -------------------------------------------------------------------------------------------


def test_what_decides_is_counted_image_by_image() -> None:
    inner = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    bias = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.5, 0.0]])  # the outputs choose 0, 1, 1
    shift = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    found = Match(bias, {"image": inner, "mean image": shift}, {}, {})
    y = torch.tensor([0, 1, 0])
    rows = {row["scores"]: (row["accuracy"], row["agreement"]) for row in ch04_templates.deciding(found, y)}
    third = pytest.approx(1 / 3)
    assert rows["inner"] == (third, pytest.approx(2 / 3))  # choose 0, 0, 1
    assert rows["bias"] == (pytest.approx(2 / 3), third)  # choose 1, 1, 0
    assert rows["centred inner"] == (pytest.approx(2 / 3), 1.0)  # 2 − 3 < 0
    assert rows["centred bias"] == (third, 0.0)  # choose 1, 0, 0


def test_likeness_says_whose_templates_are_compared_with_what() -> None:
    values = {name: torch.tensor([[0.5, 0.1, 0.3]]) + i for i, name in enumerate(ch04_templates.COMPARED)}
    rows = ch04_templates.likeness(Match(torch.zeros(1, 3), {}, {"image": torch.eye(3)[:1]}, values), torch.tensor([0]))
    by_kind = {tuple(list(row.values())[:-1]): row["similarity"] for row in rows}
    assert by_kind["true class", "image", "own", "correlation"] == pytest.approx(0.5)
    assert by_kind["other classes", "image", "own", "correlation"] == pytest.approx(0.2)
    assert by_kind["true class", "class mean", "another class", "correlation"] == pytest.approx(4.5)
    assert by_kind["true class", "image", "own", "cosine"] == 1.0


# Verdicts on records made by hand -------------------------------------------------------------------------------------


def record(experiment: str, config: Any, rows: dict[str, list[dict[str, Any]]]) -> Record:
    made = {"device": "cpu", "device_name": "none", "start": "2026-01-01"}
    return Record(experiment, dataclasses.asdict(config), tidy(rows), {}, made, f"{experiment}{config}")


def templates(
    black: float = 0.7, true: float = 0.3, others: float = -0.2, p: float = 0.0, *, seeds: int = 5, images: int = 1000
) -> list[Record]:
    """Networks before training and after it; what is not given decides for the claims."""
    made = []
    for seed in range(seeds):
        noise = seed * 1e-3
        similarities = {
            ("true class", "image", "own"): true + noise,
            ("true class", "image", "another class"): true - 0.2,
            ("other classes", "image", "own"): others + noise,
            ("true class", "class mean", "own"): 0.2 + noise,
            ("true class", "class mean", "another class"): 0.1,
        }
        rows: dict[str, list[dict[str, Any]]] = {"evaluation": [], "deciding": [], "likeness": []}
        rows["margin"] = [
            {"origin": origin, "margin": 1.0, "match": share, "share": share + noise, "favours": share}
            for origin, share in (("black", black), ("mean image", 0.9), ("grey", 0.8))
        ]
        for (state, epoch), split in itertools.product(
            (("calibrated", 0), ("untrained", 0), ("trained", 4)), ("test", "train")
        ):
            when = {"epoch": epoch, "state": state}
            area = {"trained": 0.9 + noise, "calibrated": 0.5, "untrained": 0.99}[state]
            rows["evaluation"].append(
                when | {"split": split, "accuracy": 0.9, "largest_bias": 1.0, "auc": area, "dip": 0.1, "dip_p": p}
            )
            rows["likeness"] += [
                when | dict(zip(("templates", "target", "source"), kind, strict=True))
                | {"measure": "correlation", "similarity": value if epoch else 0.0}
                for kind, value in similarities.items()
                if split == "test"
            ]  # fmt: skip
        errors = dict.fromkeys(("sum_error", "inner_error", "bias_error"), 1e-14)
        rows["networks"] = [{"diverged": False, "validation_accuracy": 0.9, "exact_images": images} | errors]
        made.append(record("04-templates", ch04_templates.Templates(seed, "mnist", 20_000, 4), rows))
    return made


def judged(**results: list[Record]) -> dict[str, Verdict]:
    return {v.claim: v for v in verdicts.verdicts({f"04-{name}": records for name, records in results.items()})}


def outcomes(**results: list[Record]) -> dict[str, str]:
    return {claim: verdict.outcome for claim, verdict in judged(**results).items()}


def test_verdicts_follow_their_criteria() -> None:
    assert set(outcomes().values()) == {"not tested"}
    found = outcomes(templates=templates())
    assert [found[f"04.{i}"] for i in range(1, 8)] == ["holds"] * 4 + ["not tested"] * 3
    assert set(outcomes(templates=templates(seeds=4)).values()) == {"not tested"}
    found = outcomes(templates=templates(black=0.3, others=0.1, p=0.5, images=900))
    assert found["04.1"] == "not tested"
    assert found["04.2"] == found["04.3"] == "holds in part"
    assert found["04.4"] == "does not hold"
    assert outcomes(templates=templates(true=0.04))["04.3"] == "holds in part"  # its negative is left
    assert outcomes(templates=templates(true=0.04, others=0.1))["04.3"] == "does not hold"


def test_the_effect_of_a_verdict_is_its_number() -> None:
    found = judged(templates=templates(black=0.3))["04.2"]  # 0.3 … 0.304
    assert found.effect == "match carries 30% to 90% of the margin"
    assert found.part == "black 0 of 1, mean image 1 of 1, grey 1 of 1 groups"
    assert judged(templates=templates())["04.2"].part == ""
    assert all(len(v.effect) <= 60 and len(v.part) <= 60 for v in judged(templates=templates()).values())


def test_a_margin_near_one_half_decides_nothing() -> None:
    records = templates(black=0.52)
    assert outcomes(templates=records)["04.2"] == "holds in part"
    for record in records:
        for row in record.tables["margin"]:
            row["share"] = 0.5 + (record.config["seed"] - 2) * 0.1
    assert outcomes(templates=records)["04.2"] == "not decided"


def test_a_network_that_diverged_is_left_out() -> None:
    lost = dict.fromkeys(("validation_accuracy", "exact_images", "sum_error", "inner_error", "bias_error"))
    empty: dict[str, list[dict[str, Any]]] = {"evaluation": [], "deciding": [], "margin": [], "likeness": []}
    diverged = record(
        "04-templates",
        ch04_templates.Templates(5, "mnist", 20_000, 4),
        {"networks": [{"diverged": True} | lost], **empty},
    )
    assert judged(templates=[*templates(), diverged]) == judged(templates=templates())
    assert set(outcomes(templates=[diverged]).values()) == {"not tested"}


def test_the_sanity_check_can_fail() -> None:
    def made(signed: float, magnitude: float, calibrated: float = 0.0) -> list[Record]:
        def rows(seed: int) -> dict[str, list[dict[str, Any]]]:
            values = {
                ("randomised", 1): (0.1, 0.6),
                ("randomised", 2): (signed + seed * 1e-3, magnitude),
                ("calibrated", None): (calibrated, magnitude),
                ("another seed", None): (0.3, 0.5),
            }
            cascade = [
                {"changed": changed, "stage": stage, "layer": "0", "kind": "Linear", "entries": entries,
                 "rank_correlation": value + seed * 1e-4 * (len(changed) + (stage or 0) ** 2)}
                for (changed, stage), pair in values.items()
                for entries, value in zip(("signed", "magnitude"), pair, strict=True)
            ]  # fmt: skip
            cause = [{"changed": "randomised", "condition": "ties broken", "rank_correlation": 0.25 + seed * 1e-4}]
            return {"cascade": cascade, "cause": cause, "identity": [{"gradient_error": 1e-15}]}

        return [record("04-sanity", ch04.Sanity(s, "cifar10", 20_000, 8), rows(s)) for s in range(5)]

    assert outcomes(sanity=made(0.0, 0.05))["04.5"] == "holds"
    assert outcomes(sanity=made(0.0, 0.4))["04.5"] == "holds in part"  # magnitudes remember
    assert outcomes(sanity=made(0.2, 0.4))["04.5"] == "does not hold"
    assert outcomes(sanity=made(0.0, 0.4, calibrated=0.2))["04.5"] == "does not hold"
    found = judged(sanity=made(0.0, 0.4))["04.5"]
    assert "ties broken 0.25" in found.evidence
    assert len(found.effect) <= 60


def test_the_prior_is_judged_for_each_origin_against_the_balanced_network() -> None:
    def made(black: float, seeds: int = 10) -> list[Record]:
        slopes = {("outputs", "any"): 0.8, ("output bias", "any"): 0.1, ("bias", "black"): black}
        slopes |= {("bias", "mean image"): 0.6, ("bias", "grey"): 0.7}

        def rows(seed: int) -> dict[str, list[dict[str, Any]]]:
            return {
                "slopes": [
                    {"prior": prior, "place": place, "origin": origin, "slope": 0.2 + more, "correlation": 0.0}
                    for (place, origin), slope in slopes.items()
                    for prior, more in (("skewed", slope + seed * 1e-3), ("balanced", 0.0))
                ]
            }

        return [
            record("04-prior", ch04.Prior(s, d, 10_000, 4), rows(s))
            for d in ("fashion_mnist", "cifar10")
            for s in range(seeds)
        ]

    assert outcomes(prior=made(0.6))["04.6"] == "holds"
    assert outcomes(prior=made(0.6, seeds=9))["04.6"] == "not tested"
    found = judged(prior=made(0.2))["04.6"]  # less than half of the slope of the outputs
    assert found.outcome == "holds in part"
    assert found.part == "most of the slope for 4 of 6 origins and data sets"
    found = judged(prior=made(0.6))["04.6"]
    assert found.effect == "slope of the bias +0.60 to +0.70"


def airplanes(noise: float = 0.06, adversarial: float = 0.09, others: float = -0.01) -> dict[str, list[Record]]:
    """Records of 04-airplane; plain networks have a correlation of 0.02."""
    how = {"plain": {}, "noise": {"noise": 0.1}, "adversarial": {"attack": 0.5}}
    means = {"plain": 0.02, "noise": noise, "adversarial": adversarial}
    made: dict[str, list[Record]] = {}
    for name, network in (("airplane", "small_cnn"), ("airplane-large", "large_cnn")):
        for seed, kind in itertools.product(range(100, 105), how):
            value = means[kind] + (seed - 102) * 1e-3 * (kind != "plain")
            rows = [
                {"state": "trained", "averaged": False, "templates": templates, "target": "image", "source": source,
                 "measure": "correlation", "similarity": similarity}
                for templates, source, similarity in (
                    ("true class", "own", value), ("true class", "another class", 0.0), ("other classes", "own", others)
                )
            ]  # fmt: skip
            config = ch04.Airplane(seed, "cifar10", None, 30, network=network, **how[kind])
            images = np.random.default_rng(seed).normal(0, 0.1, 200) + value
            row = {"diverged": False}
            one = record(f"04-{name}", config, {"networks": [row], "likeness": rows})
            made.setdefault(name, []).append(dataclasses.replace(one, arrays={"own": images.astype(np.float16)}))
    return made


def test_the_airplane_is_judged_against_plain_training() -> None:
    found = judged(**airplanes())["04.7"]
    assert found.outcome == "holds"
    assert found.effect == "+0.040 to +0.070 over plain, 4 of 4"
    assert "reproduced by: smallCNN noise, smallCNN adversarial, largeCNN noise" in found.evidence
    assert "reproduced by: no arm" in judged(**airplanes(others=0.01))["04.7"].evidence
    found = judged(**airplanes(noise=0.03))["04.7"]
    assert (found.outcome, found.part) == ("holds in part", "smallCNN adversarial, largeCNN adversarial")
    assert outcomes(**airplanes(noise=0.02, adversarial=0.02))["04.7"] == "does not hold"
    found = judged(airplane=airplanes()["airplane"])["04.7"]  # the larger network has no records yet
    assert (found.outcome, found.part) == ("holds in part", "smallCNN noise, smallCNN adversarial")
    assert found.evidence.endswith("2 of 4 comparisons have records.")


def test_smallest_effects_are_those_of_the_claims() -> None:
    from maso_book.claims import claims
    from maso_book.tree import root

    stated = {claim.id: claim.least for claim in claims(root()) if claim.chapter == "04" and claim.least}
    assert stated.keys() == verdicts.LEAST.keys()
    assert all(f"{least:g}" in stated[claim] for claim, least in verdicts.LEAST.items())


# A quick run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made() -> dict[str, list[Record]]:
    """The first quick cell of each experiment."""
    return {e.name: [compute(e, config) for config in cells(e, "quick")[:1]] for e in ch04.EXPERIMENTS}


def test_quick_cells_are_exact_and_too_small_for_a_verdict(made: dict[str, list[Record]]) -> None:
    errors = as_table(made["04-templates"], "networks")[["sum_error", "inner_error", "bias_error"]]
    assert errors.to_numpy().max() < verdicts.EXACT
    assert as_table(made["04-sanity"], "identity").gradient_error.max() < verdicts.EXACT

    slopes = as_table(made["04-prior"], "slopes").pivot(index="prior", columns=["place", "origin"], values="slope")
    for origin in ("black", "mean image", "grey"):
        parts = slopes["inner", origin] + slopes["bias", origin]
        assert slopes["outputs", "any"].to_numpy() == pytest.approx(parts.to_numpy(), abs=1e-5)
    assert {v.outcome for v in verdicts.verdicts(made)} == {"not tested"}


def test_the_bars_of_the_bank_are_the_inner_products_and_biases(made: dict[str, list[Record]]) -> None:
    arrays = made["04-pictures"][0].arrays
    bars = figures.bank(made["04-pictures"][0], 7).axes[-1]
    heights = {round(bar.get_x() + bar.get_width() / 2, 1): bar.get_height() for bar in bars.patches}
    assert [heights[round(c - 0.2, 1)] for c in range(10)] == pytest.approx(arrays["inner"][1])
    assert [heights[round(c + 0.2, 1)] for c in range(10)] == pytest.approx(arrays["bias"][1])
    outputs = next(line for line in bars.lines if line.get_label() == "output: their sum")
    assert outputs.get_ydata() == pytest.approx(arrays["inner"][1] + arrays["bias"][1])


def test_the_cascade_starts_at_the_trained_network(made: dict[str, list[Record]]) -> None:
    table = figures.cascade(made["04-sanity"])
    stages = [
        "trained", "+ dense", "+ BN 3", "+ conv 3", "+ BN 2", "+ conv 2", "+ BN 1", "+ conv 1",
        "BN calibrated", "another seed"
    ]  # fmt: skip
    assert table.stage_name.unique().tolist() == stages
    assert set(table[table.stage_name == "trained"].rank_correlation) == {1.0}
    axes = figures.strip(made["04-sanity"][0]).axes
    assert [ax.get_title() for ax in axes[:11]] == ["picture", *stages]
    assert len(axes) == 4 * 11


def test_what_decides_is_shown_for_networks_with_a_bias_one_data_set_after_the_other() -> None:
    def network(dataset: str, **switches: bool) -> Record:
        scores = [{"scores": name, "accuracy": share} for name, share in (("inner", 0.6), ("bias", 0.2))]
        rows = {
            "margin": [{"origin": "black", "share": 0.7}],
            "deciding": [*scores, {"scores": "centred inner", "accuracy": 0.5}],
            "evaluation": [{"split": split, "epoch": 4, "accuracy": 0.9} for split in ("test", "train")],
        }
        return record("04-templates", ch04_templates.Templates(100, dataset, 20_000, 4, **switches), rows)

    records = [network("cifar10"), network("mnist"), network("mnist", bn=False), network("mnist", bn=False, bias=False)]
    assert figures.shares(records).networks.tolist() == ["MNIST", "MNIST, no BN", "CIFAR-10"]
    table = figures.alone(records).pivot(index="networks", columns="decides", values="accuracy")
    assert table.index.tolist() == ["CIFAR-10", "MNIST", "MNIST, no BN"]
    assert table.loc["MNIST"].to_dict() == {"whole output": 0.9, "match alone": 0.6, "bias alone": 0.2}


def test_filters_stand_beside_all_seeds_of_their_network() -> None:
    recipe = {"dataset": "mnist", "samples": 20_000, "epochs": 4}
    classical = [
        {"filter": name, "accuracy": 0.5, "true_correlation": 0.3, "other_correlation": -0.1, "auc": 0.7}
        for name in ("mean", "lda")
    ]
    pictures = record("04-pictures", ch04_pictures.Pictures(0, **recipe), {"classical": classical})
    networks = templates(seeds=3)
    for seed, row in ((r.config["seed"], row) for r in networks for row in list(r.tables["likeness"])):
        networks[seed].tables["likeness"].append(row | {"measure": "relative correlation"})
    table = tables.filters([pictures], networks)
    assert table["filter"].tolist() == ["class mean", "discriminant", "network", "network", "network"]
    assert table["true"].tolist() == pytest.approx([0.3, 0.3, 0.3, 0.301, 0.302])
    assert table["area"].tolist() == pytest.approx([0.7, 0.7, 0.9, 0.901, 0.902])
    assert set(table["data"]) == {"MNIST"}
    assert tables.classical([pictures], networks).splitlines()[-1].startswith("| MNIST | network | 90.0% ± 0.0% |")


def test_the_likeness_figure_has_six_kinds_of_comparison(made: dict[str, list[Record]]) -> None:
    table = figures.likeness(made["04-templates"])
    assert table.groupby("target").compared.nunique().to_dict() == {"class mean": 5, "image": 6}
    assert len(table) == 11  # one network


def test_the_prior_figure_shows_the_mean_slope(made: dict[str, list[Record]]) -> None:
    ax = figures.prior([plt.figure().subplots()], made["04-prior"])[0]
    lines = {line.get_label(): line for line in ax.lines}
    slope = {
        name: np.diff(lines[name].get_ydata()) / np.diff(lines[name].get_xdata()) for name in ("mean slope", "slope 1")
    }
    of_bias = as_table(made["04-prior"], "slopes").query("place == 'bias' and origin == 'black'")
    of_bias = of_bias.set_index("prior").slope
    assert slope["mean slope"] == pytest.approx(of_bias.skewed - of_bias.balanced)
    assert slope["slope 1"] == pytest.approx(1.0)


def test_histograms_and_classical_filters_draw_every_group(made: dict[str, list[Record]]) -> None:
    titles = [ax.get_title("left") for ax in figures.histograms(made["04-templates"]).axes]
    assert [title.partition("\n")[0].rpartition(", ")[2] for title in titles] == ["before", "after"]
    assert len(figures.classical(made["04-pictures"], (0, 7)).axes) == 10


def test_tables_have_a_row_for_each_group_or_filter(made: dict[str, list[Record]]) -> None:
    for table in (tables.deciding, tables.common_part, tables.training):
        assert table(made["04-templates"]).count("\n") == 2
    lines = tables.classical(made["04-pictures"], made["04-templates"]).splitlines()
    assert len(lines) == 5
    assert "nan" not in lines[4]  # of one seed there is no interval
    assert tables.priors(made["04-prior"]).count("\n") == 2
    assert tables.cause(made["04-sanity"]).count("\n") == 4  # randomised, calibrated, another seed
    assert tables.airplane(made["04-airplane"]).count("\n") == 2


def test_the_hero_shows_the_templates_that_are_stored(made: dict[str, list[Record]]) -> None:
    (record,) = made["04-airplane"]  # trained plainly
    axes = figures.hero([record], 1).axes
    assert [ax.get_title() for ax in axes[:3]] == ["the picture: 8", "trained plainly", "plainly, SmoothGrad"]
    assert [ax.get_ylabel() for ax in axes[1::2]] == ["0", "8", "5"]
    assert len(axes) == 1 + 3 * 2  # as they are, and averaged
    drawn = np.asarray(axes[6].images[0].get_array())
    stored = record.arrays["averaged"][1, 2].astype(float) / 127
    assert drawn == pytest.approx(stored.transpose(1, 2, 0) / 2 + 0.5)
