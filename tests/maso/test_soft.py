"""`maso.soften` and `maso.BetaVQ` against the hard network, closed forms, and what a module must do."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maso
from maso.errors import MasoError
from maso.soft import Kind, soft_hinge, soft_maximum

KINDS = ("swish", "softplus", "mix")


class Everything(nn.Module):
    """Kinks in modules and in `forward`, a residual sum, BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.prelu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU(8)
        self.second, self.drop, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Dropout(0.2), nn.Linear(128, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.norm(self.conv(x)))
        y = F.relu(self.second(y)) + y
        y = F.relu6(3 * y).abs() - 0.3
        y = F.leaky_relu(F.hardtanh(y, -0.2, 1.0), 0.1)
        y = F.max_pool2d(y, 3, 2, 1)
        y = F.max_pool2d(torch.maximum(y, -0.5 * y), 2)
        return self.last(self.drop(y).flatten(1)).amax(1, keepdim=True)


@pytest.fixture(scope="module")
def network() -> Everything:
    torch.manual_seed(0)
    model = Everything().eval()
    model.norm.running_mean.normal_()
    return model


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_every_kink_is_softened_and_named(network: Everything, x: torch.Tensor) -> None:
    soft = maso.soften(network, 0.9, example=x)
    assert soft.names == tuple(maso.trace(network, x).kinks)
    assert len(soft.names) == len(soft.units) == 10
    for name in soft.names:
        one = maso.soften(network, 0.5, example=x, kinks=[name])
        assert not torch.allclose(one(x), network(x), atol=1e-5), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_hard_end_is_the_network(network: Everything, x: torch.Tensor, kind: str) -> None:
    for beta, error in ((1.0, 1e-6), (1 - 1e-6, 1e-5)):
        assert torch.allclose(maso.soften(network, beta, example=x, kind=kind)(x), network(x), atol=error)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_torchvision_networks_soften_whole(name: str) -> None:
    from maso_book.datasets import import_torchvision

    torch.manual_seed(0)
    model = getattr(import_torchvision().models, name)(num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    hard = model(x).detach()
    soft = maso.soften(model, 1.0, example=x)
    assert soft.names == tuple(maso.trace(model, x).kinks)
    assert torch.allclose(soft(x), hard, atol=1e-6 * float(hard.abs().max().clamp(min=1)))


def test_a_softened_network_is_a_module(network: Everything, x: torch.Tensor) -> None:
    soft = maso.soften(network, 0.7, example=x, per="channel", learnable=True)
    copied = copy.deepcopy(soft).double()
    assert torch.allclose(copied(x.double()).float(), soft(x), atol=1e-5)
    file = io.BytesIO()
    torch.save(soft, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), soft(x))
    twin = maso.soften(network, 0.2, example=x, per="channel", learnable=True)
    twin.load_state_dict(soft.state_dict())
    assert torch.equal(twin(x), soft(x))
    assert torch.allclose(torch.export.export(soft, (x,)).module()(x), soft(x))
    soft.train()(x).sum().backward()
    assert all(unit.log_odds.grad.abs().sum() > 0 for unit in soft.units)
    assert soft.network.norm.num_batches_tracked == network.norm.num_batches_tracked + 1
    assert not network.training


def test_every_module_keeps_its_mode() -> None:
    """A slice of a network in eval mode is a container in training mode, and a BatchNorm may be frozen in training."""
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten())
    layers(3 * torch.randn(8, 2, 9, 9) + 1)
    body = layers.eval()[:-1]
    assert body.training
    images = torch.randn(16, 2, 9, 9)
    soft = maso.soften(body, 1.0, example=images)
    assert torch.allclose(soft(images), body(images), atol=1e-6)
    body[1].train()
    for frozen in (maso.soften(body, 0.9, example=images), maso.soften(body, 0.9, example=images).reestimate([images])):
        assert [module.training for module in frozen.network.modules()] == [True, False, True, False, False]
        assert [module.momentum for module in frozen.network if isinstance(module, nn.BatchNorm2d)] == [0.1, 0.1]


