"""How the claims of chapter 04 are judged from its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maso_book.records import Record
from maso_book.shared.effects import effects
from maso_book.shared.names import DATASETS, NETWORKS
from maso_book.statistics import Interval, bootstrap, interval
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Judge, Outcome, Verdict, judged

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

EXACT = 1e-12
"""Largest relative error that the criteria of claims 04.1 and 04.5 allow."""
UNIMODAL, FORGOTTEN = 0.01, 0.1
LEAST = {"04.2": 0.05, "04.3": 0.05, "04.4": 0.05, "04.5": 0.05, "04.6": 0.1, "04.7": 0.02}
"""The smallest effects of interest, as the claims have them."""
REPRODUCED, COMPARISONS = 0.05, 4

# What the figures, the tables and the verdicts share ------------------------------------------------------------------


def named(records: Sequence[Record], of: str) -> pd.DataFrame:
    """A table of these records with a column `networks`: in words what networks differ in, but for their seed."""
    table = as_table(records, of)
    return table.assign(networks=[_label(row) for row in table.to_dict("records")])


def data_name(config: Mapping[Any, Any]) -> str:
    """The data set of a configuration, in words."""
    return DATASETS.get(config["dataset"], config["dataset"]) + (" grey" if config["grey"] else "")


def _label(config: Mapping[Any, Any]) -> str:
    import pandas as pd

    size = "all" if pd.isna(config["samples"]) else f"{int(config['samples']):,}"
    network = "" if config["network"] == "small_cnn" else f" {NETWORKS[config['network']]}"
    switches = [word for field, word in (("bn", "no BN"), ("bias", "no bias")) if not config[field]]
    return ", ".join([f"{data_name(config)}{network} ({size} × {config['epochs']})", *switches])


def way(config: Mapping[Any, Any]) -> str:
    """How a network of 04-airplane was trained: "plain", "noise" or "adversarial"."""
    return "adversarial" if config["attack"] else "noise" if config["noise"] else "plain"


def with_way(table: pd.DataFrame) -> pd.DataFrame:
    """The table of 04-airplane with the columns `way`, of training, and `architecture`."""
    rows = table.to_dict("records")
    return table.assign(way=[way(row) for row in rows], architecture=table.network.map(NETWORKS))


def trained_on_test(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of trained networks and test images."""
    return table.query("split == 'test' and epoch == epochs")


# Verdicts -------------------------------------------------------------------------------------------------------------


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone; networks that diverged are left out.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    converged = {
        name: [r for r in records if not any(row.get("diverged") for row in r.tables.get("networks", ()))]
        for name, records in results.items()
    }
    large = converged.get("04-airplane-large", [])
    judges: list[Judge] = [
        ("04.1", _judge_exact, ["04-templates"]),
        ("04.2", _judge_deciding, ["04-templates"]),
        ("04.3", _judge_likeness, ["04-templates"]),
        ("04.4", _judge_modes, ["04-templates"]),
        ("04.5", _judge_sanity, ["04-sanity"]),
        ("04.6", _judge_prior, ["04-prior"]),
        ("04.7", lambda claim, small: _judge_airplane(claim, [*small, *large]), ["04-airplane"]),
    ]
    return judged(converged, judges)


def _verdict(
    claim: str,
    table: pd.DataFrame,
    outcome: Outcome,
    evidence: str,
    *,
    effect: str,
    part: str = "",
    finding: str = "",
    seeds: int = 5,
) -> Verdict:
    """The verdict, or "not tested" where a group of networks has too few seeds or the images are not real."""
    few = not enough(table, "networks", seeds=seeds)
    if few or not (table.bn & table.bias).any() or "digits" in set(table.dataset):
        return Verdict(claim, "not tested", f"The criterion asks for {seeds} seeds on real images. {evidence}", effect)
    return Verdict(claim, outcome, evidence, effect, part if outcome == "holds in part" else "", finding=finding)


def _outcome(whole: bool, some: bool, *, refuted: bool = True) -> Outcome:
    """`refuted`: whether an effect lies below the smallest one of interest; else nothing is decided."""
    if whole:
        return "holds"
    if some:
        return "holds in part"
    return "does not hold" if refuted else "not decided"


def _judge_exact(claim: str, records: list[Record]) -> Verdict:
    table = named(records, "networks")
    worst = table[["sum_error", "inner_error", "bias_error"]].max()
    enough_images = table.exact_images >= table.network.map({"large_cnn": 200}).fillna(1000)
    evidence = (
        f"{len(records)} networks, at least {table.exact_images.min():,} test images each: the sum differs from the "
        f"output by at most {worst.sum_error:.1e}, the inner product from that by hand by {worst.inner_error:.1e}, the "
        f"bias by {worst.bias_error:.1e} (of the largest output)."
    )

    outcome: Outcome = "holds" if enough_images.all() else "not tested"
    if worst.max() > EXACT:
        outcome = "does not hold"
    effect = f"largest error {worst.max():.1e}, {len(records)} networks"
    return _verdict(claim, table, outcome, evidence, effect=effect)


