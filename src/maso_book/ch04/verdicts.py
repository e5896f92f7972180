"""How the claims of chapter 04 are judged from its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.tidy import arms, as_table, enough, paired
from maso_book.verdict import Outcome, Verdict, judged

if TYPE_CHECKING:
    import pandas as pd

EXACT = 1e-12
"""Largest relative error that the criteria of claims 04.1 and 04.5 allow."""
AGREE, UNIMODAL, FORGOTTEN = 0.9, 0.01, 0.1
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "digits": "digits"}

# What the figures, the tables and the verdicts share ------------------------------------------------------------------


def named(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `networks`, which says in words what networks differ in, but for their seed."""
    return table.assign(networks=[_label(row) for row in table.to_dict("records")])


def data_name(config: Mapping[Any, Any]) -> str:
    """The data set of a configuration, in words."""
    return NAMES.get(config["dataset"], config["dataset"]) + (" grey" if config["grey"] else "")


def _label(config: Mapping[Any, Any]) -> str:
    import pandas as pd

    size = "all" if pd.isna(config["samples"]) else f"{int(config['samples']):,}"
    network = "" if config["network"] == "small_cnn" else f" {config['network']}"
    switches = [word for field, word in (("bn", "no BN"), ("bias", "no bias")) if not config[field]]
    return ", ".join([f"{data_name(config)}{network} ({size} × {config['epochs']})", *switches])


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
    judges = [
        ("04.1", _judge_exact, ["04-templates"]),
        ("04.2", _judge_deciding, ["04-templates"]),
        ("04.3", _judge_likeness, ["04-templates"]),
        ("04.4", _judge_modes, ["04-templates"]),
        ("04.5", _judge_sanity, ["04-sanity"]),
        ("04.6", _judge_prior, ["04-prior"]),
    ]
    return judged(converged, judges)


def _verdict(
    claim: str, table: pd.DataFrame, outcome: Outcome, evidence: str, *, effect: str, part: str = ""
) -> Verdict:
    """The verdict, or "not tested" where a group of networks has fewer than 5 seeds or the images are not real."""
    few = not enough(table, "networks", seeds=5)
    if few or not (table.bn & table.bias).any() or "digits" in set(table.dataset):
        return Verdict(claim, "not tested", f"The criterion asks for 5 seeds on real images. {evidence}", effect)
    return Verdict(claim, outcome, evidence, effect, part if outcome == "holds with conditions" else "")


def _outcome(whole: bool, some: bool) -> Outcome:
    if whole:
        return "holds"
    return "holds with conditions" if some else "does not hold"


def _judge_exact(claim: str, records: list[Record]) -> Verdict:
    table = named(as_table(records, "networks"))
    worst, images = table[["sum_error", "inner_error", "bias_error"]].max(), table.images.min()
    evidence = (
        f"{len(records)} networks, {images:,} test images each: the sum differs from the output by at most "
        f"{worst.sum_error:.1e}, the inner product from that by hand by {worst.inner_error:.1e}, the bias by "
        f"{worst.bias_error:.1e} (of the largest output)."
    )

    outcome: Outcome = "holds" if images >= 1000 else "not tested"
    if worst.sum_error > EXACT:
        outcome = "does not hold"
    effect = f"largest error {worst.sum_error:.1e}, {len(records)} networks"
    return _verdict(claim, table, outcome, evidence, effect=effect)


def _judge_deciding(claim: str, records: list[Record]) -> Verdict:
    table = trained_on_test(named(as_table(records, "deciding")))
    parts, agreements, gains = [], [], []
    for name, rows in arms(table.query("bn or bias"), "networks"):
        agreements.append(interval(rows.query("scores == 'inner'").agreement))
        gains.append(interval(paired(rows, "agreement", by="scores", first="inner", second="bias")))
        bias = rows.query("scores == 'bias'").agreement.mean()
        parts.append(f"{name}: {agreements[-1]:.1%}, {bias:.1%} for the bias")

    above, better = [i.low > AGREE for i in agreements], [i.sign > 0 for i in gains]
    some = all(better) or any(a and b for a, b in zip(above, better, strict=True))
    return _verdict(
        claim,
        table,
        _outcome(all(above) and all(better), some),
        "Agreement with the class of the whole output, inner product alone: " + "; ".join(parts) + ".",
        effect=f"agreement {_range(agreements, '.0%')}, {_range(gains, '+.0%')} over the bias",
        part=f"above 90 % in {_share(above)} groups, above the bias in {sum(better)}",
    )


