"""Random networks of all kinds, to try partitions on: seed → (network, window)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from maso.partition import Plane
from maso_book.shared.clipping import Abs, Concat, Larger, Loop, Maxout, Residual, SignWhere

Rng = np.random.Generator


def dense_layers(*widths: int, seed: int = 0, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Dense network with He weights and biases uniform in [−1, 1]."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [_linear(a, b), act()]
    return nn.Sequential(*layers[:-1]).double()


def generic(seed: int) -> tuple[nn.Module, Plane]:
    """Random weights: no three lines meet in a point."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model, shape = _model(rng, size=5)
    if shape == (2,):
        return model, Plane.square(-1, 1)
    return model, Plane.through(*torch.randn(3, *shape, dtype=torch.float64)).window(-0.7, 0.7, -0.7, 0.5)


def degenerate(seed: int) -> tuple[nn.Module, Plane]:
    """Small dyadic weights, with no biases, duplicated and negated units, lines along edges and through corners."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model, shape = _model(rng, size=4)
    biased = rng.random() < 0.5
    with torch.no_grad():
        for p in model.parameters():
            values = rng.integers(-2, 3, p.shape) if rng.random() < 0.7 else rng.integers(-8, 9, p.shape) / 4
            p.copy_(torch.as_tensor(values, dtype=torch.float64).reshape(p.shape))
        for m in model.modules():
            if isinstance(m, (nn.Linear, nn.Conv2d)):
                assert m.bias is not None
                m.bias.mul_(float(biased))
                if m.weight.shape[0] >= 4 and rng.random() < 0.6:
                    factor = float(rng.choice([1, -1, 2]))
                    m.weight[1], m.bias[1] = m.weight[0] * factor, m.bias[0] * factor
            elif isinstance(m, nn.RNNCell):
                m.bias_ih.mul_(float(biased))
                m.bias_hh.mul_(float(biased))
            elif isinstance(m, nn.BatchNorm2d):
                assert m.running_mean is not None
                assert m.running_var is not None
                m.running_mean.zero_()
                m.running_var.fill_(1.0)
                m.eps = 0.0
            elif isinstance(m, nn.PReLU):
                m.weight.fill_(float(rng.choice([0.25, -0.5, 0.5])))
            elif isinstance(m, nn.LeakyReLU):
                m.negative_slope = 0.25
    bounds = [(-1, 1, -1, 1), (-1, 1, -0.5, 0.75), (0, 1, 0, 1)][rng.integers(3)]
    if shape == (2,):
        return model, Plane.square().window(*bounds)
    x = torch.as_tensor(rng.integers(-2, 3, (3, *shape)), dtype=torch.float64)
    plane = Plane(x[0] * int(rng.integers(2)), x[1], x[2] + 3 * torch.eye(shape[-1]))
    return model, plane.window(*[b / 2 for b in bounds])


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    assert layer.bias is not None
    nn.init.normal_(layer.weight, 0, (2 / inputs) ** 0.5)
    nn.init.uniform_(layer.bias, -1, 1)
    return layer


def _act(rng: Rng) -> nn.Module:
    kinds = [nn.ReLU(), nn.ReLU(), nn.LeakyReLU(0.1), nn.LeakyReLU(-0.3), nn.Hardtanh(), nn.ReLU6(), nn.PReLU()]
    return [*kinds, Abs(), SignWhere()][rng.integers(9)]


def _model(rng: Rng, size: int) -> tuple[nn.Module, tuple[int, ...]]:
    kind = rng.integers(8)
    shape: tuple[int, ...] = (2,)
    if kind < 5:
        model = _dense(rng, size)
    elif kind < 7:
        model, shape = _conv(rng, size)
    else:
        hidden = int(rng.integers(2, 5))
        model = nn.Sequential(Loop(hidden, int(rng.integers(2, 4))), _linear(hidden, 2))
    return model.double().eval(), shape


def _dense(rng: Rng, size: int) -> nn.Sequential:
    width, layers = 2, []
    for _ in range(rng.integers(1, 4)):
        kind, n = rng.integers(8), int(rng.integers(3, size + 2))
        if kind < 3:
            layers += [_linear(width, n), _act(rng)]
            width = n
        elif kind == 3:
            body = nn.Sequential(_linear(width, n), _act(rng), _linear(n, width))
            layers += [Residual(body, nn.Identity()), _act(rng)]
        elif kind == 4:
            layers.append(
                Concat(nn.Sequential(_linear(width, 3), _act(rng)), nn.Sequential(_linear(width, 2), _act(rng)))
            )
            width = 5
        elif kind == 5:
            layers += [_linear(width, 2 * n), Maxout(2, int(rng.choice([-1, 1])))]
            width = n
        elif kind == 6:
            layers += [_linear(width, 9), Maxout(3)]
            width = 3
        else:
            other = nn.Sequential(_linear(width, n), _act(rng))
            layers.append(Larger(_linear(width, n), other, int(rng.choice([-1, 1]))))
            width = n
    return nn.Sequential(*layers, _linear(width, int(rng.integers(1, 4))))


def _conv(rng: Rng, size: int) -> tuple[nn.Sequential, tuple[int, ...]]:
    shape = (1, size, size)
    while True:
        layers: list[nn.Module] = [
            nn.Conv2d(1, 2, int(rng.integers(2, 4)), stride=int(rng.integers(1, 3)), padding=int(rng.integers(2)))
        ]
        if rng.random() < 0.5:
            norm = nn.BatchNorm2d(2)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            layers.append(norm)
        if rng.random() < 0.7:
            layers.append(_act(rng))
        if rng.random() < 0.8:
            pools = [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, 1, dilation=2)]
            layers.append([*pools, nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1, ceil_mode=True)][rng.integers(6)])
        if rng.random() < 0.4:
            layers.append(Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), _act(rng)), nn.Identity()))
        elif rng.random() < 0.3:
            layers.append(Concat(nn.Conv2d(2, 1, 1), nn.Sequential(nn.Conv2d(2, 1, 3, padding=1), nn.ReLU())))
        try:
            units = nn.Sequential(*layers, nn.Flatten()).eval()(torch.zeros(1, *shape)).shape[1]
        except RuntimeError:  # a window larger than its input: draw again
            continue
        return nn.Sequential(*layers, nn.Flatten(), _linear(units, 3), _act(rng), _linear(3, 2)), shape
