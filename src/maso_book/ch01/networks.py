"""Whole networks: the per-input map against PyTorch's forward pass (01-families, 01-closed-form, 01-resnet)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso import AffineMap, Factor, MasoError, affine_map, closed_form, codes, compose, trace
from maso_book import networks
from maso_book.ch01.frozen import freeze
from maso_book.ch01.hand import HandFactor, block_factors, hand_factors, product
from maso_book.datasets import import_torchvision, load, to_tensor
from maso_book.experiment import Rows

# 01-families: the per-input map of whole networks ---------------------------------------------------------------------

FAMILIES: dict[str, int] = {
    "small_cnn": 32,
    "large_cnn": 32,
    "resnet18": 64,
    "resnet50": 64,
    "vgg11_bn": 64,
    "densenet121": 64,
    "googlenet": 64,
    "inception_v3": 75,
    "mobilenet_v2": 64,
    "squeezenet1_1": 64,
    "shufflenet_v2_x1_0": 64,
}
"""The paper's two CNNs and nine torchvision families, with the side of the image they are given."""
PAPER_NETWORKS = ("small_cnn", "large_cnn")
PLACES = ("at x", "at 0", "far from x")


@dataclass(frozen=True)
class Families:
    """Networks with random weights, and images of noise."""

    seed: int
    families: tuple[str, ...]
    images: int


def run_families(config: Families) -> tuple[Rows, dict[str, np.ndarray]]:
    """Compare A[x] z + b[x] with the frozen forward pass, for z = x, z = 0 and random z far from x.

    Table `networks`, a row for each network: `network`; `side` of its images; number of `parameters`; `units`, the
    numbers that its kinks choose.

    Table `errors`, a row for each network and place: `network`; `place` of z, one of `PLACES`; `relative_error`,
    largest difference over the largest output, of the worst image.
    """
    described, errors = [], []
    for name in config.families:
        torch.manual_seed(config.seed)
        side = FAMILIES[name]
        model = _settle(_network(name), torch.rand(8, 3, side, side)).double()
        x = torch.rand(config.images, 3, side, side, dtype=torch.float64)

        described.append(
            {
                "network": name,
                "side": side,
                "parameters": sum(p.numel() for p in model.parameters()),
                "units": sum(math.prod(node.shape) for node in trace(model, x).kinks.values()),
            }
        )
        relative = zip(PLACES, _errors_by_place(model, x), strict=True)
        errors += [{"network": name, "place": place, "relative_error": error} for place, error in relative]
    return {"networks": described, "errors": errors}, {}


def _network(name: str) -> nn.Module:
    """With random weights, in training mode."""
    if name in PAPER_NETWORKS:
        return getattr(networks, name)()
    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    return getattr(import_torchvision().models, name)(weights=None, **options)


