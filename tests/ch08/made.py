"""Records of chapter 08 made up for tests: curves with a known effect of each arm."""

import dataclasses
import math

import numpy as np

from maso_book.ch08.arms import EPS_SCAN
from maso_book.ch08.cost import PENALTIES_HERE
from maso_book.ch08.experiments import EXPERIMENTS
from maso_book.datasets import CLASSES
from maso_book.records import Record, as_dict, content_hash, tidy

FACTORS = {
    "none": 1.0, "augmented": 0.7, "noise, a pixel": 0.98, "noise, augmentation": 1.02, "none, squared": 1.0,
    "augmented, squared": 0.72, "rugosity, weak": 0.95, "rugosity, strong": 0.9, "relative, weak": 0.8,
    "relative, strong": 0.65, "TangentProp": 0.85,
}  # fmt: skip
"""Rugosity at equal loss over that of "none"."""
KINDS = (
    "none", *PENALTIES_HERE, "rugosity, quarter", "whole batch", "second derivatives", "second derivatives, eighth",
)  # fmt: skip
ERRORS = {arm: 0.2 + 0.1 * factor for arm, factor in FACTORS.items()}


def made(factors=FACTORS, errors=ERRORS, seeds=range(5), **ratios) -> dict[str, list[Record]]:
    """Experiment → records of the full grid; `ratios` are those of the penalties' steps."""
    found = {}
    for experiment in EXPERIMENTS:
        configs = [config for config in experiment.grid("full") if config.seed in seeds]
        found[experiment.name] = [record(experiment.name, c, factors, errors, ratios) for c in configs]
    return found


def record(name, config, factors, errors, ratios) -> Record:
    drawn = list(FACTORS).index(getattr(config, "arm", "none"))
    rng, arrays, device = np.random.default_rng([config.seed, drawn]), {}, "cuda"
    if name == "08-identity":
        rows = [{"network": 0, "pieces": 200, "max_error": 1e-15, "rest_share": 0.8}]
        tables, device = {"identity": rows}, "cpu"
    elif name.startswith("08-cost"):
        device = "cpu" if name.endswith("cpu") else "cuda"
        tables = {"steps": [
            {"penalty": penalty, "step_seconds": 1e-3, "ratio_of_seconds": ratios.get(penalty, 1.7), "spread": 0.1,
             "peak_mebibytes_of_seconds": 100.0} | ({"ratio_of_seconds": 1.0} if penalty == "none" else {})
            for penalty in KINDS
        ]}  # fmt: skip
    elif name == "08-crops":
        tables = {"rugosity": [{"test_accuracy": 0.5, **summary(1.2 if config.size == 28 else 1.0, config.eps, rng)}]}
    else:
        tables, arrays = arm(config, factors[config.arm], errors[config.arm], rng)
    provenance = {"device": device, "device_name": device, "start": "2026-01-01T00:00:00", "seconds": 1.0}
    return Record(name, as_dict(config), tidy(tables), arrays, provenance, content_hash(name, config))


def summary(free: float, eps: float, rng) -> dict[str, float]:
    free *= math.sqrt(0.5 / eps) * math.exp(0.002 * rng.normal())
    first, error = 0.98 + 0.001 * rng.normal(), 0.01 + 0.001 * rng.normal()
    return {
        "bandwidth": eps, "plain_1": 9.8 * free, "plain_2": 10 * free, "free_1": first * free, "free_2": free,
        "free_2_error": error * free, "slope": 10.0, "moved": 1.0, "projection_error": 0.0,
    }  # fmt: skip


def arm(config, factor, error, rng):
    """Tables and arrays of one arm: rugosity falls with the training loss, times a factor and one of the seed."""
    factor *= math.exp(0.01 * rng.normal())
    epochs, rows = [], []
    for epoch in [*config.keep, config.epochs]:
        loss = 2.3 * math.exp(-epoch / 12) + (0.2 if config.augment else 0.0)
        epochs.append({"epoch": epoch, "train_loss": loss, "train_accuracy": math.exp(-loss)})
        for split in ("train", "test"):
            value = factor * math.exp(0.2 * loss)
            rows.append({"epoch": epoch, "split": split, "direction": "translation", **summary(value, config.eps, rng)})
    end = {"epoch": config.epochs, "split": "test"}
    value = rows[-1]["free_2"]
    for direction in ("rotation", "scaling", "neighbours", "ambient", "shuffled"):
        rows.append({**end, "direction": direction, **summary(value, config.eps, rng)})
    rows += [{**end, "direction": "translation", **summary(value, eps, rng)} for eps in EPS_SCAN]
    classes = len(CLASSES[config.dataset])
    final = {
        "validation_accuracy": 1 - error, "test_accuracy": 1 - error + 0.002 * rng.normal(), "test_loss": 1.0,
        "weight_norm": 10 + rng.normal(), "bends": 3000.0 + 10 * rng.normal(), "variation": 0.1 * factor,
    }  # fmt: skip
    size = 0.002 * rng.normal()
    taylor = [
        {"shift": s, "loss": 0.5, "extra_loss": (0.1 + size) * s, "first_order": (0.05 + size) * s,
         "curvature": 0.07 * s, "difference": -0.02 * s, "rest_share": 0.9}
        for s in (1, 2, 3, 4)
    ]  # fmt: skip
    of_class = np.full(classes, 100, np.uint16)
    correct = np.clip(100 * (1 - error) + rng.normal(0, 2, classes), 0, 100).astype(np.uint16)
    arrays = {"relative": np.full((8, 2), value, np.float16), "correct": correct, "of_class": of_class}
    if config.pictures:
        T = 2 * 4 * 32 + 1
        arrays |= {
            "pictures": rng.integers(0, 255, (config.pictures, 3, 32, 32)).astype(np.uint8),
            "outputs": np.cumsum(rng.normal(0, factor, (config.pictures, T, classes)), 1).astype(np.float16),
            "bent": rng.integers(0, 200, (config.pictures, T - 1)).astype(np.uint16),
            "label": np.arange(config.pictures).astype(np.uint8),
        }
    return {"epochs": epochs, "rugosity": rows, "final": [final], "taylor": taylor}, arrays


def digits(records):
    """The same records as if of drawn digits."""
    return [dataclasses.replace(r, config={**r.config, "dataset": "digits"}) for r in records]
