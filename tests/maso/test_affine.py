import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import jacobian_action
from torch import nn
from zoo import ALL, Apply

from maso import MasoError, NotPiecewiseAffine, affine_map, closed_form, compose
from maso_book.datasets import import_torchvision
from maso_book.networks import large_cnn, small_cnn

flat = lambda t: t.reshape(len(t), -1)
DOUBLE = torch.float64


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-300))


@pytest.mark.parametrize("name", ALL)
def test_the_map_is_the_product_of_the_written_out_factors(name):
    make, shape = ALL[name]
    model, x = make().double().eval(), torch.randn(3, *shape, dtype=DOUBLE)
    found = affine_map(model, x)
    with torch.no_grad():
        assert relative(found(x), flat(model(x.clone()))) <= 1e-12
    for n in range(len(x)):
        A, b = compose(closed_form(model, x[n : n + 1]))
        torch.testing.assert_close(found.A[n].flatten(1), A, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.b[n], b, rtol=1e-12, atol=1e-12)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    slope=st.sampled_from([0.0, 0.1, -0.5]),
)
def test_random_networks_by_hand(seed, widths, slope):
    """A against W_L D_{L-1} W_{L-1} ⋯ D_1 W_1, written out with numpy from the weights."""
    torch.manual_seed(seed)
    linears = [nn.Linear(i, o).double() for i, o in itertools.pairwise(widths)]
    model = nn.Sequential(*[m for layer in linears for m in (layer, nn.LeakyReLU(slope))][:-1])
    x = torch.randn(1, widths[0], dtype=DOUBLE)
    A, b, z = torch.eye(widths[0], dtype=DOUBLE), torch.zeros(widths[0], dtype=DOUBLE), x[0]
    for i, layer in enumerate(linears):
        A, b, z = layer.weight @ A, layer.weight @ b + layer.bias, layer.weight @ z + layer.bias
        if i + 1 < len(linears):
            d = torch.where(z > 0, torch.ones_like(z), slope)
            A, b, z = d[:, None] * A, d * b, d * z
    found = affine_map(model, x)
    torch.testing.assert_close(found.A[0], A.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.b[0], b.detach(), rtol=1e-12, atol=1e-12)


def random_statistics(model):
    """BatchNorm as after training: its statistics are neither 0 nor 1."""
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
    return model.double().eval()


FAMILIES = {
    "resnet18": 64,
    "resnet50": 64,
    "vgg11_bn": 64,
    "densenet121": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mobilenet_v2": 64,
    "squeezenet1_1": 64,
    "shufflenet_v2_x1_0": 64,
}