def _errors_by_place(model: nn.Module, x: Tensor) -> tuple[float, float, float]:
    """Relative errors of the affine map of x (N, 3, side, side) at the three places, for about ten of the outputs."""
    with torch.no_grad():
        y = model(x)
    outputs = list(range(0, y.shape[1], max(1, y.shape[1] // 10)))
    am, frozen = affine_map(model, x, outputs=outputs), freeze(model, x)
    far = [torch.rand_like(x), 10 * torch.randn_like(x)]

    at_zero = _errors(am.b, frozen(torch.zeros_like(x))[:, outputs], y)
    far_away = max(_error(am(z), frozen(z)[:, outputs]) for z in far)
    return _error(am(x), y[:, outputs]), float(at_zero.max()), far_away


def _settle(model: nn.Module, batch: Tensor) -> nn.Module:
    """Random BatchNorm scales and shifts, running statistics of one batch; then eval mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.2)
            norm.momentum = 1.0
        model.train()(batch)
    return model.eval()


def _error(found: Tensor, expected: Tensor) -> float:
    """Relative error of the worst sample."""
    return float(_errors(found, expected, expected).max())


def _errors(found: Tensor, expected: Tensor, scale: Tensor) -> Tensor:
    """Largest difference of each sample over the largest entry of `scale` (itself where that is 0), (N,)."""
    size = scale.flatten(1).abs().amax(1)
    return (found - expected).flatten(1).abs().amax(1) / torch.where(size > 0, size, 1)


# 01-closed-form: the product, factor by factor ------------------------------------------------------------------------


@dataclass(frozen=True)
class ClosedForm:
    """Random weights and one random input."""

    seed: int


def run_closed_form(config: ClosedForm) -> tuple[Rows, dict[str, np.ndarray]]:
    """A small CNN and a small ResNet: `closed_form`, the factors by hand, and `affine_map`.

    Table `factors`, a row for each factor of A[x]: `network`, "cnn" or "resnet"; `built`, "closed_form" or "by hand";
    `position`, 0 at the input; its `name`, number of `outputs` and of `inputs`.

    Table `block_factors`, a row for each factor by hand inside the second block of the ResNet: `part` of the block,
    "body", "skip" or "end"; `position`; `name`.

    Table `errors`, a row for each comparison: `network`; the `quantity` ("A", "b", "A x + b"); how it was `built` and
    what it was `compared_with`; `relative_error`.

    Arrays, float32: `<network>_x`, the input; `<network>_A`, the product by hand; `<network>_factor_<position>` and
    `block_factor_<position>`, (outputs, inputs).
    """
    torch.manual_seed(config.seed)
    tables: dict[str, list[dict[str, Any]]] = {"factors": [], "block_factors": [], "errors": []}
    arrays: dict[str, np.ndarray] = {}
    for name, (model, side) in _small_networks().items():
        _settle(model, torch.randn(16, 1, side, side)).double()
        x = torch.randn(1, 1, side, side, dtype=torch.float64)
        factors, by_hand = closed_form(model, x), hand_factors(model, x)
        A, _ = product(by_hand, side**2)

        tables["factors"] += _chain(name, "closed_form", [(factor.name, factor.A.shape) for factor in factors])
        tables["factors"] += _chain(name, "by hand", [(factor, matrix.shape) for factor, matrix, _ in by_hand])
        tables["errors"] += [{"network": name, **row} for row in _comparisons(model, x, factors, by_hand)]
        arrays |= {f"{name}_x": x.numpy().astype(np.float32), f"{name}_A": A.astype(np.float32)}
        arrays |= {f"{name}_factor_{i}": m.astype(np.float32) for i, (_, m, _) in enumerate(by_hand)}

    block = model[4]  # the second one of the ResNet, whose skip is a convolution
    assert isinstance(block, networks.Block)
    A, b = product(by_hand[:4], side**2)
    body, skip, end, _ = block_factors(block, A @ x.numpy().ravel() + b, (2, side, side))
    parts = ["body"] * len(body) + ["skip"] * len(skip) + ["end"]
    for i, (part, (factor, matrix, _)) in enumerate(zip(parts, [*body, *skip, end], strict=True)):
        tables["block_factors"].append({"part": part, "position": i, "name": factor})
        arrays[f"block_factor_{i}"] = matrix.astype(np.float32)
    return tables, arrays


def _small_networks() -> dict[str, tuple[nn.Sequential, int]]:
    """A CNN and a ResNet with random weights, each with the side of its images."""
    cnn = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 3, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 3),
    )
    second = networks.Block(2, 3, 2, bn=True, bias=False)
    resnet = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        networks.Block(2, 2, 1, bn=True, bias=False),
        second,
        nn.Flatten(),
        nn.Linear(27, 3),
    )
    return {"cnn": (cnn, 8), "resnet": (resnet, 6)}


def _chain(network: str, built: str, factors: list[tuple[str, Sequence[int]]]) -> list[dict[str, Any]]:
    """The rows of the table `factors` for names and shapes, first layer first."""
    return [
        {"network": network, "built": built, "position": i, "name": name, "outputs": shape[0], "inputs": shape[1]}
        for i, (name, shape) in enumerate(factors)
    ]


def _comparisons(model: nn.Module, x: Tensor, factors: list[Factor], by_hand: list[HandFactor]) -> list[dict[str, Any]]:
    """The rows of `errors` for one network, but for its name."""
    A, b = compose(factors)
    A_hand, b_hand = (torch.from_numpy(a) for a in product(by_hand, x.numel()))
    with torch.no_grad():
        y = model(x)
    compared = [
        ("A", "closed_form", "affine_map", A[None], affine_map(model, x).A.flatten(2)),
        ("A", "closed_form", "by hand", A[None], A_hand[None]),
        ("b", "closed_form", "by hand", b[None], b_hand[None]),
        ("A x + b", "by hand", "forward pass", (A_hand @ x.flatten() + b_hand)[None], y),
    ]
    return [
        {"quantity": quantity, "built": built, "compared_with": other, "relative_error": _error(value, expected)}
        for quantity, built, other, value, expected in compared
    ]


# 01-resnet: real images, float64 and float32 --------------------------------------------------------------------------


IMAGES, DRAWS = 1000, 5
"""Images, and draws of the weights, that the criterion of claim 01.6 asks for."""


@dataclass(frozen=True)
class RealImages:
    """The first `images` test images through torchvision's ResNet-18 with random weights and ten outputs."""

    seed: int
    images: int
    dataset: str = "cifar10"


def run_resnet(config: RealImages) -> tuple[Rows, dict[str, np.ndarray]]:
    """Errors of A[x] x + b[x] per image in both precisions, and the codes that float32 gets differently.

    Table `draws`, one row: over the images, `largest_error64` and `median_error32` of A[x] x + b[x];
    `images_with_another_code` in float32; of the relative error of A[x] in float32 the `largest_slope_error`, and
    `median_slope_error_same_code` and `median_slope_error_other_code`, null where there are no such images.

    Table `layers`, a row for each kink of the network: `layer`; number of `units`; `images_with_another_piece`
    there in float32.

    Arrays: `error64`, `error32`, `slope_error32`, (images,); `flips`, (images, layers) uint16, the number of units with
    another code.
    """
    device = torch.get_default_device()
    data = load(config.dataset)
    if data.x_test.shape[3] != 3:
        raise MasoError(f"01-resnet: {config.dataset} is not in colour; choose cifar10, cifar100, svhn or digits.")
    torch.manual_seed(config.seed)
    single = import_torchvision().models.resnet18(weights=None, num_classes=len(data.classes))
    single = _settle(single, to_tensor(data.x_train[:128]).to(device))
    double = deepcopy(single).double()

    batches: list[dict[str, Tensor]] = []
    for start in range(0, config.images, 50):
        x = to_tensor(data.x_test[start : min(start + 50, config.images)]).to(device)
        units, batch = _compare_precisions(single, double, x)
        batches.append(batch)
    arrays = {name: torch.cat([batch[name] for batch in batches]).cpu().numpy() for name in batches[0]}
    arrays["flips"] = arrays["flips"].astype(np.uint16)

    other_code = arrays["flips"].sum(1) > 0
    draw = {
        "largest_error64": float(arrays["error64"].max()),
        "median_error32": float(np.median(arrays["error32"])),
        "images_with_another_code": int(other_code.sum()),
        "median_slope_error_same_code": _median(arrays["slope_error32"][~other_code]),
        "median_slope_error_other_code": _median(arrays["slope_error32"][other_code]),
        "largest_slope_error": float(arrays["slope_error32"].max()),
    }
    layers = [
        {"layer": layer, "units": count, "images_with_another_piece": int((flips > 0).sum())}
        for (layer, count), flips in zip(units.items(), arrays["flips"].T, strict=True)
    ]
    return {"draws": [draw], "layers": layers}, arrays


def _compare_precisions(single: nn.Module, double: nn.Module, x: Tensor) -> tuple[dict[str, int], dict[str, Tensor]]:
    """Units by layer, and the arrays of `run_resnet`, for images x (N, 3, side, side) in float32."""
    map64, error64 = _with_error(double, x.double())
    map32, error32 = _with_error(single, x)
    difference = (map32.A.double() - map64.A).flatten(1).norm(dim=1)
    of64, of32 = codes(double, x.double()), codes(single, x)
    return {layer: math.prod(code.shape[1:]) for layer, code in of64.items()}, {
        "error64": error64,
        "error32": error32,
        "slope_error32": difference / map64.A.flatten(1).norm(dim=1),
        "flips": torch.stack([(of64[layer] != of32[layer]).flatten(1).sum(1) for layer in of64], 1),
    }


def _with_error(model: nn.Module, x: Tensor) -> tuple[AffineMap, Tensor]:
    """The affine map, and the relative error (N,) of A x + b with the offset b of the frozen network at 0."""
    am, b = affine_map(model, x), freeze(model, x)(torch.zeros_like(x))
    with torch.no_grad():
        y = model(x)
    return am, _errors(am(x) - am.b + b, y, y)


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
