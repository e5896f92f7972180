"""Chapter 05, second edition: verdicts, tables and figures from made-up records of 05-memory and 05-memory-widths."""

import math
from typing import Any

import numpy as np
import pytest

from maso_book.ch05 import figures, tables
from maso_book.ch05.memory import NAMED_BY, ORIGINS, SPLITS, STATES, Memory
from maso_book.ch05.verdicts import CONTROLS, after_training, memory, named, per_image, shares, verdicts
from maso_book.records import Record, as_dict, content_hash, tidy
from maso_book.shared.twins import LABELS
from maso_book.verdict import Verdict

EPOCHS = (1, 4, 16)
IMAGES = 40


def made(seed: int, labels: Any, network: str, width: int | None = None, **settings: Any) -> Record:
    """A network whose gap on training images grows by `slope` with each doubling of the epochs up to `gap`.

    Test images have `memory` less, with permuted labels, and a third of it with true ones; by answers `answers` less.
    """
    given: dict[str, Any] = {
        "gap": 0.05, "slope": 0.004, "memory": 0.03, "answers": 0.02, "before": 0.0, "pattern": 0.7, "dataset": "mnist",
        "controls": 0.1, "speaks": 0.1,
    } | settings  # fmt: skip
    config = Memory(seed, labels, network, given["dataset"], width, epochs=EPOCHS[-1], keep=(0, *EPOCHS[:-1]))
    little = 1e-4 * (seed % 5) * (1 + (width or 0) / 100)  # so that intervals have a width

    def gap(epoch: int, split: str, named_by: str) -> float:
        if not epoch:
            return float(given["before"])
        steps = math.log2(epoch) - math.log2(EPOCHS[-1])
        less = given["memory"] if named_by == "label" else given["answers"]
        less *= (1 if labels == "permuted" else 1 / 3) * (1 + steps / 8) * (1 + little)
        extra = (given.get("permuted", 0.02) if labels == "permuted" else 0) * (1 + little)
        return float(given["gap"] + extra + given["slope"] * steps * (1 + little) + little - (split == "test") * less)

    states = [("untrained", 0), ("calibrated", 0), *(("trained", epoch) for epoch in EPOCHS)]
    gaps = [
        {
            "epoch": epoch, "state": state, "split": split, "named_by": name, "accuracy": 0.9, "cosine_own": 0.2,
            "cosine_others": 0.2 - gap(epoch, split, name), "gap": gap(epoch, split, name),
            "gap_for": given["speaks"] + 2 * little,
            "gap_against": gap(epoch, split, name) - given["speaks"] - 2 * little,
        }
        for state, epoch in states for split in SPLITS for name in NAMED_BY
    ]  # fmt: skip
    patterns = [
        {
            "state": state, "split": split, "reading": reading, "pattern": share + little * (state == "trained"),
            "independent": given["pattern"] - given["controls"], "pattern_others": given["pattern"] - 0.2,
            "pattern_outputs": 0.5, "true_class_positive": 0.9, "false_classes_negative": 0.8, "inner_product_std": 1.0,
            "bias_std": 0.5, "alignment": 0.1,
        }
        for state, share in zip(STATES, (0.0, 0.01, given["pattern"]), strict=True)
        for split in SPLITS for reading in ORIGINS
    ]  # fmt: skip
    noise = np.random.default_rng(seed).normal(0, 1e-3, IMAGES)
    arrays = {
        "gaps": np.array([[gap(EPOCHS[-1], split, name) + noise for name in NAMED_BY] for split in SPLITS], np.float16),
        "negatives": np.full((3, 2, 2, 2, 10), 0.1, np.float32),
    }
    rows = {"gaps": gaps, "patterns": patterns, "training": [{"epoch": 1, "loss": 1.0, "training_accuracy": 0.5}]}
    provenance = {"device": "cuda"}
    return Record("05-memory", as_dict(config), tidy(rows), arrays, provenance, content_hash("05-memory", config))


def results(
    *, seeds: int = 5, widths: dict[int, float] | None = None, scan: dict[str, Any] | None = None, **settings: Any
) -> dict[str, list[Record]]:
    """Two networks, and a scan whose gaps are those of `widths`, with true and permuted labels."""
    of_widths = widths or {8: 0.05, 32: 0.07}
    return {
        "05-memory": [
            made(100 + s, labels, network, **settings)
            for s in range(seeds)
            for network in ("small_cnn", "large_cnn")
            for labels in LABELS
        ],
        "05-memory-widths": [
            made(100 + s, labels, "mlp", width, **{"gap": gap, "memory": gap / 2} | settings | (scan or {}))
            for s in range(seeds)
            for width, gap in of_widths.items()
            for labels in LABELS
        ],
    }


def verdict(claim: str, found: dict[str, list[Record]]) -> Verdict:
    return next(v for v in verdicts(found) if v.claim == claim)


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({}, "holds"),
        ({"pattern": 0.4}, "holds in part"),  # more than the controls, but not half of the images
        ({"controls": 0.01}, "too small to matter"),  # above independent signs by less than what is of interest
        ({"controls": -0.1}, "does not hold"),  # rarer than independent signs
        ({"seeds": 4}, "not tested"),
        ({"dataset": "digits"}, "not tested"),
    ],
)
def test_the_sign_pattern_is_judged_against_three_controls(settings: dict[str, Any], outcome: str) -> None:
    found = verdict("05.3", results(**settings))
    assert found.outcome == outcome
    assert max(len(found.effect), len(found.part)) <= 60