def tests_of_likeness(rows: pd.DataFrame) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """The intervals that claim 04.3 asks to be above 0 ("object") and below 0 ("negative").

    Args:
        rows: of the table `likeness`: one group of networks, test images, correlations.
    """

    def at(epoch: int) -> pd.DataFrame:
        columns = ["templates", "target", "source"]
        return rows[rows.epoch == epoch].pivot(index="seed", columns=columns, values="similarity")

    start, end = at(rows.epoch.min()), at(rows.epoch.max())
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
    table = named(as_table(records, "likeness"))
    chosen = table.query("bn and bias and split == 'test' and measure == 'correlation'")
    parts, true, others, objects, negatives = [], [], [], [], []
    for name, rows in arms(chosen, "networks"):
        is_object, negative = tests_of_likeness(rows)
        objects.append(all(i.sign > 0 for i in is_object.values()))
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
        "Correlation of template and image. " + ". ".join(parts) + ".",
        effect=f"true class {_range(true, '+.3f')}, others {_range(others, '+.3f')}",
        part=f"object in {_share(objects)} groups, negative in {sum(negatives)}",
    )


def _judge_modes(claim: str, records: list[Record]) -> Verdict:
    table = named(as_table(records, "evaluation"))
    parts, areas, rejected, two_modes = [], [], [], {}
    for name, of_networks in arms(table.query("bn and bias"), "networks"):
        for split in ("train", "test"):
            rows = of_networks[of_networks.split == split]
            last = rows.query("epoch == epochs")
            areas.append(interval(last.auc))
            gain = interval(paired(rows, "auc", by="epoch", first=rows.epoch.max(), second=rows.epoch.min()))

            unimodal = list(last.dip_p >= UNIMODAL)
            rejected += [not one for one in unimodal]
            two_modes[name, split] = gain.sign > 0 and not any(unimodal)
            share = f"{unimodal.count(False)} of {len(unimodal)}"
            parts.append(f"{name}, {split}: area {areas[-1].mean:.3f}, one mode rejected in {share}")

    return _verdict(
        claim,
        table,
        _outcome(all(two_modes.values()), any(two_modes.values())),
        "; ".join(parts) + ".",
        effect=f"area {_range(areas, '.2f')}, one mode rejected in {_share(rejected)}",
        part=", ".join(dict.fromkeys(name for (name, _), two in two_modes.items() if two)),
    )


def _judge_sanity(claim: str, records: list[Record]) -> Verdict:
    table = named(as_table(records, "cascade"))
    worst = as_table(records, "identity").gradient_error.max()
    parts, margins, signed, magnitude = [], [], [], []
    for name, rows in arms(table, "networks"):
        ends = rows[(rows.changed == "another seed") | (rows.stage == rows.stage.max())]
        random, margin = {}, {}
        for entries, of in arms(ends, "entries"):
            random[entries] = interval(of.query("changed == 'randomised'").rank_correlation)
            pairs = paired(of, "rank_correlation", by="changed", first="another seed", second="randomised")
            margin[entries] = interval(pairs)

        margins.append(margin["signed"])
        signed.append(random["signed"].high < FORGOTTEN and margin["signed"].sign > 0)
        magnitude.append(margin["magnitude"].sign > 0)
        parts.append(
            f"{name}: signed {random['signed']:+.3f} when all is random ({margin['signed']:+.3f} more between two "
            f"trained networks), magnitude {random['magnitude'].mean:.2f} ({margin['magnitude']:+.3f})"
        )

    return _verdict(
        claim,
        table,
        "does not hold" if worst > EXACT else _outcome(all(signed + magnitude), any(signed)),
        f"Gradient and template by hand differ by at most {worst:.1e}. " + "; ".join(parts) + ".",
        effect=f"two seeds {_range(margins, '+.3f')} above random (signed)",
        part=f"signed in {_share(signed)} groups, magnitudes in {sum(magnitude)}",
    )


def _judge_prior(claim: str, records: list[Record]) -> Verdict:
    table = named(as_table(records, "slopes"))
    parts, biases, most = [], [], []
    for name, rows in arms(table, "networks"):
        slopes = {
            place: interval(paired(of, "slope", by="prior", first="skewed", second="balanced"))
            for place, of in arms(rows, "place")
        }
        biases.append(slopes["bias"])
        most.append(slopes["bias"].mean >= slopes["outputs"].mean / 2)
        parts.append(f"{name}: " + ", ".join(f"{place} {slope:+.3f}" for place, slope in slopes.items()))

    positive = [i.sign > 0 for i in biases]
    return _verdict(
        claim,
        table,
        _outcome(all(positive) and all(most) and len(positive) > 1, any(positive)),
        "Slope against the log prior, less that of the balanced networks. " + "; ".join(parts) + ".",
        effect=f"slope of the bias {_range(biases, '+.2f')}",
        part=f"above 0 in {_share(positive)} groups, most of the slope in {sum(most)}",
    )


def _range(intervals: Iterable[Interval], spec: str) -> str:
    """From the smallest mean to the largest."""
    means = [i.mean for i in intervals]
    return f"{min(means):{spec}} to {max(means):{spec}}" if means else "–"


def _share(conditions: Sequence[bool]) -> str:
    return f"{sum(conditions)} of {len(conditions)}"


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"
