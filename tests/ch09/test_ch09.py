"""Chapter 09: its measurements against what is known otherwise."""

import dataclasses
import io
import json
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser
from torch import nn

import maso
from maso_book.ch09 import figures
from maso_book.ch09.animation import BETAS, SHADES, animation, frame
from maso_book.ch09.attacks import Ball, attacked
from maso_book.ch09.cells import Arm, at, scores, softened, temperature
from maso_book.ch09.derivations import TABLE, derived, halfway
from maso_book.ch09.experiments import DATASETS
from maso_book.ch09.factorial import Factorial, run_factorial
from maso_book.ch09.learned import Learned, run_learned
from maso_book.ch09.nearest import GRID, TARGETS, beta_vq
from maso_book.ch09.softened import ARMS
from maso_book.ch09.table import Table, run_table
from maso_book.ch09.tuning import Robust, Transfer, run_robust, run_transfer
from maso_book.ch09.verdicts import verdicts
from maso_book.records import Record
from maso_book.registry import named
from maso_book.results import cells
from maso_book.verdict import Verdict

TINY = {"dataset": "digits", "samples": 200, "epochs": 1, "augment": False}


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
def test_every_entry_is_derived(entry) -> None:
    assert all(derived(entry).values())


def test_a_wrong_entry_is_not_derived() -> None:
    wrong = dataclasses.replace(TABLE[0], formula=TABLE[1].formula)
    assert not derived(wrong)["formula"]


def test_silu_stands_at_one_half() -> None:
    assert all(halfway().values())


def test_numbers_of_the_table() -> None:
    tables, _ = run_table(Table(1, inputs=20, mixtures=5))
    assert max(row["max_error"] for row in tables["numbers"] + tables["posterior"]) < 1e-12
    assert sum(row["better"] for row in tables["optimum"]) == 0


def test_a_layer_splits_where_slope_differences_are_orthogonal() -> None:
    (rows,) = run_factorial(Factorial(3, inputs=2000))[0].values()
    for row in rows:
        assert (row["agreement_shifted"] == 1) == row["filters"].startswith("orthogonal")
        assert (row["largest_cosine"] < 1e-12) == row["filters"].startswith("orthogonal")


def test_acon_is_two_lines_softly_chosen_and_arelu_two_lines_chosen_hard() -> None:
    u = torch.linspace(-6, 6, 401, dtype=torch.float64)
    for beta, low in ((0.3, -0.5), (0.5, 0.2), (0.9, 0.6)):
        odds, rise = beta / (1 - beta), 1 - low
        acon = rise * u * torch.sigmoid(odds * rise * u) + low * u
        assert torch.allclose(maso.BetaVQ(beta, slope=low, dtype=u.dtype)(u), acon, atol=1e-12)
    for low, extra in ((0.01, 0.1), (0.25, 0.5), (0.99, 0.9)):
        arelu = torch.where(u < 0, low * u, (1 + extra) * u)
        assert torch.equal(torch.maximum(low * u, (1 + extra) * u), arelu)


def test_the_swish_nearest_gelu() -> None:
    near = beta_vq(GRID, np.array([0.0, 1.0]), np.zeros(2), 0.6395 / 0.3605)
    assert np.abs(near - TARGETS["GELU"](GRID)).max() == pytest.approx(0.0140, abs=5e-5)


def test_scores_are_those_of_a_calibrated_classifier() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20_000, 4) * 2
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert scores(logits, labels)["ece"] < 0.015
    assert temperature(logits * 3, labels) == pytest.approx(3, rel=0.05)
    assert scores(logits * 3, labels)["ece"] > 0.1