def _judge_deciding(claim: str, records: list[Record]) -> Verdict:
    table, least = named(records, "margin"), LEAST[claim]
    chosen = table.query("bn or bias")
    values = {
        (name, origin): rows.set_index("seed").share - 0.5
        for (name, origin), rows in arms(chosen, "networks", "origin")
    }
    found = effects(values)
    carried = {key: each.counts(least) for key, each in found.items()}
    groups, origins = chosen.networks.unique(), chosen.origin.unique()
    of_origin = {origin: [carried[name, origin] for name in groups] for origin in origins}
    everywhere = [all(carried[name, origin] for origin in origins) for name in groups]

    parts = [
        f"{name}: " + ", ".join(f"{origin} {found[name, origin].seeds.mean + 0.5:.0%}" for origin in origins)
        for name in groups
    ]
    counts = ", ".join(f"{origin} {_share(passed)}" for origin, passed in of_origin.items())
    whole, some = all(everywhere), any(map(all, of_origin.values())) or any(everywhere)
    means = [each.seeds.mean + 0.5 for each in found.values()]
    return _verdict(
        claim,
        table,
        _outcome(whole, some, refuted=any(each.seeds.high < least for each in found.values())),
        f"Share of the margin that the match carries, by origin. {'; '.join(parts)}. Above one half by at least "
        f"{least:.0%}: {counts} groups; for all origins {_share(everywhere)}.",
        effect=f"match carries {min(means):.0%} to {max(means):.0%} of the margin",
        part=f"{counts} groups",
    )


def tests_of_likeness(rows: pd.DataFrame) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """The intervals that claim 04.3 asks to be above 0 ("object") and below 0 ("negative").

    Args:
        rows: of the table `likeness`: one group of networks, test images, correlations.
    """

    columns = ["templates", "target", "source"]
    at = {
        state: of.pivot(index="seed", columns=columns, values="similarity")
        for state, of in arms(rows[(rows.epoch == 0) | (rows.epoch == rows.epochs)], "state")
    }
    start, end = at["calibrated"], at["trained"]
    is_object: dict[str, Interval] = {}
    for target in ("image", "class mean"):
        own, elsewhere = ("true class", target, "own"), ("true class", target, "another class")
        is_object |= {
            f"with the {target}": interval(end[own]),
            f"with the {target}, less untrained": interval(end[own] - start[own]),
            f"with the {target}, less another": interval(end[own] - end[elsewhere]),
        }
    others = ("other classes", "image", "own")
    negative = {"with the image": interval(end[others]), "less untrained": interval(end[others] - start[others])}
    return is_object, negative


def _judge_likeness(claim: str, records: list[Record]) -> Verdict:
    table, least = named(records, "likeness"), LEAST[claim]
    chosen = table.query("bn and bias and measure == 'correlation'")
    parts, true, others, objects, negatives = [], [], [], [], []
    for name, rows in arms(chosen, "networks"):
        is_object, negative = tests_of_likeness(rows)
        large = is_object["with the image"].mean >= least
        objects.append(large and all(i.sign > 0 for i in is_object.values()))
        negatives.append(all(i.sign < 0 for i in negative.values()))
        true.append(is_object["with the image"])
        others.append(negative["with the image"])
        parts.append(
            f"{name}: true class {true[-1]:+.3f} ({is_object['with the image, less untrained']:+.3f} over untrained, "
            f"{is_object['with the image, less another']:+.3f} over another image), others {others[-1]:+.3f}; "
            f"object {_yes(objects[-1])}, negative {_yes(negatives[-1])}"
        )

    both = objects + negatives
    return _verdict(
        claim,
        table,
        _outcome(all(both), any(both)),
        f"Correlation of template and image, for an object at least {least}; untrained is calibrated. "
        f"{'. '.join(parts)}.",
        effect=f"true class {_range(true, '+.3f')}, others {_range(others, '+.3f')}",
        part=f"object in {_share(objects)} groups, negative in {sum(negatives)}",
    )


