"""Prints the path of a Chromium for the browser tests: one that is there, else one installed the platform's way."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def find() -> str | None:
    """A Chromium that starts: `MASO_CHROMIUM`, on the PATH, an application, or playwright's own; None without one."""
    candidates = [os.environ.get("MASO_CHROMIUM"), *map(shutil.which, NAMES), *APPLICATIONS, playwrights_own()]
    return next((path for path in candidates if path and starts(path)), None)


def playwrights_own() -> str | None:
    """Where playwright would have installed its Chromium; None without playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def starts(path: str) -> bool:
    """Whether it runs (Ubuntu's `chromium-browser` may be a stub that only names a snap)."""
    if not Path(path).is_file():
        return False
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def ways() -> list[list[list[str]]]:
    """The ways to install one here, best first; each is a list of commands."""
    known = []
    if shutil.which("apt-get") and (os.geteuid() == 0 or shutil.which("sudo")):
        root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        apt = [*root, "apt-get", "-qq"]
        known.append([[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu"]])
    if shutil.which("brew"):
        known.append([["brew", "install", "--cask", "google-chrome"]])
    known.append([[sys.executable, "-m", "playwright", "install", "chromium"]])
    return known


def main() -> int:
    """Print a path, 0; or say on standard error what to do, 1."""
    found = find()
    for commands in [] if found else ways():
        for command in commands:
            print(f"No Chromium yet: {' '.join(command)}", file=sys.stderr, flush=True)
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode:
                break
        found = find()
        if found:
            break
    if not found:
        print(
            "The browser tests need Chromium, and it could not be installed here. Install Chromium or Chrome, or name "
            "one with MASO_CHROMIUM=/path/to/chromium, and run `make test` again.",
            file=sys.stderr,
        )
        return 1
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
