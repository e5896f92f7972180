"""The networks of the papers, as plain modules.

All convolutions but one are 3×3; each is followed by BatchNorm (if `bn`) and ReLU.  "Valid", "same" and "full" are
padding 0, 1 and 2.  The switches are those of the authors' studies: `bn` leaves BatchNorm out, `bias` leaves out the
bias of every convolution and dense layer (the shift of a BatchNorm stays).

Source: the authors' code for "Mad Max: Affine Spline Insights into Deep Learning" and "A Spline Theory of Deep
Networks".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from maso.errors import MasoError
from maso.soft import BetaVQ


def small_cnn(
    input_shape: Sequence[int] = (3, 32, 32), classes: int = 10, *, bn: bool = True, bias: bool = True
) -> nn.Sequential:
    """smallCNN: conv 32 valid, pool, conv 64 valid, pool, conv 128 1×1, pool, dense.

    Args:
        input_shape: (channels, height, width), at least 22 pixels a side.
        classes: number of outputs.
        bn: BatchNorm after every convolution.
        bias: bias in every convolution and in the dense layer.

    Returns:
        The network, (N, *input_shape) → (N, classes).

    Example:
        >>> small_cnn()(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    c = input_shape[0]
    body = nn.Sequential(
        *_conv(c, 32, 0, bn, bias),
        nn.MaxPool2d(2),
        *_conv(32, 64, 0, bn, bias),
        nn.MaxPool2d(2),
        *_conv(64, 128, 0, bn, bias, kernel=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return body.append(nn.Linear(_width(body, input_shape, "small_cnn"), classes, bias))


def dense_cnn(
    input_shape: Sequence[int] = (3, 32, 32), classes: int = 10, *, bn: bool = True, bias: bool = True
) -> nn.Sequential:
    """DenseCNN: conv 32, pool, conv 64, pool (valid), dense 128 with BatchNorm and ReLU, dense; as `small_cnn`."""
    body = nn.Sequential(
        *_conv(input_shape[0], 32, 0, bn, bias),
        nn.MaxPool2d(2),
        *_conv(32, 64, 0, bn, bias),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    body.append(nn.Linear(_width(body, input_shape, "dense_cnn"), 128, bias))
    if bn:
        body.append(nn.BatchNorm1d(128))
    return body.extend([nn.ReLU(), nn.Linear(128, classes, bias)])


def large_cnn(
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    bn: bool = True,
    bias: bool = True,
    global_mean: bool = False,
) -> nn.Sequential:
    """largeCNN: conv 96 same, full, full, pool, conv 192 valid, full, valid, pool, conv 192 valid, conv 192 1×1, pool,
    dense; as `small_cnn`.

    Args:
        global_mean: a mean over all positions in place of the last max pool.
    """
    body = nn.Sequential(
        *_conv(input_shape[0], 96, 1, bn, bias),
        *_conv(96, 96, 2, bn, bias),
        *_conv(96, 96, 2, bn, bias),
        nn.MaxPool2d(2),
        *_conv(96, 192, 0, bn, bias),
        *_conv(192, 192, 2, bn, bias),
        *_conv(192, 192, 0, bn, bias),
        nn.MaxPool2d(2),
        *_conv(192, 192, 0, bn, bias),
        *_conv(192, 192, 0, bn, bias, kernel=1),
        nn.AdaptiveAvgPool2d(1) if global_mean else nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return body.append(nn.Linear(_width(body, input_shape, "large_cnn"), classes, bias))


class Block(nn.Module):
    """Residual block σ(conv(σ(conv x)) + skip x); the skip is a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, bn: bool, bias: bool) -> None:
        super().__init__()
        norm = nn.BatchNorm2d if bn else nn.Identity
        self.body = nn.Sequential(
            *_conv(inputs, outputs, 1, bn, bias, stride=stride),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias),
            norm(outputs),
        )
        self.skip = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), norm(outputs))
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, height, width) → (N, outputs, height/stride, width/stride)."""
        return self.relu(self.body(x) + self.skip(x))


def resnet(
    widths: Sequence[int],
    blocks: int,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    bn: bool = True,
    bias: bool = True,
) -> nn.Sequential:
    """Residual network: conv widths[0], one stage of `blocks` blocks per width (stride 2 from the second), mean, dense.

    Args:
        widths: channels of each stage.
        blocks: residual blocks per stage, each with two convolutions.
        input_shape, classes, bn, bias: as in `small_cnn`.
    """
    body = nn.Sequential(*_conv(input_shape[0], widths[0], 1, bn, bias))
    inputs = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            body.append(Block(inputs, width, 2 if stage and not block else 1, bn=bn, bias=bias))
            inputs = width
    return body.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes, bias)])


def small_resnet(
    input_shape: Sequence[int] = (3, 32, 32), classes: int = 10, *, bn: bool = True, bias: bool = True
) -> nn.Sequential:
    """The papers' small ResNet: widths 16, 32, 64, two blocks each."""
    return resnet((16, 32, 64), 2, input_shape, classes, bn=bn, bias=bias)


def large_resnet(
    input_shape: Sequence[int] = (3, 32, 32), classes: int = 10, *, bn: bool = True, bias: bool = True
) -> nn.Sequential:
    """The papers' large ResNet: widths 32, 64, 128, twelve blocks each."""
    return resnet((32, 64, 128), 12, input_shape, classes, bn=bn, bias=bias)


def mlp(
    input_shape: Sequence[int] = (1, 28, 28), classes: int = 10, *, bn: bool = True, bias: bool = True, width: int = 128
) -> nn.Sequential:
    """Two fully connected hidden layers of `width` units, for scans over the width (no network of the papers); the rest
    as in `small_cnn`."""
    body = nn.Sequential(nn.Flatten())
    inputs = math.prod(input_shape)
    for _ in range(2):
        body.append(nn.Linear(inputs, width, bias))
        if bn:
            body.append(nn.BatchNorm1d(width))
        body.append(nn.ReLU())
        inputs = width
    return body.append(nn.Linear(width, classes, bias))


UNITS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda channels=1: nn.ReLU(),
    "silu": lambda channels=1: nn.SiLU(),
    "gelu": lambda channels=1: nn.GELU(),
    "beta": lambda channels=1: BetaVQ(0.5, channels=channels, learnable=True),
}
"""What can stand for a ReLU of so many channels, by name; "beta" learns a β for each channel, SiLU to begin with."""


def with_unit(model: nn.Module, unit: str) -> nn.Module:
    """The network with another nonlinearity in place of each `nn.ReLU`, changed in place.

    Raises:
        MasoError: there is no unit of that name.
    """
    if unit not in UNITS:
        raise MasoError(f"There is no unit {unit!r}. Units: {', '.join(UNITS)}.")
    if unit != "relu":
        channels = 0  # of the layer before, in the order of definition
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.ReLU):
                model.set_submodule(name, UNITS[unit](channels))
            elif isinstance(module, nn.Conv2d | nn.Linear):
                channels = len(module.weight)
    return model


def _conv(
    inputs: int, outputs: int, padding: int, bn: bool, bias: bool, kernel: int = 3, stride: int = 1
) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)]
    return [*layers, nn.BatchNorm2d(outputs), nn.ReLU()] if bn else [*layers, nn.ReLU()]


def _width(body: nn.Sequential, input_shape: Sequence[int], name: str) -> int:
    """Number of features that `body` hands on, seen by sending one blank image through it."""
    try:
        with torch.no_grad():
            width = body.eval()(torch.zeros(1, *input_shape)).shape[1]
    except (RuntimeError, TypeError, ValueError) as error:
        raise MasoError(
            f"{name}: images of shape {tuple(input_shape)} do not fit; expected (channels, height, width), large "
            f"enough for its poolings ({error})."
        ) from error
    body.train()
    return width
