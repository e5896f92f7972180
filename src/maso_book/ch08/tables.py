"""Tables of chapter 08 (Markdown)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from maso_book.ch08.compared import case, class_gains, curves, kendall, last, networks
from maso_book.ch08.verdicts import RANKERS
from maso_book.datasets import CLASSES
from maso_book.records import Record
from maso_book.shared.markdown import markdown
from maso_book.statistics import interval
from maso_book.tidy import arms, as_table, paired

TALK = {
    ("CIFAR-100", "small ResNet", "train"): (4.16, 0.938),
    ("CIFAR-100", "small ResNet", "test"): (4.21, 0.954),
    ("a plain CNN", "", "train"): (0.66, 0.65),
    ("a plain CNN", "", "test"): (1.51, 1.15),
    ("CIFAR-10", "a plain CNN", "train"): (1.41, 2.18),
}
"""Rugosity without and with augmentation as read from the talk's figure: single runs, 32×32 against 28×28 pixels."""


def arms_table(records: Iterable[Record]) -> str:
    """After training: loss and accuracy, size of the slopes, plain and scale-free rugosity of every arm."""
    runs = list(records)
    head = ["case", "arm", "training loss", "test accuracy", "$\\lVert A[x]\\rVert$", "rugosity"]
    head += ["scale-free, train", "scale-free, test"]
    final = networks(runs)
    train = last(curves(runs)).query("split == 'train'").set_index("record")["free_2"]
    final = final.assign(free_train=final["record"].map(train))
    rows = []
    for (name, arm), each in arms(final, "case", "arm"):
        mean = each.mean(numeric_only=True)
        rows.append([
            name, arm, f"{mean['train_loss']:.3f}", f"{interval(each['test_accuracy']):.1%}", f"{mean['slope']:.1f}",
            f"{mean['plain_2']:.1f}", f"{interval(each['free_train']):.3f}", f"{interval(each['free_2']):.3f}",
        ])  # fmt: skip
    return markdown(head, rows, words=2)


def talk_table(records: Iterable[Record]) -> str:
    """The talk's numbers, and ours for the same kind of measure: plain, p = 1, after training."""
    head = ["", "points", "without", "with augmentation", "without / with"]
    rows = [
        [f"talk: {', '.join(filter(None, names))}", split, f"{without:.2f}", f"{with_:.2f}", f"{without / with_:.2f}"]
        for (*names, split), (without, with_) in TALK.items()
    ]
    table = last(curves(records)).query("loss == 'cross-entropy' and arm in ('none', 'augmented')")
    for (name, split), each in arms(table, "case", "split"):
        wide = each.pivot(index="seed", columns="arm", values="plain_1")
        rows.append([
            f"here: {name}", split, f"{wide['none'].mean():.1f}", f"{wide['augmented'].mean():.1f}",
            f"{interval(wide['none'] / wide['augmented']):.2f}",
        ])  # fmt: skip
    return markdown(head, rows, words=2)


def explicit_table(records: Iterable[Record]) -> str:
    """Every way of training: validation accuracy, test accuracy over none, rugosity."""
    head = [
        "arm",
        "validation accuracy",
        "test accuracy",
        "over none",
        "scale-free rugosity",
        "rugosity",
        "training loss",
    ]
    table = networks(records).query("loss == 'cross-entropy'")
    rows = []
    for arm, each in arms(table, "arm"):
        over = interval(paired(table, "test_accuracy", by="arm", first=arm, second="none")) if arm != "none" else None
        rows.append([
            arm, f"{each['validation_accuracy'].mean():.1%}", f"{interval(each['test_accuracy']):.1%}",
            f"{100 * over.mean:+.2f} [{100 * over.low:+.2f}, {100 * over.high:+.2f}]" if over else "",
            f"{interval(each['free_2']):.3f}", f"{each['plain_2'].mean():.1f}", f"{each['train_loss'].mean():.3f}",
        ])  # fmt: skip
    return markdown(head, rows, words=1)


def cost_table(gpu: Sequence[Record], cpu: Sequence[Record]) -> str:
    """Time of each kind of step over that of the plain one, memory on the GPU, spread of the estimate.

    Args:
        gpu, cpu: records of 08-cost and 08-cost-cpu; where there are none the columns are left out.
    """
    by_device = {
        device: as_table(records, "steps").groupby("penalty", sort=False).mean(numeric_only=True)
        for device, records in (("GPU", gpu), ("CPU", cpu))
        if records
    }
    head = ["penalty", *(f"{device}, time ×" for device in by_device), "spread of one estimate"]
    rows = [
        [
            name.replace("_", " "),
            *(f"{steps.loc[name, 'ratio_of_seconds']:.2f}" for steps in by_device.values()),
            f"{row['spread']:.0%}" if name != "none" else "",
        ]
        for name, row in next(iter(by_device.values())).iterrows()
    ]
    if "GPU" in by_device:
        head.append("GPU, memory")
        rows = [
            [*row, f"{mebibytes:,.0f} MiB"]
            for row, mebibytes in zip(rows, by_device["GPU"]["peak_mebibytes_of_seconds"], strict=True)
        ]
    return markdown(head, rows, words=1)


def occam_table(records: Iterable[Record]) -> str:
    """Kendall's τ with test error: of each measure over all arms of cross-entropy, and over those but augmentation."""
    head = ["measure", "all arms", "without augmentation", "none against each penalty only"]
    table = networks(records).query("loss == 'cross-entropy'")
    groups = [
        table,
        table[table["arm"] != "augmented"],
        table[(table["noise"] == 0) & (table["arm"] != "augmented")],
    ]
    rows = [
        [name, *(f"{interval(kendall(group, by=column)):+.2f}" for group in groups)] for column, name in RANKERS.items()
    ]
    return markdown(head, rows, words=1)


def class_table(records: Sequence[Record], count: int = 5) -> str:
    """The classes that gain most and least by augmentation, in points of test accuracy, mean over seeds."""
    head = ["case", "gain most", "gain least", "classes that lose"]
    rows = []
    names = {case(record.config): CLASSES[record.config["dataset"]] for record in records}
    for name, each in arms(class_gains(records), "case"):
        mean = each.groupby("label")["gain"].mean().sort_values()
        most, least = mean.iloc[::-1][:count], mean[:count]
        low = [label for label, gains in each.groupby("label")["gain"] if interval(gains).high < 0]
        rows.append([
            name, *(", ".join(f"{names[name][c]} {100 * g:+.1f}" for c, g in part.items()) for part in (most, least)),
            f"{(mean < 0).sum()} of {len(mean)}, {len(low)} beyond their interval",
        ])  # fmt: skip
    return markdown(head, rows, words=4)
