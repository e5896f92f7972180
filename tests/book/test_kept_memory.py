import platform
import subprocess
import sys

import pytest

PAGES_OF_A_FURTHER_TENSOR = """
import resource

import torch

from maso_book.memory import keep_freed

keep_freed()
for _ in range(3):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_tensor_takes_the_memory_of_those_before():
    run = subprocess.run([sys.executable, "-c", PAGES_OF_A_FURTHER_TENSOR], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 2**22  # of 2**26 bytes
