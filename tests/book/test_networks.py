"""The papers' architectures: shapes, and numbers of parameters counted by hand."""

import pytest
import torch
from torch import nn

from maso.errors import MasoError
from maso_book import networks


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
    return inputs * outputs * kernel**2


@pytest.mark.parametrize(
    "make",
    [
        networks.small_cnn,
        networks.dense_cnn,
        networks.large_cnn,
        networks.small_resnet,
        networks.large_resnet,
        networks.mlp,
    ],
)
@pytest.mark.parametrize(("bn", "bias"), [(True, True), (False, False)])
def test_shapes_and_switches(make, bn: bool, bias: bool) -> None:
    model = make((1, 28, 28), 7, bn=bn, bias=bias)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 7)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert bool(norms) == bn
    assert all((m.bias is not None) == bias for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def test_small_cnn_parameters() -> None:
    weights = conv(3, 32) + conv(32, 64) + conv(64, 128, 1) + 128 * 3 * 3 * 10
    assert parameters(networks.small_cnn(bn=False, bias=False)) == weights
    assert parameters(networks.small_cnn()) == weights + 3 * (32 + 64 + 128) + 10


def test_dense_cnn_parameters() -> None:
    weights = conv(3, 32) + conv(32, 64) + 64 * 6 * 6 * 128 + 128 * 10
    assert parameters(networks.dense_cnn(bn=False, bias=False)) == weights
    assert parameters(networks.dense_cnn()) == weights + 3 * (32 + 64 + 128) + 10


def test_large_cnn_parameters() -> None:
    convolutions = conv(3, 96) + 2 * conv(96, 96) + conv(96, 192) + 3 * conv(192, 192) + conv(192, 192, 1)
    assert parameters(networks.large_cnn(bn=False, bias=False)) == convolutions + 192 * 3 * 3 * 10
    assert parameters(networks.large_cnn(bn=False, bias=False, global_mean=True)) == convolutions + 192 * 10


@pytest.mark.parametrize(("make", "widths", "blocks"), [("small", (16, 32, 64), 2), ("large", (32, 64, 128), 12)])
def test_resnet_parameters(make: str, widths: tuple[int, int, int], blocks: int) -> None:
    a, b, c = widths
    weights = conv(3, a) + 2 * blocks * conv(a, a)
    weights += conv(a, b) + (2 * blocks - 1) * conv(b, b) + conv(a, b, 1)
    weights += conv(b, c) + (2 * blocks - 1) * conv(c, c) + conv(b, c, 1) + c * 10
    model = getattr(networks, f"{make}_resnet")(bn=False, bias=False)
    assert parameters(model) == weights


def test_mlp_parameters() -> None:
    assert parameters(networks.mlp((1, 4, 4), 3, bn=False, bias=False, width=5)) == 16 * 5 + 5 * 5 + 5 * 3


def test_building_a_network_leaves_it_in_training_mode_with_fresh_statistics() -> None:
    model = networks.small_cnn()
    assert all(m.training for m in model.modules())
    assert float(model[1].running_mean.abs().sum()) == 0


def test_too_small_images() -> None:
    with pytest.raises(MasoError, match=r"small_cnn: images of shape \(3, 8, 8\) do not fit"):
        networks.small_cnn((3, 8, 8))
