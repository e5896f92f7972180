"""How the claims of chapter 05 are judged from its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maso_book.ch05.memory import NAMED_BY, SPLITS
from maso_book.ch05.optimum import CLOSED_FORMS, PER_DECADE
from maso_book.records import Record
from maso_book.shared.effects import Effect, counted, effects, of_all
from maso_book.shared.names import NETWORKS
from maso_book.shared.twins import LABELS
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Outcome, Verdict, judged

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6
"""Largest error that the criteria of claims 05.1 and 05.2 allow."""
PROBLEMS = 1000
"""Fewest problems of each kind that the criterion of claim 05.1 asks for."""
LEAST_SHARE = 0.05
"""Smallest effect of interest of claim 05.3: a share of the images."""
LEAST, LEAST_SLOPE = 0.005, 0.001
"""Those of claims 05.4 to 05.6: of a cosine, and for each doubling of epochs or width."""
CONTROLS = {"calibrated": "untrained, calibrated", "others": "other images", "independent": "independent signs"}
"""What the share of the sign pattern is held against: in the table `shares` of a verdict → in words."""


def verdicts(results: Mapping[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    return judged(
        results,
        [
            ("05.1", _judge_optimum, ["05-optimum"]),
            ("05.2", _judge_growth, ["05-growth"]),
            ("05.3", _judge_pattern, ["05-memory"]),
            ("05.4", _judge_gap, ["05-memory", "05-memory-widths"]),
            ("05.5", _judge_memory, ["05-memory", "05-memory-widths"]),
            ("05.6", _judge_concave, ["05-memory-widths"]),
        ],
    )


# Theorems -------------------------------------------------------------------------------------------------------------


def _judge_optimum(claim: str, records: list[Record]) -> Verdict:
    optima = as_table(records, "optima")
    parts = []
    for budget in CLOSED_FORMS:
        rows = optima[optima["budget"] == budget]
        parts.append(
            f"budget {budget}: {rows['problems'].sum():,} problems, templates within "
            f"{rows['max_template_error'].max():.1e}, loss within {rows['max_loss_error'].max():.1e}"
        )
    evidence = "Proof above; " + "; ".join(parts) + "."

    problems = optima.groupby("budget")["problems"].sum()
    worst = optima["max_template_error"].max()
    effect = f"templates within {worst:.1e} on {problems.sum():,} problems"

    if max(worst, optima["max_loss_error"].max()) > TOLERANCE:
        return Verdict(claim, "does not hold", evidence, effect)
    return Verdict(claim, "holds" if problems.min() >= PROBLEMS else "not tested", evidence, effect)


def _judge_growth(claim: str, records: list[Record]) -> Verdict:
    flow, bounds = as_table(records, "flow"), as_table(records, "bounds")
    flows = [rows["norm"].to_numpy() for _, rows in arms(flow, "record", "start")]

    falls = bool(bounds["loss_falls"].all())
    grows = all((np.diff(norm[[-2 * PER_DECADE - 1, -PER_DECADE - 1, -1]]) > 0).all() for norm in flows)
    low = (bounds["min_rate"] / bounds["rate_lower"]).min()
    high = (bounds["max_rate"] / bounds["rate_upper"]).max()

    evidence = (
        f"Proof above; {len(flows)} flows: loss {'falls' if falls else 'does not fall'} at every time, norm "
        f"{'grows' if grows else 'does not grow'} over the last decades; slowest rate {low - 1:+.1e} of the lower "
        f"bound, fastest {high - 1:+.1e} of the upper one; from zero the rate is the lower bound to "
        f"{bounds['zero_start_error'].max():.1e}."
    )
    effect = f"rates within their bounds to {max(1 - low, high - 1, 0):.1e}, {len(flows)} flows"

    if not (falls and grows) or low < 1 - TOLERANCE or high > 1 + TOLERANCE:
        return Verdict(claim, "does not hold", evidence, effect)
    far = bounds["decades"].min() >= 6 and enough(bounds)
    return Verdict(claim, "holds" if far else "not tested", evidence, effect)


# What the figures, the tables and the verdicts share ------------------------------------------------------------------


def named(records: Sequence[Record], of: str) -> pd.DataFrame:
    """A table of 05-memory or 05-memory-widths with a column `arm`: the network in words, or its width."""
    table = as_table(records, of)
    names = zip(table["network"], table["width"], strict=True)
    return table.assign(
        arm=[NETWORKS.get(name, f"width {width:.0f}" if name == "mlp" else name) for name, width in names]
    )


def memory(table: pd.DataFrame) -> pd.DataFrame:
    """The gap on training images less that on test images, `memory`.

    Args:
        table: `gaps`, as `named` gives it.

    Returns:
        One row an arm, kind of labels, seed, state, epoch and way to name the class; `width` and `epochs` are kept.
    """
    keys = ["arm", "labels", "seed", "state", "epoch", "named_by", "width", "epochs"]
    wide = table.assign(width=table["width"].fillna(0)).pivot(index=keys, columns="split", values="gap").reset_index()
    order = {arm: place for place, arm in enumerate(table["arm"].unique())}
    wide = wide.assign(memory=wide["train"] - wide["test"], order=wide["arm"].map(order))
    return wide.sort_values(["order", "labels", "seed", "epoch"], ascending=[True, False, True, True]).drop(
        columns="order"
    )


def after_training(table: pd.DataFrame) -> pd.DataFrame:
    """Its rows of trained networks after the last epoch."""
    last = table["epoch"] == table["epochs"] if "epoch" in table else True
    return table[(table["state"] == "trained") & last]


def by_seed(table: pd.DataFrame, value: str, *columns: str) -> dict[Any, pd.Series]:
    """Arm → its values, one for each seed."""
    return {name: rows.set_index("seed")[value].sort_index() for name, rows in arms(table, *columns)}


def less_true(table: pd.DataFrame, value: str) -> dict[Any, pd.Series]:
    """Arm → a value with permuted labels less that with true labels, paired by seed."""
    return {
        name: paired(rows, value, by="labels", first="permuted", second="true") for name, rows in arms(table, "arm")
    }


def slopes(table: pd.DataFrame, value: str, factor: str, *columns: str) -> dict[Any, pd.Series]:
    """Arm → the slope of a value for each doubling of a factor, one for each seed."""
    import pandas as pd

    return {
        name: pd.Series({
            seed: np.polyfit(np.log2(of_seed[factor].astype(float)), of_seed[value], deg=1)[0]
            for seed, of_seed in arms(rows, "seed")
        })
        for name, rows in arms(table, *columns)
    }  # fmt: skip


def per_image(records: Sequence[Record], split: str, named_by: str = "label") -> dict[tuple[str, str], pd.DataFrame]:
    """(Arm, labels) → the gap of every image after training: a row a seed, a column an image."""
    import pandas as pd

    place = SPLITS.index(split), NAMED_BY.index(named_by)
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for record in (record for record in records if record.arrays):
        config = record.config
        arm = NETWORKS.get(config["network"], f"width {config['width']}")
        gaps = record.arrays["gaps"][place].astype(np.float64)
        found.setdefault((arm, config["labels"]), {})[config["seed"]] = gaps
    return {arm: pd.DataFrame(of_seeds).T.sort_index() for arm, of_seeds in found.items()}


def images_less_true(images: Mapping[tuple[str, str], pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Arm → values of every image with permuted labels less those with true labels, of the seeds that have both."""
    return {
        arm: (of - images[arm, "true"]).dropna(how="all") for (arm, labels), of in images.items() if labels != "true"
    }


