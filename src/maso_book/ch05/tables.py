"""Tables of chapter 05 in Markdown, computed from the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from maso_book.ch05 import first
from maso_book.ch05.memory import STATES
from maso_book.ch05.templates import LABELS
from maso_book.ch05.verdicts import after_training, memory, named
from maso_book.records import Record
from maso_book.shared.markdown import markdown
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table

READING_NAMES = {"given": "as given", "centred": "less mean", "balanced": "less mean, ΣA = 0"}


def patterns(records: Sequence[Record]) -> str:
    """The sign pattern on training images, after training and in the calibrated network, against its controls; means.

    Args:
        records: of 05-memory.
    """
    shares = {
        "pattern": "pattern",
        "independent": "independent signs",
        "pattern_others": "other images",
        "pattern_outputs": "with bias",
        "true_class_positive": "$\\langle A_y,x\\rangle>0$",
        "false_classes_negative": "$\\langle A_c,x\\rangle<0$",
    }
    head = ["network", "labels", "images", *shares.values(), "spread of bias / inner product", "alignment"]
    table = named(records, "patterns").query("split == 'train' and state != 'untrained'")

    rows = []
    for (arm, labels, state), of_arm in arms(table, "arm", "labels", "state"):
        name = arm if state == STATES[-1] else f"{arm}, untrained"
        rows += [[name, labels, *_reading(reading, group, shares)] for reading, group in arms(of_arm, "reading")]
    return markdown(head, rows, words=3)


def gaps(records: Sequence[Record], widths: Sequence[Record]) -> str:
    """After training: accuracy, gaps of training and of test images and memory, with intervals; the calibrated network.

    Args:
        records, widths: of 05-memory and 05-memory-widths.
    """
    head = ("network", "labels", "accuracy", "untrained", "training images", "test images", "memory", "by answers")
    table = pd.concat([named(part, "gaps") for part in (records, widths)])
    memories = memory(table)

    rows = []
    for (arm, labels), of_arm in arms(table, "arm", "labels"):
        label = of_arm[of_arm["named_by"] == "label"]
        train, test = (after_training(label[label["split"] == split]) for split in ("train", "test"))
        before = label[(label["state"] == "calibrated") & (label["split"] == "train")]
        found = after_training(memories[(memories["arm"] == arm) & (memories["labels"] == labels)])
        own, answers = (found[found["named_by"] == way]["memory"] for way in ("label", "answer"))
        rows.append([
            arm, labels, f"{train['accuracy'].mean():.1%}", f"{before['gap'].mean():+.3f}",
            *(f"{interval(values):+.3f}" for values in (train["gap"], test["gap"], own, answers)),
        ])  # fmt: skip
    return markdown(head, rows, words=2)


# The first edition's --------------------------------------------------------------------------------------------------


def first_readings(records: Sequence[Record]) -> str:
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
    table = first.last(as_table(records, "templates")).query("split == 'train'")

    rows = []
    for (network, labels, reading), arm in arms(table, "network", "labels", "reading"):
        rows.append([network, labels, *_reading(reading, arm, shares)])
    return markdown(head, rows, words=3)


def first_cosines(records: Sequence[Record], widths: Sequence[Record]) -> str:
    """After training: cosines with their own and with other images, training and test images; the gap's interval.

    Args:
        records, widths: of 05-templates and 05-widths.
    """
    head = ("network", "labels", "images", "accuracy", "$\\cos(A_y[x], x)$", "$\\cos(A_y[x], x')$", "gap")
    trained, scan = first.last(first.gaps(records)), first.last(first.gaps(widths))
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
    return markdown(head, rows, words=3)


def _reading(reading: str, rows: pd.DataFrame, shares: Iterable[str]) -> list[str]:
    """The cells of one reading: its name, the shares, the spread of the biases and the alignment; means."""
    mean = rows[[*shares, "inner_product_std", "bias_std", "alignment"]].mean()
    return [
        READING_NAMES[reading],
        *(f"{share:.1%}" for share in mean[[*shares]]),
        f"{mean['bias_std'] / mean['inner_product_std']:.2f}",
        f"{mean['alignment']:+.3f}",
    ]
