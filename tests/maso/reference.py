"""An independent product of a network's own layers: no graph, no autograd.

The real, eager model is run on a batch whose first row is a point x and whose other rows are directions d.  Every
PyTorch function it calls is intercepted and, on the rows of directions, replaced by its linear part at the point:
biases left out, the slope of each ReLU read off the point's row, the winner of each max pool as well.  What comes out
is (f(x), A[x] d), by the formula of each layer.
"""

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class LayerProduct(TorchFunctionMode):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_") if not getattr(func, "__name__", "").startswith("__") else ""
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if first is None or first.ndim == 0 or len(first) != self.rows or first.requires_grad:
            return func(*args, **kwargs)
        point, directions = first[:1], first[1:]
        if name in ("linear", "conv1d", "conv2d"):
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            if bias is not None:
                out = func(first, args[1], None, *args[3:], **{k: v for k, v in kwargs.items() if k != "bias"})
                shape = [1] * out.ndim
                shape[1 if name != "linear" else -1] = -1
                out[:1] += bias.reshape(shape)
                return out
        elif name == "batch_norm":
            mean, var = args[1:3]
            weight, bias, eps = (kwargs[k] for k in ("weight", "bias", "eps"))
            assert not kwargs["training"]
            shape = (1, -1) + (1,) * (first.ndim - 2)
            scale = (weight / (var + eps).sqrt()).reshape(shape)
            return torch.cat([(point - mean.reshape(shape)) * scale + bias.reshape(shape), directions * scale])
        elif name == "relu":
            return first * (point > 0)
        elif name in ("hardtanh", "relu6"):
            low, high = (0.0, 6.0) if name == "relu6" else (kwargs["min_val"], kwargs["max_val"])
            return torch.cat([point.clamp(low, high), directions * ((point > low) & (point <= high))])
        elif name == "max_pool2d":
            value, index = F.max_pool2d(point, *args[1:], **kwargs | {"return_indices": True})
            flat = directions.flatten(2).gather(2, index.flatten(2).expand(len(directions), -1, -1))
            return torch.cat([value, flat.reshape(-1, *value.shape[1:])])
        return func(*args, **kwargs)


def jacobian_action(model, x, directions):
    """f(x) (K,) and A[x] d for each direction (T, K): x (1, *shape), directions (T, *shape)."""
    rows = torch.cat([x, directions])
    with torch.no_grad(), LayerProduct(len(rows)):
        out = model(rows)
    return out[0].flatten(), out[1:].flatten(1)
