from fractions import Fraction

import pytest
import torch
import z3
from torch import nn
from zoo import ALL, Apply

from maso import MASO, MasoError, exact, from_layer

DOUBLE = torch.float64
INEXACT = {"scale by a parameter", "add a parameter"}


@pytest.mark.parametrize("name", ALL)
def test_over_the_rationals_the_network_is_the_network(name):
    make, shape = ALL[name]
    model = make().double().eval()
    x = torch.randint(-8, 9, shape) / 8
    with torch.no_grad():
        expected = model(x[None].double()).flatten()
    found = exact.evaluate(model, x.tolist()).ravel()
    torch.testing.assert_close(torch.tensor([float(v) for v in found], dtype=DOUBLE), expected, rtol=1e-12, atol=1e-12)


def test_mean_and_division_are_exact():
    assert exact.evaluate(nn.AvgPool1d(3), [[1, 1, 0]]).tolist() == [[Fraction(2, 3)]]
    assert exact.evaluate(Apply(lambda x: x / 3), [1]).tolist() == [Fraction(1, 3)]
    assert exact.evaluate(Apply(lambda x: x.mean(1, keepdim=True)), [1] * 7).tolist() == [1]


def test_weights_are_taken_as_stored():
    layer = nn.Linear(1, 1)
    found = exact.evaluate(layer, [Fraction(1, 3)])[0]
    assert found == Fraction(layer.weight.item()) / 3 + Fraction(layer.bias.item())


@pytest.mark.parametrize("name", ["relu", "leaky relu", "abs", "max pool 1d", "maxout", "mlp", "residual", "rnn cells"])
def test_solver_terms_are_the_network(name):
    make, shape = ALL[name]
    model = make().eval()
    x = (torch.randint(-8, 9, shape) / 8).flatten().tolist()
    inputs, outputs = exact.terms(model, shape)
    values = [(v, z3.RealVal(Fraction(n))) for v, n in zip(inputs, x, strict=True)]
    expected = exact.evaluate(model, torch.tensor(x).reshape(shape).tolist()).ravel()
    for term, value in zip(outputs, expected, strict=True):
        assert z3.simplify(z3.substitute(term, *values) == z3.RealVal(value))


def test_a_true_statement_is_proved_and_a_false_one_refuted():
    layer = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    x, y = exact.terms(layer, (2,))
    formula = exact.maso_terms(from_layer(layer, 2), x)
    proof = exact.prove(z3.And([a == b for a, b in zip(y, formula, strict=True)]))
    assert proof.holds
    assert proof.counterexample is None
    refuted = exact.prove(y[0] == 0)
    assert not refuted.holds
    point = [refuted.counterexample.get(f"x{i}", Fraction(0)) for i in range(2)]
    assert exact.evaluate(layer, point)[0] != 0


def test_convexity_of_a_maso_is_proved():
    torch.manual_seed(1)
    layer = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Unflatten(1, (1, 3)), nn.MaxPool1d(3))
    x, fx = exact.terms(layer, (2,), name="x")
    y, fy = exact.terms(layer, (2,), name="y")
    middle = exact.at(layer, (2,), [(a + b) / 2 for a, b in zip(x, y, strict=True)])
    assert exact.prove(middle[0] <= (fx[0] + fy[0]) / 2).holds


def test_maso_value_is_the_formula():
    m = MASO(torch.tensor([[[1.0, 0.5], [0.0, -1.0]]]), torch.tensor([[0.0, 0.25]]))
    assert exact.maso_value(m, [Fraction(1, 3), 1]).tolist() == [Fraction(5, 6)]


@pytest.mark.parametrize("x", [[float("nan")], [float("inf")]])
def test_what_is_not_finite_is_refused(x):
    with pytest.raises(MasoError, match="finite"):
        exact.evaluate(nn.ReLU(), x)


def test_a_wrong_number_of_inputs_is_refused():
    with pytest.raises(MasoError, match="inputs"):
        exact.maso_value(MASO(torch.ones(1, 1, 2), torch.zeros(1, 1)), [1, 2, 3])
