"""A trained hard network softened: accuracy and calibration against β (09-softened).

Nothing is trained again.  Every β of the grid is measured on the validation and on the test images; which one is used
is chosen by the validation images alone.  Temperature scaling is the rival for calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maso.soft import Kind
from maso_book.ch09.cells import Arm, Cell, at, outputs, reliability, scores, softened, temperature
from maso_book.experiment import Rows
from maso_book.trained import data, trained

FORMS: tuple[tuple[Kind, str], ...] = (("swish", "all"), ("mix", "units"), ("softplus", "all"), ("mix", "all"))
ARMS = tuple(Arm(kind, kinks, norms) for kind, kinks in FORMS for norms in ("kept", "re-estimated"))


@dataclass(frozen=True)
class Softening(Cell):
    """One hard network, and how softly it is looked at.

    Attributes:
        betas: the grid of β; 1 is the hard network.
        images: training images from which BatchNorm is re-estimated.
        looked_at: the first that many validation and test images, all of them where None.
    """

    betas: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)
    images: int = 10_000
    looked_at: int | None = None


def run_softening(config: Softening) -> tuple[Rows, dict[str, np.ndarray]]:
    """Accuracy, calibration and likelihood of every softened form of one network.

    Tables:
        curve: a row for each arm (`kind`, `kinks`, `norms`; see `Arm`), `beta` and `split` ("validation", "test"):
            `accuracy`, `ece`, `nll`.
        rival: a row for each split: `temperature`, chosen on the validation images, and `accuracy`, `ece`, `nll` of the
            hard network with it.

    Arrays:
        reliability (2 + arms, 3, bins): images, sum of the largest probability, and number right, of the test images:
            hard, with temperature, then each arm at the β of highest validation likelihood below 1.
    """
    network = trained(config.recipe)
    if network.history.diverged:
        return {"curve": [], "rival": []}, {}
    d = data(config.recipe)
    shown = slice(config.looked_at)
    splits = {
        "validation": (d.x_validation[shown], d.y_validation[shown]),
        "test": (d.x_test[shown], d.y_test[shown]),
    }
    curve: list[dict[str, Any]] = []
    diagrams = []

    hard = {split: outputs(network.model, x) for split, (x, _) in splits.items()}
    scale = temperature(hard["validation"], splits["validation"][1])
    rival = [
        {"split": split, "temperature": scale, **scores(hard[split] / scale, y)} for split, (_, y) in splits.items()
    ]
    y_test = splits["test"][1]
    diagrams += [reliability(hard["test"], y_test), reliability(hard["test"] / scale, y_test)]

    for arm in ARMS:
        soft = softened(network.model, arm, d.x)
        best = np.inf
        for beta in config.betas:
            at(soft, beta, arm, d.x[: config.images])
            found = {}
            for split, (x, y) in splits.items():
                logits = outputs(soft, x)
                found[split] = scores(logits, y)
                curve.append({**arm.row, "beta": beta, "split": split, **found[split]})
            if beta < 1 and found["validation"]["nll"] < best:
                best, diagram = found["validation"]["nll"], reliability(logits, y_test)
        diagrams.append(diagram)
    return {"curve": curve, "rival": rival}, {"reliability": torch.stack(diagrams).cpu().numpy().astype(np.float32)}
