"""The calibrated untrained network: BatchNorm knows the images, the weights are those it began with."""

import pytest
import torch
from torch import nn

from maso import MasoError
from maso_book import networks
from maso_book.shared.untrained import calibrated


def test_statistics_are_those_of_the_images_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    model, x = networks.small_cnn((3, 24, 24), 4), torch.rand(64, 3, 24, 24)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = calibrated(model, x)
    assert not any(module.training for module in found.modules())
    first = model[0](x).transpose(0, 1).flatten(1)
    assert torch.allclose(found[1].running_mean, first.mean(1), atol=1e-6)
    assert torch.allclose(found[1].running_var, first.var(1), rtol=1e-4)
    assert found[1].momentum == model[1].momentum
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for (name, old), new in zip(model.named_parameters(), found.parameters(), strict=True):
        assert torch.equal(old, new), name


def test_batches_are_averaged_and_bytes_are_scaled() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    x = torch.randint(0, 256, (50, 3, 4, 4), dtype=torch.uint8)
    found = calibrated(model, x, batch=20)  # 20, 20, 10
    means = [part.float().div(255).mean((0, 2, 3)) for part in x.split(20)]
    assert torch.allclose(found[0].running_mean, sum(means) / 3, atol=1e-6)
    short = calibrated(model, x[:44], batch=20)  # the last four are left out
    assert torch.allclose(short[0].running_mean, sum(means[:2]) / 2, atol=1e-6)


def test_it_needs_images_and_may_have_no_norm() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    x = torch.rand(3, 1, 2, 2)
    assert torch.equal(calibrated(model, x)(x), model(x))
    with pytest.raises(MasoError, match="no images"):
        calibrated(model, x[:0])
