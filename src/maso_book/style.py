"""The look of every figure in the book, and `show`, which puts a figure on the page with where it came from.

Importing this module sets matplotlib's defaults to `STYLE`. The figures that a chapter's notebook does not draw itself
live in its `figures.py`; the notebook hands a figure to `show` together with the records it was drawn from.

Figures have a transparent background and dark ink. The book's stylesheet lays them on a sheet of light paper, in the
dark theme too: colours then mean the same in both themes and in print.
"""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import matplotlib as mpl
import matplotlib.pyplot as plt
from cycler import cycler
from IPython.display import display
from matplotlib.figure import Figure

from maso_book.narrow import narrow
from maso_book.records import Record, device_name, trained_elsewhere

PALETTE = {  # Okabe and Ito's colours, told apart with every common form of colour blindness; ordered for lines
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#1a1a1a",
    "yellow": "#F0E442",
}
OUTCOMES = {  # verdict -> (sign, colour): never by colour alone
    "holds": ("✔", PALETTE["green"]),
    "holds in part": ("◐", PALETTE["orange"]),
    "holds with conditions": ("◐", PALETTE["orange"]),
    "too small to matter": ("≈", PALETTE["sky"]),
    "does not hold": ("✘", PALETTE["vermilion"]),
    "not decided": ("?", PALETTE["purple"]),
    "not tested": ("○", "#767676"),
}
STYLE: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=list(PALETTE.values())),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#1a1a1a",
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#d8d8d8",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "font.size": 11,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.figsize": (7.2, 4.0),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.transparent": True,
    "savefig.dpi": 200,  # twice the pixels of the page
    "image.cmap": "cividis",
    "svg.hashsalt": "maso",  # the same figure is the same file
}
mpl.rcParams.update(STYLE)
warnings.filterwarnings("ignore", "The figure layout has changed to tight")  # seaborn's grids lay themselves out

PROVENANCE = '<div class="maso-provenance">'
MIME = {"svg": "image/svg+xml", "png": "image/png"}
NARROW = "application/vnd.maso.narrow+json"
"""Holds the figure for a phone: how many `panels` it has, the `kind` of its image, and the `image`."""
LARGEST_SVG = 400_000
"""Bytes; a figure with more than that in vectors goes on the page as a PNG with twice the page's pixels."""


class Drawn(Protocol):
    """A figure, or what has one: an axes, a grid of seaborn's."""

    figure: Any


def show(drawn: Drawn, *records: Record) -> None:
    """Displays a figure in the notebook, then one line that says where and when its numbers were made.

    The line links the records' files. The book (`maso_book.pages`) adds links to the figure's code cell and to its
    source notebook.

    Args:
        drawn: the figure, or axes or a seaborn grid on it; it is closed afterwards.
        records: what it was drawn from; none if the numbers were computed in this notebook ("live run").
    """
    fig = drawn.figure
    kind, image = _picture(fig)
    picture: dict[str, Any] = {MIME[kind]: image, "text/plain": f"<figure of {len(fig.axes)} axes>"}
    if panels := narrow(fig):
        kind, image = _picture(fig, "tight")
        picture[NARROW] = {"panels": panels, "kind": kind, "image": image}
    plt.close(fig)
    display(picture, raw=True)
    display({"text/html": provenance_line(*records), "text/plain": provenance_text(*records)}, raw=True)


def _picture(fig: Figure, box: Literal["tight"] | None = None) -> tuple[str, str]:
    """A figure for the page: "svg" and its text, or "png", where that is too long, and its bytes in base 64."""
    svg = render(fig, "svg", box)
    if len(svg) <= LARGEST_SVG:
        return "svg", svg.decode()
    return "png", base64.b64encode(render(fig, "png", box)).decode()


def render(fig: Figure, kind: str, box: Literal["tight"] | None = None) -> bytes:
    """The bytes of `fig` as "svg" or "png"; the same figure gives the same bytes."""
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    fig.savefig(stream, format=kind, metadata=metadata, bbox_inches=box)
    return stream.getvalue()


def write(fig: Figure, path: Path) -> None:
    """Writes `fig` to `path` in the format its suffix names, and closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render(fig, path.suffix[1:]))
    plt.close(fig)


def costs(results: Mapping[str, Sequence[Record]]) -> str:
    """Runs and time of each experiment with the device it ran on, as a Markdown table."""
    lines = ["| experiment | runs | time in all | device |", "|---|--:|--:|---|"]
    for name, records in results.items():
        seconds = sum(record.provenance["seconds"] for record in records)
        devices = sorted({record.provenance["device_name"] for record in records})
        lines.append(f"| {name} | {len(records)} | {seconds:,.0f} s | {in_table(', '.join(devices))} |")
    return "\n".join(lines)


def in_table(text: str) -> str:
    """Text as it stands in a cell of a Markdown table: no HTML, no further column."""
    return html.escape(text).replace("|", "&#124;")


def provenance_text(*records: Record) -> str:
    """Where and when the numbers were made, in plain words; one part per device and day."""
    groups = _by_origin(records) or {_origin("Live run", device_name("cpu"), "cpu", datetime.now(UTC).isoformat()): []}
    return "; ".join(groups)


def provenance_line(*records: Record) -> str:
    """`provenance_text` as HTML, with a link to the file of every record that has one, below ``../results``."""
    parts = [html.escape(provenance_text())] if not records else []
    for origin, members in _by_origin(records).items():
        links = " ".join(
            f'<a href="../results/{r.experiment}/{r.hash}.json">{r.experiment}/{r.hash[:6]}</a>'
            for r in members
            if r.path
        )
        many = f"<details><summary>{len(members)} records</summary>{links}</details>"
        parts.append(" · ".join([html.escape(origin), *([many if len(members) > 4 else links] if links else [])]))
    return f"{PROVENANCE}{'; '.join(parts)}</div>"


def _by_origin(records: tuple[Record, ...]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        made = record.provenance
        how = "Live run" if record.path is None else "Recorded run"
        origin = _origin(how, made["device_name"], made["device"], made["start"])
        elsewhere = trained_elsewhere(made)
        groups.setdefault(origin + (elsewhere and f", networks trained on a {elsewhere}"), []).append(record)
    return groups


def _origin(how: str, name: str, kind: str, start: str) -> str:
    return f"{how} on {name} ({kind}), {start[:10]}"
