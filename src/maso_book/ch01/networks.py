"""Whole networks: the per-input map against PyTorch's forward pass (01-families, 01-closed-form, 01-resnet)."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso import MasoError, affine_map, closed_form, codes, compose, trace
from maso_book import networks
from maso_book.ch01.frozen import freeze
from maso_book.ch01.hand import block_factors, hand_factors, product
from maso_book.datasets import import_torchvision, load, to_tensor

Result = tuple[dict[str, Any], dict[str, np.ndarray]]

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


@dataclass(frozen=True)
class Families:
    """Networks with random weights, and images of noise."""

    seed: int
    families: tuple[str, ...]
    images: int


def run_families(config: Families) -> Result:
    """Compare A[x] z + b[x] with the frozen forward pass, for z = x, z = 0 and random z far from x."""
    rows = []
    for name in config.families:
        torch.manual_seed(config.seed)
        if name in PAPER_NETWORKS:
            model = getattr(networks, name)()
        else:
            plain = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
            model = getattr(import_torchvision().models, name)(weights=None, **plain)
        side = FAMILIES[name]
        model = _settle(model, torch.rand(8, 3, side, side)).double()
        x = torch.rand(config.images, 3, side, side, dtype=torch.float64)
        with torch.no_grad():
            y = model(x)
        outputs = list(range(0, y.shape[1], max(1, y.shape[1] // 10)))
        am, frozen = affine_map(model, x, outputs=outputs), freeze(model, x)
        far = [torch.rand_like(x), 10 * torch.randn_like(x)]
        rows.append(
            {
                "network": name,
                "side": side,
                "parameters": sum(p.numel() for p in model.parameters()),
                "units": sum(math.prod(node.shape) for node in trace(model, x).kinks.values()),
                "at x": _error(am(x), y[:, outputs]),
                "b": float(_errors(am.b, frozen(torch.zeros_like(x))[:, outputs], y).max()),
                "far from x": max(_error(am(z), frozen(z)[:, outputs]) for z in far),
            }
        )
    return {"networks": rows}, {}


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


def run_closed_form(config: ClosedForm) -> Result:
    """A small CNN and a small ResNet: `closed_form`, the factors by hand, and `affine_map`."""
    torch.manual_seed(config.seed)
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
    metrics: dict[str, Any] = {}
    kept: dict[str, np.ndarray] = {}
    for name, model, side in (("cnn", cnn, 8), ("resnet", resnet, 6)):
        _settle(model, torch.randn(16, 1, side, side)).double()
        x = torch.randn(1, 1, side, side, dtype=torch.float64)
        am, factors, by_hand = affine_map(model, x), closed_form(model, x), hand_factors(model, x)
        A, b = compose(factors)
        hand_A, hand_b = product(by_hand, side**2)
        with torch.no_grad():
            y = model(x)
        metrics[name] = {
            "factors": [{"name": f.name, "shape": list(f.A.shape)} for f in factors],
            "by hand": [{"name": n, "shape": list(m.shape)} for n, m, _ in by_hand],
            "product against affine_map": _error(A[None], am.A.flatten(2)),
            "product against hand": _error(A[None], torch.from_numpy(hand_A)[None]),
            "offset against hand": _error(b[None], torch.from_numpy(hand_b)[None]),
            "A x + b against forward": _error(
                (torch.from_numpy(hand_A) @ x.flatten() + torch.from_numpy(hand_b))[None], y
            ),
        }
        kept[f"{name}_x"] = x.numpy().astype(np.float32)
        kept[f"{name}_A"] = hand_A.astype(np.float32)
        kept |= {f"{name}_factor_{i}": m.astype(np.float32) for i, (_, m, _) in enumerate(by_hand)}
    before = product(by_hand[:4], side**2)  # up to the second block of the ResNet, whose skip is a convolution
    body, skip, last, _ = block_factors(second, before[0] @ x.numpy().ravel() + before[1], (2, side, side))
    inside = [*((f"{n}, body", m) for n, m, _ in body), *((f"{n}, skip", m) for n, m, _ in skip), (last[0], last[1])]
    metrics["resnet"]["inside the second block"] = [name for name, _ in inside]
    kept |= {f"block_factor_{i}": m.astype(np.float32) for i, (_, m) in enumerate(inside)}
    return metrics, kept


# 01-resnet: real images, float64 and float32 --------------------------------------------------------------------------


@dataclass(frozen=True)
class RealImages:
    """The first `images` test images through torchvision's ResNet-18 with random weights and ten outputs."""

    seed: int
    images: int
    dataset: str = "cifar10"


def run_resnet(config: RealImages) -> Result:
    """Errors of A[x] x + b[x] per image in both precisions, and the codes that float32 gets differently."""
    device = torch.get_default_device()
    data = load(config.dataset)
    if data.x_test.shape[3] != 3:
        raise MasoError(f"01-resnet: {config.dataset} is not in colour; choose cifar10, cifar100, svhn or digits.")
    torch.manual_seed(config.seed)
    single = import_torchvision().models.resnet18(weights=None, num_classes=len(data.classes))
    single = _settle(single, to_tensor(data.x_train[:128]).to(device))
    double = deepcopy(single).double()
    errors64, errors32, slope_errors, flips = [], [], [], []
    for start in range(0, config.images, 50):
        x32 = to_tensor(data.x_test[start : min(start + 50, config.images)]).to(device)
        x64 = x32.double()
        with torch.no_grad():
            y64, y32 = double(x64), single(x32)
        map64, map32 = affine_map(double, x64), affine_map(single, x32)
        b64, b32 = freeze(double, x64)(torch.zeros_like(x64)), freeze(single, x32)(torch.zeros_like(x32))
        errors64.append(_errors(map64(x64) - map64.b + b64, y64, y64))
        errors32.append(_errors(map32(x32) - map32.b + b32, y32, y32))
        difference = (map32.A.double() - map64.A).flatten(1).norm(dim=1)
        slope_errors.append(difference / map64.A.flatten(1).norm(dim=1))
        of64, of32 = codes(double, x64), codes(single, x32)
        flips.append(torch.stack([(of64[path] != of32[path]).flatten(1).sum(1) for path in of64], 1))
    kept = {
        "error64": torch.cat(errors64).cpu().numpy(),
        "error32": torch.cat(errors32).cpu().numpy(),
        "slope_error32": torch.cat(slope_errors).cpu().numpy(),
        "flips": torch.cat(flips).cpu().numpy().astype(np.uint16),  # (images, layers)
    }
    flipped = kept["flips"].sum(1) > 0
    metrics = {
        "images": config.images,
        "layers": list(of64),
        "units": [int(math.prod(code.shape[1:])) for code in of64.values()],
        "largest error64": float(kept["error64"].max()),
        "median error32": float(np.median(kept["error32"])),
        "images with another code": int(flipped.sum()),
        "median slope error, same code": _median(kept["slope_error32"][~flipped]),
        "median slope error, another code": _median(kept["slope_error32"][flipped]),
        "largest slope error": float(kept["slope_error32"].max()),
    }
    return metrics, kept


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
