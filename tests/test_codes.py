import pytest
import torch
from torch import nn
from zoo import ALL, Apply

from maso import MasoError, affine_map, codes, vq_distance

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


def test_vq_distance_is_the_share_of_differing_pieces():
    model = nn.Sequential(nn.Linear(3, 7), nn.Hardtanh(), nn.Linear(7, 6), nn.Unflatten(1, (1, 6)), nn.MaxPool1d(3))
    x, y = torch.randn(5, 3), torch.randn(4, 3)
    found, of_x, of_y = vq_distance(model, x, y), codes(model, x), codes(model, y)
    for path, d in found.items():
        brute = (of_x[path].flatten(1)[:, None] != of_y[path].flatten(1)[None]).float().mean(2)
        torch.testing.assert_close(d, brute)


def test_vq_distance_is_a_metric_on_codes():
    model, x = nn.Sequential(nn.Linear(2, 6), nn.ReLU()), torch.randn(12, 2)
    d, code = vq_distance(model, x, x)["1"], codes(model, x)["1"]
    torch.testing.assert_close(d, d.T)
    assert (d[:, :, None] <= d[:, None, :] + d.T[None] + 1e-6).all()
    assert torch.equal(d == 0, (code[:, None] == code[None]).all(2))


def test_a_layer_used_twice_appears_twice():
    relu = nn.ReLU()
    model = Apply(lambda x, r: r(r(x) - 1), relu)
    assert list(codes(model, torch.zeros(1, 2))) == ["parts.0", "parts.0_1"]


def test_inputs_of_different_shapes_are_refused():
    with pytest.raises(MasoError, match="samples of shape"):
        vq_distance(nn.ReLU(), torch.zeros(1, 2), torch.zeros(1, 3))
