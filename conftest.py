import os
import shutil

import pytest
import torch
from hypothesis import settings

CHROMIUM = os.environ.get("MASO_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # beside others, one each
settings.register_profile("maso", deadline=None)  # a busy machine is not a failure
settings.load_profile("maso")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def browser():
    """Chromium, for tests that are marked so: that of MASO_CHROMIUM, or one on the PATH, or playwright's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
