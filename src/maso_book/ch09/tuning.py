"""Curvature Tuning retested: robust accuracy (09-robust) and linear probing on another data set (09-transfer).

β is chosen on validation images and used on test images; β = 1, the hard network, is among the choices.  "Curvature
Tuning" is the mixture of swish and softplus at the ReLUs alone, max pools and BatchNorm as they are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso_book.ch09.attacks import Ball, attacked
from maso_book.ch09.cells import Arm, Cell, at, outputs, scores, softened
from maso_book.experiment import Rows
from maso_book.trained import Data, data, trained
from maso_book.training import scaled

ARMS = (
    Arm("mix", "units", "kept"),
    Arm("mix", "units", "re-estimated"),
    Arm("swish", "all", "re-estimated"),
)
"""The first is Curvature Tuning as it was published."""
BALLS = (Ball("linf", 2 / 255), Ball("linf", 8 / 255), Ball("l2", 0.25))
STRENGTHS = (1e-2, 1e-1, 1.0, 10.0)
"""Of the ridge, relative to the mean square of a standardised feature."""


# Robustness -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Robust(Cell):
    """One hard network, softened and attacked.

    Attributes:
        betas: the choices.
        validated, tested: validation images on which β is chosen, and test images: the first ones of each.
        steps, restarts: of the attack on test images; one restart on validation images.
        images: training images from which BatchNorm is re-estimated.
    """

    betas: tuple[float, ...] = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
    validated: int = 500
    tested: int = 2000
    steps: int = 20
    restarts: int = 2
    images: int = 10_000


def run_robust(config: Robust) -> tuple[Rows, dict[str, np.ndarray]]:
    """Robust and clean accuracy of one network, hard and softened.

    Tables:
        chosen: a row for each arm (`kind`, `kinks`, `norms`) and `attack`: `beta`, of highest robust accuracy on the
            validation images (the largest of equal ones); of the test images attacked `robust` (share right under the
            attack and under what was found against the hard network), `robust_own` (under the attack on itself alone),
            `robust_hard` (of the hard network under the attack on itself); of the same images `clean`, `clean_hard`;
            and `validation_gain`: robust accuracy at this β less that at β = 1, on the very images it was chosen on.
        validation: a row for each arm, attack and `beta`: `robust_validation`, `clean_validation`.
    """
    network = trained(config.recipe)
    if network.history.diverged:
        return {"chosen": [], "validation": []}, {}
    d, device = data(config.recipe), torch.get_default_device()
    x_validation, x_test = (
        scaled(x.to(device)) for x in (d.x_validation[: config.validated], d.x_test[: config.tested])
    )
    y_validation, y_test = d.y_validation[: config.validated].to(device), d.y_test[: config.tested].to(device)
    how = {"steps": config.steps, "seed": config.seed}

    against_hard = [
        attacked(network.model, x_test, y_test, [ball], restarts=config.restarts, **how)[0] for ball in BALLS
    ]
    clean_hard = _right(network.model, x_test, y_test)
    chosen: list[dict[str, Any]] = []
    validation: list[dict[str, Any]] = []
    for arm in ARMS:
        soft = softened(network.model, arm, d.x)
        shares = np.zeros((len(config.betas), len(BALLS)))
        for i, beta in enumerate(config.betas):
            at(soft, beta, arm, d.x[: config.images])
            moved = attacked(soft, x_validation, y_validation, BALLS, restarts=1, **how)
            clean = float(_right(soft, x_validation, y_validation).double().mean())
            for j, ball in enumerate(BALLS):
                shares[i, j] = float(_right(soft, moved[j], y_validation).double().mean())
                validation.append({**arm.row, "attack": ball.name, "beta": beta, "robust_validation": shares[i, j],
                                   "clean_validation": clean})  # fmt: skip
        for j, ball in enumerate(BALLS):
            best = max(range(len(config.betas)), key=lambda i: (shares[i, j], config.betas[i]))
            hard = config.betas.index(1.0)
            at(soft, config.betas[best], arm, d.x[: config.images])
            (moved,) = attacked(soft, x_test, y_test, [ball], restarts=config.restarts, **how)
            own = _right(soft, moved, y_test)
            both = own & _right(soft, against_hard[j], y_test)
            chosen.append({
                **arm.row, "attack": ball.name, "beta": config.betas[best],
                "robust": float(both.double().mean()), "robust_own": float(own.double().mean()),
                "robust_hard": float(_right(network.model, against_hard[j], y_test).double().mean()),
                "clean": float(_right(soft, x_test, y_test).double().mean()),
                "clean_hard": float(clean_hard.double().mean()),
                "validation_gain": float(shares[best, j] - shares[hard, j]),
            })  # fmt: skip
    return {"chosen": chosen, "validation": validation}, {}


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Which images are classified right, (N,) bool."""
    return outputs(model, x).argmax(1) == y


# Linear probing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transfer(Cell):
    """One hard network whose features are used on another data set.

    Attributes:
        target: the other data set; its images have the same shape.
        betas: the choices.
        images: training images of the other data set, for the probe and for BatchNorm.
    """

    target: str = "cifar100"
    betas: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
    images: int = 10_000


def run_transfer(config: Transfer) -> tuple[Rows, dict[str, np.ndarray]]:
    """Accuracy of linear probes on the features before the last layer.

    Table `probes`: a row for each arm (`kind`, `kinks`, `norms`) and `beta`: `strength` of the ridge, chosen on the
    validation images of the other data set, `validation_accuracy` and `probe_accuracy` on its test images.
    """
    network = trained(config.recipe)
    if network.history.diverged:
        return {"probes": []}, {}
    assert isinstance(network.model, nn.Sequential)
    body = network.model[:-1].eval()
    other = data(dataclasses.replace(config.recipe, dataset=config.target))
    x, y = other.x[: config.images], other.y[: config.images]
    rows: list[dict[str, Any]] = []
    for arm in ARMS:
        soft = softened(body, arm, x)
        for beta in config.betas:
            at(soft, beta, arm, x)
            rows.append({**arm.row, "beta": beta, **_probe(soft, x, y, other)})
    return {"probes": rows}, {}


def _probe(model: nn.Module, x: Tensor, y: Tensor, other: Data) -> dict[str, float]:
    """The ridge regression of one-hot labels on standardised features that validates best."""
    features = outputs(model, x).double()
    mean, std = features.mean(0), features.std(0).clamp(min=1e-6)
    features = (features - mean) / std
    targets = nn.functional.one_hot(y.to(features.device)).double()
    gram, moments = features.T @ features / len(x), features.T @ (targets - targets.mean(0)) / len(x)
    sets = ((other.x_validation, other.y_validation), (other.x_test, other.y_test))
    held_out = [((outputs(model, images).double() - mean) / std, labels) for images, labels in sets]
    best: dict[str, float] = {}
    for strength in STRENGTHS:
        ridge = gram + strength * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        weights = torch.linalg.solve(ridge, moments)
        validation, test = (scores(f @ weights + targets.mean(0), labels)["accuracy"] for f, labels in held_out)
        if not best or validation > best["validation_accuracy"]:
            best = {"strength": strength, "validation_accuracy": validation, "probe_accuracy": test}
    return best
