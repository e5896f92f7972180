import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from zoo import ALL, KINKS, Apply

from maso import MasoError, affine_map, codes, neighbours, vq_distance
from maso.codes import product

DOUBLE = torch.float64


def test_gates_and_winners_are_those_of_the_layers():
    model, x = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Unflatten(1, (2, 4)), nn.MaxPool1d(2)), torch.randn(9, 3)
    found = codes(model, x)
    z = model[0](x)
    assert torch.equal(found["1"], z > 0)
    windows = z.relu().view(9, 2, 2, 2)
    assert torch.equal(found["3"], (windows[..., 1] > windows[..., 0]).long())


def test_pieces_of_a_clamp_are_counted():
    found = codes(nn.Hardtanh(-1, 1), torch.tensor([[-2.0, -1.0, 0.0, 1.0, 2.0]]))
    assert found["hardtanh"].tolist() == [[0, 0, 1, 1, 2]]


@pytest.mark.parametrize("name", ALL)
def test_equal_codes_mean_equal_affine_maps(name):
    make, shape = ALL[name]
    model = make().double().eval()
    x = torch.randn(2, *shape, dtype=DOUBLE)
    x[1] = x[0] + 1e-9 * torch.randn(shape)
    same = all(torch.equal(c[0], c[1]) for c in codes(model, x).values())
    found = affine_map(model, x)
    if same:
        torch.testing.assert_close(found.A[0], found.A[1], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.b[0], found.b[1], rtol=1e-10, atol=1e-10)


def brute(model, x, y):
    """Number of differing units, counted one by one."""
    of_x, of_y = codes(model, x), codes(model, y)
    return {path: (a.flatten(1)[:, None] != of_y[path].flatten(1)[None]).sum(2) for path, a in of_x.items()}


@pytest.mark.parametrize("name", KINKS)
def test_vq_distance_is_the_share_of_differing_pieces(name):
    make, shape = ALL[name]
    model, x, y = make().eval(), torch.randn(5, *shape), torch.randn(41, *shape)
    found = vq_distance(model, x, y)
    for path, count in brute(model, x, y).items():
        units = codes(model, x)[path][0].numel()
        assert found[path].dtype == torch.float32
        torch.testing.assert_close(found[path] * units, count.float())


@pytest.mark.parametrize("capability", ["AVX512", "AVX2"])
def test_a_product_is_exact_with_and_without_integer_instructions(monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    a, b = (torch.randint(-1, 2, (n, 20_000), dtype=torch.int8) for n in (3, 2))
    assert product(a, b).equal((a.long() @ b.long().T).int())


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 5, 8, 16, 200, 256])
def test_windows_of_any_size_are_compared_exactly(pieces):
    model = nn.Sequential(nn.Unflatten(1, (1, 3 * pieces)), nn.MaxPool1d(pieces))
    x, y = torch.randn(7, 3 * pieces), torch.randn(40, 3 * pieces)
    (d,), (count,) = vq_distance(model, x, y).values(), brute(model, x, y).values()
    assert torch.equal((d * 3).round().long(), count)


def random_network(rng_seed, width, kind):
    """A network with gates of two or three pieces and with windows of three entries, in double precision."""
    torch.manual_seed(rng_seed)
    gate = {"relu": nn.ReLU(), "leaky": nn.LeakyReLU(0.1), "hardtanh": nn.Hardtanh(-0.5, 0.5)}[kind]
    layers = [nn.Linear(2, 3 * width), gate, nn.Unflatten(1, (1, 3 * width)), nn.MaxPool1d(3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, width), nn.ReLU()).double()


@given(st.integers(0, 2**31), st.integers(1, 9), st.sampled_from(["relu", "leaky", "hardtanh"]), st.integers(0, 2**31))
def test_vq_distance_is_a_metric_on_codes_and_zero_in_one_cell_only(weights, width, kind, points):
    model = random_network(weights, width, kind)
    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(points), dtype=DOUBLE)
    x = torch.cat([x, x[:4], x[:4] + 1e-3])  # some in one cell
    distance, code = vq_distance(model, x, x), codes(model, x)
    everywhere = torch.ones(len(x), len(x), dtype=torch.bool)
    for path, d in distance.items():
        n = (d * code[path][0].numel()).round().long()
        assert torch.equal(n, n.T)
        assert (n[:, :, None] <= n[:, None, :] + n.T[None]).all()
        equal = (code[path].flatten(1)[:, None] == code[path].flatten(1)[None]).all(2)
        assert torch.equal(d == 0, equal)
        everywhere &= equal
    am = affine_map(model, x)
    for i, j in everywhere.nonzero().tolist():
        torch.testing.assert_close(am.A[i], am.A[j], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(am.b[i], am.b[j], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("k", [1, 5, 90])
def test_neighbours_are_those_of_the_whole_table_and_ties_go_to_the_lower_index(monkeypatch, k):
    monkeypatch.setattr(sys.modules["maso.codes"], "BLOCK", 32)
    model, x, y = random_network(3, 4, "relu"), torch.randn(20, 2, dtype=DOUBLE), torch.randn(90, 2, dtype=DOUBLE)
    found, table = neighbours(model, x, y, k), brute(model, x, y)
    for path, count in table.items():
        order = (count * len(y) + torch.arange(len(y))).sort(1).values[:, :k]
        assert torch.equal(found[path].index, order % len(y))
        units = codes(model, x)[path][0].numel()
        assert torch.equal(found[path].distance, (order // len(y)) / units)


def test_a_layer_used_twice_appears_twice():
    relu = nn.ReLU()
    model = Apply(lambda x, r: r(r(x) - 1), relu)
    assert list(codes(model, torch.zeros(1, 2))) == ["parts.0", "parts.0_1"]


def test_inputs_of_different_shapes_are_refused():
    with pytest.raises(MasoError, match="samples of shape"):
        vq_distance(nn.ReLU(), torch.zeros(1, 2), torch.zeros(1, 3))
    with pytest.raises(MasoError, match="samples of shape"):
        neighbours(nn.ReLU(), torch.zeros(1, 2), torch.zeros(1, 3), 1)


@pytest.mark.parametrize("k", [0, 4])
def test_a_number_of_neighbours_that_there_is_not_is_refused(k):
    with pytest.raises(MasoError, match="expected 1 ≤ k ≤ 3"):
        neighbours(nn.ReLU(), torch.zeros(1, 2), torch.zeros(3, 2), k)
