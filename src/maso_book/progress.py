"""Whether a progress bar is shown."""

from __future__ import annotations

import sys


def watched() -> bool:
    """Whether somebody sees a progress bar: a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
