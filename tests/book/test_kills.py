"""Kills with signal 9 at random moments lose nothing: a few here; `kills.py` plays hundreds."""

import json
import subprocess
import sys
from pathlib import Path


def test_kills_lose_nothing(tmp_path: Path) -> None:
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, str(script), str(tmp_path), "1", "recompute", "10", "beside", "4", "swap", "30"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["recompute"]["kills"] == 10
    assert found["beside"]["kills"] == 4
    assert found["swap"]["kills"] >= 5
