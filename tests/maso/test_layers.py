import pytest
import torch
from torch import nn
from zoo import KINKS, LINEAR, Apply, norm

from maso import MASO, MasoError, exact, from_layer

flat = lambda t: t.reshape(len(t), -1)
DOUBLE = torch.float64
NOT_CONVEX = {"hardtanh", "relu6", "clamp", "channel min", "minimum of a constant"}
NOT_CONVEX |= {"times a mask", "where on a parameter"}  # the slope of the second is random: see the test of slopes


@pytest.mark.parametrize("name", sorted((LINEAR | KINKS).keys() - NOT_CONVEX))
def test_every_layer_equals_its_maso(name):
    make, shape = (LINEAR | KINKS)[name]
    layer, x = make().double().eval(), torch.randn(50, *shape, dtype=DOUBLE)
    with torch.no_grad():
        torch.testing.assert_close(from_layer(layer, shape)(x.flatten(1)), flat(layer(x)), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", sorted(NOT_CONVEX - {"where on a parameter"}))
def test_what_is_not_convex_is_no_maso(name):
    make, shape = KINKS[name]
    with pytest.raises(MasoError, match="not one MASO"):
        from_layer(make().double(), shape)


def affine():
    return nn.Linear(3, 4).double()


def table():
    """Rows of the table: layer, input size, and A, B by the formula of the paper."""
    fc, fc2, skip = affine(), affine(), affine()
    W, b = fc.weight.detach(), fc.bias.detach()
    Ws, bs = skip.weight.detach(), skip.bias.detach()
    I, zero = torch.eye(4, dtype=DOUBLE), torch.zeros(4, 4, dtype=DOUBLE)
    O = torch.zeros(4, dtype=DOUBLE)
    two = lambda a, b: torch.stack([a, b], 1)
    cell = nn.RNNCell(3, 2, nonlinearity="relu").double()
    joint = torch.cat([cell.weight_ih, cell.weight_hh], 1).detach()
    offset = (cell.bias_ih + cell.bias_hh).detach()
    pairs = lambda M: M.reshape(2, 2, *M.shape[1:])
    pool = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.MaxPool1d(2))
    return {
        "fc": (fc, 3, W[:, None], b[:, None]),
        "relu": (nn.ReLU(), 4, two(zero, I), two(O, O)),
        "leaky": (nn.LeakyReLU(0.25), 4, two(0.25 * I, I), two(O, O)),
        "abs": (Apply(torch.abs), 4, two(-I, I), two(O, O)),
        "max pool": (pool, 4, pairs(I), pairs(O)),
        "fc, relu": (nn.Sequential(fc, nn.ReLU()), 3, two(0 * W, W), two(0 * b, b)),
        "fc, leaky": (nn.Sequential(fc, nn.LeakyReLU(0.25)), 3, two(0.25 * W, W), two(0.25 * b, b)),
        "fc, abs": (nn.Sequential(fc, Apply(torch.abs)), 3, two(-W, W), two(-b, b)),
        "fc, max pool": (nn.Sequential(fc, pool), 3, pairs(W), pairs(b)),
        "fc, relu, max pool": (
            nn.Sequential(fc, nn.ReLU(), pool),
            3,
            torch.cat([torch.zeros(2, 1, 3, dtype=DOUBLE), pairs(W)], 1),
            torch.cat([torch.zeros(2, 1, dtype=DOUBLE), pairs(b)], 1),
        ),
        "skip": (Apply(lambda x, f, g: f(x).relu() + g(x), fc, skip), 3, two(Ws, W + Ws), two(bs, b + bs)),
        "concat": (
            Apply(lambda x, f, g: torch.cat([f(x).relu(), g(x)], 1), fc, fc2),
            3,
            torch.cat([two(0 * W, W), two(fc2.weight, fc2.weight)]).detach(),
            torch.cat([two(0 * b, b), two(fc2.bias, fc2.bias)]).detach(),
        ),
        "rnn cell": (
            Apply(lambda x, c: c(x[:, :3], x[:, 3:]), cell),
            5,
            two(0 * joint, joint),
            two(0 * offset, offset),
        ),
    }


@pytest.mark.parametrize("name", table())
def test_the_parameters_are_those_of_the_paper(name):
    layer, D, A, B = table()[name]
    found, formula = from_layer(layer, D), MASO(A, B)
    assert found.R == formula.R
    pieces = lambda m: [
        {tuple(torch.cat([m.A[k, r], m.B[k, r : r + 1]]).tolist()) for r in range(m.R)} for k in range(m.K)
    ]
    if name in ("rnn cell", "skip"):  # sums of two stored numbers may round
        torch.testing.assert_close(found.A.sort(1).values, formula.A.sort(1).values)
    else:
        assert pieces(found) == pieces(formula)


def test_a_layer_equals_its_maso_over_the_rationals():
    layer = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.MaxPool1d(2))
    m = from_layer(layer, (1, 6))
    for _ in range(20):
        x = torch.randint(-8, 9, (1, 6)) / 4
        assert exact.evaluate(layer, x.tolist()).ravel().tolist() == exact.maso_value(m, x.tolist()).tolist()


def test_a_network_with_nonnegative_later_weights_is_one_maso():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        for layer in (model[2], model[4]):
            layer.weight.abs_()
        x = torch.randn(100, 2, dtype=DOUBLE)
        m = from_layer(model, 2)
        torch.testing.assert_close(m(x), model(x))
    model[4].weight.data[0, 0] = -1
    with pytest.raises(MasoError, match="negative weight"):
        from_layer(model, 2)


def test_batch_norm_after_relu_with_a_negative_scale_is_refused():
    layer = norm(nn.BatchNorm1d, 2).double()
    nn.init.constant_(layer.weight, -1)
    with pytest.raises(MasoError, match="batch_norm"):
        from_layer(nn.Sequential(nn.ReLU(), layer), 2)


def test_too_many_pieces_are_refused():
    with pytest.raises(MasoError, match="pieces"):
        from_layer(nn.Sequential(nn.ReLU(), Apply(lambda x: x.sum(1, keepdim=True))), 13)
