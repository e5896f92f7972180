"""Small networks of every supported kind, and what is refused: name → (factory, shape of one input)."""

import torch
import torch.nn.functional as F
from torch import nn


class Apply(nn.Module):
    """A module that applies one function."""

    def __init__(self, function, *children):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(children)

    def forward(self, x):
        return self.function(x, *self.parts)


def norm(kind, channels):
    """BatchNorm in eval mode with statistics that are not trivial."""
    layer = kind(channels)
    with torch.no_grad():
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.3, 2)
        layer.weight.normal_()
        layer.bias.normal_()
    return layer.eval()


def loop(x, cell):
    h = torch.zeros(x.shape[0], 4, dtype=x.dtype)
    for t in range(x.shape[1]):
        h = cell(x[:, t], h)
    return h


def shuffle(x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _filled(x):
    y = 2 * x
    y.masked_fill_(y < 1, 1)
    return y


def with_len(x):
    return torch.cat([x.reshape(len(x), -1), torch.zeros(len(x), 2, dtype=x.dtype)], 1)


LINEAR = {
    "fc": (lambda: nn.Linear(5, 4), (5,)),
    "fc without bias": (lambda: nn.Linear(5, 4, bias=False), (5,)),
    "fc on the last axis": (lambda: nn.Linear(5, 4), (3, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=1, dilation=2, groups=2), (2, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3), (2, 5, 6)),
    "conv2d strided": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (4, 7, 8)),
    "conv2d same": (lambda: nn.Conv2d(2, 3, 3, padding="same"), (2, 5, 5)),
    "conv2d reflect": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "transposed conv": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 3, 4)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(2, 3, 4, stride=3), (2, 4)),
    "batch norm": (lambda: norm(nn.BatchNorm2d, 3), (3, 4, 4)),
    "batch norm 1d": (lambda: norm(nn.BatchNorm1d, 6), (6,)),
    "mean pool": (lambda: nn.AvgPool2d(3, stride=2, padding=1), (2, 6, 5)),
    "adaptive mean pool": (lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 5, 7)),
    "global mean": (lambda: Apply(lambda x: x.mean((2, 3))), (3, 4, 4)),
    "sum": (lambda: Apply(lambda x: x.sum(1, keepdim=True)), (3, 4)),
    "add, subtract, scale": (lambda: Apply(lambda x: 2 * x - x / 3 + 1 - (0.5 - x)), (4,)),
    "add a parameter": (lambda: Apply(lambda x, l: x + l.weight - l.bias, nn.Linear(4, 1)), (1, 4)),
    "scale by a parameter": (lambda: Apply(lambda x, l: x * l.weight[0] / 4, nn.Linear(4, 1)), (4,)),
    "concat": (lambda: Apply(lambda x, a, b: torch.cat([a(x), x, b(x)], 1), nn.Linear(3, 2), nn.Linear(3, 4)), (3,)),
    "concat a constant": (lambda: Apply(lambda x: torch.cat([x, torch.ones_like(x)], 1)), (3,)),
    "stack": (lambda: Apply(lambda x, a: torch.stack([a(x), x], 2), nn.Linear(3, 3)), (3,)),
    "split": (lambda: Apply(lambda x: x.split(2, 1)[1] - x.chunk(3, 1)[0]), (6,)),
    "slice": (lambda: Apply(lambda x: x[:, 1:4:2] + x[:, :2]), (5,)),
    "pad": (lambda: Apply(lambda x: F.pad(x, (1, 2, 0, 1), value=3.0)), (2, 3)),
    "permute": (lambda: Apply(lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)), (2, 3, 2)),
    "time first": (lambda: Apply(lambda x: x.permute(1, 0, 2)[0]), (3, 2)),
    "len": (
        lambda: Apply(lambda x: torch.cat([x.reshape(len(x), -1), torch.zeros(len(x), 2, dtype=x.dtype)], 1)),
        (3, 2),
    ),
    "one number a sample": (lambda: Apply(lambda x: torch.stack([x.sum(1), x[:, 0]], 1)), (3,)),
    "one output, no axis": (lambda: Apply(lambda x: x.sum(1)), (3,)),
    "channel shuffle": (lambda: Apply(shuffle), (4, 2, 2)),
    "pixel shuffle": (lambda: nn.PixelShuffle(2), (4, 2, 2)),
    "nearest upsampling": (lambda: nn.Upsample(scale_factor=2), (2, 2, 3)),
    "inactive dropout": (lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout()).eval(), (3,)),
    "unflatten": (lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Flatten(0 + 1)), (6,)),
}

