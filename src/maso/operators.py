"""The one table of operators: the only place that knows PyTorch's names.

Every operator of a traced network is *affine*, a *kink*, or unknown.  A kink is a **gate** (a piecewise-affine function
of one number, applied to every unit) or a **selection** (the largest entry of a window).  To support a layer, add a
row:

- `AFFINE[name]`: positions of the arguments that only shift the result, where they do not depend on the input (a bias,
  a constant summand);
- `GATES[name]`: arguments of the call → `Gate`;
- `SELECTIONS[name]`: traced node → `Selection`.

An affine operator may need a second row, for what it must not do in a call: `AXES` where it mixes numbers along an axis
(which must not be that of the samples), `FACTORS` where it multiplies, `CONSTANT` where it is affine in some of its
arguments only.  What is irregular is in `maso.refusals`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maso.composites import COMPOSITES as COMPOSITES
from maso.composites import RANDOM
from maso.errors import MasoError

AFFINE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(["linear", "conv1d", "conv2d", "conv3d", "convolution"], (2,)),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], (2,)),
    **dict.fromkeys(["batch_norm", "_native_batch_norm_legit_no_training"], (2, 3)),
    **dict.fromkeys(["add", "sub", "rsub", "lerp"], (0, 1)),
    **dict.fromkeys(["copy", "fill"], (1,)),
    **dict.fromkeys(["cat", "concat", "concatenate", "stack", "hstack", "dstack", "column_stack"], (0,)),
    **dict.fromkeys(["addmm", "baddbmm", "addcmul", "addcdiv"], (0,)),
    "constant_pad_nd": (2,),
    "pad": (3,),
    "diff": (3, 4),
    "where": (1, 2),
    **dict.fromkeys(["slice_scatter", "select_scatter", "diagonal_scatter"], (0, 1)),
    "masked_fill": (2,),
    "index_put": (0, 2),
    "index_fill": (3,),
    **dict.fromkeys(["index_add", "index_copy", "scatter", "scatter_add"], (0, 3)),
    **dict.fromkeys(["mm", "bmm", "mv", "matmul", "einsum", "tensordot", "inner"], ()),
    **dict.fromkeys(["mul", "div", "neg", "mean", "sum", "cumsum", "zero"], ()),
    **dict.fromkeys(["view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"], ()),
    **dict.fromkeys(["permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "mT", "numpy_T", "t"], ()),
    **dict.fromkeys(["slice", "select", "narrow", "split", "split_with_sizes", "chunk", "tensor_split", "unbind"], ()),
    **dict.fromkeys(["expand", "broadcast_to", "repeat", "tile", "repeat_interleave", "contiguous"], ()),
    **dict.fromkeys(["index", "index_select", "gather", "take_along_dim", "unfold", "diagonal", "diag_embed"], ()),
    **dict.fromkeys(["flip", "fliplr", "flipud", "roll", "rot90", "tril", "triu"], ()),
    **dict.fromkeys(["clone", "alias", "detach", "to", "_to_copy", "dropout", "feature_dropout"], ()),
    **dict.fromkeys(["avg_pool1d", "avg_pool2d", "avg_pool3d"], ()),
    **dict.fromkeys(["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"], ()),
    **dict.fromkeys([f"upsample_nearest{d}d" for d in (1, 2, 3)], ()),
    **dict.fromkeys([f"_upsample_nearest_exact{d}d" for d in (1, 2, 3)], ()),
    **dict.fromkeys(["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"], ()),
    **dict.fromkeys(["_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"], ()),
    **dict.fromkeys(["grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "im2col", "col2im"], ()),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle", "channel_shuffle"], ()),
    **dict.fromkeys(["reflection_pad1d", "reflection_pad2d", "replication_pad2d"], ()),
}

# axes along which an operator mixes numbers, from the arguments of the call; None: all
AXES: dict[str, Callable[..., Any]] = {
    "flip": lambda x, dims: dims,
    "fliplr": lambda x: 1,
    "flipud": lambda x: 0,
    "roll": lambda x, shifts, dims=None: dims or None,
    "rot90": lambda x, k=1, dims=(0, 1): dims,
    "cumsum": lambda x, dim, **_: dim,
    "diff": lambda x, n=1, dim=-1, prepend=None, append=None: dim,
    "unfold": lambda x, dimension, size, step: dimension,
    "repeat_interleave": lambda x, repeats, dim=None, **_: dim,
    **dict.fromkeys(["tril", "triu"], lambda x, diagonal=0: (-2, -1)),
    "diagonal": lambda x, offset=0, dim1=0, dim2=1: (dim1, dim2),
    "diagonal_scatter": lambda x, src, offset=0, dim1=0, dim2=1: _of(x, dim1, dim2),
    **dict.fromkeys(["index_select", "gather"], lambda x, dim, index, **_: dim),
    "take_along_dim": lambda x, indices, dim=None: dim,
    **dict.fromkeys(["index_add", "index_copy", "index_fill"], lambda x, dim, index, value, **_: dim),
    **dict.fromkeys(["scatter", "scatter_add"], lambda x, dim, index, value, **_: dim),
    "slice_scatter": lambda x, src, dim=0, start=None, end=None, step=1: () if _whole(start, end, step) else dim,
    "select_scatter": lambda x, src, dim, index: _of(x, dim),
    "index": lambda x, indices: _indexed(indices),
    "index_put": lambda x, indices, values, accumulate=False: _indexed(indices),
}

# positions of arguments that are multiplied with each other: one of them may depend on the input
FACTORS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(["mul", "mm", "bmm", "mv", "matmul", "tensordot", "inner", "linear"], (0, 1)),
    **dict.fromkeys(["conv1d", "conv2d", "conv3d", "convolution"], (0, 1)),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], (0, 1)),
    **dict.fromkeys(["addmm", "baddbmm", "addcmul"], (1, 2)),
    "einsum": (1,),
}

# the argument that must not depend on the input, and what the operator does with it
CONSTANT: dict[str, tuple[int, str]] = {
    "div": (1, "divides by"),
    "addcdiv": (2, "divides by"),
    "lerp": (2, "multiplies by"),
    **dict.fromkeys(["grid_sampler", "grid_sampler_2d", "grid_sampler_3d"], (1, "looks up places given by")),
}

AVERAGES = {"mean"} | {f"{kind}_pool{d}d" for kind in ("avg", "adaptive_avg") for d in (1, 2, 3)}
SHAPED_LIKE: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(["zeros_like", "new_zeros", "empty_like", "new_empty"], torch.zeros),
    **dict.fromkeys(["ones_like", "new_ones"], torch.ones),
    **dict.fromkeys(["full_like", "new_full"], torch.full),
}
# what is called in the place of operators whose derivatives PyTorch lacks (all of them, or where sizes differ)
CALLS: dict[str, Callable[..., Tensor]] = {
    "copy": lambda x, src, *_: src.expand(x.shape),
    "scatter": lambda x, dim, index, src: torch.scatter(x, dim, index, _as_far(src, index)),
    "scatter_add": lambda x, dim, index, src: torch.scatter_add(x, dim, index, _as_far(src, index)),
}
SHAPED_AS: dict[str, Callable[..., Any]] = {
    "expand_as": torch.ops.aten.expand.default,
    "view_as": torch.ops.aten.view.default,
    "reshape_as": torch.ops.aten.reshape.default,
}
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


def _as_far(src: Any, index: Tensor) -> Any:
    """The part of a source that an index asks for."""
    return src[tuple(map(slice, index.shape))] if isinstance(src, Tensor) and src.ndim else src


def _whole(start: Any, end: Any, step: int) -> bool:
    """Whether a slice is all of its axis."""
    return start in (None, 0) and step == 1 and (end is None or (isinstance(end, int) and end == 2**63 - 1))


def _of(x: Any, *axes: int) -> tuple[int, ...] | None:
    """Axes of a value that may be a constant, of which it is not known how many there are."""
    return axes if x.dynamic or min(axes) >= 0 else None


def _indexed(indices: list[Any]) -> list[int] | None:
    """The axes that are indexed; all where the first one is, since a Boolean mask takes several."""
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    return None if 0 in axes else axes


def _clamp(low: float | Tensor | None = None, high: float | Tensor | None = None, axes: int = 0) -> Gate:
    lows, highs = (
        [] if bound is None or (not isinstance(bound, Tensor) and bound == never) else [_bound(bound, axes)]
        for bound, never in ((low, -math.inf), (high, math.inf))
    )
    if not lows + highs:
        raise ValueError("its bounds are infinite, so it does nothing: leave it out")
    if lows and highs:
        if isinstance(lows[0], Tensor):
            lows = [torch.minimum(lows[0], highs[0])]  # the upper bound wins, as in PyTorch
        elif lows[0] > highs[0]:
            raise ValueError(f"its lower bound {low} is above its upper bound {high}")
    flat = [(0.0, v) for v in lows] + [(1.0, 0.0)] + [(0.0, v) for v in highs]
    return Gate(tuple(lows + highs), tuple(s for s, _ in flat), tuple(i for _, i in flat))


def _bound(value: float | Tensor, axes: int) -> Any:
    """A bound of `clamp`: a number, or a tensor that broadcasts against one sample of so many axes."""
    if not isinstance(value, Tensor):
        if not math.isfinite(value):
            raise ValueError(f"its bound {value} leaves no finite number")
        return float(value)
    if not value.isfinite().all():
        raise MasoError("clamp has an infinite bound in a tensor: clamp only the entries that have a finite one.")
    return value[0] if value.ndim > axes else value


def _rrelu(lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Gate:
    if training:
        raise ValueError("it is random in training mode: call model.eval()")
    return _ramp((lower + upper) / 2)


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
    "rrelu": lambda axes, lower=1 / 8, upper=1 / 3, training=False: _rrelu(lower, upper, training),
    "softshrink": lambda axes, lambd=0.5: Gate((-lambd, lambd), (1.0, 0.0, 1.0), (lambd, 0.0, -lambd)),
    "hardsigmoid": lambda axes: Gate((-3.0, 3.0), (0.0, 1 / 6, 0.0), (0.0, 0.5, 1.0)),
    "hardtanh": lambda axes, min_val=-1.0, max_val=1.0: _clamp(min_val, max_val),
    "clamp": lambda axes, min=None, max=None: _clamp(min, max, axes),
    "clip": lambda axes, min=None, max=None: _clamp(min, max, axes),
    "clamp_min": lambda axes, min: _clamp(min, None, axes),
    "clamp_max": lambda axes, max: _clamp(None, max, axes),
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
    at = [_numbers(out[d])[:, None] * stride[d] - padding[d] + _numbers(kernel[d]) * dilation[d] for d in range(n)]
    flat = torch.zeros((1, 1), dtype=torch.int64, device="cpu")
    valid = torch.ones((1, 1), dtype=torch.bool, device="cpu")
    for d, size in enumerate(shape[-n:]):
        inside = (at[d] >= 0) & (at[d] < size)
        flat = (flat[:, None, :, None] * size + at[d][None, :, None, :]).reshape(-1, flat.shape[1] * kernel[d])
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).reshape(flat.shape)
    maps = _numbers(math.prod(shape[:-n]))[:, None, None] * math.prod(shape[-n:])
    return Selection(torch.where(valid, flat + maps, -1).reshape(-1, flat.shape[1]))


def _numbers(n: int) -> Tensor:
    """0 … n − 1, on the processor whatever the default device is."""
    return torch.arange(n, device="cpu")


def _adaptive(node: Any) -> Selection:
    """Windows of an adaptive max pool: output i sees entries ⌊i L / o⌋ … ⌈(i + 1) L / o⌉ − 1 of each axis."""
    n = int(node.op[17])
    shape, out = node.inputs[0].shape, node.shape[-n:]
    index = _numbers(math.prod(shape)).reshape(-1, *shape[-n:])
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
    index = _numbers(math.prod(shape)).reshape(1, *shape).permute(0, *keep, *dims)
    return Selection(index.reshape(math.prod(shape[d - 1] for d in keep), -1), sign)


def _pairs(node: Any, sign: int) -> Selection:
    return Selection(_numbers(2 * math.prod(node.shape)).reshape(2, -1).T.contiguous(), sign)


SELECTIONS: dict[str, Callable[[Any], Selection]] = {
    **{f"max_pool{d}d": _pool for d in (1, 2, 3)},
    **{f"max_pool{d}d_with_indices": _pool for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d": _adaptive for d in (1, 2, 3)},
    **dict.fromkeys(["amax", "max"], lambda node: _reduce(node, 1)),
    **dict.fromkeys(["amin", "min"], lambda node: _reduce(node, -1)),
    **dict.fromkeys(["maximum", "fmax"], lambda node: _pairs(node, 1)),
    **dict.fromkeys(["minimum", "fmin"], lambda node: _pairs(node, -1)),
}

_SMOOTH = "it is smooth, not piecewise affine: analyse the part of the network before it, or replace it by a ReLU"
_BATCH = "BatchNorm in training mode depends on the whole batch: call model.eval() (and keep running statistics)"
_STEP = "it jumps: not continuous"
_FOURIER = "torch.fft is left out (its numbers are complex): write the transform as a constant matrix, a linear layer"
ADVICE: dict[str, str] = {
    **dict.fromkeys(
        ["gelu", "silu", "elu", "celu", "selu", "mish", "softplus", "tanh", "sigmoid", "exp", "log", "logsumexp"],
        _SMOOTH,
    ),
    **dict.fromkeys(
        ["softmax", "log_softmax", "_softmax", "_log_softmax"],
        "it is smooth, not piecewise affine; where it only turns the network's logits into probabilities, drop the "
        "softmax: the theory is about the logits",
    ),
    **dict.fromkeys(["hardswish"], "it is piecewise quadratic, not piecewise affine"),
    **dict.fromkeys(
        ["var", "std", "var_mean", "std_mean", "pow", "cdist"], "it is not piecewise affine, but quadratic"
    ),
    **dict.fromkeys(["linalg_vector_norm", "norm"], "it is a norm, not piecewise affine; a 1-norm is abs and sum"),
    **dict.fromkeys(["glu", "cosine_similarity"], "it multiplies two values that both depend on the input"),
    **dict.fromkeys(["sign", "heaviside", "hardshrink", "round", "floor", "ceil", "trunc", "frac"], _STEP),
    **dict.fromkeys(["argsort", "argmax", "argmin"], "positions are used as numbers: not continuous"),
    **dict.fromkeys(["fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_fft2", "fft_ifft2"], _FOURIER),
    **dict.fromkeys(["fft_rfft2", "fft_irfft2", "fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn"], _FOURIER),
    **dict.fromkeys(["_fft_r2c", "_fft_c2r", "_fft_c2c", "stft", "istft", "complex", "view_as_complex"], _FOURIER),
    **dict.fromkeys(
        ["layer_norm", "native_layer_norm", "group_norm", "native_group_norm", "instance_norm", "rms_norm"],
        "it divides by a statistic of its own input, so it is not piecewise affine",
    ),
    **dict.fromkeys(
        ["scaled_dot_product_attention", "_native_multi_head_attention"],
        "attention multiplies two values that both depend on the input",
    ),
    **dict.fromkeys(["_native_batch_norm_legit_functional", "_native_batch_norm_legit"], _BATCH),
    **dict.fromkeys(["native_dropout", "bernoulli", "rand_like", "randn_like"], RANDOM),
}
