"""Affine operators on many samples: convolutions with few positions as one matrix product.

In double precision torch multiplies each sample's patches by the weights on their own; where the samples have few
positions (deep layers: 512 channels, 4×4), reading the weights again for each takes most of the time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maso.graph import Node, Operator
from maso.partition.constants import POSITIONS

_DEFAULTS: list[Any] = [None, [1, 1], [0, 0], [1, 1], 1]  # bias, stride, padding, dilation, groups


def apply(operator: Operator, *tensors: Any) -> Any:
    """An affine operator on tensors in the place of its operands, as `operator` itself."""
    node = operator.node
    if node.op != "conv2d" or node.kwargs or tensors[0].is_cuda or math.prod(node.shape[1:]) > POSITIONS:
        return operator(*tensors)
    given = [*node.args, *_DEFAULTS[len(node.args) - 2 :]]
    bias, stride, padding, dilation, groups = given[2:]
    constant = not any(isinstance(a, Node) and a.dynamic for a in node.args[1:])
    if groups != 1 or isinstance(padding, str) or not constant:
        return operator(*tensors)
    offset = None if bias is None else operator.argument(2)
    return _convolve(tensors[0], operator.argument(1), offset, stride, padding, dilation)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    patches = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    for axis, (size, step, apart) in enumerate(zip(weight.shape[2:], stride, dilation, strict=True), 2):
        patches = patches.unfold(axis, (size - 1) * apart + 1, step)[..., ::apart]
    n, _, height, width = patches.shape[:4]
    columns = patches.permute(1, 4, 5, 0, 2, 3).reshape(-1, n * height * width)
    rows = weight.flatten(1)
    out = rows @ columns if bias is None else torch.addmm(bias[:, None], rows, columns)
    return out.reshape(-1, n, height, width).transpose(0, 1).contiguous()
