"""Tables of chapter 04 in Markdown, from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from maso_book.ch04.verdicts import data_name, named, trained_on_test
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table

if TYPE_CHECKING:
    import pandas as pd


def _markdown(head: str, align: str, rows: Iterable[Sequence[str]]) -> str:
    """A table; `align` has a letter for each column: l or r."""
    rule = "|".join({"l": "---", "r": "--:"}[letter] for letter in align)
    return "\n".join([f"| {head} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


def _cell(values: pd.Series, mean: str, half: str) -> str:
    """Mean over seeds ± half the length of its interval, in these formats."""
    i = interval(values)
    return f"{i.mean:{mean}} ± {i.high - i.mean:{half}}"


def deciding(records: Sequence[Record]) -> str:
    """Accuracy of the output and of its parts, and agreement of each part with the whole, by group."""
    alone = trained_on_test(named(as_table(records, "deciding")))
    rows = []
    for name, whole in arms(trained_on_test(named(as_table(records, "evaluation"))), "networks"):
        scores = dict(arms(alone[alone.networks == name], "scores"))
        without = not (whole.bn | whole.bias).any()  # b[x] = 0: rounding would decide
        columns = [whole.accuracy, *(scores[part].accuracy for part in ("inner", "bias"))]
        columns += [of.agreement for of in scores.values()]
        cells = [_cell(values, ".1%", ".1%") for values in columns]
        if without:
            cells[2] = cells[4] = "–"
        rows.append([name, *cells])
    head = (
        "networks | accuracy | inner product alone | bias alone | agrees: inner product | agrees: bias "
        "| agrees: inner product, centred | agrees: bias, centred"
    )
    return _markdown(head, "lrrrrrrr", rows)


def common_part(records: Sequence[Record]) -> str:
    """Correlations with the picture of the templates as they are and less their mean over the classes; cosines."""
    table = trained_on_test(named(as_table(records, "likeness")))
    measures = [(m, t) for m in ("correlation", "relative correlation", "cosine") for t in table.templates.unique()]
    rows = []
    for name, of_networks in arms(table.query("bn and bias and target == 'image' and source == 'own'"), "networks"):
        by_measure = dict(arms(of_networks, "measure", "templates"))
        rows.append([name, *(_cell(by_measure[key].similarity, "+.3f", ".3f") for key in measures)])
    head = "networks | true class | others | relative: true class | others | cosine: true class | others"
    return _markdown(head, "lrrrrrr", rows)


def classical(pictures: Sequence[Record], templates: Sequence[Record]) -> str:
    """Accuracy, likeness and separation of the classical filters beside those of the network of the same recipe."""
    rows = []
    for record in pictures:
        name = data_name(record.config)
        for of in as_table([record]).itertuples():
            label = {"mean": "class mean", "lda": "discriminant"}[of.filter]
            rows.append(_filter(name, label, of.accuracy, of.true_correlation, of.other_correlation, of.auc))
            name = ""
        recipe = {key: value for key, value in record.config.items() if key != "images"}
        for same in (r for r in templates if {key: r.config[key] for key in recipe} == recipe):
            network = trained_on_test(as_table([same], "evaluation")).iloc[0]
            true, others = as_table([same], "likeness").query("measure == 'relative correlation'").similarity
            rows.append(_filter("", "network", network.accuracy, true, others, network.auc))
    return _markdown("data | filter | accuracy | correlation, true class | correlation, others | area", "llrrrr", rows)


def _filter(name: str, label: str, accuracy: float, true: float, others: float, area: float) -> list[str]:
    return [name, label, f"{accuracy:.1%}", f"{true:+.3f}", f"{others:+.3f}", f"{area:.3f}"]


def priors(records: Sequence[Record]) -> str:
    """Correlation with the log prior of biases, skewed and balanced networks, and the accuracies on balanced tests."""
    slopes = named(as_table(records, "slopes"))
    rows = []
    for name, networks in arms(named(as_table(records, "networks")), "networks"):
        of_place = dict(arms(slopes[slopes.networks == name], "place", "prior"))
        columns = [of_place[p, kind].correlation for p in ("bias", "output bias") for kind in ("skewed", "balanced")]
        accuracies = [of.accuracy for _, of in arms(networks, "prior")]
        cells = [_cell(values, "+.2f", ".2f") for values in columns]
        rows.append([name, *cells, *(_cell(values, ".1%", ".1%") for values in accuracies)])
    head = "networks | $b[x]_c$, skewed | balanced | last bias, skewed | balanced | accuracy, skewed | balanced"
    return _markdown(head, "lrrrrrr", rows)
