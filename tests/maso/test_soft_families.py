"""Every kink of torchvision's families is softened, counted and named: against what PyTorch runs."""

import re

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import maso
from maso.errors import NotPiecewiseAffine
from maso_book.datasets import import_torchvision

FAMILIES = {
    "alexnet": (64, 10),
    "vgg11_bn": (32, 15),
    "resnet18": (32, 18),
    "squeezenet1_1": (32, 29),
    "mobilenet_v2": (32, 35),
    "shufflenet_v2_x0_5": (32, 38),
    "regnet_x_400mf": (32, 67),
    "googlenet": (32, 70),
    "inception_v3": (75, 98),
    "densenet121": (32, 122),
}
"""Side of the images, and how many kinks there are."""
KINKS = {"relu", "hardtanh", "max_pool2d_with_indices"}
"""The operators that bend in them, as PyTorch's dispatcher calls them."""


class Met(TorchDispatchMode):
    """The kinks that run, in order, with the module that is running: from PyTorch's dispatcher, not from a graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.running = [""]
        for path, module in model.named_modules():
            if path:
                module.register_forward_pre_hook(lambda *_, path=path: self.running.append(path))
                module.register_forward_hook(lambda *_: self.running.pop() and None)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.rstrip("_")
        if name in KINKS:
            self.found.append((self.running[-1], name))
        return func(*args, **(kwargs or {}))


def made(name: str, x: torch.Tensor) -> nn.Module:
    """The family's network with random weights; its BatchNorm has the statistics of x, as after training."""
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = getattr(import_torchvision().models, name)(num_classes=4, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    return model.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_kink_of_a_family_is_softened_counted_and_named(name: str) -> None:
    side, number = FAMILIES[name]
    x = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    model = made(name, x)
    soft = maso.soften(model, 1.0, example=x)
    with torch.no_grad(), Met(model) as met:
        hard = model(x)
    with torch.no_grad():
        at_one = soft(x)  # the first call traces
        with Met(soft.network) as left:
            bent = soft.set_beta(0.9)(x)

    assert len(soft.names) == len(set(soft.names)) == len(soft.units) == len(met.found) == number
    assert not left.found
    for kink, (path, operator) in zip(soft.names, met.found, strict=True):
        own = {path, f"{path}.{operator.removesuffix('_with_indices')}".lstrip(".")}  # of a module, or of a call in it
        assert re.sub(r"_\d+$", "", kink) in own or kink in own

    scale = float(hard.abs().max())
    assert scale > 1e-3
    assert (at_one - hard).abs().max() <= 1e-6 * scale
    assert (bent - hard).abs().max() > 1e-3 * scale


def test_what_is_smooth_already_is_refused_by_name() -> None:
    model = import_torchvision().models.mobilenet_v3_small(num_classes=4).eval()
    with pytest.raises(NotPiecewiseAffine, match=r"operator 'hardswish' in module 'features\.0\.2'"):
        maso.soften(model, 0.9, example=torch.zeros(1, 3, 32, 32))
