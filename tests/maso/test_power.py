"""Power diagrams, distances and bends against the formulas of the paper and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import maso
from maso import MASO, MasoError
from maso.partition import Plane, partition
from maso.power import bends, boundary_distance, power_diagram
from maso_book.shared.random_networks import dense_layers

SQUARE = Plane.square(-1, 1)


def random_maso(seed: int, k: int = 4, r: int = 3, d: int = 5) -> MASO:
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(k, r, d, generator=g, dtype=torch.float64)
    return MASO(A, torch.randn(k, r, generator=g, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(5))
def test_nearest_cell_is_the_code(seed: int) -> None:
    m = random_maso(seed)
    x = torch.randn(2000, 5, dtype=torch.float64)
    assert (power_diagram(m).code(x) == m.code(x)).all()


def test_a_layers_cells_are_a_power_diagram() -> None:
    m = random_maso(0, k=3, r=2, d=2)
    diagram = power_diagram(m)
    codes = torch.cartesian_prod(*[torch.arange(2)] * 3)
    centroid, radius = diagram.cell(codes)
    x = 2 * torch.randn(2000, 2, dtype=torch.float64)
    nearest = (((x[:, None] - centroid) ** 2).sum(2) - radius).argmin(1)
    assert (codes[nearest] == m.code(x)).all()
    assert torch.allclose(centroid, torch.stack([m.A[torch.arange(3), c].sum(0) for c in codes]))


def test_pulled_back_is_the_diagram_of_the_composed_layer() -> None:
    m = random_maso(1)
    A, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    composed = power_diagram(MASO(m.A @ A, m.B + m.A @ b))
    ours = power_diagram(m).pulled_back(A, b)
    assert torch.allclose(ours.centroids, composed.centroids)
    assert torch.allclose(ours.radii, composed.radii)
    x = torch.randn(500, 3, dtype=torch.float64)
    assert (ours.code(x) == m.code(x @ A.T + b)).all()
    # the paper's formula for the whole layer: Aᵀ μ_r and ‖Aᵀ μ_r‖² + 2 ⟨μ_r, b⟩ + 2 Σ_k B[k, r_k]
    code = m.code(x @ A.T + b)
    mu, _ = power_diagram(m).cell(code)
    pulled, radius = ours.cell(code)
    offsets = m.B[torch.arange(4), code].sum(1)
    assert torch.allclose(pulled, mu @ A)
    assert torch.allclose(radius, (pulled**2).sum(1) + 2 * mu @ b + 2 * offsets)


def test_k_means_units_have_no_radius() -> None:
    A = torch.randn(1, 6, 4, dtype=torch.float64)
    m = MASO(A, -0.5 * (A**2).sum(2))
    assert power_diagram(m).radii.abs().max() < 1e-12
    x = torch.randn(100, 4, dtype=torch.float64)
    assert (m.code(x)[:, 0] == torch.cdist(x, A[0]).argmin(1)).all()


def test_cells_of_layers_are_those_of_their_diagram() -> None:
    model = dense_layers(2, 7, 5, 2, act=nn.LeakyReLU)
    p = partition(model, SQUARE)
    first = maso.from_layer(nn.Sequential(*model[:2]), (2,))
    second = power_diagram(maso.from_layer(nn.Sequential(*model[2:4]), (7,)))
    x = SQUARE.points(p.centres)
    A, b = first.matrix(x)
    codes = maso.codes(model, x)
    for i in range(0, len(p), 7):
        code = second.pulled_back(A[i], b[i]).code(x[i : i + 1])
        assert (code.flatten() == codes["3"][i].long()).all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(MasoError, match=r"expected \(N, 5\)"):
        power_diagram(random_maso(0)).code(torch.zeros(2, 4, dtype=torch.float64))


# ---------------------------------------------------------------- distances
@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, nn.Hardtanh])
def test_distance_to_the_boundary_is_that_to_the_polygon(act: type[nn.Module]) -> None:
    model = dense_layers(2, 8, 8, 2, act=act)
    p = partition(model, Plane.square(-30, 30))
    rng = np.random.default_rng(0)
    chosen = np.flatnonzero(np.abs(p.centres).max(1) < 3)
    inside = np.stack([rng.dirichlet(np.ones(len(p.polygon(i)))) @ p.polygon(i) for i in chosen])
    ours = boundary_distance(model, torch.from_numpy(inside)).numpy()
    for i, x, d in zip(chosen, inside, ours, strict=True):
        a = p.polygon(i)
        along = np.roll(a, -1, 0) - a
        to_lines = np.abs(along[:, 0] * (x - a)[:, 1] - along[:, 1] * (x - a)[:, 0]) / np.hypot(*along.T)
        if np.abs(a).max() < 29:  # not cut off by the window
            assert abs(d - to_lines.min()) < 1e-9 * max(1, d) + 1e-11


def test_distance_in_a_conv_net_with_pooling() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)
    ).double()
    x = torch.randn(6, 1, 6, 6, dtype=torch.float64)
    distance = boundary_distance(model, x)
    codes = maso.codes(model, x)
    for _ in range(200):  # no step shorter than the distance leaves the cell
        step = torch.randn_like(x)
        step *= (0.999 * distance / step.flatten(1).norm(dim=1))[:, None, None, None]
        there = maso.codes(model, x + step)
        assert all((codes[k] == there[k]).all() for k in codes)


def test_a_network_without_kinks_has_no_boundary() -> None:
    assert torch.isinf(boundary_distance(nn.Linear(2, 2).double(), torch.zeros(3, 2, dtype=torch.float64))).all()


# ---------------------------------------------------------------- bends
@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU])
def test_bends_are_the_formulas(act: type[nn.Module]) -> None:
    model = dense_layers(2, 6, 6, 5, 2, act=act, seed=1)
    for layer in ("3", "5"):
        b = bends(model, SQUARE, layer)
        assert len(b.unit) > 5
        long = b.length > 1e-3
        assert np.abs(b.angle - b.measured)[long].max() < 1e-9
        assert (b.angle <= b.bound + 1e-9).all()
    # cells that differ in one unit j of the first layer: the jump is (1 − ν) w_j W_j
    b = bends(model, SQUARE, "3")
    first = partition(model, SQUARE, layers=["1"])
    codes = maso.codes(model, SQUARE.points(first.centres))["1"].bool()
    nu = 0.01 if act is nn.LeakyReLU else 0.0
    for unit, (u, v), (gu, gv) in zip(b.unit, b.regions, b.gradient, strict=True):
        j = int((codes[u] != codes[v]).nonzero())
        sign = 1.0 if codes[u, j] else -1.0
        jump = sign * (1 - nu) * model[2].weight[unit, j] * model[0].weight[j]
        assert np.allclose(gu - gv, jump.detach().numpy(), atol=1e-12)


def test_the_first_layer_does_not_bend() -> None:
    assert len(bends(dense_layers(2, 6, 6, 2), SQUARE, "1").unit) == 0


def test_bends_of_no_gate_are_refused() -> None:
    with pytest.raises(MasoError, match="the gates are"):
        bends(dense_layers(2, 6, 2), SQUARE, "0")
