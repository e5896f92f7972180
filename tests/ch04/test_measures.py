"""Chapter 04, second edition: what is measured, against small cases worked out by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from maso import affine_map
from maso.matched import Match
from maso_book.ch04 import airplane, prior, sanity, templates
from maso_book.ch04 import experiments as ch04
from maso_book.ch04 import networks as ch04_networks
from maso_book.ch04.networks import Looked
from maso_book.results import cells
from maso_book.trained import Recipe


def small(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs)).eval()


def test_a_margin_is_divided_for_each_origin() -> None:
    inner = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    bias = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, -1.0]])  # the outputs are 3, 2, 1 and 0, 2, −1
    shift = torch.tensor([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    rows = {row["origin"]: row for row in templates.margins(Match(bias, {"image": inner, "grey": shift}, {}, {}))}
    assert {row["margin"] for row in rows.values()} == {1.5}  # 1 and 2
    assert (rows["black"]["match"], rows["black"]["favours"]) == (2.5, 1.0)  # 3 and 2
    assert rows["grey"]["match"] == 0.0  # 3 − 4 and 2 − 1
    assert (rows["grey"]["share"], rows["grey"]["favours"]) == (0.0, 0.5)
    assert rows["mean image"]["share"] == rows["black"]["share"] == pytest.approx(2.5 / 1.5)


def test_parts_of_the_output_add_up_for_each_origin() -> None:
    model, x, means = small(), torch.rand(20, 2, 2, 2), torch.rand(3, 2, 2, 2)
    parts = prior._parts(model, x, means)
    for origin in ("black", "mean image", "grey"):
        assert parts["inner", origin] + parts["bias", origin] == pytest.approx(parts["outputs", "any"], abs=1e-5)
    A = affine_map(model, x).A.mean(0)
    shift = torch.einsum("cijk,ijk->c", A, means.mean(0)).numpy()
    assert parts["bias", "mean image"] - parts["bias", "black"] == pytest.approx(shift, abs=1e-5)
    assert parts["output bias", "any"] == pytest.approx(model[-1].bias.detach().numpy())


def test_ten_seeds_begin_the_skew_at_ten_classes() -> None:
    config = ch04.Prior(100, "cifar10", 15_000, 2)
    largest = [
        int(np.argmax(ch04_networks.skewed(dataclasses.replace(config, seed=s).recipe, 0.1).shares))
        for s in range(100, 110)
    ]
    assert sorted(largest) == list(range(10))


def test_zeros_do_not_count_where_they_should_not() -> None:
    a, b = np.array([[0.0, 1.0, 2.0, 3.0, 9.0]]), np.array([[5.0, 3.0, 2.0, 1.0, 0.0]])
    assert sanity.nonzero_in_both(a, b) == pytest.approx([-1.0])
    assert sanity.nonzero_in_both(a, 0 * b).tolist() == [0.0]


def test_the_control_is_the_next_seed_of_its_hundred() -> None:
    seeds = [[r.training.seed for r in ch04.Sanity(s, "digits", 100, 1).recipes] for s in (0, 4, 100, 104)]
    assert seeds == [[0, 1], [4, 0], [100, 101], [104, 100]]


def test_the_cause_is_measured_on_the_same_pictures() -> None:
    model, test = small(), Looked(torch.rand(12, 2, 2, 2), torch.arange(12) % 3)
    rows = {row["condition"]: row["rank_correlation"] for row in sanity.cause(model, model, test, "randomised", 0)}
    assert rows["as it is"] == rows["ties broken"] == rows["nonzero in both"] == pytest.approx(1.0)
    assert rows["another picture"] < 1.0


def test_averaging_leaves_a_linear_network_and_smooths_another() -> None:
    x, outputs = torch.rand(6, 2, 2, 2), torch.tensor([[0, 2]] * 6)
    how = {"copies": 64, "deviation": 0.5, "seed": 0}
    linear = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    found = airplane.averaged_templates(linear, x, outputs, **how)
    assert torch.allclose(found.flatten(2), linear[1].weight[[0, 2]].expand(6, 2, 8), atol=1e-6)

    model = small()
    found = airplane.averaged_templates(model, x, outputs, **how)
    noisy = [x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(s)) for s in range(1000)]
    expected = torch.stack([affine_map(model, v, outputs=outputs).A for v in noisy]).mean(0)
    assert (found - expected).abs().max() < 0.2 * expected.abs().max()


def test_correlations_are_those_of_numpy() -> None:
    A, v = torch.randn(3, 2, 10), torch.randn(3, 10)
    found = airplane.correlations(A, v)
    assert float(found[1, 0]) == pytest.approx(np.corrcoef(A[1, 0], v[1])[0, 1], abs=1e-6)


def test_an_attack_lowers_the_accuracy() -> None:
    model = small()
    x = torch.rand(200, 2, 2, 2)
    images = Looked(x, model(x).argmax(1))
    clean, near, far = (airplane.under_attack(model, images, radius) for radius in (0.0, 0.05, 0.5))
    assert clean == 1.0 > near > far


def test_the_99th_percentile_is_the_largest_shown() -> None:
    template = np.linspace(-1, 1, 201).reshape(1, 3, 1, 67)
    found = airplane.clipped(template).flatten()
    assert (found[0], found[100], found[-1]) == (-127, 0, 127)
    assert found[150] == pytest.approx(127 * 0.5 / 0.99, abs=1)


# Grids ----------------------------------------------------------------------------------------------------------------


def recipes(experiment: str) -> set[Recipe]:
    (found,) = (e for e in ch04.EXPERIMENTS if e.name == experiment)
    return {dataclasses.replace(recipe, keep=()) for config in cells(found, "full") for recipe in found.recipes(config)}


def test_the_large_grid_shares_its_networks() -> None:
    of_templates = recipes("04-templates")
    for name in ("04-pictures", "04-sanity"):
        assert recipes(name) <= of_templates
    for name in ("04-airplane", "04-airplane-large"):
        plain = {r for r in recipes(name) if not r.training.noise and not r.training.attack}
        assert len(plain) == 5
        assert plain <= of_templates


def test_the_large_grid_has_new_seeds() -> None:
    for experiment in ch04.EXPERIMENTS:
        seeds = {config.seed for config in cells(experiment, "full")}
        expected = {"04-prior": set(range(100, 110)), "04-pictures": {100}}
        assert seeds == expected.get(experiment.name, set(range(100, 105)))
