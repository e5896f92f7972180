"""How the claims of chapter 04 are judged from its records."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from maso_book.records import Record
from maso_book.statistics import Interval, interval
from maso_book.verdict import Verdict

EXACT = 1e-12
"""Largest relative error that the criteria of claims 04.1 and 04.5 allow."""
AGREE, UNIMODAL, FORGOTTEN = 0.9, 0.01, 0.1
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "digits": "digits"}

Groups = dict[str, list[Record]]

# What the figures and the verdicts share -----------------------------------------------------------------------------


def groups(records: Sequence[Record]) -> Groups:
    """The records by everything but the seed, in the order of the grid; networks that diverged are left out."""
    found: Groups = {}
    for record in records:
        if not record.metrics.get("diverged"):
            found.setdefault(_label(record.config), []).append(record)
    return found


def data_name(config: dict[str, Any]) -> str:
    """The data set of a configuration, in words."""
    return NAMES.get(config["dataset"], config["dataset"]) + (" grey" if config["grey"] else "")


def _label(config: dict[str, Any]) -> str:
    name = data_name(config)
    size = "all" if config["samples"] is None else f"{config['samples']:,}"
    network = "" if config["network"] == "small_cnn" else f" {config['network']}"
    switches = [word for key, word in (("bn", "no BN"), ("bias", "no bias")) if not config[key]]
    return ", ".join([f"{name}{network} ({size} × {config['epochs']})", *switches])


def plain(records: Sequence[Record]) -> Groups:
    """The groups with BatchNorm and bias."""
    return groups([record for record in records if record.config["bn"] and record.config["bias"]])


def rows(record: Record, part: str = "test") -> dict[int, dict[str, float]]:
    """Epoch → row of a record of 04-templates."""
    return {row["epoch"]: row for row in record.metrics["rows"] if row["part"] == part}


def over_seeds(members: Sequence[Record], value: Callable[[dict[str, float], dict[str, float]], float],
               part: str = "test") -> Interval:  # fmt: skip
    """Interval of a number of each network, made from its rows after training and at the first epoch kept."""
    found = []
    for record in members:
        by_epoch = rows(record, part)
        found.append(value(by_epoch[max(by_epoch)], by_epoch[min(by_epoch)]))
    return interval(found)


def last(members: Sequence[Record], key: str, part: str = "test") -> Interval:
    """Interval of a number of each network after training."""
    return over_seeds(members, lambda row, _: row[key], part)


def tests_of_likeness(members: Sequence[Record]) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """The intervals that claim 04.3 asks to be above 0 ("object") and below 0 ("negative")."""
    is_object = {
        "with the image": last(members, "own, image"),
        "less untrained": over_seeds(members, lambda row, start: row["own, image"] - start["own, image"]),
        "less another image": over_seeds(members, lambda row, _: row["own, image"] - row["own, elsewhere"]),
        "with the class mean": last(members, "own, class mean"),
        "mean, less untrained": over_seeds(
            members, lambda row, start: row["own, class mean"] - start["own, class mean"]
        ),
        "mean, less another": over_seeds(members, lambda row, _: row["own, class mean"] - row["own, mean elsewhere"]),
    }
    negative = {
        "with the image": last(members, "others, image"),
        "less untrained": over_seeds(members, lambda row, start: row["others, image"] - start["others, image"]),
    }
    return is_object, negative


def slopes(members: Sequence[Record], place: str) -> Interval:
    """Slope against the log prior, less that of the balanced network of the seed."""
    return interval([r.metrics[f"slope, {place}, skewed"] - r.metrics[f"slope, {place}, balanced"] for r in members])


# Verdicts -------------------------------------------------------------------------------------------------------------


def verdicts(results: dict[str, list[Record]]) -> list[Verdict]:
    """The chapter's claims by their criteria, from its records alone.

    Args:
        results: experiment → its records; one that is missing or has none leaves its claims "not tested".
    """
    judges: list[tuple[str, Callable[[str, list[Record]], Verdict], str]] = [
        ("04.1", _judge_exact, "04-templates"),
        ("04.2", _judge_deciding, "04-templates"),
        ("04.3", _judge_likeness, "04-templates"),
        ("04.4", _judge_modes, "04-templates"),
        ("04.5", _judge_sanity, "04-sanity"),
        ("04.6", _judge_prior, "04-prior"),
    ]
    found = []
    for claim, judge, name in judges:
        records = [record for record in results.get(name, []) if not record.metrics.get("diverged")]
        if not records:
            found.append(Verdict(claim, "not tested", f"No record of {name}."))
        elif _too_little(records):
            evidence = judge(claim, records).evidence
            found.append(Verdict(claim, "not tested", f"The criterion asks for 5 seeds on real images. {evidence}"))
        else:
            found.append(judge(claim, records))
    return found


def _too_little(records: list[Record]) -> bool:
    few = any(len(members) < 5 for members in groups(records).values())
    return few or not plain(records) or any(record.config["dataset"] == "digits" for record in records)


def _judge_exact(claim: str, records: list[Record]) -> Verdict:
    worst = {part: max(record.metrics[f"error, {part}"] for record in records) for part in ("sum", "inner", "bias")}
    images = min(record.config["images"] for record in records)
    evidence = (
        f"{len(records)} networks, {images:,} test images each: the sum differs from the output by at most "
        f"{worst['sum']:.1e}, the inner product from that by hand by {worst['inner']:.1e}, the bias by "
        f"{worst['bias']:.1e} (of the largest output)."
    )
    if worst["sum"] > EXACT:
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if images >= 1000 else "not tested", evidence)


def _judge_deciding(claim: str, records: list[Record]) -> Verdict:
    with_bias = [record for record in records if record.config["bn"] or record.config["bias"]]
    parts, above, better = [], [], []
    for name, members in groups(with_bias).items():
        agree = last(members, "agreement, inner")
        gain = over_seeds(members, lambda row, _: row["agreement, inner"] - row["agreement, bias"])
        above.append(agree.low > AGREE)
        better.append(gain.sign > 0)
        parts.append(f"{name}: {_percent(agree)}, {agree.mean - gain.mean:.1%} for the bias")
    evidence = "Agreement with the class of the whole output, inner product alone: " + "; ".join(parts) + "."
    if all(above) and all(better):
        return Verdict(claim, "holds", evidence)
    conditions = all(better) or any(a and b for a, b in zip(above, better, strict=True))
    return Verdict(claim, "holds with conditions" if conditions else "does not hold", evidence)


def _judge_likeness(claim: str, records: list[Record]) -> Verdict:
    parts, both = [], []
    for name, members in plain(records).items():
        is_object, negative = tests_of_likeness(members)
        halves = all(i.sign > 0 for i in is_object.values()), all(i.sign < 0 for i in negative.values())
        both.append(halves)
        parts.append(
            f"{name}: true class {_signed(is_object['with the image'])} ({_signed(is_object['less untrained'])} over "
            f"untrained, {_signed(is_object['less another image'])} over another image), others "
            f"{_signed(negative['with the image'])}; object {_yes(halves[0])}, negative {_yes(halves[1])}"
        )
    evidence = "Correlation of template and image. " + ". ".join(parts) + "."
    if all(itertools.chain(*both)):
        return Verdict(claim, "holds", evidence)
    return Verdict(claim, "holds with conditions" if any(itertools.chain(*both)) else "does not hold", evidence)


def _judge_modes(claim: str, records: list[Record]) -> Verdict:
    parts, found = [], []
    for name, members in plain(records).items():
        for part in ("train", "test"):
            after = [by_epoch[max(by_epoch)] for by_epoch in (rows(record, part) for record in members)]
            area = last(members, "auc", part)
            gain = over_seeds(members, lambda row, start: row["auc"] - start["auc"], part)
            two = sum(row["dip p"] < UNIMODAL for row in after)
            found.append(gain.sign > 0 and two == len(members))
            parts.append(f"{name}, {part}: area {area.mean:.3f}, one mode rejected in {two} of {len(members)}")
    evidence = "; ".join(parts) + "."
    if all(found):
        return Verdict(claim, "holds", evidence)
    return Verdict(claim, "holds with conditions" if any(found) else "does not hold", evidence)


def _judge_sanity(claim: str, records: list[Record]) -> Verdict:
    worst = max(record.metrics["identity error"] for record in records)
    parts, signed, magnitude = [], [], []
    for name, members in groups(records).items():
        random = interval([r.metrics["signed"][-1] for r in members])
        margins = {
            kind: interval([r.metrics[f"{kind}, other seed"] - r.metrics[kind][-1] for r in members])
            for kind in ("signed", "magnitude")
        }
        signed.append(random.high < FORGOTTEN and margins["signed"].sign > 0)
        magnitude.append(margins["magnitude"].sign > 0)
        parts.append(
            f"{name}: signed {_signed(random)} when all is random ({_signed(margins['signed'])} more between two "
            f"trained networks), magnitude {interval([r.metrics['magnitude'][-1] for r in members]).mean:.2f} "
            f"({_signed(margins['magnitude'])})"
        )
    evidence = f"Gradient and template by hand differ by at most {worst:.1e}. " + "; ".join(parts) + "."
    if worst > EXACT or not any(signed):
        return Verdict(claim, "does not hold", evidence)
    return Verdict(claim, "holds" if all(signed + magnitude) else "holds with conditions", evidence)


def _judge_prior(claim: str, records: list[Record]) -> Verdict:
    parts, positive, most = [], [], []
    for name, members in groups(records).items():
        found = {place: slopes(members, place) for place in ("outputs", "inner", "bias", "output bias")}
        positive.append(found["bias"].sign > 0)
        most.append(found["bias"].mean >= found["outputs"].mean / 2)
        parts.append(name + ": " + ", ".join(f"{place} {_signed(slope)}" for place, slope in found.items()))
    evidence = "Slope against the log prior, less that of the balanced networks. " + "; ".join(parts) + "."
    if not any(positive):
        return Verdict(claim, "does not hold", evidence)
    whole = all(positive) and all(most) and len(positive) > 1
    return Verdict(claim, "holds" if whole else "holds with conditions", evidence)


def _percent(i: Interval) -> str:
    return f"{i.mean:.1%} [{i.low:.1%}, {i.high:.1%}]"


def _signed(i: Interval) -> str:
    return f"{i.mean:+.3f} [{i.low:+.3f}, {i.high:+.3f}]"


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"
