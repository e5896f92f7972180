"""Directions in which an input is moved: tangents of what augmentation does to an image, and others to compare with.

An image is read as samples of a function of the place (row, column); its derivatives ∂_r x and ∂_c x are central
differences between neighbouring pixels, one-sided at the border by repeating the border's pixels.  Moving the image by
a vector field v changes it by v_r ∂_r x + v_c ∂_c x for each unit of the movement: a constant field is a translation
(a unit is a pixel), v = (−c, r) a rotation about the centre (a unit is a radian), v = (r, c) a change of scale (a unit
is a factor e).

All functions give directions of any length, (N, U, *input_shape); `maso.rugosity` brings them to length 1.

Source: Simard, Victorri, LeCun, Denker, Tangent Prop (1992), for the derivatives as tangents of the data.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from maso.errors import MasoError


def translations(x: Tensor) -> Tensor:
    """Derivatives of an image by its place: ∂_r x and ∂_c x, a pixel down and a pixel to the right.

    Args:
        x: images, (N, channels, height, width).

    Returns:
        (N, 2, channels, height, width).

    Raises:
        MasoError: x does not hold images.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 4, 5)
        >>> translations(ramp)[0, :, 0, 1].tolist()
        [[0.0, 0.0, 0.0, 0.0, 0.0], [0.5, 1.0, 1.0, 1.0, 0.5]]
    """
    return torch.stack(_derivatives(x), 1)


def random_translation(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """For each image the derivative in one random direction of the plane, cos θ ∂_r x + sin θ ∂_c x.

    Args:
        x: images, (N, channels, height, width).
        generator: of the angles, on the device of x.

    Returns:
        (N, 1, channels, height, width).
    """
    angle: Tensor = 2 * math.pi * torch.rand((len(x), 1, 1, 1), dtype=x.dtype, device=x.device, generator=generator)
    down, right = _derivatives(x)
    return (angle.cos() * down + angle.sin() * right)[:, None]


def rotation(x: Tensor) -> Tensor:
    """Derivative of a rotation about the centre, a radian as the unit: (N, channels, height, width) → (N, 1, …)."""
    (down, right), (r, c) = _derivatives(x), _places(x)
    return (r * right - c * down)[:, None]


def scaling(x: Tensor) -> Tensor:
    """Derivative of a change of scale about the centre: (N, channels, height, width) → (N, 1, …)."""
    (down, right), (r, c) = _derivatives(x), _places(x)
    return (r * down + c * right)[:, None]


def local_pca(x: Tensor, data: Tensor, *, neighbours: int = 16, count: int = 2) -> Tensor:
    """The first principal directions of each point's nearest neighbours among the data: an estimate of the tangents.

    Args:
        x: points, (N, *input_shape).
        data: what they lie among, (M, *input_shape); a point that is in it is not its own neighbour.
        neighbours: how many, 2 ≤ neighbours ≤ M.
        count: directions of each point, below `neighbours`.

    Returns:
        Orthonormal directions, (N, count, *input_shape), that of the largest variance first.

    Raises:
        MasoError: numbers that do not fit.
    """
    if not 1 <= count < neighbours < len(data):
        raise MasoError(
            f"local_pca: {count} directions of {neighbours} neighbours among {len(data)} points; expected "
            "1 ≤ count < neighbours < points."
        )
    points, others = x.flatten(1), data.flatten(1)
    distance = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")  # the other one rounds
    own = distance <= 1e-6 * points.norm(dim=1, keepdim=True)
    nearest = distance.masked_fill(own, torch.inf).topk(neighbours, largest=False).indices
    around = others[nearest]  # (N, neighbours, D)
    around = around - around.mean(1, keepdim=True)
    _, weights = torch.linalg.eigh(around @ around.mT)  # ascending; (N, neighbours, neighbours) is the small side
    directions = weights.mT.flip(1)[:, :count] @ around
    return nn.functional.normalize(directions, dim=2).reshape(len(x), count, *x.shape[1:])


def ambient(x: Tensor, *, count: int = 1, generator: torch.Generator | None = None) -> Tensor:
    """Directions drawn evenly from all of the input space, (N, *input_shape) → (N, count, *input_shape)."""
    return torch.randn((len(x), count, *x.shape[1:]), dtype=x.dtype, device=x.device, generator=generator)


def shuffled(tangents: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Tangents with their pixels in another order, one order for all: as long and as rough, but not of the data.

    Args:
        tangents: (N, U, channels, height, width).
        generator: of the order, on the device of the tangents.
    """
    height, width = tangents.shape[-2:]
    order = torch.randperm(height * width, device=tangents.device, generator=generator)
    return tangents.flatten(-2)[..., order].reshape(tangents.shape)


def _derivatives(x: Tensor) -> tuple[Tensor, Tensor]:
    """∂_r x and ∂_c x, each of the shape of x."""
    if x.ndim != 4:
        raise MasoError(f"Tangents of images need (N, channels, height, width); x has shape {tuple(x.shape)}.")
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return down, right


def _places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each pixel from the centre, (height, 1) and (1, width)."""
    rows, columns = (
        torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2 for size in (x.shape[2], x.shape[3])
    )
    return rows[:, None], columns[None, :]