def _judge_modes(claim: str, records: list[Record]) -> Verdict:
    table = named(records, "evaluation").query("bn and bias")
    followed = table[table.record.isin(table[table.state == "calibrated"].record)]
    values: dict[Any, pd.Series] = {}
    areas, unimodal = {}, {}
    for (name, split), rows in arms(followed, "networks", "split"):
        last = rows[rows.epoch == rows.epochs]
        ends = rows[(rows.state == "calibrated") | (rows.epoch == rows.epochs)]
        values[name, split] = paired(ends, "auc", by="state", first="trained", second="calibrated")
        areas[name, split] = interval(last.auc)
        unimodal[name, split] = list(last.dip_p >= UNIMODAL)

    gains = effects(values)
    two_modes = {key: gains[key].counts(LEAST[claim]) and not any(unimodal[key]) for key in gains}
    parts = [
        f"{name}, {split}: area {areas[name, split].mean:.3f} ({gains[name, split].seeds:+.3f} over untrained and "
        f"calibrated), "
        f"one mode rejected in {_share([not one for one in unimodal[name, split]])}"
        for name, split in gains
    ]
    rejected = [not one for each in unimodal.values() for one in each]
    return _verdict(
        claim,
        followed if len(followed) else table,
        _outcome(all(two_modes.values()) and bool(two_modes), any(two_modes.values())),
        "; ".join(parts) + ".",
        effect=f"area {_range(areas.values(), '.2f')}, one mode rejected in {_share(rejected)}",
        part=", ".join(dict.fromkeys(name for (name, _), two in two_modes.items() if two)),
    )


def _judge_sanity(claim: str, records: list[Record]) -> Verdict:
    table, least = named(records, "cascade"), LEAST[claim]
    worst = as_table(records, "identity").gradient_error.max()
    parts, forgets = [], {}
    margins: list[Interval] = []
    left: list[Interval] = []
    for name, rows in arms(table, "networks"):
        said = []
        for entries, of in arms(rows, "entries"):
            ends = of[(of.changed != "randomised") | (of.stage == of.stage.max())]
            random = {control: interval(ends[ends.changed == control].rank_correlation) for control in RANDOM}
            margin = {
                control: interval(paired(ends, "rank_correlation", by="changed", first="another seed", second=control))
                for control in RANDOM
            }
            forgets[name, entries] = all(
                random[control].high < FORGOTTEN and margin[control].sign > 0 and margin[control].mean >= least
                for control in RANDOM
            )
            if entries == "signed":
                margins += margin.values()
            else:
                left += random.values()
            said.append(
                f"{entries} "
                + " and ".join(
                    f"{random[control]:+.3f} ({margin[control].mean:+.3f} more between two trained networks) "
                    f"{RANDOM[control]}"
                    for control in RANDOM
                )
            )
        parts.append(f"{name}: {', '.join(said)}")

    kinds = {kind: [ok for (_, entries), ok in forgets.items() if entries == kind] for kind in ("signed", "magnitude")}
    return _verdict(
        claim,
        table,
        "does not hold" if worst > EXACT else _outcome(all(forgets.values()), any(map(all, kinds.values()))),
        f"Gradient and template by hand differ by at most {worst:.1e}. " + "; ".join(parts) + f".{_cause(records)}",
        effect=f"signed {_range(margins, '+.2f')} over random; magnitudes {_range(left, '.2f')}",
        part=f"signed in {_share(kinds['signed'])} groups, magnitudes in {_share(kinds['magnitude'])}",
    )


RANDOM = {"randomised": "when all is random", "calibrated": "with BatchNorm calibrated, too"}
"""The networks with all layers randomised, in words."""


def _cause(records: list[Record]) -> str:
    """What magnitudes keep under each condition, in words."""
    table = named(records, "cause").query("changed == 'randomised'")
    parts = [
        f"{name}: "
        + ", ".join(f"{condition} {of.rank_correlation.mean():.2f}" for condition, of in arms(rows, "condition"))
        for name, rows in arms(table, "networks")
    ]
    return " Magnitudes against the randomised network: " + "; ".join(parts) + "."


def _judge_prior(claim: str, records: list[Record]) -> Verdict:
    table, least = named(records, "slopes"), LEAST[claim]
    slopes = {
        key: paired(of, "slope", by="prior", first="skewed", second="balanced")
        for key, of in arms(table, "networks", "place", "origin")
    }
    biases = effects({(name, origin): of for (name, place, origin), of in slopes.items() if place == "bias"})
    outputs = {name: of.mean() for (name, place, _), of in slopes.items() if place == "outputs"}
    positive = {key: each.counts(least) for key, each in biases.items()}
    most = {key: each.seeds.mean >= outputs[key[0]] / 2 for key, each in biases.items()}
    carried = [positive[key] and most[key] for key in biases]

    parts = []
    for name, mean in outputs.items():
        of = {origin: each.seeds for (group, origin), each in biases.items() if group == name}
        last = interval(slopes[name, "output bias", "any"])
        by_origin = ", ".join(f"{origin} {each:+.2f}" for origin, each in of.items())
        parts.append(f"{name}: outputs {mean:+.2f}; bias by origin {by_origin}; last layer's bias {last:+.3f}")
    return _verdict(
        claim,
        table,
        _outcome(
            all(carried) and len(outputs) > 1,
            any(carried),
            refuted=any(each.seeds.high < least or not most[key] for key, each in biases.items()),
        ),
        "Slope against the log prior, less that of the balanced networks. " + ". ".join(parts) + ".",
        effect=f"slope of the bias {_range([each.seeds for each in biases.values()], '+.2f')}",
        part=f"most of the slope for {_share(carried)} origins and data sets",
        seeds=10,
    )


