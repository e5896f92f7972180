"""Rugosity against limits computed by hand, its penalties against their expectation."""

import math
import sys

import pytest
import torch
from torch import nn

from maso import MasoError, affine_map
from maso.rugosity import (
    _slopes,
    derivative,
    power_mean,
    relative_rugosity_penalty,
    rugosity,
    rugosity_penalty,
    tangent_prop_penalty,
)
from maso.tangents import ambient, local_pca, random_translation, rotation, scaling, shuffled, translations
from maso_book.networks import small_cnn


def small_net(inputs: int = 3, outputs: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, outputs)).double()


def hinge(slope: float = 3.0, place: float = 0.5) -> nn.Sequential:
    """slope · max(0, x − place)."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double().requires_grad_(False)
    net[0].weight.fill_(1.0), net[0].bias.fill_(-place), net[2].weight.fill_(slope), net[2].bias.fill_(0.0)
    return net


def by_hand(net, x, u, eps):
    """‖A[x] − A[x + εu]‖_F / ε by the full affine maps."""
    here = affine_map(net, x).A.flatten(2)
    there = affine_map(net, (x[:, None] + eps * u).flatten(0, 1)).A.flatten(2).unflatten(0, u.shape[:2])
    return (here[:, None] - there).flatten(2).norm(dim=2) / eps


# The measure ----------------------------------------------------------------------------------------------------------


def test_an_affine_network_has_none() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)).double()
    found = rugosity(net, torch.randn(10, 3).double(), tangents=ambient, eps=1.0)
    assert found.plain == (0.0, 0.0)
    assert not found.moved.any()


def test_one_hinge() -> None:
    x, right = torch.tensor([[0.4], [0.6], [0.1]]).double(), torch.ones(3, 1, 1).double()
    found = rugosity(hinge(), x, tangents=right, eps=0.2)
    assert found.change.flatten().tolist() == pytest.approx([3.0 / 0.2, 0.0, 0.0])
    assert found.moved.flatten().tolist() == [True, False, False]
    assert found.plain.value == pytest.approx(math.sqrt(15.0**2 / 3))
    assert rugosity(hinge(), x, tangents=right, eps=0.2, p=1.0).plain.value == pytest.approx(15.0 / 3)
    assert found.size.tolist() == pytest.approx([0.0, 3.0, 0.0])


def test_where_the_slope_is_zero_delta_keeps_the_measure_finite() -> None:
    x, right = torch.tensor([[0.4]]).double(), torch.ones(1, 1, 1).double()
    assert rugosity(hinge(), x, tangents=right, eps=0.2).scale_free.value == math.inf
    assert rugosity(hinge(), x, tangents=right, eps=0.2, delta=1.0).scale_free.value == pytest.approx(15.0)


def test_on_a_line_it_is_the_sum_of_the_jumps() -> None:
    """p = 1 and a small ε on a grid of step ε: every bend of the line is passed once."""
    net = small_net(inputs=1)
    eps = 1e-3
    x = torch.arange(-3.0, 3.0, eps, dtype=torch.float64)[:, None]
    total = 6 * rugosity(net, x, tangents=torch.ones_like(x)[:, None], eps=eps, p=1.0).plain.value
    A = affine_map(net, torch.cat([x, x[-1:] + eps])).A.flatten(1)
    jumps = float((A[1:] - A[:-1]).norm(dim=1).sum())
    assert jumps > 0.1
    assert total == pytest.approx(jumps, rel=1e-10)


def test_on_a_line_the_jumps_are_those_of_the_exact_partition() -> None:
    """The bends of one hidden layer are known: −b/w, with the jump |w| ‖v‖."""
    net = nn.Sequential(nn.Linear(1, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    w, b, v = net[0].weight[:, 0], net[0].bias, net[2].weight
    inside = (-b / w).abs() < 3
    exact = float((w.abs() * v.norm(dim=0))[inside].sum().detach()) / 6
    x = torch.rand(40_000, 1, dtype=torch.float64) * 6 - 3
    found = rugosity(net, x, tangents=torch.ones_like(x)[:, None], eps=1e-2, p=1.0, chunk=40_000).plain
    assert found.value == pytest.approx(exact, abs=5 * found.error + 0.01 * exact)


def test_for_p_2_it_grows_like_one_over_the_root_of_eps() -> None:
    net = nn.Sequential(nn.Linear(1, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    x = torch.linspace(-3, 3, 15_001, dtype=torch.float64)[:, None]
    values = [
        rugosity(net, x, tangents=torch.ones_like(x)[:, None], eps=eps, chunk=70_000).plain.value
        for eps in (1e-3, 4e-3)
    ]
    assert values[0] / values[1] == pytest.approx(2.0, rel=0.1)


def test_it_is_that_of_the_full_affine_maps() -> None:
    net, x = small_net(), torch.randn(9, 3).double()
    u = torch.nn.functional.normalize(torch.randn(9, 2, 3).double(), dim=2)
    found = rugosity(net, x, tangents=7 * u, eps=0.5, chunk=4)
    torch.testing.assert_close(found.change, by_hand(net, x, u, 0.5), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.size, affine_map(net, x).A.flatten(1).norm(dim=1))
    assert torch.equal(found.moved, found.change > 0)
    assert found.variance.abs().max() == 0


def test_convolutions_and_pools_too() -> None:
    net, x = small_cnn().double().eval(), torch.rand(2, 3, 32, 32).double()
    u = translations(x)
    u = u / u.flatten(2).norm(dim=2)[..., None, None, None]
    found = rugosity(net, x, tangents=translations, eps=0.5)
    torch.testing.assert_close(found.change, by_hand(net, x, u, 0.5), rtol=1e-10, atol=1e-12)


def test_scaled_outputs_leave_the_scale_free_measure_as_it_is() -> None:
    net, x, u = small_net(), torch.randn(20, 3).double(), torch.randn(20, 2, 3).double()
    before = rugosity(net, x, tangents=u, eps=0.3)
    with torch.no_grad():
        net[-1].weight *= 37.0
        net[-1].bias *= 37.0
    after = rugosity(net, x, tangents=u, eps=0.3)
    assert after.scale_free.value == pytest.approx(before.scale_free.value, rel=1e-12)
    assert after.plain.value == pytest.approx(37 * before.plain.value, rel=1e-12)


def test_equal_codes_need_no_slopes(monkeypatch) -> None:
    counted = []
    monkeypatch.setattr(sys.modules["maso.rugosity"], "_slopes", lambda *a: counted.append(len(a[2])) or _slopes(*a))
    x = torch.tensor([[0.4], [0.6], [0.1]]).double()
    rugosity(hinge(), x, tangents=torch.ones(3, 1, 1).double(), eps=0.2)
    assert counted == [3, 1]  # A[x] of the three points, and A[x + εu] of the one that moved


def test_projections_are_unbiased_and_know_their_variance() -> None:
    net, x, u = small_net(outputs=6), torch.randn(4, 3).double(), torch.randn(4, 1, 3).double()
    exact = rugosity(net, x, tangents=u, eps=1.0)
    found = rugosity(
        net, x.repeat_interleave(2000, 0), tangents=u.repeat_interleave(2000, 0), eps=1.0, projections=3, chunk=8000
    )
    squares, variance = found.change.square().view(4, 2000), found.variance.view(4, 2000)
    error = squares.std(1) / 2000**0.5
    assert ((squares.mean(1) - exact.change[:, 0].square()).abs() < 5 * error + 1e-12).all()
    torch.testing.assert_close(variance.mean(1), squares.var(1), rtol=0.15, atol=1e-12)


def test_power_mean_and_its_error() -> None:
    values = torch.rand(20_000, 2).double()
    found = power_mean(values, 2.0)
    assert found.value == pytest.approx(math.sqrt(1 / 3), rel=0.02)
    several = [power_mean(part, 2.0).value for part in values.split(200)]
    assert power_mean(values[:200], 2.0).error == pytest.approx(float(torch.tensor(several).std()), rel=0.35)
    assert math.isnan(power_mean(values[:1], 1.0).error)


@pytest.mark.parametrize(
    "wrong", [{"eps": 0.0}, {"p": 0.0}, {"projections": 1}, {"delta": -1.0}, {"tangents": torch.zeros(5, 1, 3)}]
)
def test_what_does_not_fit_is_refused(wrong) -> None:
    options = {"tangents": ambient, "eps": 0.1} | wrong
    with pytest.raises(MasoError):
        rugosity(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.randn(5, 3), **options)


# Tangents -------------------------------------------------------------------------------------------------------------


def disc(angle: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """A smooth, lopsided blob, turned, scaled and moved: (1, 1, 33, 33)."""
    r, c = torch.meshgrid(*[torch.arange(33.0).double() - 16] * 2, indexing="ij")
    r, c = r - shift[0], c - shift[1]
    r, c = (math.cos(angle) * r - math.sin(angle) * c) / scale, (math.sin(angle) * r + math.cos(angle) * c) / scale
    return torch.exp(-((r - 3) ** 2) / 60 - (c + 2) ** 2 / 25)[None, None]


@pytest.mark.parametrize(
    ("tangent", "moved"),
    [
        (lambda x: translations(x)[:, :1], lambda t: disc(shift=(-t, 0.0))),
        (lambda x: translations(x)[:, 1:], lambda t: disc(shift=(0.0, -t))),
        (rotation, lambda t: disc(angle=t)),
        (scaling, lambda t: disc(scale=math.exp(-t))),
    ],
)
def test_tangents_are_derivatives_of_the_movement(tangent, moved) -> None:
    found = tangent(disc())[0, 0]
    step = 1e-4
    exact = ((moved(step) - moved(-step)) / (2 * step))[0]
    inside = (slice(None), slice(2, -2), slice(2, -2))
    difference = (found - exact)[inside].norm() / exact[inside].norm()
    other = (found + exact)[inside].norm() / exact[inside].norm()
    assert min(difference, other) < 0.05  # which way is positive does not matter


def test_local_pca_finds_the_plane_the_data_lie_in() -> None:
    plane = torch.linalg.qr(torch.randn(10, 2).double()).Q.T
    data = torch.rand(500, 2).double() @ plane
    found = local_pca(data[:6], data, neighbours=12, count=2)
    torch.testing.assert_close(found @ plane.T @ plane, found)
    torch.testing.assert_close(found @ found.mT, torch.eye(2).double().expand(6, -1, -1))
    with pytest.raises(MasoError, match="neighbours"):
        local_pca(data, data, neighbours=2, count=2)


def test_a_random_translation_lies_between_the_two() -> None:
    x = torch.rand(5, 3, 8, 8).double()
    down, right = translations(x).unbind(1)
    both = torch.stack([down.flatten(1), right.flatten(1)], 2)
    found = random_translation(x).flatten(2)[:, 0]
    weights = torch.linalg.lstsq(both, found[..., None]).solution
    torch.testing.assert_close(weights.square().sum((1, 2)), torch.ones(5).double())


def test_shuffled_tangents_keep_their_values() -> None:
    tangents = translations(torch.rand(2, 3, 8, 8))
    found = shuffled(tangents)
    assert not torch.equal(found, tangents)
    assert torch.equal(found.flatten(3).sort().values, tangents.flatten(3).sort().values)


# Penalties ------------------------------------------------------------------------------------------------------------


def test_the_penalty_is_unbiased() -> None:
    net, x, u = small_net(), torch.randn(5, 3).double(), torch.randn(5, 2, 3).double()
    exact = float(rugosity(net, x, tangents=u, eps=0.7).change.square().mean())
    n = 5_000
    many, tangents = x.repeat(n, 1), u.repeat(n, 1, 1)
    drawn = [float(rugosity_penalty(net, many, tangents=tangents, eps=0.7).detach()) for _ in range(10)]
    error = float(torch.tensor(drawn).std()) / 10**0.5
    assert sum(drawn) / 10 == pytest.approx(exact, abs=5 * error + 1e-9)
    assert sum(drawn) / 10 == pytest.approx(exact, rel=0.05)


def test_its_gradient_is_unbiased_too() -> None:
    net, x, u = small_net(), torch.randn(2, 3).double(), torch.randn(2, 1, 3).double()
    unit = torch.nn.functional.normalize(u, dim=2)

    def exact() -> torch.Tensor:
        """By full rows and second derivatives."""
        leaf = torch.cat([x, x + 0.7 * unit[:, 0]]).requires_grad_()
        y = net(leaf)
        rows = [torch.autograd.grad(y[:, k].sum(), leaf, create_graph=True)[0] for k in range(y.shape[1])]
        A = torch.stack(rows, 1)
        return (A[:2] - A[2:]).square().sum((1, 2)).mean() / 0.7**2

    (expected,) = torch.autograd.grad(exact(), net[2].weight)
    many = rugosity_penalty(net, x.repeat(100_000, 1), tangents=u.repeat(100_000, 1, 1), eps=0.7)
    (found,) = torch.autograd.grad(many, net[2].weight)
    assert expected.norm() > 0
    assert (found - expected).norm() < 0.03 * expected.norm()


def test_the_relative_penalty_is_the_quotient_of_two_means_and_knows_no_scale() -> None:
    net, x, u = small_net(), torch.randn(5, 3).double(), torch.randn(5, 2, 3).double()
    exact = rugosity(net, x, tangents=u, eps=0.7)
    quotient = float(exact.change.square().mean() / exact.size.square().mean())
    many = {"tangents": u.repeat(20_000, 1, 1), "eps": 0.7}
    torch.manual_seed(1)
    found = float(relative_rugosity_penalty(net, x.repeat(20_000, 1), **many).detach())
    assert found == pytest.approx(quotient, rel=0.05)
    with torch.no_grad():
        net[-1].weight *= 37.0
    torch.manual_seed(1)
    assert float(relative_rugosity_penalty(net, x.repeat(20_000, 1), **many).detach()) == pytest.approx(found, rel=1e-9)


def test_tangent_prop_is_the_first_order_term() -> None:
    net, x, t = small_net(), torch.randn(5, 3).double(), torch.randn(5, 2, 3).double()
    along = torch.einsum("nkd,nud->nuk", affine_map(net, x).A, t)
    found = tangent_prop_penalty(net, x, tangents=t)
    assert float(found.detach()) == pytest.approx(float(along.square().sum(2).mean()), rel=1e-12)


def test_the_derivative_is_that_of_eval_mode_and_the_model_stays_as_it_was() -> None:
    net, x = small_cnn().train(), torch.rand(4, 3, 32, 32)
    net[1].eval()
    w = torch.randn_like(x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = derivative(net, x, w)
    assert [m.training for m in net[:3]] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    exact = torch.einsum("nkd,nd->nk", affine_map(net.eval(), x).A.flatten(2), w.flatten(1))
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4)


def test_the_penalty_reaches_the_weights_of_a_network_in_training() -> None:
    net, x = small_cnn().train(), torch.rand(4, 3, 32, 32)
    rugosity_penalty(net, x, tangents=random_translation(x), eps=0.5).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for n, p in net.named_parameters() if "weight" in n)