def shares(records: Sequence[Record]) -> pd.DataFrame:
    """The sign pattern after training, on training images less the mean image, and the same less each control.

    Returns:
        One row an arm, kind of labels and seed: `pattern`, and the differences `calibrated`, `others`, `independent`.
    """
    table = named(records, "patterns").query("split == 'train' and reading == 'centred'")
    keys = ["arm", "labels", "seed"]
    trained, before = (table[table["state"] == state].set_index(keys) for state in ("trained", "calibrated"))
    differences = {
        "pattern": trained["pattern"],
        "calibrated": trained["pattern"] - before["pattern"],
        "others": trained["pattern"] - trained["pattern_others"],
        "independent": trained["pattern"] - trained["independent"],
    }
    return trained.assign(**differences).reset_index()[[*keys, *differences]]


# Observations ---------------------------------------------------------------------------------------------------------

TOO_FEW = "The criterion asks for 5 seeds on data sets of real images."


def _enough(table: pd.DataFrame, *columns: str) -> bool:
    """Whether every arm has its seeds, on a data set and not on drawn digits."""
    return enough(table, *columns) and "digits" not in set(table["dataset"])


def _judge_pattern(claim: str, records: list[Record]) -> Verdict:
    if not _enough(as_table(records, "patterns"), "network", "labels"):
        return Verdict(claim, "not tested", TOO_FEW)

    table = shares(records)
    share = {name: interval(values) for name, values in by_seed(table, "pattern", "arm", "labels").items()}
    found = {control: effects(by_seed(table, control, "arm", "labels")) for control in CONTROLS}
    passed = {control: counted(of_arms, LEAST_SHARE) for control, of_arms in found.items()}
    whole = [all(passed[control][arm] for control in CONTROLS) for arm in share]

    parts = [f"{arm}, {labels} labels {share[arm, labels]:.1%}" for arm, labels in share]
    against = [
        f"{CONTROLS[control]} {of_all(passed[control].values())} arms ({_range(found[control], '+.1%')})"
        for control in CONTROLS
    ]
    evidence = (
        f"Share of training images with the pattern: {'; '.join(parts)}. More than the control by at least "
        f"{LEAST_SHARE:.0%}: {', '.join(against)}; than all three in {of_all(whole)} arms."
    )
    means = [of_arm.mean for of_arm in share.values()]
    effect = f"{min(means):.1%} to {max(means):.1%} of the images"
    finding = (
        "The signs that memorization predicts for the templates of a training image are found at "
        f"{min(means):.1%} to {max(means):.1%} of these images."
    )
    if all(whole) and min(means) > 0.5:
        return Verdict(claim, "holds", evidence, effect, finding=finding)
    if any(whole):
        part = f"more than all controls in {of_all(whole)} arms"
        return Verdict(claim, "holds in part", evidence, effect, part, finding=finding)
    return Verdict(claim, _refuted(found["independent"], LEAST_SHARE), evidence, effect, finding=finding)


