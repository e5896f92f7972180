"""Chapter 06: the grids, the choices, what is measured, the verdicts, the figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maso_book.tree
from maso import affine_map, penalties
from maso_book.ch06 import frames, penalised
from maso_book.ch06.cost import Cost, run_cost
from maso_book.ch06.experiments import DECIDING, EXPERIMENTS, FIRST, SEEDS, STRENGTHS
from maso_book.ch06.frames import Frames, run_frames
from maso_book.ch06.penalised import (
    NONE,
    Penalised,
    Tuning,
    cosines,
    gauge,
    last_layer,
    recipe,
    run_penalised,
    run_tuning,
    strength_of,
    template_cosines,
    tuned,
)
from maso_book.experiment import Experiment
from maso_book.networks import small_cnn
from maso_book.results import cells
from maso_book.training import Training, fit
from maso_book.training.penalties import PENALTIES, last_rows

TINY: dict[str, Any] = {
    "dataset": "digits", "samples": 120, "epochs": 1, "tuning_epochs": 1, "rates": (5e-3,), "decays": (0.0,),
    "tuning_seeds": (100,), "points": 10,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of a test are trained in it, and no choice is remembered."""
    monkeypatch.setattr(maso_book.tree, "root", lambda: tmp_path)
    penalised._best_pair.cache_clear()
    penalised._validation.cache_clear()


def experiment(name: str) -> Experiment:
    return next(e for e in EXPERIMENTS if e.name == name)


# Grids ----------------------------------------------------------------------------------------------------------------


def test_every_deciding_arm_has_ten_seeds_and_every_strength_five() -> None:
    configs = [c for c in cells(experiment("06-penalties"), "full") if c.epochs == 20]
    for penalty in (NONE, *DECIDING, "published", "templates"):
        assert {c.seed for c in configs if c.penalty == penalty} == set(SEEDS)
    for penalty in DECIDING:
        for strength in STRENGTHS:
            assert [c.seed for c in configs if (c.penalty, c.strength) == (penalty, strength)] == list(FIRST)
    chosen = [c for c in configs if c.strength is None]
    assert all(c.strength_seeds == FIRST and set(c.strengths) <= {*STRENGTHS, 1.0} for c in chosen)


def test_what_lambda_is_chosen_from_is_in_the_grid_before_it_is_chosen() -> None:
    for profile in ("quick", "full"):
        configs = cells(experiment("06-penalties"), profile)
        for number, config in enumerate(configs):
            if config.strength is None:
                needed = [
                    replace(config, seed=seed, strength=strength, strengths=(), strength_seeds=(), pictured=seed == 0)
                    for seed in config.strength_seeds
                    for strength in config.strengths
                ]
                assert set(needed) <= set(configs[:number])


def test_the_tuning_grid_is_no_smaller_than_that_of_the_strengths() -> None:
    for config in cells(experiment("06-tuning"), "full"):
        assert len(config.grid()) >= len(STRENGTHS)
    config = next(c for c in cells(experiment("06-penalties"), "full"))
    of_cells = {(c.seed, c.epochs) for c in cells(experiment("06-tuning"), "full") if c.dataset == "cifar10"}
    assert of_cells == {(seed, config.tuning_epochs) for seed in config.tuning_seeds}


# Choices --------------------------------------------------------------------------------------------------------------


def test_the_choices_are_those_of_the_best_mean_validation_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    def validation(which: Any, device: str) -> float:
        how = which.training
        if not how.penalty:
            return {(0.01, 0.0): 0.5, (0.01, 0.1): 0.7, (0.02, 0.0): 0.8, (0.02, 0.1): 0.1}[how.lr, how.weight_decay]
        return {0.1: 0.6, 1.0: 0.6 + 0.2 * (how.seed == 1) - 0.1 * (how.seed == 0)}[how.strength]

    monkeypatch.setattr(penalised, "_validation", validation)
    monkeypatch.setattr(penalised, "prepare", lambda recipes: None)
    changed = {**TINY, "rates": (0.01, 0.02), "decays": (0.0, 0.1)}
    config = Penalised(7, "orthogonality", None, strengths=(0.1, 1.0), strength_seeds=(0, 1), **changed)
    assert tuned(config) == (0.02, 0.0)
    assert strength_of(config) == 1.0
    assert strength_of(replace(config, strength_seeds=(0,))) == 0.1
    how = recipe(config).training
    assert (how.lr, how.weight_decay, how.penalty, how.strength, how.seed) == (0.02, 0.0, "orthogonality", 1.0, 7)
    assert recipe(replace(config, penalty=NONE)).training.plain


def test_the_baseline_is_tuned_without_the_penalty_the_loss_and_the_augmentation() -> None:
    config = Penalised(3, "orthogonality", 0.5, "squared", augment=True, **TINY)
    (plain,) = Tuning(100, "digits", samples=120, epochs=1, rates=(5e-3,), decays=(0.0,)).grid().values()
    assert plain.training == Training(1, 256, 5e-3, 0.0, "one-cycle", seed=100)
    assert recipe(config) == replace(
        plain,
        training=replace(plain.training, seed=3, loss="squared", augment=True, penalty="orthogonality", strength=0.5),
    )


# What is measured -----------------------------------------------------------------------------------------------------


