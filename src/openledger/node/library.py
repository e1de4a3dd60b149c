"""Every record of every contribution, as the chain and the public blobs tell it, with its life so far."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from openledger.chain import Chain
from openledger.node.events import EventLog, Log
from openledger.primitives import NotFoundError, StorageError, record_hash, to_hex
from openledger.storage import BlobStore

REGISTRY = "DatanetRegistry"


@dataclass
class ContributionState:
    """One contribution as it stands on the chain; ``accepted`` holds one flag a record once it is finalised."""

    id: int
    datanet: int
    contributor: str
    manifest: bytes
    count: int
    bond: int = 0
    state: str = "submitted"
    accepted: list[bool] | None = None
    slashed: int = 0
    round: int = 0
    revealed: dict[int, list[str]] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)

    @property
    def reviewers(self) -> list[str]:
        """Who revealed a verdict in the round that decided, or in the newest one."""
        return self.revealed.get(self.round or max(self.revealed, default=0), [])


@dataclass(frozen=True)
class Placed:
    """One record at its place in a contribution."""

    hash: bytes
    value: dict[str, Any]
    contribution: ContributionState
    position: int

    @property
    def status(self) -> str:
        """``accepted``, ``rejected`` or ``under review``."""
        accepted = self.contribution.accepted
        if accepted is None:
            return "under review"
        return "accepted" if accepted[self.position] else "rejected"


class Library:
    """Contributions and records, kept up with the chain."""

    def __init__(self, chain: Chain, events: EventLog, blobs: BlobStore) -> None:
        self._chain = chain
        self._events = events
        self._blobs = blobs
        self._contributions: dict[int, ContributionState] = {}
        self._by_hash: dict[bytes, list[Placed]] = {}
        self._seen: dict[str, int] = {}
        self._rewound = events.rewound
        self._lock = threading.RLock()

    def contributions(self, datanet: int | None = None) -> list[ContributionState]:
        """All contributions, of one Datanet if given, in order."""
        with self._lock:
            self._refresh()
            return [item for item in self._contributions.values() if datanet in (None, item.datanet)]

    def records(self, datanet: int) -> Iterator[Placed]:
        """Every record that was ever contributed to a Datanet, in order."""
        for item in self.contributions(datanet):
            for position, digest in enumerate(item.hashes):
                yield Placed(digest, item.records[position], item, position)

    def accepted(self) -> list[Placed]:
        """Every accepted record of all Datanets, in the order of contributions and of rows in them."""
        return [
            Placed(digest, item.records[position], item, position)
            for item in self.contributions()
            if item.accepted is not None
            for position, digest in enumerate(item.hashes)
            if item.accepted[position]
        ]

    def find(self, digest: bytes) -> Placed:
        """The record of that hash: the accepted one where it was contributed more than once.

        Raises:
            NotFoundError: nobody contributed it.
        """
        with self._lock:
            place = self._accepted(digest)
            if place is None:  # what is accepted stays accepted; anything else the chain may have changed
                self._refresh()
                place = self._accepted(digest) or next(iter(self._by_hash.get(digest, [])), None)
        if place is None:
            raise NotFoundError(f"no record {to_hex(digest)} was contributed to this network")
        return place

    def _accepted(self, digest: bytes) -> Placed | None:
        return next((place for place in self._by_hash.get(digest, []) if place.status == "accepted"), None)

    def _refresh(self) -> None:
        submitted = self._new("ContributionSubmitted")
        if self._events.rewound != self._rewound:
            self._rewound = self._events.rewound
            self._contributions, self._by_hash, self._seen = {}, {}, {}
            submitted = self._new("ContributionSubmitted")
        for log in submitted:
            self._submitted(log.args)
        for log in self._new("VerdictRevealed"):
            verdict = log.args
            self._contributions[verdict["id"]].revealed.setdefault(verdict["round"], []).append(verdict["reviewer"])
        for log in self._new("RoundDecided"):
            self._contributions[log.args["id"]].state = "decided"
        for log in self._new("ContributionFinalised"):
            item = self._contributions[log.args["id"]]
            bits = bytes(log.args["accepted"])
            item.accepted = [bool(bits[place // 8] >> place % 8 & 1) for place in range(item.count)]
            item.slashed = int(log.args["slashed"])
            item.round = int(log.args["round"])
            item.state = "finalised"
        for log in self._new("ContributionWithdrawn"):
            self._contributions[log.args["id"]].state = "withdrawn"

    def _new(self, event: str) -> list[Log]:
        logs = self._events.all(REGISTRY, event)
        start = self._seen.get(event, 0)
        self._seen[event] = len(logs)
        return logs[start:]

    def _submitted(self, args: Any) -> None:
        item = ContributionState(
            id=args["id"],
            datanet=args["datanet"],
            contributor=args["contributor"],
            manifest=bytes(args["manifest"]),
            count=args["count"],
            bond=int(self._chain.contract(REGISTRY).functions.contribution(args["id"]).call()[8]),
        )
        self._contributions[item.id] = item
        try:
            records = self._blobs.get_json(item.manifest)["records"]
        except (NotFoundError, StorageError):
            return
        item.records = list(records)
        item.hashes = [record_hash(record) for record in item.records]
        for position, digest in enumerate(item.hashes):
            self._by_hash.setdefault(digest, []).append(Placed(digest, item.records[position], item, position))
