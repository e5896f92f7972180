"""Chapter 08: what it measures, by hand, and its grid."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from maso import affine_map, rugosity, rugosity_penalty, tangents
from maso_book.ch08 import figures, paths, taylor
from maso_book.ch08.arms import Arm, run_arm, summary, weight_norm
from maso_book.ch08.cost import Cost, by_second_derivatives, run_cost
from maso_book.ch08.crops import Crop, run_crop
from maso_book.ch08.experiments import EXPERIMENTS, PENALISED, WAYS
from maso_book.networks import small_cnn
from maso_book.trained import trained
from maso_book.training import scaled
from maso_book.training.objective import LOSSES

TINY = {"dataset": "digits", "samples": 60, "epochs": 1, "keep": (0,), "points": 4, "images": 1}


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """A record's tables and arrays of the smallest network, and its configuration."""
    patch = pytest.MonkeyPatch()
    patch.setattr("maso_book.ch08.arms.CLEAN", 40)
    config = Arm(0, **TINY, pictures=1)
    yield config, *run_arm(config)
    patch.undo()


# One network ----------------------------------------------------------------------------------------------------------


def test_the_tables_of_an_arm(arm) -> None:
    _, tables, arrays = arm
    assert [row["epoch"] for row in tables["epochs"]] == [0, 1]
    measured = [(row["epoch"], row["split"], row["direction"], row["bandwidth"]) for row in tables["rugosity"]]
    assert len(set(measured)) == len(measured) == 4 + 5 + 6
    assert [row["shift"] for row in tables["taylor"]] == [1, 2, 3, 4]
    (final,) = tables["final"]
    assert final["test_accuracy"] == arrays["correct"].sum() / arrays["of_class"].sum()
    assert arrays["outputs"].shape == (1, 2 * paths.REACH * 32 + 1, 10)
    assert arrays["bent"].shape == (1, 2 * paths.REACH * 32)
    assert arrays["relative"].shape == (4, 2)


def test_every_epoch_is_measured_with_its_own_weights(arm) -> None:
    config, tables, arrays = arm
    network = trained(config.recipe)
    x = scaled(torch.from_numpy(arrays["pictures"]))
    rows = [row for row in tables["rugosity"] if row["split"] == "test" and row["direction"] == "translation"]
    for epoch, model in network.epochs.items():
        row = next(row for row in rows if row["epoch"] == epoch and row["bandwidth"] == config.eps)
        found = rugosity(model, x, tangents=tangents.translations, eps=config.eps)
        if epoch == config.epochs:
            np.testing.assert_allclose(found.relative.numpy(), arrays["relative"][:1], rtol=2e-3)
        assert row["slope"] == pytest.approx(float(found.size[0]), rel=0.5)
    assert rows[0]["plain_2"] != pytest.approx(rows[1]["plain_2"], rel=1e-3)


def test_a_summary_has_both_means() -> None:
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 4)).double()
    found = rugosity(net, torch.randn(30, 3).double(), tangents=tangents.ambient, eps=0.5)
    row = summary(found, 0.5)
    assert row["plain_2"] == pytest.approx(found.plain.value)
    assert row["free_2"] == pytest.approx(found.scale_free.value)
    assert row["plain_1"] == pytest.approx(float(found.change.mean()))
    assert row["projection_error"] == 0.0


def test_weight_norm_leaves_biases_out() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).requires_grad_(False)
    net[0].weight.fill_(3.0)
    assert weight_norm(net) == pytest.approx(6.0)


# Paths ----------------------------------------------------------------------------------------------------------------


def test_a_path_goes_from_four_pixels_left_to_four_right() -> None:
    x = torch.rand(2, 3, 12, 12)
    path = paths.translated(x, steps_a_pixel=2)
    assert path.shape == (2, 17, 3, 12, 12)
    torch.testing.assert_close(path[:, 8], x)
    torch.testing.assert_close(path[:, 10, ..., 1:-1], x[..., 2:])
    torch.testing.assert_close(path[:, 9], (path[:, 8] + path[:, 10]) / 2)


