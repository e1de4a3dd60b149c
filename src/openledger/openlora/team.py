"""A team of threads, as OpenMP calls those that share a loop, for the work of a turn.

Each does whole rows or whole columns, so their number changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import torch

_WORTH_SHARING = 1 << 19


class Team:
    """Some threads; the one that asks is one of them.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._others = None
        if threads > 1:
            self._others = ThreadPoolExecutor(threads - 1, "openlora", initializer=lambda: torch.set_num_threads(1))

    def share(self, count: int, work: Callable[[int, int], None], size: int) -> None:
        """Does ``work(first, last)`` for parts of ``range(count)``, which must not depend on each other, at the same time.

        Args:
            count: of what is worked on.
            work: releases the interpreter's lock, or nothing is gained.
            size: multiplications in all; little work is not shared, since telling others takes some microseconds.
        """
        parts = min(self._threads, count) if size >= _WORTH_SHARING else 1
        if self._others is None or parts < 2:
            work(0, count)
            return
        bounds = [count * part // parts for part in range(parts + 1)]
        told = [self._others.submit(work, *pair) for pair in pairwise(bounds[1:])]
        try:
            work(bounds[0], bounds[1])
        finally:
            wait(told)
        for one in told:
            one.result()

    def close(self) -> None:
        """Ends the threads."""
        if self._others is not None:
            self._others.shutdown()
