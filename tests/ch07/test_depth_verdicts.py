"""Chapter 07, second edition: verdicts, table and figure from made-up records of 07-twins and 07-all-images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from maso_book.ch07 import figures, tables, verdicts
from maso_book.ch07.agreement import EUCLID, KS
from maso_book.ch07.depth import ARMS, DIVERGED, MASKED, Depth, K, decisive
from maso_book.records import Record, as_dict, tidy
from maso_book.verdict import Verdict

QUERIES = 200
RISES, FLAT, FALLS = (0.2, 0.4, 0.6), (0.2, 0.21, 0.21), (0.2, 0.6, 0.5)
SMALL = ("small_cnn",)


def made(seed: int, labels: Any, trained: Sequence[float], **settings: Any) -> Record:
    """A network with these agreements in three ReLU layers and three pools; a little more with each seed."""
    given: dict[str, Any] = {
        "calibrated": FLAT, "pixels": 0.3, "outputs": 0.4,
        "dataset": "cifar10", "network": "small_cnn", "samples": 10_000,
    } | settings  # fmt: skip
    config = Depth(seed, labels, given["network"], given["dataset"], samples=given["samples"], queries=QUERIES)
    rng = np.random.default_rng(seed)
    kinds = ("ReLU",) if given["network"] == "small_resnet" else ("ReLU", "pool", MASKED)
    keys = [(kind, f"{'ReLU' if kind == 'ReLU' else 'pool'} {i}") for i in (1, 2, 3) for kind in kinds]
    keys += [("Euclid", name) for name in EUCLID]
    found: dict[Any, np.ndarray] = {}
    for arm, shares in zip(ARMS, (FLAT, given["calibrated"], trained), strict=True):
        for kind, name in keys:
            share = shares[int(name[-1]) - 1] if kind != "Euclid" else given.get(name, 0.3)
            share = share + 0.005 * (seed % 5)
            found[arm, kind, name] = rng.binomial(K, share, QUERIES)
    rows = [
        {"arm": arm, "kind": kind, "distance": name, "k": k, "label_agreement": right.mean() / K}
        for (arm, kind, name), right in found.items()
        for k in KS
    ]
    hubs = [
        {"arm": arm, "kind": kind, "distance": name, "most_frequent": 0.1, "skewness": 2.0} for arm, kind, name in found
    ]
    windows = [{"arm": arm, "distance": f"pool {i}", "empty": 0.25} for arm in ARMS for i in (1, 2, 3)]
    networks = [{"diverged": False, "training_accuracy": 1.0, "test_accuracy": 0.7}]
    made_of = {"networks": networks, "agreement": rows, "hubs": hubs, "windows": windows}
    right = np.array([[found[arm, *key] for key in decisive(keys)] for arm in ARMS], np.uint8)
    return Record("07-twins", as_dict(config), tidy(made_of), {"right": right}, {"device": "cuda"}, str(seed))


def results(
    trained: Sequence[float] = RISES,
    permuted: Sequence[float] = FLAT,
    *,
    seeds: int = 5,
    networks: Sequence[str] = ("large_cnn", "small_cnn", "small_resnet"),
    **settings: Any,
) -> dict[str, list[Record]]:
    """Of all the networks that the criteria ask for, or of some."""
    numbers = range(100, 100 + seeds)
    twins = [
        made(s, labels, of, network=network, **settings)
        for s in numbers
        for network in networks
        for labels, of in (("true", trained), ("permuted", permuted))
    ]
    others = [{"network": network, "dataset": "cifar10"} for network in networks if network != "small_resnet"]
    others += [{"network": "small_cnn", "dataset": "fashion_mnist"}] if len(others) > 1 else []
    whole = [made(s, "true", trained, **(other | settings), samples=None) for s in numbers for other in others]
    return {"07-twins": twins, "07-all-images": whole}


def verdict(claim: str, found: dict[str, list[Record]]) -> Verdict:
    judge = {"07.1": verdicts._judge_depth, "07.2": verdicts._judge_learned}[claim]
    return judge(claim, found["07-twins"], found["07-all-images"])


@pytest.mark.parametrize(
    ("trained", "settings", "outcome"),
    [
        (RISES, {}, "holds"),
        (FALLS, {}, "holds in part"),  # more at the end than at the beginning, and a layer that loses ten points
        (FLAT, {}, "does not hold"),
        (RISES, {"seeds": 4}, "not tested"),
        (RISES, {"dataset": "digits"}, "not tested"),
        (RISES, {"networks": SMALL}, "not tested"),
        (FLAT, {"networks": SMALL}, "not tested"),
        (FALLS, {"networks": SMALL}, "holds in part"),  # whatever the others do
    ],
)
def test_depth_is_judged_by_rise_and_fall(trained: Sequence[float], settings: dict[str, Any], outcome: str) -> None:
    found = verdict("07.1", results(trained, **settings))
    assert found.outcome == outcome
    assert max(len(found.effect), len(found.part)) <= 60


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({}, "holds"),
        ({"outputs": 0.7}, "holds in part"),  # Euclid in the last layer groups better
        ({"calibrated": (0.1, 0.2, 0.55)}, "holds in part"),  # the rise is the architecture's
        ({"permuted": RISES}, "does not hold"),
        ({"calibrated": RISES}, "does not hold"),
        ({"seeds": 4}, "not tested"),
        ({"networks": SMALL}, "not tested"),
        ({"networks": SMALL, "permuted": RISES}, "not tested"),
        ({"networks": SMALL, "outputs": 0.7}, "holds in part"),
    ],
)
def test_learning_is_judged_against_every_control(settings: dict[str, Any], outcome: str) -> None:
    found = verdict("07.2", results(**settings))
    assert found.outcome == outcome
    assert max(len(found.effect), len(found.part)) <= 60


def test_effects_are_paired_by_seed_and_keep_their_panel() -> None:
    found = results(networks=SMALL)
    records = [*found["07-twins"], *found["07-all-images"]]
    effects = verdicts.learned(records)
    panels = ["CIFAR-10, smallCNN, 10,000 images", "CIFAR-10, smallCNN, all images"]
    assert set(effects["pixels"]) == {(p, kind) for p in panels for kind in ("ReLU", MASKED)}
    assert {p for p, _ in effects["permuted labels"]} == {panels[0]}
    assert effects["pixels"][panels[0], "ReLU"].seeds.mean == pytest.approx(30, abs=3)
    rise, falls = verdicts.rises(records)
    assert rise[panels[1], MASKED].seeds.mean == pytest.approx(40, abs=3)
    assert falls[panels[1], MASKED] == 0
    assert verdicts.rises(results(FALLS, networks=SMALL)["07-twins"])[1][panels[0], "ReLU"] == pytest.approx(10, abs=3)


def test_networks_that_diverged_are_left_out() -> None:
    found = results(seeds=6)
    lost = found["07-twins"][0]
    lost.tables.update(networks=[DIVERGED], agreement=[], hubs=[], windows=[])
    lost.arrays.clear()
    assert verdict("07.1", found).outcome == "holds"
    assert verdict("07.2", found).outcome == "holds"


def test_the_figure_and_the_table_have_every_arm_and_layer() -> None:
    found = results(networks=SMALL)
    table = figures.depth(found["07-twins"])
    assert set(table["arm"]) == set(figures.DEPTH_ARMS)
    assert len(table) == 5 * 6 * 4
    lines = tables.hub_table(found["07-twins"]).splitlines()
    assert len(lines) == 2 + 12
    assert "pool 1, masked | 10.0% | 10.0% | 10.0% | 2.0 | 25.0% |" in "".join(lines)


def test_hubs_are_those_of_pools_with_and_without_empty_windows() -> None:
    found = results(networks=SMALL)["07-twins"]
    for record in found:
        for row in record.tables["hubs"]:
            row["most_frequent"] = 0.01 if row["kind"] == MASKED else 0.5
    table = figures.hubs(found)
    assert table["layer"].unique().tolist() == [f"pool {i}{end}" for i in (1, 2, 3) for end in ("", ", masked")]
    assert set(table["arm"]) == {"untrained", "untrained, calibrated", "trained"} <= set(figures.DEPTH_ARMS)
    assert len(table) == 5 * 6 * 3  # the twins with true labels
    assert set(table[table["layer"].str.endswith("masked")]["most_frequent"]) == {0.01}
