"""A partition held against the cells that clipping finds (`maso_book.shared.clipping`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from maso.partition import Partition
from maso_book.shared import clipping

ERRORS = {"area_error": 1e-9, "area_sum_error": 1e-9, "map_error": 1e-10, "output_error": 1e-10}
"""The largest error that is rounding: of a region's area and of the sum of all, relative to the window's; of the affine
maps against the reference's and against the network, relative to the largest output (to 1 below 1)."""


@dataclass(frozen=True)
class Comparison:
    """What differs between a partition and the reference's cells.

    Attributes:
        wrong: one line for everything that differs; empty where they agree.
        errors: the largest ones, by the names of `ERRORS`.
        unsure: regions whose code at the centre is within rounding of another, and is not compared.
    """

    wrong: list[str]
    errors: dict[str, float]
    unsure: int


def compare(p: Partition, model: nn.Module, cells: list, rng: np.random.Generator) -> Comparison:
    """Compare every region of a partition with the reference's cell at the same place.

    Args:
        p: the partition of `model`.
        cells: those of the reference, as `maso_book.shared.clipping.partition` gives them.
        rng: chooses a point in every region, where the affine map is compared with the network.
    """
    if len(p) != len(cells):
        return Comparison([f"{len(p)} regions, the reference has {len(cells)}"], {}, 0)
    wrong = []
    if not len(p) == len(np.unique(p.keys)) == len({code for _, code, _ in cells}):
        wrong.append("a code occurs twice")
    middles = np.array([np.mean(np.array(polygon, np.float64), 0) for polygon, _, _ in cells])
    place = p.locate(middles)
    if not np.array_equal(np.sort(place), np.arange(len(p))):
        return Comparison([*wrong, "two cells of the reference lie in one region"], {}, 0)
    cells = [cells[i] for i in np.argsort(place)]
    forwarded = p.forward(codes=True)
    codes = np.concatenate([*forwarded.codes.values(), np.zeros((len(p), 0))], 1)
    theirs = np.array([code for _, code, _ in cells]).reshape(len(p), -1)
    if codes.shape != theirs.shape or (codes != theirs)[forwarded.sure].any():
        wrong.append("the code of a region differs")
    errors = _errors(p, model, cells, rng)
    wrong += [f"{name} is {error:.2g}" for name, error in errors.items() if not error <= ERRORS[name]]
    return Comparison(wrong, errors, int((~forwarded.sure).sum()))


def _errors(p: Partition, model: nn.Module, cells: list, rng: np.random.Generator) -> dict[str, float]:
    areas = np.array([float(clipping.area(polygon)) for polygon, _, _ in cells])
    A, b = p.affine()
    inside = np.stack([rng.dirichlet(np.ones(len(corners))) @ corners for corners in p.polygons()])
    ours = np.einsum("fkd,fd->fk", A, inside) + b
    maps = np.array([tensor for _, _, tensor in cells]).astype(np.float64)  # (F, K, 3)
    reference = np.einsum("fkd,fd->fk", maps[:, :, :2], inside) + maps[:, :, 2]
    with torch.no_grad():
        outputs = model(p.plane.points(inside)).flatten(1).numpy()
    size = max(1.0, float(np.abs(outputs).max()))
    return {
        "area_error": float(np.abs(p.areas - areas).max() / p.plane.area),
        "area_sum_error": float(abs(p.areas.sum() / p.plane.area - 1)),
        "map_error": float(np.abs(ours - reference).max() / size),
        "output_error": float(np.abs(ours - outputs).max() / size),
    }
