"""Tables of chapter 04 in Markdown, from its records."""

from __future__ import annotations

from collections.abc import Sequence

from maso_book.ch04.verdicts import data_name, groups, last, plain, rows
from maso_book.records import Record
from maso_book.statistics import Interval, interval


def _percent(i: Interval) -> str:
    return f"{i.mean:.1%} ± {i.high - i.mean:.1%}"


def deciding(records: Sequence[Record]) -> str:
    """Accuracy of the output and of its parts, and agreement of each part with the whole, by group."""
    parts = ("inner", "bias", "centred inner", "centred bias")
    lines = [
        "| networks | accuracy | inner product alone | bias alone | agrees: inner product | agrees: bias "
        "| agrees: inner product, centred | agrees: bias, centred |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, members in groups(records).items():
        keys = ["accuracy", *(f"accuracy, {part}" for part in parts[:2]), *(f"agreement, {part}" for part in parts)]
        without = not members[0].config["bn"] and not members[0].config["bias"]  # b[x] = 0: rounding would decide
        cells = ["–" if without and key.endswith(", bias") else _percent(last(members, key)) for key in keys]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def common_part(records: Sequence[Record]) -> str:
    """Correlations with the picture of the templates as they are and less their mean over the classes; cosines."""
    lines = [
        "| networks | true class | others | relative: true class | others | cosine: true class | others |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, members in plain(records).items():
        relative = [r.metrics["without the common part"] for r in members]
        cells = [
            *(last(members, key) for key in ("own, image", "others, image")),
            *(interval([row[key] for row in relative]) for key in ("own", "others")),
            *(last(members, key) for key in ("own, cosine", "others, cosine")),
        ]
        lines.append(f"| {name} | {' | '.join(f'{i.mean:+.3f} ± {i.high - i.mean:.3f}' for i in cells)} |")
    return "\n".join(lines)


def classical(pictures: Sequence[Record], templates: Sequence[Record]) -> str:
    """Accuracy, likeness and separation of the classical filters beside those of the network of the same recipe."""
    lines = [
        "| data | filter | accuracy | correlation, true class | correlation, others | area |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for record in pictures:
        name = data_name(record.config)
        for row in record.metrics["classical"]:
            label = {"mean": "class mean", "lda": "discriminant"}[row["filter"]]
            lines.append(_filter(f"{name} | {label}", row["accuracy"], row["own"], row["others"], row["auc"]))
            name = ""
        recipe = {key: value for key, value in record.config.items() if key != "images"}
        for same in (r for r in templates if {key: r.config[key] for key in recipe} == recipe):
            by_epoch = rows(same)
            row, relative = by_epoch[max(by_epoch)], same.metrics["without the common part"]
            lines.append(_filter(" | network", row["accuracy"], relative["own"], relative["others"], row["auc"]))
    return "\n".join(lines)


def _filter(name: str, accuracy: float, own: float, others: float, area: float) -> str:
    return f"| {name} | {accuracy:.1%} | {own:+.3f} | {others:+.3f} | {area:.3f} |"


def priors(records: Sequence[Record]) -> str:
    """Correlation with the log prior of biases, skewed and balanced networks, and the accuracies on balanced tests."""
    lines = [
        "| networks | $b[x]_c$, skewed | balanced | last bias, skewed | balanced | accuracy, skewed | balanced |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, members in groups(records).items():
        cells = [
            interval([r.metrics[f"correlation, {place}, {kind}"] for r in members])
            for place in ("bias", "output bias")
            for kind in ("skewed", "balanced")
        ]
        right = [interval([r.metrics[f"accuracy, {kind}"] for r in members]) for kind in ("skewed", "balanced")]
        shown = [f"{i.mean:+.2f} ± {i.high - i.mean:.2f}" for i in cells] + [_percent(i) for i in right]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)