def test_the_penalties_of_training_are_those_of_the_package() -> None:
    torch.manual_seed(0)
    model, x, y = small_cnn(), torch.rand(8, 3, 32, 32), torch.randint(0, 10, (8,))
    W = model[-1].weight
    assert last_rows(model) is W
    found = {name: penalty(model, x, model(x), y) for name, penalty in PENALTIES.items()}
    assert torch.equal(found["orthogonality"], penalties.orthogonality(W))
    assert torch.allclose(found["quartic norm"], penalties.quartic_norm(W) / 9)
    assert torch.equal(found["published"], penalties.published(W))
    assert all(value.ndim == 0 and value.requires_grad for value in found.values())


@pytest.mark.parametrize("name", ["orthogonality", "quartic norm", "published", "templates"])
def test_training_with_a_penalty_lowers_it(name: str) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(32, 3, 22, 22), torch.randint(0, 10, (32,))

    def value(strength: float) -> float:
        torch.manual_seed(1)
        model = small_cnn((3, 22, 22))
        fit(model, x, y, Training(8, 16, 1e-2, penalty=name, strength=strength))
        return float(np.mean([float(PENALTIES[name](model, x, model(x), y).detach()) for _ in range(20)]))

    assert value(30.0) < 0.7 * value(0.0)


def test_cosines_of_templates_and_rows_against_loops() -> None:
    torch.manual_seed(0)
    model, x = small_cnn(bias=False).double().eval(), torch.rand(6, 3, 32, 32, dtype=torch.float64)
    row, matrices = template_cosines(model, x, batch=4)

    def pairs(vectors: Tensor) -> list[float]:
        cosine = nn.functional.cosine_similarity
        return [float(cosine(vectors[c], vectors[a], 0)) for c in range(10) for a in range(10) if a != c]

    A = affine_map(model, x).A.flatten(2)
    raw = [pairs(a) for a in A]
    centred = [pairs(a - a.mean(0)) for a in A]
    assert row["template_cosine"] == pytest.approx(np.mean(raw))
    assert row["template_cosine_abs"] == pytest.approx(np.abs(raw).mean())
    assert row["template_cosine_centred"] == pytest.approx(np.mean(centred))
    assert row["template_cosine_centred_abs"] == pytest.approx(np.abs(centred).mean())
    assert row["template_penalty"] == pytest.approx(float(torch.stack([penalties.orthogonality(a) for a in A]).mean()))
    assert matrices["templates"][0, 1] == pytest.approx(np.mean([pair[0] for pair in raw]))

    W = last_rows(model).detach()
    found = last_layer(model)
    assert found["row_cosine_abs"] == pytest.approx(np.abs(pairs(W)).mean())
    assert found["row_cosine_centred"] == pytest.approx(np.mean(pairs(W - W.mean(0))))
    assert found["row_norm_max"] == pytest.approx(float(W.norm(dim=1).max()))
    assert torch.allclose(cosines(W).diagonal(), torch.ones(10, dtype=torch.float64))


def test_the_gauge_changes_the_penalty_and_no_probability() -> None:
    torch.manual_seed(0)
    model = small_cnn(bias=False).eval()
    with torch.no_grad():
        last_rows(model).add_(1.0)
    found = gauge(model, torch.rand(20, 3, 32, 32))
    assert found["shift_probability_error"] < 1e-12
    assert found["gauge_orthogonality"] < 0.01 * last_layer(model)["orthogonality"]
    assert found["shift_norm"] == pytest.approx(last_rows(model).shape[1] ** 0.5, rel=0.2)


def test_a_cell_and_the_tuning_before_it() -> None:
    found, arrays = run_penalised(Penalised(0, "orthogonality", 0.5, pictured=True, **TINY))
    (row,) = found["networks"]
    assert (row["lr"], row["weight_decay"], row["chosen_strength"], row["diverged"]) == (5e-3, 0.0, 0.5, False)
    assert 0 <= row["test_accuracy"] <= 1
    assert len(found["curves"]) == 1
    assert {name: array.shape for name, array in arrays.items()} == dict.fromkeys(
        ("rows", "rows_centred", "templates", "templates_centred"), (10, 10)
    )
    tuning, _ = run_tuning(Tuning(100, "digits", samples=120, epochs=1, rates=(5e-3,), decays=(0.0,)))
    assert [(each["lr"], each["weight_decay"]) for each in tuning["tuning"]] == [(5e-3, 0.0)]


def test_frames_find_the_theorem_and_a_wrong_shift_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Frames(1, (3, 10), problems=6, starts=3)
    found, _ = run_frames(config)
    assert max(row[name] for row in found["frames"] for name in row if name.endswith("error")) < 1e-12
    assert max(row["penalty_at_minimum"] for row in found["frames"]) < 1e-12
    assert all(row["at_minimum"] <= row["found"] + 1e-9 * row["penalty"] for row in found["weights"])

    monkeypatch.setattr(frames, "gauge_minimum", lambda W: torch.zeros(W.shape[1], dtype=W.dtype))
    wrong, _ = run_frames(config)
    assert min(row["penalty_at_minimum"] for row in wrong["frames"]) > 0.1 / 9
    assert any(row["at_minimum"] > row["found"] + 1e-3 * row["penalty"] for row in wrong["weights"])


def test_costs_are_measured_in_turn() -> None:
    found, _ = run_cost(Cost(0, batch=8, rounds=2))
    assert [row["kind"] for row in found["steps"]][:2] == ["plain", "rows"]
    assert len(found["steps"]) == 14
    assert all(row["step_seconds"] > 0 for row in found["steps"])