@pytest.mark.parametrize(
    ("settings", "outcome", "part"),
    [
        ({}, "holds", ""),
        ({"slope": -0.001}, "holds in part", "gap in 8 of 8; growths in 0 of 8, 2 of 2, 4 of 4"),
        ({"widths": {8: 0.07, 32: 0.05}}, "holds in part", "gap in 8 of 8; growths in 8 of 8, 0 of 2, 4 of 4"),
        ({"permuted": 0.0}, "holds in part", "gap in 8 of 8; growths in 8 of 8, 2 of 2, 0 of 4"),
        ({"before": 0.1}, "does not hold", ""),  # it was there before training
        ({"gap": -0.05, "scan": {"gap": -0.05}}, "does not hold", ""),
        ({"seeds": 4}, "not tested", ""),
    ],
)
def test_the_gap_is_judged_in_five_parts(settings: dict[str, Any], outcome: str, part: str) -> None:
    found = verdict("05.4", results(**settings))
    assert (found.outcome, found.part) == (outcome, part)
    assert max(len(found.effect), len(found.part)) <= 60


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({}, "holds"),
        ({"answers": 0.0}, "holds in part"),  # an answer on any image has it
        ({"memory": 0.0, "answers": 0.0, "scan": {"memory": 0.0}}, "too small to matter"),
        ({"memory": -0.02, "scan": {"memory": -0.02}}, "does not hold"),
        ({"seeds": 4}, "not tested"),
    ],
)
def test_memory_is_judged_on_permuted_labels(settings: dict[str, Any], outcome: str) -> None:
    found = verdict("05.5", results(**settings))
    assert found.outcome == outcome
    assert max(len(found.effect), len(found.part)) <= 60


@pytest.mark.parametrize(
    ("scan", "outcome"),
    [
        ({"gap": -0.05}, "holds"),
        ({"gap": -0.05, "speaks": -0.2}, "does not hold"),  # both parts are negative
        ({"gap": 0.05}, "does not hold"),
    ],
)
def test_a_negative_gap_is_that_of_the_units_against_the_class(scan: dict[str, Any], outcome: str) -> None:
    assert verdict("05.6", results(scan=scan)).outcome == outcome


def test_memory_is_train_less_test_in_every_row() -> None:
    table = memory(named(results()["05-memory"], "gaps"))
    assert len(table) == 2 * 2 * 5 * (2 + len(EPOCHS)) * 2
    last = after_training(table).query("named_by == 'label'").groupby(["arm", "labels"], sort=False)["memory"].mean()
    assert list(last.index) == [(network, labels) for network in ("smallCNN", "largeCNN") for labels in LABELS]
    assert last.to_numpy() == pytest.approx([0.01, 0.03, 0.01, 0.03], abs=1e-4)


def test_images_are_those_of_the_arm_in_the_order_of_the_seeds() -> None:
    records = results()["05-memory"]
    gaps = per_image(records[::-1], "train")["largeCNN", "permuted"].to_numpy()
    assert gaps.shape == (5, IMAGES)
    chosen = [r for r in records if (r.config["network"], r.config["labels"]) == ("large_cnn", "permuted")]
    expected = [record.arrays["gaps"][0, 0].mean() for record in chosen]
    assert gaps.mean(1) == pytest.approx(expected, abs=1e-3)


def test_shares_are_less_their_controls() -> None:
    table = shares(results()["05-memory"])
    assert len(table) == 20
    assert table[["calibrated", "others", "independent"]].mean().to_numpy() == pytest.approx([0.69, 0.2, 0.1], abs=1e-3)
    assert set(CONTROLS) <= set(table.columns)


def test_diverged_networks_are_left_out() -> None:
    found = results(seeds=6)
    lost = found["05-memory"][0]
    lost.tables.update({name: [] for name in lost.tables})
    lost.arrays.clear()
    assert verdict("05.3", found).outcome == "holds"
    assert verdict("05.5", {name: records[4:] for name, records in found.items()}).outcome == "holds"


def test_tables_and_figures_have_every_arm() -> None:
    found = results()
    networks, widths = found["05-memory"], found["05-memory-widths"]
    lines = tables.patterns(networks).splitlines()
    assert len(lines) == 2 + 2 * 2 * 2 * 2
    assert lines[2].startswith("| smallCNN, untrained | true | as given | 1.0% |")
    gaps = tables.gaps(networks, widths).splitlines()
    assert len(gaps) == 2 + 4 + 4
    assert gaps[2].startswith("| smallCNN | true | 90.0% | +0.000 | +0.050 [")

    courses = figures.courses(networks)
    assert sorted(courses["epoch"].unique()) == [0, *EPOCHS]
    assert set(courses["images"]) == {f"{labels} labels, {split}" for labels in LABELS for split in SPLITS}
    counts = figures.negatives(networks)
    assert counts.groupby(["arm", "labels", "seed", "signs"])["share"].sum().to_numpy() == pytest.approx(1)
    parts = figures.parts(widths).pivot_table(index=["width", "labels", "seed"], columns="part", values="cosine")
    assert parts["gap"].to_numpy() == pytest.approx(
        (parts["units for the class"] + parts["units against it"]).to_numpy()
    )
