"""Does it help to learn β for each channel, and where does β end up? (09-learned)

The same network with ReLU, SiLU, GELU and with a β that is learned for each channel and begins at ½, where it is SiLU.
β is read off after some epochs; the test set is used once, at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from maso.soft import BetaVQ
from maso_book.ch09.cells import Cell, outputs, scores
from maso_book.experiment import Rows
from maso_book.trained import data, trained

UNITS = ("relu", "silu", "gelu", "beta")
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Learned(Cell):
    """One network.

    Attributes:
        unit: as in `Recipe`.
        keep: epochs after which β is read off, besides the last.
    """

    unit: str = "relu"
    keep: tuple[int, ...] = ()


def run_learned(config: Learned) -> tuple[Rows, dict[str, np.ndarray]]:
    """Accuracy and calibration of one network, and its β by layer and epoch.

    Tables:
        networks: one row. `diverged`; `training_accuracy` as the samples were seen; `validation_accuracy`; of the test
            images `test_accuracy`, `test_ece`, `test_nll`. Null where training diverged.
        betas: a row for each epoch and layer of a network that learns β: `epoch`, `layer` (1, 2, …), `mean_beta`,
            `beta_10`, `beta_50`, `beta_90`: mean and quantiles over its channels.

    Arrays:
        log_odds (epochs, channels of all layers) float16: log β/(1 − β) of each channel.
    """
    network = trained(config.recipe)
    if network.history.diverged:
        row = dict.fromkeys(["training_accuracy", "validation_accuracy", "test_accuracy", "test_ece", "test_nll"])
        return {"networks": [{"diverged": True, **row}], "betas": []}, {}
    d, history = data(config.recipe), network.history
    found = scores(outputs(network.model, d.x_test), d.y_test)
    row = {
        "diverged": False,
        "training_accuracy": float(history.accuracy[-1]),
        "validation_accuracy": float(history.validation_accuracy[-1]),
        **{f"test_{name}": value for name, value in found.items()},
    }
    betas: list[dict[str, Any]] = []
    channels = []
    for epoch, model in network.epochs.items():
        units = [module for module in model.modules() if isinstance(module, BetaVQ)]
        for layer, unit in enumerate(units, 1):
            beta = unit.beta.detach().double().cpu()
            spread = torch.quantile(beta, torch.tensor(QUANTILES, dtype=torch.float64, device="cpu")).tolist()
            quantiles = {f"beta_{round(100 * q)}": value for q, value in zip(QUANTILES, spread, strict=True)}
            betas.append({"epoch": epoch, "layer": layer, "mean_beta": float(beta.mean()), **quantiles})
        if units:
            channels.append(torch.cat([unit.log_odds.detach() for unit in units]).cpu().numpy())
    arrays = {"log_odds": np.stack(channels).astype(np.float16)} if channels else {}
    return {"networks": [row], "betas": betas}, arrays
