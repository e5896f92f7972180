"""The book: what it measures, how that is recorded and judged, and how its chapters and pages are made."""
