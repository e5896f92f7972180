import platform
import subprocess
import sys

import pytest

FRESH_BYTES_OF_TEN_TENSORS = """
import resource

import torch

from maso_book.memory import keep_freed

keep_freed()
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_tensor_takes_the_memory_of_those_before():
    run = subprocess.run([sys.executable, "-c", FRESH_BYTES_OF_TEN_TENSORS], capture_output=True, text=True, check=True)
    fresh = [int(line) for line in run.stdout.split()]
    # Of 2**26 bytes each. A small allocation that falls between two tensors moves the next one once or twice.
    assert sum(of_one < 2**22 for of_one in fresh) > 5
