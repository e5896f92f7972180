"""Penalties against loops over pairs, exact arithmetic, all templates, and a general-purpose minimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from torch import Tensor, nn

from maso import MasoError, affine_map
from maso.penalties import gauge_minimum, orthogonality, published, quartic_norm, templates

SIZES = st.tuples(st.integers(2, 6), st.integers(1, 8))
WEIGHTS = SIZES.flatmap(lambda size: arrays(np.float64, size, elements=st.floats(-3, 3, width=32)))


def rows(C: int, D: int, seed: int = 0) -> Tensor:
    return torch.randn(C, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simplex(C: int, D: int, norm: float) -> Tensor:
    """A simplex frame in D ≥ C dimensions: equal norms, cosines −1/(C−1)."""
    frame = torch.eye(C, D, dtype=torch.float64) - torch.eye(C, D, dtype=torch.float64).mean(0)
    return norm * frame / frame.norm(dim=1, keepdim=True)


# Rows -----------------------------------------------------------------------------------------------------------------


@given(WEIGHTS)
def test_row_penalties_are_sums_over_pairs(weight: np.ndarray) -> None:
    C, D = weight.shape
    pairs = sum(math.fsum(weight[c] * weight[a]) ** 2 for c in range(C) for a in range(C) if a != c)
    fourth = sum(math.fsum(weight[c] ** 2) ** 2 for c in range(C))
    W = torch.from_numpy(weight)
    assert float(orthogonality(W)) == pytest.approx(pairs, rel=1e-12, abs=1e-12)
    assert float(quartic_norm(W)) == pytest.approx(fourth, rel=1e-12, abs=1e-12)
    expected = np.mean((weight @ weight.T - np.diag((weight**2).mean(1))) ** 2)
    assert float(published(W)) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert float(published(W)) == pytest.approx((pairs + (1 - 1 / D) ** 2 * fourth) / C**2, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("penalty", [orthogonality, quartic_norm, published])
def test_row_penalties_have_the_right_gradient(penalty) -> None:  # type: ignore[no-untyped-def]
    assert torch.autograd.gradcheck(penalty, rows(4, 6).requires_grad_())


@pytest.mark.parametrize("C", [2, 3, 10, 100])
def test_at_a_simplex_frame_the_control_has_the_same_value_and_pull(C: int) -> None:
    W = simplex(C, C + 3, 1.7).requires_grad_()
    assert float(orthogonality(W.detach())) == pytest.approx(C * 1.7**4 / (C - 1))
    (ours,) = torch.autograd.grad(orthogonality(W), W)
    (control,) = torch.autograd.grad(quartic_norm(W) / (C - 1), W)
    assert torch.allclose((ours * W).sum(1), (control * W).sum(1))


# The shift that softmax ignores ---------------------------------------------------------------------------------------


def least(W: Tensor, starts: int = 8, seed: int = 0) -> float:
    """The smallest penalty over shifts that BFGS finds from several starts, with a gradient written by hand."""

    def value(v: np.ndarray) -> tuple[float, np.ndarray]:
        moved = W.numpy() + v
        inner = moved @ moved.T
        np.fill_diagonal(inner, 0)
        return float((inner**2).sum()), 4 * (inner @ moved).sum(0)

    rng = np.random.default_rng(seed)
    size = float(W.norm()) + 1e-3
    found = [minimize(value, size * rng.standard_normal(W.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9})
             for _ in range(starts)]  # fmt: skip
    return min(result.fun for result in found)


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(0, 10**6))
def test_no_minimiser_finds_a_better_shift(size: tuple[int, int], seed: int) -> None:
    W = rows(*size, seed=seed)
    ours = float(orthogonality(W + gauge_minimum(W)))
    assert ours <= float(orthogonality(W)) + 1e-12
    assert ours <= least(W) + 1e-9 * (1 + float(orthogonality(W)))


@settings(deadline=None, max_examples=40)
@given(WEIGHTS)
def test_a_shift_by_anything_changes_nothing(weight: np.ndarray) -> None:
    W = torch.from_numpy(weight)
    shift = rows(1, W.shape[1], seed=3)
    scale = 1e-9 * (1 + float(W.norm()) ** 4)
    ours, theirs = (float(orthogonality(V + gauge_minimum(V))) for V in (W, W + shift))
    assert ours == pytest.approx(theirs, abs=scale)
    assert torch.isfinite(gauge_minimum(W)).all()


@pytest.mark.parametrize(("C", "D"), [(2, 2), (3, 4), (10, 10), (10, 512), (100, 128)])
def test_a_simplex_frame_becomes_orthogonal_and_no_probability_moves(C: int, D: int) -> None:
    norm = 1.3
    W = simplex(C, D, norm)
    v = gauge_minimum(W)
    assert float(v @ v) == pytest.approx(norm**2 / (C - 1), rel=1e-9)
    assert (W @ v).abs().max() < 1e-12
    assert float(orthogonality(W + v)) < 1e-12 * C * norm**4
    features = rows(50, D, seed=1)
    assert (((features @ (W + v).T).softmax(1)) - (features @ W.T).softmax(1)).abs().max() < 1e-12


def test_the_closed_form_inside() -> None:
    W = rows(10, 40, seed=5)
    U = W - W.mean(0)
    norms = U.square().sum(1)
    s, t = (norms - norms.mean()) / 8, norms.mean() / 9
    moved = W + gauge_minimum(W)
    expected = U @ U.T + s[:, None] + s + t
    off = ~torch.eye(10, dtype=torch.bool)
    assert torch.allclose((moved @ moved.T)[off], expected[off])


@pytest.mark.parametrize("C", [2, 3, 5, 10])
def test_the_shift_of_a_simplex_frame_in_symbols(C: int) -> None:
    sympy = pytest.importorskip("sympy")
    rho = sympy.Symbol("rho", positive=True)
    frame = sympy.eye(C) - sympy.ones(C) / C  # rows of squared norm (C − 1)/C in C dimensions
    up = sympy.ones(1, C) / sympy.sqrt(C)  # orthogonal to all of them
    W = rho * sympy.sqrt(sympy.Rational(C, C - 1)) * frame
    moved = W + sympy.ones(C, 1) * up * rho / sympy.sqrt(C - 1)
    for rows, penalty in ((W, C * rho**4 / (C - 1)), (moved, 0)):
        inner = rows * rows.T
        whole = sum(inner[c, a] ** 2 for c in range(C) for a in range(C) if a != c)
        assert sympy.simplify(whole - penalty) == 0


def test_at_the_minimum_the_shortest_shift_is_none() -> None:
    W = rows(5, 30, seed=2)
    assert float((gauge_minimum(W + gauge_minimum(W))).norm()) < 1e-9


def test_the_dtype_is_kept_and_nothing_else_is_taken() -> None:
    assert gauge_minimum(torch.randn(3, 5)).dtype == torch.float32
    assert gauge_minimum(torch.zeros(3, 5)).tolist() == [0] * 5
    for wrong in (torch.zeros(1, 5), torch.zeros(3)):
        with pytest.raises(MasoError, match=r"expected \(C, D\)"):
            gauge_minimum(wrong)


# Templates ------------------------------------------------------------------------------------------------------------


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
    )
    net = net.double()
    net(torch.randn(30, 1, 5, 5, dtype=torch.float64))  # its statistics are those of some data
    return net


def exact(model: nn.Module, x: Tensor) -> float:
    A = affine_map(model.eval(), x).A.flatten(2)
    inner = A @ A.mT
    inner.diagonal(dim1=1, dim2=2).zero_()
    return float(inner.square().sum((1, 2)).mean())


def test_the_template_penalty_is_unbiased_and_so_is_its_gradient() -> None:
    net, x = small(), torch.randn(8, 1, 5, 5, dtype=torch.float64)
    parameters = dict(net.named_parameters())
    draws, slopes = [], []
    for _ in range(20):
        value = templates(net, x.repeat(200, 1, 1, 1), samples=800)  # 800 draws, of half of them
        draws.append(float(value.detach()))
        slopes.append(torch.autograd.grad(value, net[5].weight)[0])
    assert abs(np.mean(draws) - exact(net, x)) < 4 * np.std(draws) / math.sqrt(len(draws))

    def whole(weight: Tensor) -> Tensor:
        state = {**parameters, "5.weight": weight}
        leaf = x.clone().requires_grad_()
        z = torch.func.functional_call(net.eval(), state, (leaf,))
        A = torch.stack(
            [torch.autograd.grad(z[:, c].sum(), leaf, create_graph=True)[0].flatten(1) for c in range(3)], 1
        )
        return torch.stack([orthogonality(a) for a in A]).mean()

    W = net[5].weight.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(whole(W), W)
    every = torch.stack(slopes)
    assert ((every.mean(0) - expected).abs() < 5 * every.std(0) / math.sqrt(len(slopes))).all()


def test_the_modes_of_the_network_and_its_statistics_stay() -> None:
    net = small().train()
    net[1].eval()
    statistics = net[1].running_mean.clone()
    templates(net, torch.randn(8, 1, 5, 5, dtype=torch.float64)).backward()
    assert [net.training, net[0].training, net[1].training] == [True, True, False]
    assert torch.equal(net[1].running_mean, statistics)
    assert net[0].weight.grad.abs().max() > 0


def test_templates_refuse_what_has_no_pairs() -> None:
    with pytest.raises(MasoError, match="expected 1 to 4"):
        templates(nn.Linear(3, 3), torch.randn(4, 3), samples=5)
    net = nn.Linear(3, 1).train()
    with pytest.raises(MasoError, match="one output"):
        templates(net, torch.randn(4, 3))
    assert net.training
