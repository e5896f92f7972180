"""The book: what it measures, how that is recorded and judged, and how its chapters and pages are made."""

from maso_book.results import table

__all__ = ["table"]
