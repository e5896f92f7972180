"""Does the bias carry the classes' prior?  Networks trained with skewed class shares (04-prior).

The outputs of a calibrated classifier shift by log π_c when the prior π changes, a slope of 1 against log π_c.  The
experiment asks where in z_c = ⟨A[x]_c, x⟩ + b[x]_c that slope is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from maso.matched import IMAGE, match
from maso_book.ch04.networks import Network, looked_at, skewed
from maso_book.trained import Recipe, data, trained

Result = tuple[dict[str, Any], dict[str, np.ndarray]]
PLACES = ("outputs", "inner", "bias", "output bias")


@dataclass(frozen=True)
class Prior(Network):
    """A network trained with class shares from 1 to `smallest`, and the balanced one with as many samples."""

    smallest: float = 0.1

    @property
    def recipes(self) -> list[Recipe]:
        """The skewed and the balanced network."""
        return [skewed(self.recipe, self.smallest), self.recipe]


def run_prior(config: Prior) -> Result:
    """Slope and correlation against the log prior of the mean over test images of each part of the output.

    Arrays: `log prior` (C,), and (C,) for each of `PLACES`: "bias, skewed", "bias, balanced", … .
    """
    recipes = dict(zip(("skewed", "balanced"), config.recipes, strict=True))
    test = looked_at(config)["test"]
    counts = np.bincount(data(recipes["skewed"]).y.numpy())
    log_prior = np.log(counts / counts.sum())
    metrics: dict[str, Any] = {"samples": {name: len(data(recipe).y) for name, recipe in recipes.items()}}
    arrays = {"log prior": log_prior}
    for name, recipe in recipes.items():
        model = trained(recipe).model
        found = match(model, test.x)
        parts = {
            "outputs": (found.inner[IMAGE] + found.bias).double().mean(0),
            "inner": found.inner[IMAGE].double().mean(0),
            "bias": found.bias.double().mean(0),
            "output bias": _last(model).bias.detach(),
        }
        metrics[f"accuracy, {name}"] = float((model(test.x).argmax(1) == test.y).double().mean())
        for place, tensor in parts.items():
            values = tensor.double().cpu().numpy()
            arrays[f"{place}, {name}"] = values
            metrics[f"slope, {place}, {name}"] = float(np.polyfit(log_prior, values, 1)[0])
            metrics[f"correlation, {place}, {name}"] = float(np.corrcoef(log_prior, values)[0, 1])
    return metrics, arrays


def _last(model: nn.Module) -> nn.Linear:
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
