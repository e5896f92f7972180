"""Chapter 04, matched filters: what does the network compare the picture with?

Experiments on trained networks.  A group of networks differs in the seed alone; every interval is over seeds.  The
networks train on all images until the accuracy levels off, seeds 100 to 109; the first edition's verdicts, of smaller
networks and seeds 0 to 4, are in the history of its claims.
"""

from __future__ import annotations

from typing import Any

from maso_book.ch04.airplane import Airplane, run_airplane
from maso_book.ch04.networks import Network
from maso_book.ch04.pictures import AugmentedPictures, Pictures, run_pictures
from maso_book.ch04.prior import AugmentedPrior, Prior, run_prior
from maso_book.ch04.sanity import AugmentedSanity, Sanity, run_sanity
from maso_book.ch04.templates import AugmentedTemplates, Templates, run_templates
from maso_book.experiment import Experiment
from maso_book.trained import Recipe

# Grids ----------------------------------------------------------------------------------------------------------------

SWITCHES = [(True, False), (False, True), (False, False)]
QUICK: dict[str, Any] = {"dataset": "digits", "grey": True, "samples": 300, "epochs": 2, "keep": (0, 1), "images": 20}
MNISTS = ("mnist", "fashion_mnist")

NEW = range(100, 105)
LOOKED: dict[str, Any] = {"samples": None, "images": 2000}
MNIST_KIND: dict[str, Any] = LOOKED | {"epochs": 15}
OBJECTS: dict[str, Any] = LOOKED | {"dataset": "cifar10", "epochs": 30}
LARGE: dict[str, Any] = OBJECTS | {"network": "large_cnn", "lr": 1e-3, "epochs": 12, "images": 500}
START: dict[str, Any] = {"keep": (0, 1, 5)}
COURSE: dict[str, Any] = {"keep": (0, 1, 5, 15)}
LAST: dict[str, Any] = {"keep": ()}
SKETCH = QUICK | {"grey": False, "smooth_images": 10, "copies": 2, "pictures": True}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "noise": {"noise": 0.1},
    "adversarial": {"attack": 0.5, "epochs": 25},
}
LARGE_ARMS = ARMS | {"adversarial": {"attack": 0.5, "epochs": 6}}


def _templates(profile: str) -> list[Templates]:
    if profile == "quick":
        return [Templates(s, **QUICK) for s in range(2)] + [Templates(0, bn=False, **QUICK)]
    configs: list[Templates] = []
    for s in NEW:
        configs += [AugmentedTemplates(s, **OBJECTS, **COURSE)]
        configs += [Templates(s, d, **MNIST_KIND, **START) for d in MNISTS]
        configs += [AugmentedTemplates(s, bn=bn, bias=bias, **OBJECTS, **LAST) for bn, bias in SWITCHES]
        configs += [Templates(s, d, bn=bn, bias=bias, **MNIST_KIND, **LAST) for d in MNISTS for bn, bias in SWITCHES]
        configs += [AugmentedTemplates(s, grey=True, **OBJECTS, **COURSE)]
    return [*configs, *(AugmentedTemplates(s, **LARGE) for s in NEW)]


def _pictures(profile: str) -> list[Pictures]:
    if profile == "quick":
        return [Pictures(0, **QUICK)]
    objects = [AugmentedPictures(NEW[0], grey=grey, **OBJECTS, **LAST) for grey in (False, True)]
    return [*(Pictures(NEW[0], d, **MNIST_KIND, **LAST) for d in MNISTS), *objects]


def _sanity(profile: str) -> list[Sanity]:
    if profile == "quick":
        return [Sanity(0, seeds=2, **QUICK)]
    configs: list[Sanity] = []
    for s in NEW:
        few = LAST | {"images": 200, "shown": 4 if s == NEW[0] else 0}
        configs += [Sanity(s, "fashion_mnist", **MNIST_KIND | few), AugmentedSanity(s, **OBJECTS | few)]
    return configs


def _prior(profile: str) -> list[Prior]:
    if profile == "quick":
        return [Prior(0, **QUICK)]
    some = LAST | {"samples": 15_000}
    configs: list[Prior] = []
    for s in range(100, 110):
        configs += [Prior(s, "fashion_mnist", **MNIST_KIND | some), AugmentedPrior(s, **OBJECTS | some)]
    return configs


def _airplane(profile: str) -> list[Airplane]:
    if profile == "quick":
        return [Airplane(s, **SKETCH | arm | {"epochs": 1}) for s in range(2) for arm in ARMS.values()]
    return [
        Airplane(s, pictures=s == NEW[0], **OBJECTS | COURSE | {"images": 1000} | arm)
        for s in NEW
        for arm in ARMS.values()
    ]


def _airplane_large(profile: str) -> list[Airplane]:
    if profile == "quick":  # another small network in its place
        return [Airplane(0, network="dense_cnn", **SKETCH | arm | {"epochs": 1}) for arm in ARMS.values()]
    few: dict[str, Any] = {"smooth_images": 200, "copies": 16}
    return [Airplane(s, pictures=s == NEW[0], **LARGE | few | arm) for s in NEW for arm in LARGE_ARMS.values()]


def _recipes(config: Network) -> list[Recipe]:
    return config.recipes


EXPERIMENTS = [
    Experiment("04-airplane", run_airplane, _airplane, recipes=_recipes, worth=10),
    Experiment("04-pictures", run_pictures, _pictures, recipes=_recipes, worth=9.44),
    Experiment("04-sanity", run_sanity, _sanity, recipes=_recipes, worth=9.46),
    Experiment("04-prior", run_prior, _prior, recipes=_recipes, worth=9.45),
    Experiment("04-templates", run_templates, _templates, recipes=_recipes, worth=9.42),
    Experiment("04-airplane-large", run_airplane, _airplane_large, recipes=_recipes, worth=6),
]
