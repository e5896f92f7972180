"""Whether a GPU gives what the CPU gives, and how fast it is: the first minute of a lease.

Every check stands alone: one that fails says why, and the others go on.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import maso
from maso_book import networks
from maso_book.records import device_name
from maso_book.training import Training, fit, fit_many, loop

NETWORKS = ("small_cnn", "large_cnn", "small_resnet")
STEPS = 176  # of an epoch of 45,000 images


def run(device: str) -> None:
    """Print one line of JSON a check."""
    torch.manual_seed(0)
    print(json.dumps({"device": device_name(device), "torch": torch.__version__}), flush=True)
    for name, check in _checks(device):
        start = time.perf_counter()
        try:
            found = check()
        except Exception:  # the other checks go on
            found = {"failed": traceback.format_exc()}
        print(json.dumps({"check": name, **found, "seconds": round(time.perf_counter() - start, 2)}), flush=True)


def _checks(device: str) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    changes: list[dict[str, Any]] = [{}, {"noise": 0.1}, {"attack": 0.5}, {"loss": "squared"}]
    for change in changes:
        yield f"training {change}", partial(_learns, device, **change)
    for name in NETWORKS:
        yield f"an epoch of {name}", partial(_speed, name, device, replayed=True)
    yield "an epoch of small_cnn, attacked", partial(_speed, "small_cnn", device, replayed=True, attack=0.5)
    for name in NETWORKS:
        yield f"affine map of {name}", partial(_affine, name, device)
        yield f"codes of {name}", partial(_codes, name, device)
    yield "an epoch of small_cnn, not replayed", partial(_speed, "small_cnn", device, replayed=False)
    for copies in (5, 16):
        yield f"an epoch of {copies} small_cnn", partial(_together, "small_cnn", device, copies)
    yield "an epoch of 5 large_cnn", partial(_together, "large_cnn", device, 5)


def _images(n: int, device: str) -> tuple[Tensor, Tensor]:
    """Random images with a bright quarter that tells their class of four."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 200, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
    y = torch.arange(n) % 4
    for c in range(4):
        x[y == c, :, 16 * (c // 2) : 16 * (c // 2) + 16, 16 * (c % 2) : 16 * (c % 2) + 16] += 55
    return x.to(device), y.to(device)


def _affine(name: str, device: str) -> dict[str, Any]:
    model = getattr(networks, name)().eval().double()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    here = maso.affine_map(model, x)
    there = maso.affine_map(copy.deepcopy(model).to(device), x.to(device))
    scale = float(here.A.abs().max())
    return {"error": float((there.A.cpu() - here.A).abs().max()) / scale}


def _codes(name: str, device: str) -> dict[str, Any]:
    model = getattr(networks, name)().eval().double()
    x = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    here = maso.codes(model, x)
    there = maso.codes(copy.deepcopy(model).to(device), x.to(device))
    different = [int((a.cpu() != b).sum()) for a, b in zip(there.values(), here.values(), strict=True)]
    return {"different": sum(different), "layers": len(different)}


def _learns(device: str, **how: Any) -> dict[str, Any]:
    x, y = _images(4100, device)
    torch.manual_seed(0)
    model = networks.small_cnn(classes=4).to(device)
    history = fit(model, x, y, Training(4, 256, 5e-3, schedule="one-cycle", augment=False, **how), validation=(x, y))
    return {"loss": history.loss.tolist(), "accuracy": float(history.validation_accuracy[-1])}


def _speed(name: str, device: str, *, replayed: bool, **how: Any) -> dict[str, Any]:
    """Milliseconds of a step, and memory."""
    x, y = _images(256 * STEPS, device)
    model = getattr(networks, name)().to(device)
    with contextlib.ExitStack() as changed:
        if not replayed:
            changed.enter_context(mock.patch.object(loop, "Replayed", lambda step: step))
        history = fit(model, x, y, Training(3, 256, augment=True, **how))
    return {"ms_a_step": 1000 * history.seconds[1:].min() / STEPS, **_memory(device)}


def _together(name: str, device: str, copies: int) -> dict[str, Any]:
    x, y = _images(256 * STEPS, device)
    models = [getattr(networks, name)().to(device) for _ in range(copies)]
    trainings = [Training(2, 256, seed=seed, augment=True) for seed in range(copies)]
    histories = fit_many(models, [x] * copies, [y] * copies, trainings)
    return {"ms_a_step_of_each": 1000 * histories[0].seconds[-1] / STEPS, **_memory(device)}


def _memory(device: str) -> dict[str, Any]:
    if device != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return {"peak_memory_mb": round(peak)}
