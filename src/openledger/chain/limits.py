"""How many requests one client may make: a bucket of tokens that fills at a steady rate."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from openledger.primitives import InputError

_MOST_CLIENTS = 10_000


class RateLimit:
    """A bucket for each client, full at first. Safe to share between threads.

    Args:
        per_second: requests that come back each second.
        burst: requests that can be made at once after a rest.
        clock: seconds that only go forward.

    Raises:
        InputError: a number is not positive.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        if per_second <= 0 or burst < 1:
            raise InputError(f"a limit of {per_second:g} requests a second, {burst} at once, lets nobody in")
        self.per_second = per_second
        self.burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: int = 1) -> float:
        """Takes ``cost`` requests from the client's bucket and returns 0, or takes none and returns the seconds to wait.

        A cost above the whole burst is charged as the burst, so that waiting always helps.
        """
        cost = min(cost, self.burst)
        with self._lock:
            now = self._clock()
            left, since = self._buckets.pop(client, (float(self.burst), now))
            left = min(left + (now - since) * self.per_second, self.burst)
            wait = 0.0 if left >= cost else (cost - left) / self.per_second
            self._buckets[client] = (left if wait else left - cost, now)
            if len(self._buckets) > _MOST_CLIENTS:
                self._buckets.popitem(last=False)
            return wait