def _judge_gap(claim: str, records: list[Record], widths: list[Record]) -> Verdict:
    if not _enough_networks(records, widths):
        return Verdict(claim, "not tested", TOO_FEW)

    networks = _labelled(records, widths).query("split == 'train'")
    last, images = after_training(networks), per_image([*records, *widths], "train")
    gap = by_seed(last, "gap", "arm", "labels")
    before = by_seed(networks[networks["state"] == "calibrated"], "gap", "arm", "labels")
    tests = {
        "gap": (effects(gap, images), LEAST),
        "less untrained and calibrated": (
            effects(
                {arm: gap[arm] - before[arm] for arm in gap},
                {arm: images[arm].sub(before[arm], axis=0) for arm in gap},
            ),
            LEAST,
        ),
        "each doubling of the epochs": (
            effects(slopes(networks[networks["epoch"] > 0], "gap", "epoch", "arm", "labels")),
            LEAST_SLOPE,
        ),
        "each doubling of the width": (
            effects(slopes(last[last["network"] == "mlp"], "gap", "width", "labels")),
            LEAST_SLOPE,
        ),
        "permuted less true labels": (
            effects(
                less_true(last, "gap"),
                images_less_true(images),
            ),
            LEAST,
        ),
    }  # fmt: skip
    passed = {part: list(counted(*test).values()) for part, test in tests.items()}
    evidence = f"Gap on training images, arms that count: {_said(tests)}."
    effect = f"gap {_range(tests['gap'][0], '+.3f')}"

    first, second, *growths = passed.values()
    if all(map(all, passed.values())):
        return Verdict(claim, "holds", evidence, effect)
    both = [a and b for a, b in zip(first, second, strict=True)]
    if any(both):
        part = f"gap in {of_all(both)}; growths in " + ", ".join(of_all(arm) for arm in growths)
        return Verdict(claim, "holds in part", evidence, effect, part)
    return Verdict(claim, _refuted(tests["gap"][0], LEAST), evidence, effect)


def _judge_memory(claim: str, records: list[Record], widths: list[Record]) -> Verdict:
    if not _enough_networks(records, widths):
        return Verdict(claim, "not tested", TOO_FEW)

    table = memory(named(records, "gaps")), memory(named(widths, "gaps"))
    import pandas as pd

    both = pd.concat(table)
    last, by_label = after_training(both), both["named_by"] == "label"
    permuted = both[by_label & (both["labels"] == "permuted")]
    images = {way: _memories([*records, *widths], way) for way in NAMED_BY}

    def after(way: str) -> dict[str, Effect]:
        rows = last[(last["labels"] == "permuted") & (last["named_by"] == way)]
        of_arms = by_seed(rows, "memory", "arm")
        return effects(of_arms, {arm: images[way][arm, "permuted"] for arm in of_arms})

    labelled = last[last["named_by"] == "label"]
    tests = {
        "permuted labels": (after("label"), LEAST),
        "the same by the network's answers": (after("answer"), LEAST),
        "permuted less true labels": (
            effects(
                less_true(labelled, "memory"),
                images_less_true(images["label"]),
            ),
            LEAST,
        ),
        "each doubling of the epochs": (
            effects(slopes(permuted[permuted["epoch"] > 0], "memory", "epoch", "arm")),
            LEAST_SLOPE,
        ),
        "each doubling of the width": (
            effects(slopes(after_training(permuted[permuted["width"] > 0]), "memory", "width", "labels")),
            LEAST_SLOPE,
        ),
    }
    passed = {part: list(counted(*test).values()) for part, test in tests.items()}
    evidence = f"Memory, gap on training less gap on test images, arms that count: {_said(tests)}."
    effect = f"memory of permuted labels {_range(tests['permuted labels'][0], '+.3f')}"
    first, *others = passed.values()
    if all(map(all, passed.values())):
        return Verdict(claim, "holds", evidence, effect)
    if any(first):
        part = f"memory in {of_all(first)}; the rest in " + ", ".join(of_all(arm) for arm in others)
        return Verdict(claim, "holds in part", evidence, effect, part)
    return Verdict(claim, _refuted(tests["permuted labels"][0], LEAST), evidence, effect)


