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
from maso_book.ch04.networks import Network, class_means, looked_at, origins, skewed
from maso_book.experiment import Rows
from maso_book.trained import Augmented, Recipe, data, trained

ANY = "any"
"""The origin of what does not depend on it: the outputs and the last layer's bias."""


@dataclass(frozen=True)
class Prior(Network):
    """A network trained with class shares from 1 to `smallest`, and the balanced one with as many samples."""

    smallest: float = 0.1

    @property
    def recipes(self) -> list[Recipe]:
        """The skewed and the balanced network."""
        return [skewed(self.recipe, self.smallest), self.recipe]


@dataclass(frozen=True)
class AugmentedPrior(Augmented, Prior):
    """The same with training images flipped and moved."""


def run_prior(config: Prior) -> tuple[Rows, dict[str, np.ndarray]]:
    """How each part of the output grows with the log prior, with `prior` "skewed" or "balanced" in training.

    Table `networks`, a row each: `prior`; `training_images`; `accuracy` on test images.

    Table `slopes`, a row for each `prior` and each part: `place`, "outputs", "inner", "bias" or "output bias" (that of
    the last layer); `origin` from which pixels are counted; `slope` and `correlation`, over the classes, of the part's
    mean over test images against the log prior of the skewed network.

    Table `classes`, of the bias with pixels counted from black, a row for each `prior` and class: `label` of the class;
    `log_prior`, that of the skewed network; `mean` over test images.
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

        for (place, origin), means in _parts(model, test.x, class_means(config)).items():
            slope = float(np.polyfit(log_prior, means, 1)[0])
            correlation = float(np.corrcoef(log_prior, means)[0, 1])
            where = {"prior": prior, "place": place, "origin": origin}
            tables["slopes"].append(where | {"slope": slope, "correlation": correlation})
            if (place, origin) == ("bias", "black"):
                tables["classes"] += [
                    {"prior": prior, "label": c, "log_prior": log_prior[c], "mean": mean}
                    for c, mean in enumerate(means)
                ]
    return tables, {}


def _parts(model: nn.Module, x: Tensor, class_means: Tensor) -> dict[tuple[str, str], np.ndarray]:
    """Place and origin → the mean over x of that part of the outputs, (C,)."""
    found = match(model, x, origins(class_means))
    inner, bias = found.inner[IMAGE].double(), found.bias.double()
    parts = {("outputs", ANY): inner + bias, ("inner", "black"): inner, ("bias", "black"): bias}
    for origin in origins(class_means):
        shift = found.inner[origin].double()
        parts |= {("inner", origin): inner - shift, ("bias", origin): bias + shift}
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    means = {where: part.mean(0) for where, part in parts.items()} | {("output bias", ANY): last.bias.detach().double()}
    return {where: mean.cpu().numpy() for where, mean in means.items()}
