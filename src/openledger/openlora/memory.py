"""Memory that is read from end to end at every turn."""

from __future__ import annotations

import mmap
from contextlib import suppress

import torch


def floats(count: int) -> torch.Tensor:
    """[count] float32 in huge pages, where the system has them: finding small pages takes time, and so does their first use.

    Pages that are never used take no memory. The mapping is private: the system gives shared ones small pages.
    """
    memory = mmap.mmap(-1, 4 * count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32)
