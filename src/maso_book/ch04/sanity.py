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
from maso_book.ch04.networks import CALIBRATED_ON, Looked, Network, by_hand, looked_at
from maso_book.ch04.pictures import first_of_each_class, int8
from maso_book.ch04.templates import partner
from maso_book.experiment import Rows
from maso_book.shared.untrained import calibrated
from maso_book.statistics import rank_correlation
from maso_book.trained import Augmented, Recipe, data, trained

NOISE = 0.01
"""Standard deviation of the noise that breaks ties: 2.5 of 255 grey levels."""


@dataclass(frozen=True)
class Sanity(Network):
    """A network whose layers are randomised one by one; the network of the next seed is its trained control.

    Seeds come in rows of `seeds` from every full hundred on, the first following the last. The templates of the first
    `shown` classes are stored.
    """

    seeds: int = 5
    images: int = 200
    shown: int = 4

    @property
    def recipes(self) -> list[Recipe]:
        """The network and its control."""
        hundreds, place = divmod(self.seed, 100)
        return [self.recipe, dataclasses.replace(self, seed=100 * hundreds + (place + 1) % self.seeds).recipe]


@dataclass(frozen=True)
class AugmentedSanity(Augmented, Sanity):
    """The same of networks that were trained on images flipped and moved."""


def run_sanity(config: Sanity) -> tuple[Rows, dict[str, np.ndarray]]:
    """Rank correlation of the true class's template with that of changed networks, a mean over test images.

    Table `cascade`, a row for each changed network and each kind of `entries` that are ranked, "signed" or "magnitude":
    `changed`, "randomised", "calibrated" (all randomised, then BatchNorm calibrated on training images) or "another
    seed"; `stage`, the number of layers that are randomised; `layer` and `kind`, path and class of the layer that was
    randomised last (null unless "randomised"); `rank_correlation`.

    Table `cause`, magnitudes only, a row for each of the changed networks, all layers randomised, and each `condition`:
    "as it is"; "ties broken", both networks see the picture with the same noise of σ = 0.01; "nonzero in both", over
    the pixels where neither template is 0; "another picture", the changed network sees a picture of another class.

    Table `zeros`: `changed`, "none" for the trained network; `zero_share` of the pixels, where its template is 0.

    Table `identity`, one row: `gradient_error`, see there.

    Arrays, where templates are `shown`: `strip`, int8 (networks, shown, channels, height, width), the templates of the
    first test image of the first classes: the trained network, the changed ones in the order of `cascade`; and
    `images`, uint8.
    """
    model, another = (trained(recipe).model for recipe in config.recipes)
    test = looked_at(config)["test"]
    randomised = dict(randomised_from_top(model, test.x[:2], seed=1000 + config.seed))
    stages: list[dict[str, Any]] = [
        {"changed": "randomised", "stage": number, "layer": path, "kind": type(model.get_submodule(path)).__name__}
        for number, path in enumerate(randomised, 1)
    ]
    stages += [
        {"changed": changed, "stage": None, "layer": None, "kind": None} for changed in ("calibrated", "another seed")
    ]
    *_, everything = randomised.values()
    new = calibrated(everything, data(config.recipe).x[:CALIBRATED_ON])
    changed_networks = [*randomised.values(), new, another]

    original, cascade = own_templates(model, test), []
    for stage, network in zip(stages, changed_networks, strict=True):
        other = own_templates(network, test)
        for entries, change in (("signed", np.asarray), ("magnitude", np.abs)):
            correlation = float(rank_correlation(change(original), change(other)).mean())
            cascade.append(stage | {"entries": entries, "rank_correlation": correlation})

    ends = {"randomised": everything, "calibrated": new, "another seed": another}
    tables = {
        "cascade": cascade,
        "cause": [row for name, network in ends.items() for row in cause(model, network, test, name, config.seed)],
        "zeros": [
            {"changed": name, "zero_share": float((own_templates(network, test) == 0).mean())}
            for name, network in ({"none": model} | ends).items()
        ],
        "identity": [{"gradient_error": gradient_error(model, test.x, config.seed)}],
    }
    if not config.shown:
        return tables, {}
    first = first_of_each_class(config.recipe)
    shown = Looked(first.x[: config.shown], first.y[: config.shown])
    strip = np.stack([own_templates(network, shown) for network in (model, *changed_networks)])
    pictures = int8(strip.reshape(len(strip), *shown.x.shape))
    return tables, {"strip": pictures, "images": (shown.x.cpu().numpy() * 255).round().astype(np.uint8)}


def cause(model: nn.Module, changed: nn.Module, test: Looked, name: str, seed: int) -> list[dict[str, Any]]:
    """The rows of the table `cause` for one changed network."""
    noise = NOISE * np.random.default_rng(seed).normal(size=test.x.shape)
    noisy = Looked(test.x + torch.from_numpy(noise).to(test.x), test.y)
    elsewhere = partner(test.y, same=False)
    other = Looked(test.x[elsewhere], test.y[elsewhere])
    one, two = (np.abs(own_templates(network, test)) for network in (model, changed))
    broken = (np.abs(own_templates(network, noisy)) for network in (model, changed))
    values = {
        "as it is": rank_correlation(one, two),
        "ties broken": rank_correlation(*broken),
        "nonzero in both": nonzero_in_both(one, two),
        "another picture": rank_correlation(one, np.abs(own_templates(changed, other))),
    }
    return [
        {"changed": name, "condition": condition, "rank_correlation": float(of_images.mean())}
        for condition, of_images in values.items()
    ]


def nonzero_in_both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank correlation of each row of a with that of b over the entries where neither is 0, (N, D), (N, D) → (N,).

    It is 0 where there are no two such entries.
    """
    both = (a != 0) & (b != 0)
    return np.array([
        rank_correlation(x[None, kept], y[None, kept])[0] if kept.sum() > 1 else 0.0
        for x, y, kept in zip(a, b, both, strict=True)
    ])  # fmt: skip


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
