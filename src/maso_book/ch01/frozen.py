"""The network with the pieces that one input chose, run by PyTorch itself: an affine function of its input.

This is the other side of chapter 01's numerical tests.  It uses neither gradients nor the traced graph: it watches the
operators that PyTorch dispatches, keeps the sign of every ReLU (A_σ = diag(slopes)) and the arg max of every max
pooling (A_ρ, a selection), and replays them on another input.  `frozen(0)` is b[x], `frozen(z) − frozen(0)` is A[x] z
for any z, however far from x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
RELU = {_aten.relu.default, _aten.relu_.default}
CLIP = {_aten.hardtanh.default, _aten.hardtanh_.default}
IN_PLACE = {_aten.relu_.default, _aten.hardtanh_.default}
POOL = _aten.max_pool2d_with_indices.default


class _Watch(TorchDispatchMode):
    """Runs as usual and keeps what every kink chose, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.choices: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        z: Any = args[0] if args else None
        if func in RELU:
            self.choices.append(z > 0)
        elif func in CLIP:
            low, high = (*args[1:], -1.0, 1.0)[:2]
            self.choices.append((z > low) & (z < high))
            self.choices.append(torch.where(z >= high, high, torch.where(z <= low, low, 0.0)).to(z.dtype))
        out = func(*args, **(kwargs or {}))
        if func is POOL:
            self.choices.append(out[1])
        return out


class _Replay(TorchDispatchMode):
    """Every kink takes the piece that was chosen before."""

    def __init__(self, choices: list[Any]) -> None:
        super().__init__()
        self.choices: Iterator[Any] = iter(choices)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        z: Any = args[0] if args else None
        if func in RELU or func in CLIP:
            out = z * next(self.choices)
            if func in CLIP:
                out = out + next(self.choices)
            return z.copy_(out) if func in IN_PLACE else out
        if func is POOL:
            index = next(self.choices)
            return z.flatten(2).gather(2, index.flatten(2)).reshape(index.shape), index
        return func(*args, **(kwargs or {}))


def freeze(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The affine function z ↦ A[x] z + b[x] of each sample of x, as a forward pass with the pieces that x chose.

    Args:
        model: a network whose kinks are ReLU, ReLU6 or hardtanh, and 2-D max pooling; in eval mode.
        x: (N, *input_shape).

    Returns:
        (N, *input_shape) → (N, K): sample n goes through the pieces that x[n] chose.
    """
    watch = _Watch()
    with torch.no_grad(), watch:
        model(x)

    def frozen(z: Tensor) -> Tensor:
        with torch.no_grad(), _Replay(watch.choices):
            return model(z)

    return frozen
