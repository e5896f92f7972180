"""Chapter 05, second edition: gaps, their parts and sign patterns against plain loops; a small cell of 05-memory."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from maso.affine import affine_map
from maso_book import registry
from maso_book.ch05 import memory
from maso_book.ch05.memory import NAMED_BY, ORIGINS, SPLITS, STATES, Images, Memory
from maso_book.records import Record
from maso_book.results import compute
from maso_book.tidy import as_table
from maso_book.trained import data, network

SMALL = Memory(0, "permuted", "mlp", "digits", 8, samples=60, epochs=2, keep=(0, 1), points=30)


@pytest.fixture(scope="module")
def cell() -> Record:
    return compute(registry.named("05-memory-widths"), SMALL)


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3)]
    return nn.Sequential(*layers).double().eval()


def images(n: int = 20) -> Images:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 2, 3, dtype=torch.float64, generator=generator)
    return Images(x, torch.arange(n) % 3)


def test_a_gap_is_that_of_two_loops_over_the_images() -> None:
    model, part, mean = net(), images(), torch.full((2, 3), 0.1, dtype=torch.float64)
    (named, row, gap), _ = memory.gaps(model, part, mean)
    assert named == NAMED_BY[0]
    A = affine_map(model, part.x).A.flatten(2)
    u = nn.functional.normalize((part.x - mean).flatten(1), dim=1)
    for i, y in enumerate(part.y):
        a = A[i, y] / A[i, y].norm()
        others = [a @ u[j] for j in range(len(u)) if j != i and part.y[j] == y]
        assert gap[i] == pytest.approx(float(a @ u[i] - torch.stack(others).mean()))
    assert row["gap"] == pytest.approx(float(gap.mean()), abs=1e-6)
    assert row["cosine_own"] - row["cosine_others"] == pytest.approx(row["gap"], abs=2e-6)


def test_the_parts_of_a_gap_are_those_of_the_last_hidden_units() -> None:
    model, part, mean = net(), images(), torch.zeros(2, 3, dtype=torch.float64)
    (_, row, gap), _ = memory.gaps(model, part, mean)
    units = affine_map(model[:-1], part.x).A.flatten(2)  # (N, 9, D)
    weight = model[-1].weight.detach()[part.y].clamp(min=0)  # (N, 9)
    A = affine_map(model, part.x).A.flatten(2)[torch.arange(len(gap)), part.y]
    u, others = memory.neighbours(part.x, part.y)
    expected = (torch.einsum("nk,nkd->nd", weight, units) * (u - others)).sum(1) / A.norm(dim=1)
    assert row["gap_for"] == pytest.approx(float(expected.mean()), abs=1e-6)
    assert row["gap_for"] + row["gap_against"] == pytest.approx(row["gap"], abs=2e-6)


def test_the_only_image_of_its_class_has_no_gap() -> None:
    part = images(5)
    alone = Images(part.x, torch.tensor([0, 0, 0, 0, 2]))
    (_, row, gap), _ = memory.gaps(net(), alone, torch.zeros(2, 3, dtype=torch.float64))
    assert gap.isnan().tolist() == [False, False, False, False, True]
    assert np.isfinite(list(row.values())).all()


def test_a_convex_output_has_a_gap_above_zero_and_its_negative_below() -> None:
    torch.manual_seed(3)
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 200), nn.ReLU()).double()
    signed = [nn.Linear(200, 3).double() for _ in range(2)]
    part = Images(images(60).x, torch.zeros(60, dtype=torch.int64))
    found = []
    for sign, head in zip((1, -1), signed, strict=True):
        with torch.no_grad():
            head.weight.copy_(sign * signed[0].weight.abs())
        (_, row, _), _ = memory.gaps(nn.Sequential(*body, head), part, torch.zeros(2, 3, dtype=torch.float64))
        found.append(row)
    assert found[0]["gap"] > 0 > found[1]["gap"]
    assert found[0]["gap_against"] == found[1]["gap_for"] == 0


def test_independent_signs_are_expected_as_by_drawing_them() -> None:
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 3, 3000))
    inner = torch.from_numpy(rng.standard_normal((3000, 3)) + np.array([0.5, -0.2, 0.1]))
    pattern, counts = memory.independent_signs(inner, y)
    own = torch.nn.functional.one_hot(y, 3).bool()
    assert pattern == pytest.approx(float(torch.where(own, inner, -inner).gt(0).all(1).double().mean()), abs=0.03)
    observed = torch.bincount(((inner < 0) & ~own).sum(1), minlength=3) / 3000
    assert counts == pytest.approx(observed.numpy(), abs=0.03)
    assert counts.sum() == pytest.approx(1)


def test_signs_that_go_together_are_not_independent() -> None:
    common = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3)
    pattern, counts = memory.independent_signs(common, torch.zeros(2000, dtype=torch.int64))
    assert pattern == pytest.approx(1 / 8, abs=0.02)  # all three signs are one: the pattern never occurs
    assert counts == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_test_labels_are_permuted_with_those_of_training() -> None:
    permuted, true = SMALL, dataclasses.replace(SMALL, labels="true")
    split = {config.labels: memory.measured(data(config.recipe), config) for config in (permuted, true)}
    assert torch.equal(split["true"]["test"].x, split["permuted"]["test"].x)
    for name in SPLITS:
        one, other = (split[labels][name].y for labels in ("true", "permuted"))
        assert not torch.equal(one, other)
    assert torch.equal(split["true"]["test"].y.sort().values, split["permuted"]["test"].y.sort().values)
    again = memory.measured(data(permuted.recipe), permuted)
    assert torch.equal(again["test"].y, split["permuted"]["test"].y)


def test_a_cell_measures_every_state_split_and_reading(cell: Record) -> None:
    gaps, patterns = as_table([cell], "gaps"), as_table([cell], "patterns")
    states = [(0, "untrained"), (0, "calibrated"), (1, "trained"), (2, "trained")]
    expected = [(*state, split, name) for state in states for split in SPLITS for name in NAMED_BY]
    assert list(zip(*(gaps[c] for c in ("epoch", "state", "split", "named_by")), strict=True)) == expected
    expected = [(state, split, reading) for state in STATES for split in SPLITS for reading in ORIGINS]
    assert list(zip(*(patterns[c] for c in ("state", "split", "reading")), strict=True)) == expected
    assert [row["epoch"] for row in cell.tables["training"]] == [1, 2]

    last = gaps[gaps["epoch"] == 2].set_index(["split", "named_by"])["gap"]
    per_image = cell.arrays["gaps"]
    assert per_image.shape == (2, 2, 30)
    assert np.nanmean(per_image.astype(float), axis=2).ravel() == pytest.approx(last.to_numpy(), abs=1e-4)

    negatives = cell.arrays["negatives"]
    assert negatives.shape == (3, 2, 2, 2, 10)
    assert negatives.sum(-1) == pytest.approx(1)
    assert negatives[..., 0, :] @ np.arange(10) / 9 == pytest.approx(
        patterns["false_classes_negative"].to_numpy().reshape(3, 2, 2), abs=1e-5
    )


def test_the_calibrated_state_is_not_the_untrained_one(cell: Record) -> None:
    gaps = as_table([cell], "gaps").query("split == 'train' and named_by == 'label'").set_index(["state", "epoch"])
    assert gaps.loc[("calibrated", 0), "cosine_own"] != gaps.loc[("untrained", 0), "cosine_own"]
    before = network(SMALL.recipe).eval()
    (_, row, _), _ = memory.gaps(
        before, memory.measured(data(SMALL.recipe), SMALL)["train"], data(SMALL.recipe).x.float().mean(0) / 255
    )
    assert gaps.loc[("untrained", 0), "gap"] == pytest.approx(row["gap"], abs=1e-5)