def check_against_layers(model, x):
    found = affine_map(model, x, outputs=[0, 1, 5])
    directions = torch.randn(4, *x.shape[1:], dtype=DOUBLE)
    with torch.no_grad():
        y = flat(model(x.clone()))
    assert relative(found(x), y[:, [0, 1, 5]]) <= 1e-12
    value, action = jacobian_action(model, x, directions)
    assert relative(value, y[0]) <= 1e-12
    assert (
        relative(torch.einsum("kd,td->tk", found.A[0].flatten(1), directions.flatten(1)), action[:, [0, 1, 5]]) <= 1e-12
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_torchvision_families_against_the_product_of_their_layers(name):
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model = getattr(import_torchvision().models, name)(weights=None, num_classes=10, **options)
    check_against_layers(random_statistics(model), torch.randn(1, 3, FAMILIES[name], FAMILIES[name], dtype=DOUBLE))


@pytest.mark.parametrize("network", [small_cnn, large_cnn])
def test_the_papers_networks_against_the_product_of_their_layers(network):
    check_against_layers(random_statistics(network()), torch.randn(1, 3, 32, 32, dtype=DOUBLE))


@pytest.mark.parametrize(
    ("name", "word"), [("vit_b_16", "layer_norm"), ("convnext_tiny", "layer_norm"), ("efficientnet_b0", "silu")]
)
def test_smooth_families_are_refused(name, word):
    model = getattr(import_torchvision().models, name)(weights=None).eval()
    with pytest.raises(NotPiecewiseAffine, match=word):
        affine_map(model, torch.zeros(1, 3, 224, 224))


def test_training_mode_is_refused():
    models = import_torchvision().models
    with pytest.raises(NotPiecewiseAffine, match=r"BatchNorm.*model\.eval"):
        affine_map(models.resnet18().train(), torch.zeros(1, 3, 64, 64))
    with pytest.raises(NotPiecewiseAffine, match=r"dropout.*model\.eval"):
        affine_map(models.squeezenet1_1().train(), torch.zeros(1, 3, 64, 64))


TIES = {
    "relu": (nn.ReLU(), [0.0]),
    "abs": (Apply(lambda x: x.abs()), [-1.0]),
    "clamp": (nn.Hardtanh(), [1.0]),
    "clamp, upper bound": (Apply(lambda x: (x + 1).clamp(-1, 1)), [1.0]),
    "clamp, lower bound": (Apply(lambda x: (x - 1).clamp(-1, 1)), [0.0]),
}


@pytest.mark.parametrize("name", TIES)
def test_on_a_boundary_the_piece_below_counts(name):
    model, slope = TIES[name]
    assert affine_map(model, torch.zeros(1, 1, dtype=DOUBLE)).A.flatten().tolist() == slope


def test_of_equal_entries_the_first_counts():
    x = torch.ones(1, 4, dtype=DOUBLE)
    first = [[1.0, 0, 0, 0]]
    assert affine_map(Apply(lambda x: x.amax(1, keepdim=True)), x).A[0].tolist() == first
    assert affine_map(Apply(lambda x: x.max(1, keepdim=True)[0]), x).A[0].tolist() == first
    assert affine_map(nn.MaxPool1d(4), x[:, None]).A[0, 0].tolist() == first
    half = Apply(lambda x: torch.maximum(x[:, :2], x[:, 2:]))
    assert affine_map(half, x).A[0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_dead_units_give_a_zero_map():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    nn.init.constant_(model[0].bias, -100)
    found = affine_map(model, torch.zeros(1, 2, dtype=DOUBLE))
    assert found.A.eq(0).all()
    torch.testing.assert_close(found.b[0], model[2].bias.detach())


def test_rows_can_be_chosen_for_all_or_for_each_sample():
    model, x = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4)).double(), torch.randn(5, 3, dtype=DOUBLE)
    full = affine_map(model, x)
    torch.testing.assert_close(affine_map(model, x, outputs=[2, 0]).A, full.A[:, [2, 0]])
    labels = torch.tensor([0, 1, 2, 3, 0])
    own = affine_map(model, x, outputs=labels[:, None], chunk=2)
    torch.testing.assert_close(own.A[:, 0], full.A[torch.arange(5), labels])
    torch.testing.assert_close(own.b[:, 0], full.b[torch.arange(5), labels])


def test_it_leaves_the_model_and_the_input_alone():
    model, x = nn.Sequential(nn.Linear(3, 6), nn.ReLU()).double(), torch.randn(5, 3, dtype=DOUBLE)
    with torch.no_grad():
        found = affine_map(model, x)
    assert not found.A.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("outputs", [[7], [-1], [0.5], [], torch.zeros(3, 1, dtype=torch.int64)])
def test_bad_rows_are_refused(outputs):
    with pytest.raises(MasoError, match="outputs"):
        affine_map(nn.Linear(2, 3).double(), torch.zeros(2, 2, dtype=DOUBLE), outputs=outputs)


def test_bad_arguments_are_refused():
    model, x = nn.Linear(2, 3).double(), torch.zeros(2, 2, dtype=DOUBLE)
    with pytest.raises(MasoError, match="chunk"):
        affine_map(model, x, chunk=0)
    with pytest.raises(MasoError, match="one"):
        closed_form(model, x)
    with pytest.raises(MasoError, match="shape"):
        affine_map(model, x)(x[:1])


def test_every_factor_is_named():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)).double()
    factors = closed_form(model, torch.randn(1, 1, 6, 6, dtype=DOUBLE))
    assert [f.name for f in factors] == ["0", "1", "2", "4"]
    assert [tuple(f.A.shape) for f in factors] == [(32, 36), (32, 32), (8, 32), (3, 8)]
    assert set(factors[2].A.flatten().tolist()) == {0.0, 1.0}
