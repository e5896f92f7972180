"""Tables of chapter 04 in Markdown, from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from maso_book.ch04.verdicts import data_name, named, trained_on_test, way, with_way
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table, paired

if TYPE_CHECKING:
    import pandas as pd

ORIGINS = ("black", "mean image", "grey")


def _markdown(head: str, align: str, rows: Iterable[Sequence[str]]) -> str:
    """A table; `align` has a letter for each column: l or r."""
    rule = "|".join({"l": "---", "r": "--:"}[letter] for letter in align)
    return "\n".join([f"| {head} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


def _cell(values: pd.Series, mean: str, half: str) -> str:
    """Mean over seeds ± half the length of its interval, in these formats; a single value as it is."""
    if len(values) == 1:
        return f"{values.iloc[0]:{mean}}"
    i = interval(values)
    return f"{i.mean:{mean}} ± {i.high - i.mean:{half}}"


def deciding(records: Sequence[Record]) -> str:
    """Accuracy of the output and of its parts, agreement of each part with it, and the match's share of the margin."""
    alone, margin = named(records, "deciding"), named(records, "margin")
    rows = []
    for name, whole in arms(trained_on_test(named(records, "evaluation")), "networks"):
        scores = dict(arms(alone[alone.networks == name], "scores"))
        shares = dict(arms(margin[margin.networks == name], "origin"))
        columns = [whole.accuracy, *(scores[part].accuracy for part in ("inner", "bias"))]
        columns += [scores[part].agreement for part in ("inner", "bias")]
        columns += [shares[origin].share for origin in ORIGINS]
        cells = [_cell(values, ".1%", ".1%") for values in columns]
        if not (whole.bn | whole.bias).any():  # b[x] = 0: rounding would decide
            cells[2] = cells[4] = "–"
        rows.append([name, *cells])
    head = ["networks", "accuracy", "inner product alone", "bias alone", "agrees: inner product", "agrees: bias"]
    head += [f"share of the margin from {origin}" for origin in ORIGINS]
    return _markdown(" | ".join(head), "l" + "r" * (len(head) - 1), rows)


def airplane(records: Sequence[Record]) -> str:
    """Accuracy, accuracy under attack and likeness, by architecture and way of training."""
    networks, robustness, likeness = (with_way(named(records, of)) for of in ("networks", "robustness", "likeness"))
    likeness = likeness[likeness.measure == "correlation"]
    wanted = {
        "true class": ("trained", False, "true class", "image", "own"),
        "others": ("trained", False, "other classes", "image", "own"),
        "another of the class": ("trained", False, "true class", "image", "same class"),
        "another class's": ("trained", False, "true class", "image", "another class"),
        "class mean": ("trained", False, "true class", "class mean", "own"),
        "SmoothGrad": ("trained", True, "true class", "image", "own"),
        "untrained": ("calibrated", False, "true class", "image", "own"),
    }
    rows = []
    for (architecture, kind), of in arms(networks, "architecture", "way"):
        alike = likeness[(likeness.architecture == architecture) & (likeness.way == kind)]
        values = dict(arms(alike, "state", "averaged", "templates", "target", "source"))
        attacked = robustness[(robustness.architecture == architecture) & (robustness.way == kind)]
        cells = [_cell(of.test_accuracy, ".1%", ".1%")]
        cells.append(_cell(attacked[attacked.radius == 0.5].robust_accuracy, ".1%", ".1%"))
        cells += [_cell(values[key].similarity, "+.3f", ".3f") for key in wanted.values()]
        rows.append([architecture, kind, str(int(of.epochs.iloc[0])), *cells])
    head = " | ".join(["network", "trained", "epochs", "accuracy", "attacked, radius ½", *wanted])
    return _markdown(head, "ll" + "r" * (len(wanted) + 3), rows)


def cause(records: Sequence[Record]) -> str:
    """Rank correlation of magnitudes with those of changed networks under each condition, and shares of zeros."""
    table, zeros = (named(records, of) for of in ("cause", "zeros"))
    rows, conditions = [], list(table.condition.unique())
    for (name, changed), of in arms(table, "networks", "changed"):
        by_condition = dict(arms(of, "condition"))
        share = zeros[(zeros.networks == name) & (zeros.changed == changed)].zero_share
        cells = [_cell(by_condition[c].rank_correlation, ".2f", ".2f") for c in conditions]
        rows.append([name, changed, *cells, f"{share.mean():.0%}"])
    head = " | ".join(["networks", "compared with", *conditions, "zeros in its templates"])
    return _markdown(head, "ll" + "r" * (len(conditions) + 1), rows)


