"""Chapters 05 and 07 name the same twins."""

from maso_book import registry
from maso_book.ch05.memory import Memory
from maso_book.ch07.depth import Depth
from maso_book.results import cells
from maso_book.shared import twins


def test_twins_are_trained_once_for_both_chapters() -> None:
    of_05, of_07 = (
        [config.recipe for config in cells(registry.named(name), "full")] for name in ("05-memory", "07-twins")
    )
    assert of_05 == of_07
    assert len(set(of_05)) == 3 * len(twins.SEEDS) * len(twins.LABELS)
    assert Memory(1, "true").recipe == Depth(1).recipe
