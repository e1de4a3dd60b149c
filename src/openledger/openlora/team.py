"""A team of threads, as OpenMP calls those that share a loop, for the work of a turn.

Each does whole rows or whole columns, so their number changes no bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

_WORTH_SHARING = 1 << 19


def processors() -> int:
    """How many this process may use: more threads than that would wait for each other at every step of a turn."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """Some threads; the one that asks is one of them.

    Attributes:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._others = None
        if threads > 1:
            self._others = ThreadPoolExecutor(
                threads - 1, "openlora-team", initializer=lambda: torch.set_num_threads(1)
            )

    def share(self, work: Callable[[int, int], None], size: int) -> None:
        """Does ``work(part, parts)`` for every part, in as many threads at the same time.

        Args:
            work: its part; releases the interpreter's lock, or nothing is gained.
            size: multiplications in all; little work is not shared, since telling others takes some microseconds.
        """
        parts = self.threads if size >= _WORTH_SHARING else 1
        told = [] if self._others is None else [self._others.submit(work, part, parts) for part in range(1, parts)]
        try:
            work(0, parts)
        finally:
            wait(told)
        for one in told:
            one.result()

    def close(self) -> None:
        """Ends the threads."""
        if self._others is not None:
            self._others.shutdown()
