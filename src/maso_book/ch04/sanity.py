"""Do the templates depend on what was learned?  Cascading weight randomisation (04-sanity)."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maso import affine_map
from maso.matched import randomised_from_top
from maso_book.ch04.networks import Looked, Network, by_hand, looked_at
from maso_book.ch04.pictures import first_of_each_class, int8
from maso_book.experiment import Rows
from maso_book.statistics import rank_correlation
from maso_book.trained import Recipe, trained


@dataclass(frozen=True)
class Sanity(Network):
    """A network whose layers are randomised one by one; the network of the next seed is its trained control."""

    seeds: int = 5
    images: int = 200
    shown: int = 4

    @property
    def recipes(self) -> list[Recipe]:
        """The network and its control."""
        return [self.recipe, dataclasses.replace(self, seed=(self.seed + 1) % self.seeds).recipe]


def run_sanity(config: Sanity) -> tuple[Rows, dict[str, np.ndarray]]:
    """Rank correlation of the true class's template with that of changed networks, a mean over test images.

    Table `cascade`, a row for each changed network and each kind of `entries` that are ranked, "signed" or "magnitude":
    `changed`, "randomised" or "another seed"; `stage`, the number of layers that are randomised; `layer` and `kind`,
    path and class of the layer that was randomised last (null for another seed); `rank_correlation`.

    Table `identity`, one row: `gradient_error`, see there.

    Arrays: `strip`, int8 (networks, shown, channels, height, width), the templates of the first test image of the first
    `shown` classes: the trained network, the randomised ones, the one of another seed; and `images`, uint8.
    """
    model, another = (trained(recipe).model for recipe in config.recipes)
    test = looked_at(config)["test"]
    first = first_of_each_class(config.recipe)
    shown = Looked(first.x[: config.shown], first.y[: config.shown])

    randomised = dict(randomised_from_top(model, test.x[:2], seed=1000 + config.seed))
    stages: list[dict[str, Any]] = [
        {"changed": "randomised", "stage": number, "layer": path, "kind": type(model.get_submodule(path)).__name__}
        for number, path in enumerate(randomised, 1)
    ]
    stages.append({"changed": "another seed", "stage": None, "layer": None, "kind": None})

    original = own_templates(model, test)
    strip, cascade = [own_templates(model, shown)], []
    for stage, network in zip(stages, [*randomised.values(), another], strict=True):
        other = own_templates(network, test)
        for entries, change in (("signed", np.asarray), ("magnitude", np.abs)):
            correlation = float(rank_correlation(change(original), change(other)).mean())
            cascade.append(stage | {"entries": entries, "rank_correlation": correlation})
        strip.append(own_templates(network, shown))

    tables = {"cascade": cascade, "identity": [{"gradient_error": gradient_error(model, test.x, config.seed)}]}
    pictures = np.stack(strip).reshape(len(strip), *shown.x.shape)
    return tables, {"strip": int8(pictures), "images": (shown.x.cpu().numpy() * 255).round().astype(np.uint8)}


def own_templates(model: nn.Module, images: Looked) -> np.ndarray:
    """The templates of the true class, (N, D)."""
    return affine_map(model, images.x, outputs=images.y[:, None]).A.flatten(1).double().cpu().numpy()


def gradient_error(model: nn.Module, x: Tensor, seed: int) -> float:
    """Largest difference between gradients and hand-written templates, both applied to a random direction.

    Relative to the largest value of an image, in double precision.
    """
    model, x = copy.deepcopy(model).double(), x.detach().double().requires_grad_()
    u = torch.from_numpy(np.random.default_rng(seed).normal(size=x.shape)).to(x)
    z = model(x)
    saliency = [torch.autograd.grad(z[:, c].sum(), x, retain_graph=True)[0] for c in range(z.shape[1])]
    by_gradient = torch.stack([(g * u).flatten(1).sum(1) for g in saliency], 1)
    by_formula, _ = by_hand(model, x.detach(), u)
    return float(((by_gradient - by_formula).abs() / by_formula.abs().amax(1, keepdim=True)).max())
