"""What is minimised: losses, noise, attacks, penalties and units other than ReLU."""

import pytest
import torch
from torch import nn

from maso import MasoError
from maso_book.networks import UNITS, small_cnn, with_unit
from maso_book.training import Training, fit, fit_many
from maso_book.training.objective import adversarial, squared
from maso_book.training.penalties import PENALTIES


def problem():
    torch.manual_seed(0)
    x = torch.rand(120, 4)
    return x, (x[:, 0] > x[:, 1]).long()


def network(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def test_the_squared_loss_is_the_distance_from_the_one_hot_label():
    z, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    by_hand = sum(sum((z[n, c] - float(c == y[n])) ** 2 for c in range(3)) for n in range(5)) / 5
    assert squared(z, y).item() == pytest.approx(by_hand.item(), rel=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_an_attack_raises_the_loss_stays_in_its_ball_and_leaves_the_model_as_it_was(steps):
    x, y = problem()
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    moved = adversarial(model, x, y, radius=0.3, steps=steps)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not moved.requires_grad
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert ((moved - x).norm(dim=1) <= 0.3 + 1e-6).all()
    model.eval()
    assert nn.functional.cross_entropy(model(moved), y) > nn.functional.cross_entropy(model(x), y)


def test_an_attack_on_a_linear_network_goes_straight_to_the_border_of_the_ball():
    model, x, y = nn.Linear(4, 2).double(), torch.full((3, 4), 0.5, dtype=torch.float64), torch.tensor([0, 1, 0])
    moved = adversarial(model, x, y, radius=0.1, steps=2)
    direction = nn.functional.normalize(model.weight[1 - y] - model.weight[y], dim=1)
    assert torch.allclose(moved, x + 0.1 * direction, atol=1e-12)


@pytest.mark.parametrize("change", [{"noise": 0.1}, {"attack": 0.1}, {"loss": "squared"}])
def test_each_changes_what_is_learned_and_a_seed_fixes_it(change):
    x, y = problem()
    models = [network() for _ in range(3)]
    for model, how in zip(models, ({}, change, change), strict=True):
        history = fit(model, x, y, Training(epochs=3, batch=50, lr=0.02, seed=2, **how))
        assert history.loss[-1] < history.loss[0]
    plain, one, two = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(one, two)
    assert not torch.equal(one, plain)


def test_a_penalty_is_added_with_its_strength_and_not_counted_as_loss(monkeypatch):
    def slope(model, inputs, outputs, targets):
        (gradient,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        return gradient.square().sum(1).mean()

    monkeypatch.setitem(PENALTIES, "slope", slope)
    x, y = problem()
    slopes, losses = [], []
    for strength in (0.0, 0.1, 1.0):
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.normal_(p, std=0.5)
        history = fit(model, x, y, Training(epochs=40, batch=60, lr=0.02, penalty="slope", strength=strength))
        inputs = x.clone().requires_grad_()
        slopes.append(slope(model, inputs, model(inputs), y).item())
        losses.append(history.loss[-1])
    assert slopes == sorted(slopes, reverse=True)
    assert losses == sorted(losses)
    assert losses[-1] < 0.7


def test_what_is_unknown_or_cannot_be_stacked_is_refused():
    for change in ({"loss": "hinge"}, {"penalty": "none"}, {"noise": -1.0}, {"attack": -1.0}, {"attack_steps": 0}):
        with pytest.raises(MasoError):
            Training(**change)
    x, y = problem()
    with pytest.raises(MasoError, match="one network alone"):
        fit_many([network(), network()], [x] * 2, [y] * 2, [Training(noise=0.1)] * 2)


@pytest.mark.parametrize("unit", UNITS)
def test_every_relu_is_replaced(unit):
    model = with_unit(small_cnn(), unit)
    kinds = [type(module) for module in model.modules()]
    assert kinds.count(type(UNITS[unit]())) == 3
    assert kinds.count(nn.ReLU) == (3 if unit == "relu" else 0)


def test_an_unknown_unit_is_refused():
    with pytest.raises(MasoError, match="relu, silu, gelu"):
        with_unit(small_cnn(), "sine")
