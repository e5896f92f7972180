"""Tables of chapter 05: every reading of the sign pattern, and the cosines of all networks (Markdown)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from maso_book.ch05.templates import LABELS
from maso_book.ch05.verdicts import after_training, gaps
from maso_book.records import Record
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table

READING_NAMES = {"given": "as given", "centred": "less mean", "balanced": "less mean, ΣA = 0"}


def readings(records: Sequence[Record]) -> str:
    """After training, on training images: every reading of the sign pattern, the biases, the alignment; means.

    Args:
        records: of 05-templates.
    """
    shares = {
        "accuracy": "accuracy",
        "pattern": "pattern",
        "pattern_outputs": "with bias",
        "pattern_others": "other images",
        "true_class_positive": "$\\langle A_y,x\\rangle>0$",
        "false_classes_negative": "$\\langle A_c,x\\rangle<0$",
    }
    head = ["network", "labels", "images", *shares.values(), "spread of bias / inner product", "alignment"]
    table = after_training(as_table(records, "templates")).query("split == 'train'")

    rows = []
    for (network, labels, reading), arm in arms(table, "network", "labels", "reading"):
        mean = arm[[*shares, "inner_product_std", "bias_std", "alignment"]].mean()
        rows.append([
            network, labels, READING_NAMES[reading], *(f"{share:.1%}" for share in mean[[*shares]]),
            f"{mean['bias_std'] / mean['inner_product_std']:.2f}", f"{mean['alignment']:+.3f}",
        ])  # fmt: skip
    return _markdown(head, rows)


def cosines(records: Sequence[Record], widths: Sequence[Record]) -> str:
    """After training: cosines with their own and with other images, training and test images; the gap's interval.

    Args:
        records, widths: of 05-templates and 05-widths.
    """
    head = ("network", "labels", "images", "accuracy", "$\\cos(A_y[x], x)$", "$\\cos(A_y[x], x')$", "gap")
    trained, scan = after_training(gaps(records)), after_training(gaps(widths))
    groups = [(network, labels, arm) for (network, labels), arm in arms(trained, "network", "labels")]
    for labels in LABELS:
        groups += [(f"width {width}", labels, arm) for width, arm in arms(scan[scan["labels"] == labels], "width")]

    rows = []
    for network, labels, group in groups:
        for split, arm in arms(group, "split"):
            mean = arm[["accuracy", "cosine_own", "cosine_others"]].mean()
            rows.append([
                network, labels, split, f"{mean['accuracy']:.1%}", f"{mean['cosine_own']:+.3f}",
                f"{mean['cosine_others']:+.3f}", f"{interval(arm['gap']):+.3f}",
            ])  # fmt: skip
    return _markdown(head, rows)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first three columns hold words, the others numbers."""
    rule = ["---"] * 3 + ["--:"] * (len(head) - 3)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))