def test_attacks_stay_in_their_balls_and_find_what_a_linear_network_hides() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    with torch.no_grad():
        model[1].weight[0] = -model[1].weight[1]
        model[1].bias.zero_()
    x = torch.rand(50, 3, 2, 2) * 0.4 + 0.3  # no border within reach
    y = model(x).argmax(1)
    balls = [Ball("linf", 0.05), Ball("l2", 0.2)]
    moved = attacked(model, x, y, balls, steps=10, restarts=2, seed=0)
    slope = 2 * model[1].weight[1].detach()
    margin = (model[1](x.flatten(1))[:, 1] - model[1](x.flatten(1))[:, 0]).abs().detach()
    for ball, images in zip(balls, moved, strict=True):
        moves = (images - x).flatten(1)
        length = moves.abs().amax(1) if ball.norm == "linf" else moves.norm(dim=1)
        dual = slope.abs().sum() if ball.norm == "linf" else slope.norm()
        assert length.max() <= ball.radius * (1 + 1e-5)
        assert ((model(images).argmax(1) != y) == (margin < ball.radius * dual)).float().mean() > 0.95


def test_arms_soften_what_they_say() -> None:
    from maso_book.networks import small_cnn

    images = (torch.rand(64, 3, 32, 32) * 255).to(torch.uint8)
    model = small_cnn().eval()
    units = softened(model, Arm("mix", "units", "kept"), images)
    whole = softened(model, Arm("swish", "all", "re-estimated"), images)
    assert (len(units.names), len(whole.names)) == (3, 6)
    mean = model[1].running_mean.clone()
    at(whole, 0.7, Arm("swish", "all", "re-estimated"), images)
    assert float(whole.unit_of["2"].beta) == pytest.approx(0.7)
    assert torch.equal(model[1].running_mean, mean)
    assert not torch.allclose(whole.network[1].running_mean, mean)


def test_what_runs_on_a_gpu_runs() -> None:
    tables, arrays = run_learned(Learned(0, unit="beta", keep=(0,), **TINY))
    assert [row["mean_beta"] for row in tables["betas"]][:3] == [0.5] * 3
    assert arrays["log_odds"].shape == (2, 32 + 64 + 128)
    small = {"betas": (0.9, 1.0), "images": 100}
    tables, _ = run_robust(Robust(0, validated=10, tested=10, steps=1, restarts=1, **small, **TINY))
    assert all(row["robust"] <= row["robust_own"] <= row["clean"] for row in tables["chosen"])
    tables, _ = run_transfer(Transfer(0, target="digits", **small, **TINY))
    assert len(tables["probes"]) == 6
    assert maso.Softened  # the package's door


# Verdicts -------------------------------------------------------------------------------------------------------------


def record(experiment: str, tables: dict, **config) -> Record:
    full = {"dataset": "cifar10", "network": "small_cnn", "epochs": 30, "samples": None} | config
    return Record(experiment, full, tables, {}, {"device": "cuda"}, f"{sorted(config.items())}")


def verdict_on(claim: str, found: dict[str, list[Record]]) -> Verdict:
    return {verdict.claim: verdict for verdict in verdicts(found)}[claim]


def test_the_networks_that_are_softened_on_cifar10_are_chapter_04s() -> None:
    """To the letter, so that they are trained once."""
    known = {
        dataclasses.replace(recipe, keep=())
        for config in cells(named("04-templates"), "full")
        for recipe in named("04-templates").recipes(config)
    }
    for name in ("09-softened", "09-robust", "09-transfer"):
        configs = [config for config in cells(named(name), "full") if config.dataset == "cifar10"]
        assert len(configs) == 5
        assert {config.recipe for config in configs} <= known


def learned(dataset: str, gain: float, seeds: int) -> list[Record]:
    """Networks of which those with a learned β are better by so much, give or take 0.1 points."""
    return [
        record(
            "09-learned",
            {
                "networks": [{"test_accuracy": 0.7 + (unit == "beta") * (gain + 0.001 * (seed % 2))}],
                "betas": [
                    {"epoch": 30, "layer": layer, "mean_beta": beta + 0.01 * (seed % 2)}
                    for layer, beta in ((1, 0.6), (2, 0.5), (3, 0.7))
                    if unit == "beta"
                ],
            },
            dataset=dataset,
            seed=seed,
            unit=unit,
        )
        for seed in range(seeds)
        for unit in ("relu", "silu", "gelu", "beta")
    ]