def test_a_functional_batchnorm_is_reestimated(network: Everything, x: torch.Tensor) -> None:
    soft = maso.soften(network, 0.7, example=x).reestimate([x, x])
    assert not soft.training
    assert torch.allclose(soft.network.norm.running_mean, network.conv(x).mean((0, 2, 3)), atol=1e-5)


def test_beta_per_network_layer_and_channel(network: Everything, x: torch.Tensor) -> None:
    names = maso.trace(network, x).kinks
    assert len(maso.soften(network, 0.9, example=x, per="network").units) == 1
    each = maso.soften(network, dict.fromkeys(names, 0.9), example=x)
    assert torch.equal(each(x), maso.soften(network, 0.9, example=x, per="network")(x))
    assert torch.allclose(each.set_beta(0.6)(x), maso.soften(network, 0.6, example=x, per="channel")(x), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_stable_at_the_ends(kind: str) -> None:
    for beta in (0.0, 1e-6, 0.5, 1 - 1e-6, 1.0):
        u = torch.tensor([-1e4, -1.0, -1e-6, 0.0, 1e-6, 1.0, 1e4], requires_grad=True)
        unit = maso.BetaVQ(beta, kind=kind, learnable=True)
        unit(u).sum().backward()
        assert unit(u).isfinite().all()
        assert u.grad.isfinite().all()
        assert unit.log_odds.grad.isfinite()
        if beta > 0.9:
            assert torch.allclose(unit(u), u.relu(), atol=2e-6)


def test_closed_forms() -> None:
    u = torch.linspace(-5, 5, 101, dtype=torch.float64)
    for beta in (0.1, 0.5, 0.9):
        odds = beta / (1 - beta)
        log_odds = torch.tensor(beta, dtype=torch.float64).logit()
        assert torch.allclose(soft_hinge(u, log_odds), u * torch.sigmoid(odds * u), atol=1e-12)
        assert torch.allclose(
            maso.BetaVQ(beta, slope=-1.0, dtype=torch.float64)(u), u * torch.tanh(odds * u), atol=1e-12
        )
        z = torch.randn(4, 7, dtype=torch.float64)
        assert torch.allclose(soft_maximum(z, log_odds), ((odds * z).softmax(0) * z).sum(0), atol=1e-12)
        rounded = (1 - beta) * (z / (1 - beta)).logsumexp(0)
        assert torch.allclose(soft_maximum(z, log_odds, "softplus"), rounded, atol=1e-12)


@pytest.mark.parametrize("kind", ["swish", "softplus"])
def test_windows_that_overlap_or_leave_a_rest(kind: Kind) -> None:
    pool, x = nn.MaxPool2d((3, 2), (2, 1)), torch.randn(2, 3, 8, 6, dtype=torch.float64)
    z = x.unfold(2, 3, 2).unfold(3, 2, 1).flatten(-2)
    expected = ((9 * z).softmax(-1) * z).sum(-1) if kind == "swish" else (10 * z).logsumexp(-1) / 10
    assert torch.allclose(maso.soften(pool, 0.9, example=x, kind=kind)(x), expected, atol=1e-12)


def test_the_mean_that_soft_units_shift() -> None:
    u = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    means = [float(maso.BetaVQ(0.7, kind=kind)(u).mean()) for kind in ("swish", "mix")]
    assert means == pytest.approx([0.321, 0.387], abs=2e-3)


def test_what_is_refused(network: Everything, x: torch.Tensor) -> None:
    for wrong in ({"kind": "gelu"}, {"per": "unit"}, {"kinks": ["nowhere"]}, {"beta": 1.5}, {"beta": {"relu": 0.5}}):
        with pytest.raises(MasoError):
            maso.soften(network, **{"beta": 0.5, "example": x} | wrong)
    with pytest.raises(MasoError, match="slope"):
        maso.BetaVQ(slope=1.0)
