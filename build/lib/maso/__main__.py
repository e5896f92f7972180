"""`python -m maso`: the door to the book's command line, `maso_book.__main__`, which belongs to the checkout."""

import sys


def main() -> int:
    """Open the door, or say what is missing; returns the exit code."""
    try:
        from maso_book.__main__ import main as command
    except ModuleNotFoundError as missing:
        advice = "This command is the book's: in its checkout, pip install -e '.[book]'."
        top = str(missing.name).partition(".")[0]
        sys.exit(f"maso: {top} is not installed. {advice}")
    return command()


if __name__ == "__main__":
    sys.exit(main())