KINKS = {
    "relu": (lambda: nn.ReLU(), (5,)),
    "relu in place": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True)), (5,)),
    "leaky relu": (lambda: nn.LeakyReLU(0.2), (5,)),
    "prelu": (lambda: nn.Sequential(nn.Conv1d(2, 3, 1), nn.PReLU(3, init=0.3)), (2, 4)),
    "prelu, one slope": (lambda: nn.PReLU(), (2, 4)),
    "abs": (lambda: Apply(lambda x: x.abs()), (5,)),
    "hardtanh": (lambda: nn.Hardtanh(-0.5, 0.7), (5,)),
    "relu6": (lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU6()), (3,)),
    "clamp": (lambda: Apply(lambda x: x.clamp(-0.3, 0.4) + x.clamp(min=0.1) - x.clamp(max=0.2)), (5,)),
    "where": (lambda: Apply(lambda x: torch.where(x > 0, x, 0.1 * x)), (5,)),
    "where, shifted": (lambda: Apply(lambda x: torch.where(x <= 0.5, torch.zeros_like(x), 2 * x - 1)), (5,)),
    "where on a parameter": (
        lambda: Apply(lambda x, l: torch.where(x < 0, l.weight[0] * x, x), nn.Linear(5, 1)),
        (5,),
    ),
    "masked fill": (lambda: Apply(lambda x: x.masked_fill(x < 0.1, 0.1)), (5,)),
    "masked fill in place": (lambda: Apply(_filled), (5,)),
    "times a mask": (lambda: Apply(lambda x: x * (x > 0) + 0.1 * ((x <= 0).to(x) * x)), (5,)),
    "threshold": (lambda: nn.Threshold(0.2, 0.2), (5,)),
    "max pool": (lambda: nn.MaxPool2d(2), (2, 4, 6)),
    "max pool padded": (lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 6, 5)),
    "max pool dilated": (lambda: nn.MaxPool2d(2, stride=1, dilation=2), (2, 5, 5)),
    "max pool 1d": (lambda: nn.MaxPool1d(3, 2), (2, 8)),
    "adaptive max pool": (lambda: nn.AdaptiveMaxPool2d((2, 3)), (2, 5, 7)),
    "channel max": (lambda: Apply(lambda x: x.amax(1)), (3, 4)),
    "channel min": (lambda: Apply(lambda x: x.min(1).values), (3, 4)),
    "maxout": (lambda: Apply(lambda x, l: l(x).view(x.shape[0], 3, 4).max(2).values, nn.Linear(5, 12)), (5,)),
    "maximum": (lambda: Apply(lambda x, a, b: torch.maximum(a(x), b(x)), nn.Linear(3, 4), nn.Linear(3, 4)), (3,)),
    "minimum of a constant": (lambda: Apply(lambda x: torch.minimum(x, torch.tensor(0.2, dtype=x.dtype))), (3,)),
}

NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.LeakyReLU(), nn.Linear(8, 2)), (3,)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), norm(nn.BatchNorm2d, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
        ),
        (1, 6, 6),
    ),
    "residual": (
        lambda: nn.Sequential(
            nn.Conv1d(1, 2, 3, padding=1),
            Apply(lambda x, a, b: F.relu(b(F.relu(a(x))) + x), nn.Conv1d(2, 2, 3, padding=1), nn.Conv1d(2, 2, 1)),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.Linear(6, 2),
        ),
        (1, 6),
    ),
    "branches": (
        lambda: nn.Sequential(
            Apply(lambda x, a, b: torch.cat([a(x).relu(), b(x).abs()], 1), nn.Linear(3, 4), nn.Linear(3, 2)),
            nn.Linear(6, 2),
        ),
        (3,),
    ),
    "rnn cells": (lambda: Apply(loop, nn.RNNCell(2, 4, nonlinearity="relu")), (3, 2)),
    "rnn": (
        lambda: Apply(
            lambda x, r: torch.cat([r(x)[0][:, -1], r(x)[1][-1]], 1),
            nn.RNN(2, 3, 2, nonlinearity="relu", batch_first=True, bidirectional=True),
        ),
        (3, 2),
    ),
}

ALL = LINEAR | KINKS | NETWORKS


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


REFUSED = {
    "gelu": (lambda: nn.GELU(), (3,), "gelu"),
    "silu": (lambda: nn.Sequential(nn.Linear(3, 3), nn.SiLU()), (3,), "silu"),
    "softmax": (lambda: nn.Softmax(1), (3,), "softmax"),
    "sigmoid gate": (lambda: Apply(lambda x: x * x.sigmoid()), (3,), "sigmoid"),
    "layer norm": (lambda: nn.LayerNorm(3), (3,), "layer_norm"),
    "attention": (
        lambda: Apply(lambda x, a: a(x, x, x)[0], nn.MultiheadAttention(4, 2, batch_first=True)),
        (3, 4),
        "attention|softmax|multiplies",
    ),
    "training batch norm": (lambda: nn.BatchNorm1d(3).train(), (3,), "BatchNorm in training mode"),
    "batch statistics": (
        lambda: nn.BatchNorm1d(3, track_running_stats=False).eval(),
        (3,),
        "BatchNorm in training mode",
    ),
    "active dropout": (lambda: nn.Dropout().train(), (3,), "dropout"),
    "square": (lambda: Apply(lambda x: x * x), (3,), "multiplies"),
    "quotient": (lambda: Apply(lambda x: 1 / (x + 9)), (3,), "reciprocal"),
    "bilinear": (lambda: Apply(lambda x, a: (x @ a.weight) * x, nn.Linear(3, 3)), (3,), "multiplies"),
    "step": (lambda: Apply(lambda x: (x > 0) * 1.0), (3,), "comparison"),
    "a mask as a branch": (lambda: Apply(lambda x: torch.where(x > 0, x, (x > 0).to(x))), (3,), "comparison"),
    "masks multiplied": (lambda: Apply(lambda x: x * ((x > 0) * (x < 1))), (3,), "comparison"),
    "masked jump": (lambda: Apply(lambda x: x.masked_fill(x < 0, 1.0)), (3,), "jumps"),
    "a mask of another": (lambda: Apply(lambda x: x * (x.flip(1) > 0)), (3,), "jumps"),
    "jump": (lambda: Apply(lambda x: torch.where(x > 1, x, 0.1 * x)), (3,), "jumps"),
    "where on another": (lambda: Apply(lambda x: torch.where(x[:, :1] > 0, x, -x)), (3,), "jumps"),
    "arg max": (lambda: Apply(lambda x: x.max(1, keepdim=True)[1] + x), (3,), "index"),
    "threshold with a jump": (lambda: nn.Threshold(0.1, 0.5), (3,), "jumps"),
    "mixes samples": (lambda: Apply(lambda x: x - x.mean(0, keepdim=True)), (3,), "samples"),
    "control flow": (Branching, (3,), "control flow"),
    "rounding": (lambda: Apply(lambda x: x.round()), (3,), "round"),
    "tanh rnn": (lambda: Apply(lambda x, r: r(x)[0], nn.RNN(2, 3, batch_first=True)), (3, 2), "tanh"),
    "narrower type": (lambda: Apply(lambda x: x.half()), (3,), "rounds to"),
}
