import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maso import MASO, MasoError


def random_maso(K=3, R=4, D=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=g)
    return MASO(normal(K, R, D), normal(K, R)), normal(100, D)


def unit(*slopes):
    return MASO(torch.tensor([[[s] for s in slopes]], dtype=torch.float64), torch.zeros(1, len(slopes)).double())


def test_value_is_the_largest_piece():
    m, x = random_maso()
    brute = torch.stack(
        [torch.stack([max(m.A[k, r] @ p + m.B[k, r] for r in range(m.R)) for k in range(m.K)]) for p in x]
    )
    torch.testing.assert_close(m(x), brute, rtol=1e-14, atol=1e-14)


def test_vq_form_and_matrix_form_give_the_value():
    m, x = random_maso()
    torch.testing.assert_close((m.vq(x) * m.pieces(x)).sum(2), m(x))
    A, b = m.matrix(x)
    torch.testing.assert_close(torch.einsum("nkd,nd->nk", A, x) + b, m(x))


def test_code_is_the_first_of_equal_pieces():
    m = MASO(torch.ones(1, 3, 2), torch.tensor([[0.0, 1.0, 1.0]]))
    assert m.code(torch.randn(4, 2)).eq(1).all()


@given(st.integers(0, 1000), st.floats(0, 1))
def test_outputs_are_convex(seed, t):
    m, x = random_maso(seed=seed)
    y = x.flip(0)
    assert (m(t * x + (1 - t) * y) <= t * m(x) + (1 - t) * m(y) + 1e-12).all()


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 0.9])
def test_soft_vq_is_the_published_table(beta):
    u = torch.linspace(-3, 3, 41, dtype=torch.float64)[:, None]
    eta = beta / (1 - beta)
    table = {
        (0.0, 1.0): u * torch.sigmoid(eta * u),
        (-1.0, 1.0): u * torch.tanh(eta * u),
        (0.2, 1.0): u * (0.2 * (0.2 * eta * u).exp() + (eta * u).exp()) / ((0.2 * eta * u).exp() + (eta * u).exp()),
    }
    for slopes, expected in table.items():
        torch.testing.assert_close(unit(*slopes).soft(u, beta), expected, rtol=1e-12, atol=1e-12)


def test_soft_vq_tends_to_the_maximum():
    m, x = random_maso()
    torch.testing.assert_close(m.soft(x, 1.0), m(x))
    torch.testing.assert_close(m.soft(x, 1 - 1e-6), m(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("A", "B", "message"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), "expected"),
        (torch.ones(2, 3, 4), torch.ones(2, 4), "expected"),
        (torch.ones(2, 0, 4), torch.ones(2, 0), "R ≥ 1"),
        (torch.ones(2, 3, 4).long(), torch.ones(2, 3).long(), "floating-point"),
        (torch.ones(2, 3, 4), torch.ones(2, 3).double(), "same"),
        (torch.full((2, 3, 4), torch.nan), torch.ones(2, 3), "finite"),
    ],
)
def test_bad_parameters_are_refused(A, B, message):
    with pytest.raises(MasoError, match=message):
        MASO(A, B)


def test_bad_input_is_refused():
    m, x = random_maso()
    with pytest.raises(MasoError, match="expected"):
        m(x[:, :2])
    with pytest.raises(MasoError, match="beta"):
        m.soft(x, 1.5)
