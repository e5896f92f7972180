"""The one table of operators: the only place that knows PyTorch's names.

Every operator of a traced network is *affine*, a *kink*, or unknown.  A kink is a **gate** (a piecewise-affine function
of one number, applied to every unit) or a **selection** (the largest entry of a window).  To support a layer, add a
row:

- `AFFINE[name]`: positions of the arguments that only shift the result, where they do not depend on the input (a bias,
  a constant summand);
- `GATES[name]`: arguments of the call → `Gate`;
- `SELECTIONS[name]`: traced node → `Selection`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

AFFINE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(["linear", "conv1d", "conv2d", "conv3d", "convolution"], (2,)),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], (2,)),
    **dict.fromkeys(["batch_norm", "_native_batch_norm_legit_no_training"], (2, 3)),
    **dict.fromkeys(["add", "sub", "rsub"], (0, 1)),
    **dict.fromkeys(["cat", "concat", "stack"], (0,)),
    "addmm": (0,),
    "constant_pad_nd": (2,),
    "pad": (3,),
    **dict.fromkeys(["mm", "matmul", "mul", "div", "neg", "mean", "sum"], ()),
    **dict.fromkeys(["view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"], ()),
    **dict.fromkeys(["permute", "transpose", "movedim", "swapaxes", "expand", "contiguous"], ()),
    **dict.fromkeys(["slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind"], ()),
    **dict.fromkeys(["clone", "alias", "detach", "to", "_to_copy", "dropout", "feature_dropout"], ()),
    **dict.fromkeys(["avg_pool1d", "avg_pool2d", "avg_pool3d"], ()),
    **dict.fromkeys(["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"], ()),
    **dict.fromkeys(["upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "pixel_shuffle"], ()),
    **dict.fromkeys(["channel_shuffle", "reflection_pad1d", "reflection_pad2d", "replication_pad2d"], ()),
}
AVERAGES = {"mean"} | {f"{kind}_pool{d}d" for kind in ("avg", "adaptive_avg") for d in (1, 2, 3)}
PRODUCTS = {"mul", "div", "mm", "matmul", "linear", "addmm"}
SHAPED_LIKE = {"zeros_like": torch.zeros, "ones_like": torch.ones, "new_zeros": torch.zeros, "new_ones": torch.ones}
COMPARISONS = {"gt": True, "ge": True, "lt": False, "le": False}
ELEMENTWISE = {"mul", "div", "add", "sub", "rsub", "neg", "clone", "alias", "detach", "contiguous"}


@dataclass(frozen=True)
class Gate:
    """Piecewise-affine function of one number: on piece p = #{i : z > thresholds[i]}, z ↦ slopes[p] z + intercepts[p].

    Every entry is a number or a tensor that broadcasts against one sample of the layer.  A value equal to a threshold
    belongs to the piece below it.
    """

    thresholds: tuple[float | Tensor, ...]
    slopes: tuple[float | Tensor, ...]
    intercepts: tuple[float | Tensor, ...]

    def piece(self, z: Tensor) -> Tensor:
        """Index of the piece of every number of z: bool for one threshold, uint8 for more."""
        over = [z > t for t in self.thresholds]
        return over[0] if len(over) == 1 else torch.stack(over).sum(0, dtype=torch.uint8)

    def apply(self, z: Tensor, piece: Tensor) -> Tensor:
        """The affine function of the given pieces, at z."""
        out = self._line(z, 0)
        for p in range(1, len(self.slopes)):
            out = torch.where(piece >= p if len(self.slopes) > 2 else piece, self._line(z, p), out)
        return out

    def _line(self, z: Tensor, p: int) -> Tensor:
        slope, intercept = self.slopes[p], self.intercepts[p]
        if isinstance(slope, float) and isinstance(intercept, float):
            if slope == 0:
                return torch.full((), intercept, dtype=z.dtype, device=z.device)
            if intercept == 0:
                return z if slope == 1 else z * slope
        return z * slope + intercept


@dataclass(frozen=True)
class Selection:
    """Largest entry of every window: output[i] = sign · max_j sign · input[index[i, j]], the first of equal ones.

    `index` is (outputs, k) int64 into the flattened inputs of one sample laid end to end; −1 is padding.
    """

    index: Tensor
    sign: int = 1

    def winner(self, z: Tensor) -> Tensor:
        """Position (0 … k−1) in its window of the entry chosen: z (N, entries) → (N, outputs) int64."""
        index = self.index.to(z.device)
        windows, padding = z[:, index.clamp(min=0)], index < 0
        if self.sign < 0:
            windows = -windows
        if padding.any():
            windows = windows.masked_fill(padding, -math.inf)
        return windows.argmax(2)

    def apply(self, z: Tensor, winner: Tensor) -> Tensor:
        """The entries with the given positions, (N, entries) → (N, outputs)."""
        index = self.index.to(z.device)
        return z.gather(1, index.expand(len(winner), -1, -1).gather(2, winner[..., None])[..., 0])


def _ramp(slope: float | Tensor) -> Gate:
    return Gate((0.0,), (slope, 1.0), (0.0, 0.0))


def _clamp(low: float | None = None, high: float | None = None) -> Gate:
    for bound in (low, high):
        if isinstance(bound, Tensor):
            raise ValueError("bounds that are tensors; use torch.minimum and torch.maximum")
    low = None if low == -math.inf else low
    high = None if high == math.inf else high
    if any(bound is not None and not math.isfinite(bound) for bound in (low, high)) or low is high is None:
        raise ValueError("its bounds leave no finite number: leave it out, or use finite bounds")
    if low is not None and high is not None and low > high:
        raise ValueError(f"its lower bound {low} is above its upper bound {high}")
    lows = [] if low is None else [float(low)]
    highs = [] if high is None else [float(high)]
    flat = [(0.0, v) for v in lows] + [(1.0, 0.0)] + [(0.0, v) for v in highs]
    return Gate(tuple(lows + highs), tuple(s for s, _ in flat), tuple(i for _, i in flat))


def _prelu(weight: Tensor, axes: int) -> Gate:
    return _ramp(weight.reshape(-1, *[1] * (axes - 1)) if weight.numel() > 1 else weight.reshape(()))


def _threshold(at: float, value: float) -> Gate:
    if at != value:
        raise ValueError(f"it jumps from {value} to {at}: not continuous")
    return _clamp(float(at))


# arguments after the input (the number of axes of one sample first) → Gate
GATES: dict[str, Callable[..., Gate]] = {
    "relu": lambda axes: _ramp(0.0),
    "relu6": lambda axes: _clamp(0.0, 6.0),
    "leaky_relu": lambda axes, negative_slope=0.01: _ramp(float(negative_slope)),
    "prelu": lambda axes, weight: _prelu(weight, axes),
    "_prelu_kernel": lambda axes, weight: _prelu(weight, axes),
    "abs": lambda axes: _ramp(-1.0),
    "hardtanh": lambda axes, min_val=-1.0, max_val=1.0: _clamp(min_val, max_val),
    "clamp": lambda axes, min=None, max=None: _clamp(min, max),
    "clip": lambda axes, min=None, max=None: _clamp(min, max),
    "clamp_min": lambda axes, min: _clamp(min, None),
    "clamp_max": lambda axes, max: _clamp(None, max),
    "threshold": lambda axes, threshold, value: _threshold(threshold, value),
}


def _axes(value: Any, n: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * n if len(values) == 1 else values


def _pool(node: Any) -> Selection:
    """Windows of a max pool of one to three axes (stride, padding, dilation, ceil mode)."""
    n = int(node.op[8])
    shape, out = node.inputs[0].shape, node.shape[-n:]
    named = dict(zip(("kernel_size", "stride", "padding", "dilation"), node.args[1:5], strict=False)) | node.kwargs
    kernel = _axes(named["kernel_size"], n)
    stride = _axes(named.get("stride") or kernel, n)
    padding, dilation = _axes(named.get("padding", 0), n), _axes(named.get("dilation", 1), n)
    at = [
        torch.arange(out[d])[:, None] * stride[d] - padding[d] + torch.arange(kernel[d]) * dilation[d] for d in range(n)
    ]
    flat, valid = torch.zeros((1, 1), dtype=torch.int64), torch.ones((1, 1), dtype=torch.bool)
    for d, size in enumerate(shape[-n:]):
        inside = (at[d] >= 0) & (at[d] < size)
        flat = (flat[:, None, :, None] * size + at[d][None, :, None, :]).reshape(-1, flat.shape[1] * kernel[d])
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).reshape(flat.shape)
    maps = torch.arange(math.prod(shape[:-n]))[:, None, None] * math.prod(shape[-n:])
    return Selection(torch.where(valid, flat + maps, -1).reshape(-1, flat.shape[1]))


def _adaptive(node: Any) -> Selection:
    """Windows of an adaptive max pool: output i sees entries ⌊i L / o⌋ … ⌈(i + 1) L / o⌉ − 1 of each axis."""
    n = int(node.op[17])
    shape, out = node.inputs[0].shape, node.shape[-n:]
    index = torch.arange(math.prod(shape)).reshape(-1, *shape[-n:])
    cells = [
        tuple(
            slice(i * length // o, -(-(i + 1) * length // o))
            for i, length, o in zip(cell, shape[-n:], out, strict=True)
        )
        for cell in itertools.product(*map(range, out))
    ]
    windows = [index[m][cell].flatten() for m in range(len(index)) for cell in cells]
    return Selection(torch.nn.utils.rnn.pad_sequence(windows, batch_first=True, padding_value=-1))


def _reduce(node: Any, sign: int) -> Selection:
    """Windows of a maximum (minimum) over some axes."""
    if len(node.operands) == 2:
        return _pairs(node, sign)
    shape = node.inputs[0].shape
    named = dict(zip(("dim", "keepdim"), node.args[1:3], strict=False)) | node.kwargs
    if "dim" not in named:
        raise ValueError("it is taken over the whole batch; name the axes")
    dims = sorted(d % (len(shape) + 1) for d in _axes(named["dim"], 1))
    if 0 in dims:
        raise ValueError("it is taken over the batch; samples must not mix")
    keep = [d for d in range(1, len(shape) + 1) if d not in dims]
    index = torch.arange(math.prod(shape)).reshape(1, *shape).permute(0, *keep, *dims)
    return Selection(index.reshape(math.prod(shape[d - 1] for d in keep), -1), sign)


def _pairs(node: Any, sign: int) -> Selection:
    return Selection(torch.arange(2 * math.prod(node.shape)).reshape(2, -1).T.contiguous(), sign)


SELECTIONS: dict[str, Callable[[Any], Selection]] = {
    **{f"max_pool{d}d": _pool for d in (1, 2, 3)},
    **{f"max_pool{d}d_with_indices": _pool for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d": _adaptive for d in (1, 2, 3)},
    **dict.fromkeys(["amax", "max"], lambda node: _reduce(node, 1)),
    **dict.fromkeys(["amin", "min"], lambda node: _reduce(node, -1)),
    "maximum": lambda node: _pairs(node, 1),
    "minimum": lambda node: _pairs(node, -1),
}

_SMOOTH = "it is smooth, not piecewise affine: analyse the part of the network before it, or replace it by a ReLU"
_BATCH = "BatchNorm in training mode depends on the whole batch: call model.eval() (and keep running statistics)"
_RANDOM = "dropout is active: call model.eval()"
ADVICE: dict[str, str] = {
    **dict.fromkeys(
        ["gelu", "silu", "elu", "celu", "selu", "mish", "softplus", "tanh", "sigmoid", "exp", "log"], _SMOOTH
    ),
    **dict.fromkeys(
        ["softmax", "log_softmax", "_softmax", "_log_softmax"], "drop the softmax: the theory is about the logits"
    ),
    **dict.fromkeys(["hardswish"], "it is piecewise quadratic, not piecewise affine"),
    **dict.fromkeys(
        ["layer_norm", "native_layer_norm", "group_norm", "native_group_norm", "instance_norm", "rms_norm"],
        "it divides by a statistic of its own input, so it is not piecewise affine",
    ),
    **dict.fromkeys(
        ["scaled_dot_product_attention", "_native_multi_head_attention", "bmm"],
        "attention multiplies two values that both depend on the input",
    ),
    **dict.fromkeys(["_native_batch_norm_legit_functional", "_native_batch_norm_legit"], _BATCH),
    **dict.fromkeys(["native_dropout", "bernoulli", "rand_like", "rrelu", "rrelu_with_noise"], _RANDOM),
    **dict.fromkeys(["index_put", "slice_scatter", "select_scatter", "copy"], "build the tensor with cat or stack"),
}


def _rnn_cell(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Tensor:
    return torch.relu(torch.nn.functional.linear(x, w, b) + torch.nn.functional.linear(h, u, c))


def _rnn(
    x: Tensor, h0: Tensor, weights: Sequence[Tensor], biases: bool, layers: int, dropout: float, train: bool,
    bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if not batch_first:
        raise NotImplementedError("an RNN with batch_first=False puts time before the batch: use batch_first=True")
    if train and dropout:
        raise NotImplementedError(_RANDOM)
    per_cell, directions, last = 4 if biases else 2, 2 if bidirectional else 1, []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            i = layer * directions + direction
            h, steps = h0[i], []
            times = range(x.shape[1])
            for t in reversed(times) if direction else times:
                h = _rnn_cell(x[:, t], h, *weights[i * per_cell : (i + 1) * per_cell])
                steps.append(h)
            outputs.append(torch.stack(steps[::-1] if direction else steps, 1))
            last.append(h)
        x = torch.cat(outputs, 2)
    return x, torch.stack(last)


# operators that the tracer keeps whole but that are made of rows of this table
COMPOSITES: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.rnn_relu_cell.default: _rnn_cell,
    torch.ops.aten.rnn_relu.input: _rnn,
}
