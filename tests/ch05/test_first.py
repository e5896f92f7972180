"""Chapter 05: the first edition's tables and the data of its figures, from made-up records."""

from typing import Any

import pytest

from maso_book.ch05 import first, tables
from maso_book.ch05.templates import LABELS, READINGS, SPLITS, Templates
from maso_book.records import Record, as_dict, content_hash, tidy
from maso_book.tidy import as_table


def made(seed: int, labels: Any, width: int | None = None) -> Record:
    """A network whose gap grows to 0.1, with permuted labels to 0.2; on test images to half of it."""
    config = Templates(seed, labels, "mnist", width=width, epochs=10, keep=(0, 3))
    gap = 0.2 if labels == "permuted" else 0.1
    rows = [
        {
            "epoch": epoch, "split": split, "reading": reading, "accuracy": 0.9, "pattern": 0.5, "pattern_outputs": 0.6,
            "pattern_others": 0.1, "true_class_positive": 0.8, "false_classes_negative": 0.7, "inner_product_std": 2.0,
            "bias_std": 1.0, "alignment": 0.05, "cosine_others": 0.1,
            "cosine_own": 0.1 + share * gap * (0.5 if split == "test" else 1) * (1 + seed / 100),
        }
        for epoch, share in ((0, 0.0), (3, 0.5), (10, 1.0)) for split in SPLITS for reading in READINGS
    ]  # fmt: skip
    measured = tidy({"templates": rows, "training": [], "pictures": []})
    return Record(
        "05-templates", as_dict(config), measured, {}, {"device": "cpu"}, content_hash("05-templates", config)
    )


RECORDS = [made(seed, labels) for seed in range(5) for labels in LABELS]


def test_differences_are_train_less_test_paired_by_seed() -> None:
    table = first.differences(first.gaps(RECORDS))
    assert len(table) == 2 * 3 * 5
    mean = table.groupby(["labels", "epoch"])["difference"].mean()
    assert mean["permuted", 10] == pytest.approx(0.1 * 1.02)
    assert mean["true", 3] == pytest.approx(0.025 * 1.02)
    assert mean["true", 0] == 0


def test_tables_have_a_line_for_every_arm() -> None:
    assert tables.first_readings(RECORDS).count("\n") == 1 + 2 * len(READINGS)
    lines = tables.first_cosines(RECORDS, [made(seed, labels, 8) for seed in range(5) for labels in LABELS]).split("\n")
    assert len(lines) == 2 + 2 * (2 + 2)
    assert lines[2].split(" | ")[6].startswith("+0.102 [")
    assert lines[6].startswith("| width 8 | true | train |")


def test_patterns_pick_their_columns() -> None:
    shares = first.patterns(as_table(RECORDS, "templates"))
    assert len(shares) == 5 * 3 * len(RECORDS)
    assert set(shares[shares["pattern of"] == "outputs (with bias)"]["share"]) == {0.6}
