"""Chapter 04, matched filters: what does the network compare the picture with?

Four experiments on trained networks.  A group of networks differs in the seed alone; every interval is over seeds.
"""

from __future__ import annotations

from typing import Any

from maso_book.ch04.networks import Network
from maso_book.ch04.pictures import Pictures, run_pictures
from maso_book.ch04.prior import Prior, run_prior
from maso_book.ch04.sanity import Sanity, run_sanity
from maso_book.ch04.templates import Templates, run_templates
from maso_book.experiment import Experiment
from maso_book.trained import Recipe

# Grids ----------------------------------------------------------------------------------------------------------------

SEEDS = range(5)
SWITCHES = [(True, False), (False, True), (False, False)]
MNISTS: dict[str, Any] = {"samples": 20_000, "epochs": 4}
STANDARD: dict[str, Any] = {"samples": 20_000, "epochs": 8, "keep": (0, 1, 2, 4)}
SMALL: dict[str, Any] = {"samples": 10_000, "epochs": 4}
QUICK: dict[str, Any] = {"dataset": "digits", "grey": True, "samples": 600, "epochs": 3, "keep": (0, 1), "images": 50}
FULL: dict[str, Any] = {"samples": None, "epochs": 40, "images": 10_000}
EPOCHS = (0, 1, 2, 5, 10, 20)
IMAGES = ("mnist", "fashion_mnist", "cifar10")


def switched(dataset: str, seed: int, bn: bool, bias: bool, sizes: dict[str, Any]) -> Templates:
    """A network without BatchNorm or bias: only what it is after training is looked at."""
    return Templates(seed, dataset, bn=bn, bias=bias, keep=(), **sizes)


def _templates(profile: str) -> list[Templates]:
    if profile == "quick":
        return [Templates(s, **QUICK) for s in range(2)] + [Templates(0, bn=False, **QUICK)]
    if profile == "full":
        configs = [Templates(s, d, keep=EPOCHS, **FULL) for d in IMAGES for s in SEEDS]
        configs += [switched(d, s, bn, bias, FULL) for d in IMAGES for bn, bias in SWITCHES for s in SEEDS]
        configs += [Templates(s, "cifar10", grey=True, **FULL) for s in SEEDS]
        return configs + [Templates(s, "cifar10", network="large_cnn", lr=1e-3, **FULL) for s in SEEDS]
    configs = []
    for d in IMAGES[:2]:
        configs += [Templates(s, d, keep=(0, 1, 2), **MNISTS) for s in SEEDS]
        configs += [switched(d, s, bn, bias, MNISTS) for bn, bias in SWITCHES for s in SEEDS]
    configs += [Templates(s, "cifar10", **STANDARD) for s in SEEDS]
    configs += [Templates(s, "cifar10", grey=grey, **SMALL) for grey in (False, True) for s in SEEDS]
    return configs + [switched("cifar10", s, bn, bias, SMALL) for bn, bias in SWITCHES for s in SEEDS]


def _pictures(profile: str) -> list[Pictures]:
    if profile == "quick":
        return [Pictures(0, **QUICK)]
    if profile == "full":
        return [*(Pictures(0, d, keep=EPOCHS, **FULL) for d in IMAGES), Pictures(0, "cifar10", grey=True, **FULL)]
    mnists = [Pictures(0, d, keep=(0, 1, 2), **MNISTS) for d in IMAGES[:2]]
    return [*mnists, Pictures(0, "cifar10", **STANDARD), Pictures(0, "cifar10", grey=True, **SMALL)]


def _sanity(profile: str) -> list[Sanity]:
    if profile == "quick":
        return [Sanity(0, seeds=2, **QUICK)]
    if profile == "full":
        return [Sanity(s, d, keep=EPOCHS, **FULL | {"images": 1000}) for d in IMAGES[1:] for s in SEEDS]
    fashion = [Sanity(s, "fashion_mnist", keep=(0, 1, 2), **MNISTS) for s in SEEDS]
    return fashion + [Sanity(s, "cifar10", **STANDARD) for s in SEEDS]


def _prior(profile: str) -> list[Prior]:
    if profile == "quick":
        return [Prior(0, **QUICK)]
    if profile == "full":
        return [Prior(s, d, **FULL | {"samples": 15_000}) for d in IMAGES[1:] for s in SEEDS]
    fashion = [Prior(s, "fashion_mnist", keep=(0, 1, 2), **MNISTS) for s in SEEDS]
    return fashion + [Prior(s, "cifar10", **SMALL) for s in SEEDS]


def _recipes(config: Network) -> list[Recipe]:
    return config.recipes


EXPERIMENTS = [
    Experiment("04-templates", run_templates, _templates, recipes=_recipes),
    Experiment("04-pictures", run_pictures, _pictures, recipes=_recipes),
    Experiment("04-sanity", run_sanity, _sanity, recipes=_recipes),
    Experiment("04-prior", run_prior, _prior, recipes=_recipes),
]
