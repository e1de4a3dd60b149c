"""Contract events, read once and kept: each call asks the chain only for blocks that it has not seen."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

from openledger.chain import Chain


class EventLog:
    """The events of one chain, in order. The chain's past is taken as final, as it is on the embedded chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._events: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self._next: dict[tuple[str, str], int] = defaultdict(int)
        self._lock = threading.Lock()

    def all(self, contract: str, event: str) -> list[Any]:
        """Every event of that name so far."""
        key = (contract, event)
        with self._lock:
            newest = self._chain.w3.eth.block_number
            if newest >= self._next[key]:
                found = self._chain.events(contract, event, from_block=self._next[key])
                self._events[key] += [log for log in found if log["blockNumber"] <= newest]
                self._next[key] = newest + 1
            return list(self._events[key])