@pytest.mark.parametrize(
    ("gain", "hundred", "seeds", "outcome"),
    [
        (0.02, 0.02, 5, "holds"),
        (0.02, -0.02, 5, "holds in part"),
        (0.0, 0.0, 5, "too small to matter"),
        (-0.02, -0.02, 5, "does not hold"),
        (0.02, 0.02, 4, "not tested"),
    ],
)
def test_verdict_on_a_learned_beta(gain: float, hundred: float, seeds: int, outcome: str) -> None:
    found = {"09-learned": learned("cifar10", gain, seeds), "09-learned-100": learned("cifar100", hundred, seeds)}
    assert verdict_on("09.5", found).outcome == outcome


def softening(seed: int, dataset: str, accuracy: float, ece: float) -> Record:
    def rows(beta: float, kind: str, accuracy: float, ece: float) -> list[dict]:
        own = {
            "kind": kind,
            "kinks": "all",
            "norms": "kept",
            "beta": beta,
            "accuracy": accuracy,
            "ece": ece,
            "nll": ece,
        }
        return [{**own, "split": split} for split in ("validation", "test")]

    noise = 0.0001 * (seed % 2)
    curve = rows(1.0, "mix", 0.7, 0.1) + rows(0.9, "mix", accuracy + noise, ece + noise) + rows(0.5, "mix", 0.3, 0.5)
    tables = {"curve": curve, "rival": [{"split": "test", "ece": 0.02}]}
    return record("09-softened", tables, seed=seed, dataset=dataset)


@pytest.mark.parametrize(
    ("accuracy", "ece", "outcome"),
    [(0.7, 0.05, "holds"), (0.7, 0.099, "holds in part"), (0.6, 0.05, "holds in part"), (0.6, 0.12, "does not hold")],
)
def test_verdict_on_softening(accuracy: float, ece: float, outcome: str) -> None:
    first, second = ([softening(seed, dataset, accuracy, ece) for seed in range(5)] for dataset in DATASETS)
    assert verdict_on("09.4", {"09-softened": first + second}).outcome == outcome
    half = verdict_on("09.4", {"09-softened": first})
    assert half.outcome == "not tested"
    assert half.effect.startswith("so far smallCNN, CIFAR-10: accuracy")


@pytest.mark.parametrize(
    ("gain", "probe", "outcome"), [(0.02, 0.01, "holds"), (0.0, 0.01, "holds in part"), (0.0, 0.0, "does not hold")]
)
def test_verdict_on_curvature_tuning(gain: float, probe: float, outcome: str) -> None:
    form = {"kind": "mix", "kinks": "units", "norms": "kept"}
    robust, transfer = [], []
    for seed, dataset in product(range(5), DATASETS):
        noise = 0.0001 * (seed % 2)
        attack = {**form, "attack": "linf 2/255", "robust": 0.3 + gain + noise, "robust_hard": 0.3, "clean": 0.7,
                  "clean_hard": 0.7, "validation_gain": 0.02}  # fmt: skip
        robust.append(record("09-robust", {"chosen": [attack]}, seed=seed, dataset=dataset))
        probes = [
            {**form, "beta": beta, "validation_accuracy": 0.5 + add, "probe_accuracy": 0.5 + add}
            for beta, add in ((1.0, 0.0), (0.9, probe + noise * (probe > 0)))
        ]
        transfer.append(record("09-transfer", {"probes": probes}, seed=seed, dataset=dataset))
    found = {"09-robust": robust, "09-transfer": transfer}
    assert verdict_on("09.8", found).outcome == outcome
    assert verdict_on("09.8", found | {"09-robust": robust[::2]}).outcome == "not tested"
    alone = verdict_on("09.8", {"09-transfer": transfer[::2]})
    assert alone.outcome == "not tested"
    assert alone.effect.startswith(f"so far probe of CIFAR-10 networks {probe:+.1%}"[:-2])


