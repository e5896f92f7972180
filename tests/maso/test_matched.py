"""Matched filters of a model and of data that are not in the package."""

import pytest
import torch
from torch import Tensor, nn

from maso import MasoError, affine_map
from maso.matched import IMAGE, by_truth, match, randomised_from_top


class Users(nn.Module):
    """Two branches over a sequence of 12 numbers in 3 channels; registered in another order than it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(10, 5)
        self.wide = nn.Conv1d(3, 4, 5, padding=2)
        self.narrow = nn.Conv1d(3, 6, 1)
        self.norm = nn.BatchNorm1d(10)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.cat([nn.functional.leaky_relu(self.wide(x), 0.2), torch.relu(self.narrow(x))], 1)
        return self.last(self.norm(z.amax(2)))


def users() -> tuple[nn.Module, Tensor, Tensor]:
    model = Users().double()
    x = torch.randn(300, 3, 12, dtype=torch.float64)  # more than one slice
    model(x)  # statistics of BatchNorm
    return model.eval(), x, torch.randint(0, 5, (300,))


def test_inner_products_and_biases_add_up_to_the_outputs() -> None:
    model, x, _ = users()
    found = match(model, x)
    assert torch.allclose(found.inner[IMAGE] + found.bias, model(x), atol=1e-12)


def test_cosines_and_correlations_are_those_of_the_templates() -> None:
    model, x, _ = users()
    v = torch.randn_like(x)
    found, A = match(model, x, {"noise": v}), affine_map(model, x).A.flatten(2)
    for n, c in ((0, 0), (299, 4), (257, 2)):
        a, image = A[n, c], v[n].flatten()
        assert found.inner["noise"][n, c] == pytest.approx(float(a @ image))
        assert found.cosine["noise"][n, c] == pytest.approx(float(torch.cosine_similarity(a, image, 0)))
        assert found.correlation["noise"][n, c] == pytest.approx(float(torch.corrcoef(torch.stack([a, image]))[0, 1]))


def test_brightness_and_contrast_leave_correlations() -> None:
    model, x, _ = users()
    found = match(model, x, {"brighter": 3 * x + 7})
    assert torch.allclose(found.correlation["brighter"], found.correlation[IMAGE], atol=1e-12)


def test_a_template_of_zeros_has_cosine_zero() -> None:
    dead = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    nn.init.constant_(dead[0].bias, -100.0)
    assert match(dead, torch.rand(4, 2)).cosine[IMAGE].tolist() == [[0.0, 0.0]] * 4


def test_images_that_do_not_fit_are_refused() -> None:
    model, x, _ = users()
    with pytest.raises(MasoError, match="'mean' have shape"):
        match(model, x, {"mean": x[:7]})
    with pytest.raises(MasoError, match="name of the inputs themselves"):
        match(model, x, {"image": x + 1})


def test_one_image_stands_for_all() -> None:
    model, x, _ = users()
    mean = x.mean(0)
    found = match(model, x, {"as it is": mean, "of one": mean[None], "for each": mean.expand(x.shape)})
    for name in ("as it is", "of one"):
        assert torch.equal(found.inner[name], found.inner["for each"])
        assert torch.equal(found.correlation[name], found.correlation["for each"])


def test_bytes_are_pixels_from_0_to_1() -> None:
    model, _, _ = users()
    x = torch.randint(0, 256, (9, 3, 12), dtype=torch.uint8)
    found, same = match(model, x, {"first": x[0]}), match(model, x.double() / 255)
    assert torch.equal(found.inner[IMAGE], same.inner[IMAGE])
    assert torch.equal(found.inner["first"][0], same.inner[IMAGE][0])


def test_by_truth_takes_each_true_class_out() -> None:
    values = torch.tensor([[1, 2, 3], [4, 5, 6]])
    own, others = by_truth(values, torch.tensor([2, 0]))
    assert own.tolist() == [3, 4]
    assert others.tolist() == [[1, 2], [5, 6]]


def test_layers_are_randomised_in_the_order_of_use_and_stay_random() -> None:
    model, x, _ = users()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    stages = list(randomised_from_top(model, x, seed=1))
    assert [path for path, _ in stages] == ["last", "norm", "narrow", "wide"]
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    first, last = stages[0][1].state_dict(), stages[-1][1].state_dict()
    assert [name for name in before if not torch.equal(first[name], before[name])] == ["last.weight", "last.bias"]
    assert torch.equal(first["last.weight"], last["last.weight"])
    assert not torch.equal(last["wide.weight"], before["wide.weight"])
    again = [network for _, network in randomised_from_top(model, x, seed=1)][-1]
    assert torch.equal(again(x), stages[-1][1](x))


def test_a_module_that_cannot_be_reset_is_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.by

    with pytest.raises(MasoError, match=r"'1' \(Scale\) cannot be randomised"):
        list(randomised_from_top(nn.Sequential(nn.Linear(2, 2), Scale()), torch.zeros(1, 2), seed=0))
