"""Matched filters: what a network compares an input with.

On the cell of x every output is an inner product with a template plus a bias,

    z_c(x) = ⟨A[x]_c, x⟩ + b[x]_c,

so the rows of A[x] are filters that depend on the signal, and the largest output is the filter that matches best.
These functions take any piecewise-affine classifier and any inputs; the templates themselves are `maso.affine_map`.
Images of bytes (uint8) are pixels/255, in [0, 1], wherever they are given; other inputs are taken as they are.

Source: Mad Max, §4.1 (deep networks as matched filter banks).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maso.affine import affine_map
from maso.errors import MasoError
from maso.tracing import trace

_SLICE = 256  # inputs whose templates are in memory at a time
IMAGE = "image"
"""The name under which `match` compares templates with the inputs themselves."""


@dataclass(frozen=True)
class Match:
    """Templates A[x_n]_c against one or more images for each x_n; every tensor is (N, C).

    Attributes:
        bias: b[x_n]_c.
        inner: name of the images → inner products ⟨A[x_n]_c, v_n⟩.
        cosine: the same over the norms; 0 where one of them is 0.
        correlation: cosine after template and image have lost their means, which brightness cannot change.
    """

    bias: Tensor
    inner: dict[str, Tensor]
    cosine: dict[str, Tensor]
    correlation: dict[str, Tensor]


def match(model: nn.Module, x: Tensor, against: Mapping[str, Tensor] | None = None) -> Match:
    """Inner products, cosines and correlations of the templates at x with x itself and with other images.

    Args:
        model: a piecewise-affine classifier, (N, *input_shape) → (N, C), BatchNorm and dropout in eval mode.
        x: (N, *input_shape), on the model's device, in its dtype or uint8.
        against: more images to compare the templates at each input with, by a name other than "image", in the dtype of
            x or uint8: (N, *input_shape), or one for all inputs, (*input_shape) or (1, *input_shape).

    Returns:
        `Match`; `inner["image"] + bias` are the outputs.

    Raises:
        NotPiecewiseAffine: the model has an operator that is not piecewise affine.
        MasoError: images that do not fit the inputs, or that are called "image".

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).double()
        >>> x = torch.randn(5, 2, dtype=torch.float64)
        >>> from maso import boundary_distance
        >>> reach = boundary_distance(net, x)[:, None]
        >>> near = x + reach / 2 * nn.functional.normalize(torch.randn_like(x))  # elsewhere in the cells
        >>> found = match(net, x, {"near": near})
        >>> bool(torch.allclose(found.inner["near"] + found.bias, net(near), rtol=1e-12, atol=1e-12))
        True
    """
    if against and IMAGE in against:
        raise MasoError(f"match: {IMAGE!r} is the name of the inputs themselves; call the other images differently.")
    dtype = next((p.dtype for p in model.parameters()), torch.get_default_dtype())
    x = _pixels(x, dtype)
    images = {IMAGE: x}
    for name, v in (against or {}).items():
        if v.shape not in (x.shape, x.shape[1:], (1, *x.shape[1:])):
            raise MasoError(
                f"match: the images {name!r} have shape {tuple(v.shape)}; expected {tuple(x.shape)}, or one image "
                f"{tuple(x.shape[1:])} for all."
            )
        images[name] = _pixels(v, dtype).expand(x.shape)
    biases: list[Tensor] = []
    parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in images}
    for start in range(0, len(x), _SLICE):
        part = slice(start, start + _SLICE)
        found = affine_map(model, x[part])
        A = found.A.flatten(2)
        centred = A - A.mean(2, keepdim=True)
        biases.append(found.b)
        for name, v in images.items():
            v = v[part].flatten(1)
            parts[name].append(
                (torch.einsum("ncd,nd->nc", A, v), _cosine(A, v), _cosine(centred, v - v.mean(1, keepdim=True)))
            )
    joined = {name: [torch.cat(t) for t in zip(*rows, strict=True)] for name, rows in parts.items()}
    inner, cosine, correlation = ({name: three[i] for name, three in joined.items()} for i in range(3))
    return Match(torch.cat(biases), inner, cosine, correlation)


def _pixels(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes as pixels in [0, 1]; all else as it is."""
    return x.to(dtype) / 255 if x.dtype == torch.uint8 else x


def _cosine(A: Tensor, v: Tensor) -> Tensor:
    """(N, C, D), (N, D) → (N, C)."""
    norms: Tensor = A.norm(dim=2) * v.norm(dim=1, keepdim=True)
    return torch.einsum("ncd,nd->nc", A, v) / norms.clamp_min(torch.finfo(A.dtype).tiny)


def by_truth(values: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The column of the true class, (N,), and those of the others, (N, C − 1), of a value for every class.

    Args:
        values: (N, C).
        y: labels, (N,) int64.
    """
    true = nn.functional.one_hot(y, values.shape[1]).bool()
    return values[true], values[~true].reshape(len(y), -1)


def randomised_from_top(model: nn.Module, x: Tensor, *, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """The model with more and more of its layers as they were before training, from the last layer to the first.

    The cascading weight randomisation of Adebayo et al.: a picture that claims to show what a network learned has to
    change under it.

    Args:
        model: a network that can be traced; it stays as it is.
        x: an input, (N, *input_shape): it tells the order of the layers.
        seed: of the new weights.

    Returns:
        For each module that owns parameters, last first: its path, and a copy of the model in which it and the later
        ones have been reset.

    Raises:
        MasoError: such a module has no method `reset_parameters`.

    Source:
        Sanity Checks for Saliency Maps, §3.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> [path for path, _ in randomised_from_top(net, torch.zeros(1, 2), seed=0)]
        ['2', '0']
    """
    current = copy.deepcopy(model)
    modules = dict(current.named_modules())
    owners = {path for path, module in modules.items() if any(True for _ in module.parameters(recurse=False))}
    found = (_owner(node.path, owners) for node in trace(model, x).nodes)
    order = dict.fromkeys(path for path in found if path is not None)
    for number, path in enumerate(reversed(order)):
        reset = getattr(modules[path], "reset_parameters", None)
        if reset is None:
            raise MasoError(
                f"The module {path!r} ({type(modules[path]).__name__}) cannot be randomised: give it a method "
                "`reset_parameters` that draws its parameters anew."
            )
        with torch.random.fork_rng():
            torch.manual_seed(seed + number)
            reset()
        yield path, copy.deepcopy(current)


def _owner(path: str, owners: set[str]) -> str | None:
    """The innermost module of `owners` at or above a path such as "1.mul", None where there is none."""
    while path and path not in owners:
        path = path.rpartition(".")[0]
    return path if path in owners else None