def test_forms_have_names_and_are_compared_with_the_hard_network() -> None:
    rows = [
        {"kind": kind, "kinks": kinks, "norms": norms, "beta": beta, "probe_accuracy": 0.5 + add}
        for kind, kinks, norms, add in (("mix", "units", "kept", 0.0), ("swish", "all", "re-estimated", 0.1))
        for beta in (1.0, 0.9)
    ]
    table = figures.probes([record("09-transfer", {"probes": rows}, seed=100)])
    assert table["beta"].tolist() == ["0.9", "0.9", "1", "1"]
    assert table.groupby("form")["points"].mean().to_dict() == pytest.approx({"Curvature Tuning": 0.0, "swish": 10.0})
    assert set(table["networks"]) == {"smallCNN, CIFAR-10"}
    softened = figures.softenings([softening(100, "cifar10", 0.6, 0.1)])
    assert set(softened["what"]) == {"accuracy less hard", "ECE"}
    soft = softened[(softened["beta"] == "0.9") & (softened["what"] == "accuracy less hard")]
    assert soft["per_cent"].tolist() == pytest.approx([-10])


def test_reliabilities_are_those_of_all_seeds_together() -> None:
    def counted(seed: int, right: float) -> Record:
        bins = np.zeros((2 + len(ARMS), 3, 15))
        bins[0, :, 14], bins[1, :, 7] = (100, 95, right), (30, 15, 15)
        return dataclasses.replace(softening(seed, "cifar10", 0.7, 0.1), arrays={"reliability": bins})

    diverged = dataclasses.replace(softening(3, "cifar10", 0.7, 0.1), arrays={})
    table = figures.reliabilities([counted(1, 80), counted(2, 90), diverged])
    assert table.drop(columns="bin").to_dict("records") == [
        {"networks": "smallCNN, CIFAR-10", "form": "hard", "images": 200, "confidence": 95, "right": 85}
    ]


def test_figures_show_what_they_are_given() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    assert figures.bending(model, 1.0).max() > 3 * np.median(figures.bending(model, 1.0))
    assert len(figures.family().axes) == 3
    _, ax = plt.subplots()
    figures.depths(ax, learned("cifar10", 0.0, 2))
    assert [line.get_label() for line in ax.lines[:3]] == ["layer 1", "layer 2", "layer 3"]
    plt.close("all")


# The animation --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def melting() -> str:
    torch.manual_seed(0)
    return animation(nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 1)).double())


def test_a_frame_is_dark_where_the_network_bends() -> None:
    from PIL import Image

    bends = np.zeros((4, 4))
    bends[0, 3] = 100  # x₁ least, x₂ largest: the upper left corner of the picture
    picture = Image.open(io.BytesIO(frame(bends)))
    levels = np.asarray(picture)
    assert picture.mode == "P"
    assert levels[0, 0] == SHADES - 1
    assert levels.sum() == SHADES - 1
    dark, light = (picture.convert("L").getpixel(at) for at in ((0, 0), (1, 1)))
    assert dark < light


def test_the_animation_is_small_and_needs_nothing_from_outside(melting: str) -> None:
    assert len(melting) < 400_000
    assert "http" not in melting
    frames = json.loads(melting.partition("playMelting(document.currentScript.parentElement, ")[2].partition(");\n")[0])
    assert [float(each["beta"]) for each in frames] == list(BETAS)
    assert len({each["data"] for each in frames}) == len(BETAS)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_animation_plays_from_disk(browser: Browser, melting: str, theme: str, width: int, tmp_path: Path) -> None:
    file = tmp_path / "melting.html"
    file.write_text(
        f'<!doctype html><html data-theme="{theme}"><meta charset="utf-8"><body>{melting}', encoding="utf-8"
    )
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(file.as_uri())
    picture, line, slider = page.locator("img"), page.locator("output"), page.locator("input")
    hard = picture.get_attribute("src")
    assert line.text_content() == "β = 1"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert line.text_content() == slider.get_attribute("aria-valuetext") == f"β = {BETAS[1]:g}"
    page.keyboard.press("End")
    assert line.text_content() == f"β = {BETAS[-1]:g}"
    assert picture.get_attribute("src") != hard
    button = page.get_by_role("button")
    button.press("Enter")
    assert button.text_content() == "Pause"
    page.wait_for_function(f"document.querySelector('output').textContent === 'β = {BETAS[1]:g}'")
    button.press("Enter")
    assert button.text_content() == "Play"
    context.close()
    assert not wrong