def training(records: Sequence[Record]) -> str:
    """How the networks of these records were trained, and what came of it: a row for each group."""
    configs = {record.hash: {"noise": 0.0, "attack": 0.0, "augment": False} | record.config for record in records}
    seconds = {record.hash: record.provenance.get("training_seconds", float("nan")) for record in records}
    table = named(records, "networks")
    table = table.assign(seconds=table.record.map(seconds), way=[way(configs[name]) for name in table.record])
    rows = []
    for (name, kind), of in arms(table, "networks", "way"):
        first = configs[of.record.iloc[0]]
        moved = "flips and shifts" if first["augment"] else "none"
        rows.append([
            name, kind, f"{first['lr']:g}", moved, str(of.seed.nunique()),
            _cell(of.validation_accuracy, ".1%", ".1%"), f"{of.seconds.mean():.1f}",
        ])  # fmt: skip
    head = "networks | trained | highest rate | augmentation | seeds | validation accuracy | seconds of training"
    return _markdown(head, "lllllrr", rows)


def common_part(records: Sequence[Record]) -> str:
    """Correlations with the picture of the templates as they are and less their mean over the classes; cosines."""
    table = named(records, "likeness").query("epoch == epochs")
    measures = [(m, t) for m in ("correlation", "relative correlation", "cosine") for t in table.templates.unique()]
    rows = []
    for name, of_networks in arms(table.query("bn and bias and target == 'image' and source == 'own'"), "networks"):
        by_measure = dict(arms(of_networks, "measure", "templates"))
        rows.append([name, *(_cell(by_measure[key].similarity, "+.3f", ".3f") for key in measures)])
    head = "networks | true class | others | relative: true class | others | cosine: true class | others"
    return _markdown(head, "lrrrrrr", rows)


def filters(pictures: Sequence[Record], templates: Sequence[Record]) -> pd.DataFrame:
    """The classical filters of 04-pictures, and the networks of 04-templates with their recipes but for the seed.

    Returns:
        Columns `data`, `filter`, `seed`, `accuracy`, `area`, and the correlations with the picture, less their mean
        over the classes, `true` and `others`. A classical filter has one row for each data set, a network one a seed.
    """
    import pandas as pd

    words = {"mean": "class mean", "lda": "discriminant"}
    renamed = {"true_correlation": "true", "other_correlation": "others", "auc": "area"}
    columns = ["data", "filter", "seed", "accuracy", "area", "true", "others"]
    parts = []
    for record in pictures:
        recipe = record.config.keys() - {"images", "keep", "seed"}
        same = [r for r in templates if all(r.config.get(key) == record.config[key] for key in recipe)]
        classical = as_table([record]).rename(columns=renamed).replace({"filter": words})
        network = trained_on_test(named(same, "evaluation")).rename(columns={"auc": "area"}).set_index("seed")
        relative = named(same, "likeness").query(
            "epoch == epochs and measure == 'relative correlation' and target == 'image' and source == 'own'"
        )
        alike = relative.pivot(index="seed", columns="templates", values="similarity")
        network = network.assign(true=alike["true class"], others=alike["other classes"], filter="network")
        parts.append(pd.concat([classical, network.reset_index()]).assign(data=data_name(record.config)))
    return pd.concat(parts, ignore_index=True)[columns]


def classical(pictures: Sequence[Record], networks: Sequence[Record]) -> str:
    """Accuracy, likeness and separation of the classical filters beside those of the networks."""
    rows = []
    for (name, label), of in arms(filters(pictures, networks), "data", "filter"):
        correlations = [_cell(of[templates], "+.3f", ".3f") for templates in ("true", "others")]
        rows.append([name, label, _cell(of.accuracy, ".1%", ".1%"), *correlations, _cell(of.area, ".3f", ".3f")])
    return _markdown("data | filter | accuracy | correlation, true class | correlation, others | area", "llrrrr", rows)


def priors(records: Sequence[Record]) -> str:
    """Slope of each part against the log prior less that of the balanced network, by origin; and the accuracies."""
    slopes = named(records, "slopes")
    rows = []
    for name, networks in arms(named(records, "networks"), "networks"):
        values = {
            key: paired(of, "slope", by="prior", first="skewed", second="balanced")
            for key, of in arms(slopes[slopes.networks == name], "place", "origin")
        }
        parts = [("outputs", "any"), *(("bias", origin) for origin in ORIGINS), ("output bias", "any")]
        accuracies = [_cell(of.accuracy, ".1%", ".1%") for _, of in arms(networks, "prior")]
        slopes_of = [_cell(values[part], "+.2f", ".2f") if part in values else "–" for part in parts]
        rows.append([name, *slopes_of, *accuracies])
    head = (
        "networks | outputs | $b[x]_c$ from black | from the mean image | from grey | last layer's bias "
        "| accuracy, skewed | balanced"
    )
    return _markdown(head, "lrrrrrrr", rows)
