import os

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # beside others, one each
settings.register_profile("maso", deadline=None)  # a busy machine is not a failure
settings.load_profile("maso")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