def _judge_concave(claim: str, widths: list[Record]) -> Verdict:
    table = named(widths, "gaps").query("named_by == 'label' and split == 'train' and labels == 'true'")
    if not _enough(table, "width"):
        return Verdict(claim, "not tested", TOO_FEW)

    last = after_training(table)
    parts = {
        "gap below 0": effects({arm: -values for arm, values in by_seed(last, "gap", "arm").items()}),
        "units for the class above 0": effects(by_seed(last, "gap_for", "arm")),
        "units against it below 0": effects({a: -values for a, values in by_seed(last, "gap_against", "arm").items()}),
    }
    whole = [all(effect[arm].counts(LEAST) for effect in parts.values()) for arm in last["arm"].unique()]
    said = []
    for arm, rows in arms(last, "arm"):
        gap, speak, against = (interval(rows[column]) for column in ("gap", "gap_for", "gap_against"))
        said.append(f"{arm} {gap:+.3f}, of which {speak.mean:+.3f} for and {against.mean:+.3f} against the class")
    evidence = f"Gap with true labels: {'; '.join(said)}. All three parts count in {of_all(whole)} widths."
    effect = f"gap {_range(effects(by_seed(last, 'gap', 'arm')), '+.3f')}"
    if all(whole):
        return Verdict(claim, "holds", evidence, effect)
    if any(whole):
        return Verdict(claim, "holds in part", evidence, effect, f"in {of_all(whole)} widths")
    return Verdict(claim, _refuted(parts["gap below 0"], LEAST), evidence, effect)


def _enough_networks(records: list[Record], widths: list[Record]) -> bool:
    networks, scan = as_table(records, "gaps"), as_table(widths, "gaps")
    kinds = all(set(rows["labels"]) == set(LABELS) for _, rows in arms(networks, "network"))
    return kinds and _enough(networks, "network", "labels") and _enough(scan, "labels", "width")


def _labelled(*experiments: list[Record]) -> pd.DataFrame:
    """The tables `gaps` of these experiments, the class named by the label."""
    import pandas as pd

    return pd.concat([named(records, "gaps") for records in experiments]).query("named_by == 'label'")


def _memories(records: Sequence[Record], named_by: str) -> dict[tuple[str, str], pd.DataFrame]:
    """(Arm, labels) → gaps of training images less those of test images: a row a seed, a column a pair of images.

    Which two images are subtracted does not matter: they are drawn together, and are otherwise strangers.
    """
    train, test = (per_image(records, split, named_by) for split in SPLITS)
    return {arm: train[arm] - test[arm] for arm in train}


def _said(tests: Mapping[str, tuple[Mapping[Any, Effect], float]]) -> str:
    """Each part with the number of arms that count, and its range of means."""
    return "; ".join(
        f"{part} {of_all(counted(found, least).values())} ({_range(found, '+.4f' if least < LEAST else '+.3f')})"
        for part, (found, least) in tests.items()
    )


def _range(found: Mapping[Any, Effect], spec: str) -> str:
    """The smallest and the largest mean of some arms."""
    means = [effect.seeds.mean for effect in found.values()]
    return f"{min(means):{spec}} to {max(means):{spec}}"


def _refuted(found: Mapping[Any, Effect], least: float) -> Outcome:
    """What no arm that counts means: too small where every interval lies within ±least, else that it does not hold."""
    small = all(-least < effect.seeds.low and effect.seeds.high < least for effect in found.values())
    return "too small to matter" if small else "does not hold"