def test_bends_and_variation_of_a_network_without_bends() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).requires_grad_(False)
    followed = paths.Followed(torch.tensor([[[0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]]), torch.tensor([[3, 5]]))
    assert followed.bends.tolist() == [1.0]
    expected = 2 * 8**0.5 / 8 / 2**0.5  # two steps of length √8, 8 pixels, ‖z − mean‖ = √2
    assert followed.variation.tolist() == pytest.approx([expected])
    assert paths.follow(net, torch.rand(1, 1, 8, 8), steps_a_pixel=2).bends.tolist() == [0.0]


def test_bends_are_those_of_the_exact_segment() -> None:
    """Between two whole pixels the path is straight: its bends are the exact breakpoints."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    x = torch.rand(1, 1, 8, 8).double()
    whole = paths.translated(x, steps_a_pixel=1)[0]
    exact = sum(len(taylor.breakpoints(net, a.flatten(), (b - a).flatten())) - 2 for a, b in pairwise(whole))
    followed = paths.follow(net, x, steps_a_pixel=200)
    assert exact > 3
    assert int(followed.bent.sum()) == exact


# Taylor terms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_the_terms_add_up_to_the_extra_loss(name) -> None:
    net, x, y = small_cnn().double().eval(), torch.rand(5, 3, 32, 32).double(), torch.arange(5)
    row = taylor.terms(net, x, y, LOSSES[name])[1]
    moved = torch.stack(list(taylor._four(x, 2)))
    losses = [float(LOSSES[name](net(m), y).detach()) for m in moved]
    assert row["extra_loss"] == pytest.approx(sum(losses) / 4 - row["loss"], rel=1e-9)
    A = affine_map(net, x).A.flatten(2)
    linear = torch.einsum("nkd,mnd->mnk", A, (moved - x).flatten(2))
    straight = sum(float(LOSSES[name]((net(x) + z).detach(), y)) for z in linear) / 4
    assert row["first_order"] + row["curvature"] == pytest.approx(straight - row["loss"], rel=1e-7)


def test_an_affine_network_has_no_difference() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).double()
    for row in taylor.terms(net, torch.rand(3, 3, 4, 4).double(), torch.arange(3), LOSSES["cross-entropy"]):
        assert row["difference"] == pytest.approx(0, abs=1e-12)
        assert row["curvature"] > 0
        assert row["rest_share"] == pytest.approx(0, abs=1e-12)


def test_four_shifts_are_those_of_the_augmentation() -> None:
    x = torch.rand(1, 1, 6, 6)
    moved = list(taylor._four(x, 2))
    assert torch.equal(moved[0][..., 2:, :], x[..., :-2, :])
    assert torch.equal(moved[1][..., :-2, :], x[..., 2:, :])
    assert moved[2][..., :2].abs().max() == 0


def test_the_identity_holds_on_random_networks() -> None:
    tables, _ = taylor.run_identity(taylor.Identity(0, networks=2, segments=5))
    assert max(row["max_error"] for row in tables["identity"]) < 1e-12
    assert min(row["pieces"] for row in tables["identity"]) > 5
    assert min(row["rest_share"] for row in tables["identity"]) > 0.01


# Cost and crops -------------------------------------------------------------------------------------------------------


def test_second_derivatives_estimate_the_same() -> None:
    net, x = small_cnn().train(), torch.rand(1, 3, 32, 32).repeat(150, 1, 1, 1)
    torch.manual_seed(0)
    a = [float(by_second_derivatives(net, x).detach()) for _ in range(3)]
    b = [float(rugosity_penalty(net, x, tangents=tangents.random_translation(x), eps=0.5).detach()) for _ in range(3)]
    assert sum(a) == pytest.approx(sum(b), rel=0.15)
    assert net.training


def test_the_cost_of_every_kind_of_step() -> None:
    tables, _ = run_cost(Cost(0, batch=8, repeats=1, draws=2, dataset="digits"))
    steps = {row["penalty"]: row for row in tables["steps"]}
    assert steps["none"]["ratio_of_seconds"] == 1
    assert {"rugosity", "tangent_prop", "whole batch", "second derivatives"} <= set(steps)
    assert all(row["spread"] > 0 for name, row in steps.items() if name != "none")


def test_a_crop_is_trained_on_its_centre() -> None:
    tables, _ = run_crop(Crop(0, 28, "digits", samples=60, epochs=1, points=4, projections=2))
    (row,) = tables["rugosity"]
    assert row["free_2"] > 0
    assert 0 < row["projection_error"] < 1


# The grid -------------------------------------------------------------------------------------------------------------


def test_the_grid() -> None:
    grids = {e.name: e.grid("full") for e in EXPERIMENTS}
    assert len(grids["08-cifar10"]) == 5 * len(WAYS)
    assert len(grids["08-explicit"]) == 5 * len(PENALISED)
    assert len(grids["08-cifar100"]) == 5 * 5
    for cells in grids.values():
        assert len(set(map(repr, cells))) == len(cells)
        assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)  # any prefix has whole seeds
    assert all(e.grid("paper") in ([], e.grid("full")) for e in EXPERIMENTS)  # nothing to train where a book is built


def test_a_way_differs_from_none_in_what_its_name_says() -> None:
    cells = {cell.arm: cell for cell in EXPERIMENTS[1].grid("full")[: len(WAYS)]}
    assert cells["augmented"].recipe.training.augment
    assert not cells["none"].recipe.training.augment
    assert cells["noise, a pixel"].recipe.training.noise == pytest.approx(4.8 / 3072**0.5, rel=0.01)
    assert cells["none, squared"].recipe.training.loss == "squared"


def test_arms_keep_their_colour_and_penalties_get_what_is_left() -> None:
    colours = figures.all_colours(["none", "rugosity, weak", "rugosity, strong", "TangentProp"])
    assert colours["none"] == figures.COLOURS["none"]
    assert colours["rugosity, weak"] == colours["rugosity, strong"]
    assert colours["TangentProp"] not in {colours["rugosity, weak"], *figures.COLOURS.values()}
