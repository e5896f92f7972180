"""Does the bias carry the classes' prior?  Networks trained with skewed class shares (04-prior).

The outputs of a calibrated classifier shift by log π_c when the prior π changes, a slope of 1 against log π_c.  The
experiment asks where in z_c = ⟨A[x]_c, x⟩ + b[x]_c that slope is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from maso.matched import IMAGE, match
from maso_book.ch04.networks import Network, looked_at, skewed
from maso_book.experiment import Rows
from maso_book.trained import Recipe, data, trained

PLACES = ("outputs", "inner", "bias", "output bias")


@dataclass(frozen=True)
class Prior(Network):
    """A network trained with class shares from 1 to `smallest`, and the balanced one with as many samples."""

    smallest: float = 0.1

    @property
    def recipes(self) -> list[Recipe]:
        """The skewed and the balanced network."""
        return [skewed(self.recipe, self.smallest), self.recipe]


def run_prior(config: Prior) -> tuple[Rows, dict[str, np.ndarray]]:
    """How each part of the output grows with the log prior, with `prior` "skewed" or "balanced" in training.

    Table `networks`, a row each: `prior`; `training_images`; `accuracy` on test images.

    Table `slopes`, a row for each `prior` and each of `PLACES`: `place`; `slope` and `correlation`, over the classes,
    of the part's mean over test images against the log prior of the skewed network.

    Table `classes`, a row for each `prior`, `place` and class: `label` of the class; `log_prior`, that of the skewed
    network; `mean` of the part over test images.
    """
    recipes = dict(zip(("skewed", "balanced"), config.recipes, strict=True))
    test = looked_at(config)["test"]
    counts = np.bincount(data(recipes["skewed"]).y.numpy())
    log_prior = np.log(counts / counts.sum())

    tables: dict[str, list[dict[str, Any]]] = {"networks": [], "slopes": [], "classes": []}
    for prior, recipe in recipes.items():
        model = trained(recipe).model
        accuracy = float((model(test.x).argmax(1) == test.y).double().mean())
        images = len(data(recipe).y)
        tables["networks"].append({"prior": prior, "training_images": images, "accuracy": accuracy})

        for place, means in zip(PLACES, _parts(model, test.x), strict=True):
            slope = float(np.polyfit(log_prior, means, 1)[0])
            correlation = float(np.corrcoef(log_prior, means)[0, 1])
            where = {"prior": prior, "place": place}
            tables["slopes"].append(where | {"slope": slope, "correlation": correlation})
            tables["classes"] += [
                where | {"label": c, "log_prior": log_prior[c], "mean": mean} for c, mean in enumerate(means)
            ]
    return tables, {}


def _parts(model: nn.Module, x: Tensor) -> list[np.ndarray]:
    """The mean over x of each of `PLACES`, (C,) each."""
    templates = match(model, x)
    inner, bias = templates.inner[IMAGE], templates.bias
    means = [part.double().mean(0) for part in (inner + bias, inner, bias)]
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    return [part.double().cpu().numpy() for part in (*means, last.bias.detach())]
