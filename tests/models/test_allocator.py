"""Freed memory stays with the process, so that the next tensor finds its pages there already."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

# A process of its own, whose C library is told first to give back at once what is freed, as glibc does with fresh settings.
FAULTS = """
import ctypes, json, resource
import torch
from openledger.models import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        parts = [torch.ones(1 << 20) for _ in range(4)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for option in (-1, -3):
    ctypes.CDLL(None).mallopt(option, 128 << 10)
given_back = faults()
assert keep_freed_memory()
faults()
print(json.dumps([given_back, faults()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_tensors_made_and_dropped_again_and_again_fetch_no_new_pages() -> None:
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    given_back, kept = json.loads(ran.stdout)
    assert given_back > 20 * 1024
    assert kept * 100 < given_back
