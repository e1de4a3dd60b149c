"""Contract events, read once and kept: each call asks only for blocks that it has not seen.

A node reads them from its database, where an :class:`~openledger.chain.indexer.Indexer` keeps them over restarts and takes them
back when the chain does. Who checks a network from outside has no database, and reads the few kinds that it needs from the chain.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openledger.chain import Chain, Indexer
from openledger.primitives import to_hex


@dataclass(frozen=True)
class Log:
    """One event: its arguments by name, its block's number, and its transaction's hash."""

    args: Mapping[str, Any]
    block: int
    transaction: str


class EventLog:
    """The events of one chain, in order.

    Args:
        chain: the chain; without an indexer its past is taken as final.
        indexer: keeps the chain's events in a database.

    Attributes:
        rewound: how often events were taken back; whatever was built from them then is to be built anew.
    """

    def __init__(self, chain: Chain, indexer: Indexer | None = None) -> None:
        self._chain = chain
        self._indexer = indexer
        self._events: dict[tuple[str, str], list[Log]] = defaultdict(list)
        self._next: dict[tuple[str, str], int] = defaultdict(int)
        self._height = -1
        self._lock = threading.Lock()
        self.rewound = 0

    def all(self, contract: str, event: str) -> list[Log]:
        """Every event of that name so far."""
        key = (contract, event)
        with self._lock:
            self._catch_up()
            if self._next[key] <= self._height:
                found = self._read(contract, event, self._next[key])
                self._events[key] += [log for log in found if log.block <= self._height]
                self._next[key] = self._height + 1
            return list(self._events[key])

    def _catch_up(self) -> None:
        newest = self._chain.ask(lambda: int(self._chain.w3.eth.block_number))
        if newest == self._height:
            return
        self._height = newest
        if self._indexer is not None:
            progress = self._indexer.sync()
            self._height = progress.block
            if progress.removed:
                self._events.clear()
                self._next.clear()
                self.rewound += 1

    def _read(self, contract: str, event: str, from_block: int) -> list[Log]:
        if self._indexer is not None:
            kept = self._indexer.events(contract, event, from_block)
            return [Log(found.arguments, found.block, found.transaction) for found in kept]
        logs = self._chain.events(contract, event, from_block=from_block)
        return [Log(log["args"], int(log["blockNumber"]), to_hex(log["transactionHash"])) for log in logs]