def correlations_of(records: Sequence[Record], array: str) -> dict[tuple[str, str], np.ndarray]:
    """Architecture and way of training → an array of 04-airplane stacked over seeds, (seeds, images)."""
    import numpy as np

    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for record in records:
        key = NETWORKS[record.config["network"]], way(record.config)
        found.setdefault(key, {})[record.config["seed"]] = record.arrays[array].astype(np.float64)
    return {key: np.stack([by_seed[seed] for seed in sorted(by_seed)]) for key, by_seed in found.items()}


def _judge_airplane(claim: str, records: list[Record]) -> Verdict:
    least = LEAST[claim]
    table = with_way(named(records, "likeness"))
    table = table.query("state == 'trained' and not averaged and measure == 'correlation' and target == 'image'")
    wide = table.pivot(index=["architecture", "way", "seed"], columns=["templates", "source"], values="similarity")
    own, others = wide["true class", "own"], wide["other classes", "own"]
    net = own - wide["true class", "another class"]

    images = correlations_of(records, "own")

    def gains(values: pd.Series) -> dict[Any, pd.Series]:
        return {
            (architecture, kind): (values[architecture][kind] - values[architecture]["plain"]).dropna()
            for architecture, kind in images
            if kind != "plain" and (architecture, "plain") in images
        }

    found, less_another = (effects(gains(values), of=COMPARISONS) for values in (own, net))
    over_images = {
        (architecture, kind): bootstrap(images[architecture, kind] - images[architecture, "plain"])
        for architecture, kind in found
        if images[architecture, kind].shape == images[architecture, "plain"].shape
    }
    passed = {
        key: each.counts(least) and less_another[key].counts(least) and key in over_images and over_images[key].low > 0
        for key, each in found.items()
    }

    missing = "" if len(found) == COMPARISONS else f"{len(found)} of {COMPARISONS} comparisons have records."
    means = [each.seeds for each in found.values()]
    shown = {(a, w): (interval(own[a][w]), interval(others[a][w])) for a, w in images}
    reproduced = [f"{a} {w}" for (a, w), (true, false) in shown.items() if true.low > REPRODUCED and false.high < 0]
    parts = [f"{a} {w} {true:+.3f} (others {false.mean:+.3f})" for (a, w), (true, false) in shown.items()]
    more = [
        f"{a} {w} {each.seeds:+.3f} (bootstrap over seeds and images from {over_images[a, w].low:+.3f}; less "
        f"another image's {less_another[a, w].seeds.mean:+.3f})"
        for (a, w), each in found.items()
        if (a, w) in over_images
    ]
    return _verdict(
        claim,
        table,
        _outcome(
            all(passed.values()) and len(passed) == COMPARISONS,
            any(passed.values()),
            refuted=any(each.seeds.high < least for each in found.values()),
        ),
        f"Correlation of $A_y$ with the picture: {'; '.join(parts)}. Over plain training: {'; '.join(more)}. The "
        f"talk's picture is reproduced by: {', '.join(reproduced) or 'no arm'}. {missing}",
        effect=f"{_range(means, '+.3f')} over plain, {sum(passed.values())} of {COMPARISONS}",
        part=", ".join(f"{a} {w}" for (a, w), ok in passed.items() if ok),
        finding=_airplanes({key: true for key, (true, _) in shown.items()}, reproduced),
    )


def _airplanes(likeness: dict[tuple[str, str], Interval], reproduced: list[str]) -> str:
    """What was found of the talk's picture, where some way of training shows it and the plain one does not."""
    (name, way), most = max(likeness.items(), key=lambda item: item[1].mean)
    plain = likeness.get((name, "plain"))
    if plain is None or f"{name} {way}" not in reproduced or f"{name} plain" in reproduced:
        return ""
    return (
        f"The talk's airplane is a matter of training: templates of a {name} that was trained as usual are noise to "
        f"the eye (correlation with their picture {plain.mean:+.3f}), those of one with {way} training show it "
        f"({most.mean:+.3f})."
    )


def _range(intervals: Iterable[Interval], spec: str) -> str:
    """From the smallest mean to the largest."""
    means = [i.mean for i in intervals]
    return f"{min(means):{spec}} to {max(means):{spec}}" if means else "–"


def _share(conditions: Sequence[bool]) -> str:
    return f"{sum(conditions)} of {len(conditions)}"


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"
