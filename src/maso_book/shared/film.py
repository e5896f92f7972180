"""The animations of chapters: what plays their frames, from `film.js` and from a drawing function of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLAYER = Path(__file__).with_suffix(".js")


def script(drawing: Path, function: str, frames: list[dict[str, Any]]) -> str:
    """The script that plays frames in the element around it, which has a button and a slider (HTML).

    Args:
        drawing: a JavaScript file with a function of an element and frames, which hands its drawing to `film`.
        function: its name.
        frames: what it draws.
    """
    code = "".join(path.read_text(encoding="utf-8") for path in (PLAYER, drawing))
    call = f"{function}(document.currentScript.parentElement, {json.dumps(frames)});"
    return f"<script>\n(() => {{\n{code}{call}\n}})();\n</script>"
