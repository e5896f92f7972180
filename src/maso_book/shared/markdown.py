"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> str:
    """A table whose first columns hold words, the others numbers.

    Args:
        head: the columns' names.
        rows: of cells, one for each column.
        words: how many columns hold words: they are set flush left.
    """
    rule = ["---"] * words + ["--:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))
