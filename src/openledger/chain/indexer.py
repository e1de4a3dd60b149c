"""Contract events in the database: read once in order, taken back when the chain takes them back.

The indexer reads a span of blocks, writes its events together with a checkpoint (the span's last block and its hash) in one
transaction, and only then reads the next: what a database cannot take is not fetched. A crash at any moment leaves whole spans,
and a start goes on after the last. When the chain no longer has a checkpoint's block, everything after the newest checkpoint that
it still has is removed and read again. Several indexers on one database do no harm: only one can write a checkpoint.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_utils.abi import event_abi_to_log_topic
from sqlalchemy import delete, func, select
from web3.exceptions import BlockNotFound
from web3.types import LogReceipt

from openledger.chain.artifacts import load_artifact
from openledger.chain.client import Chain
from openledger.primitives import (
    ChainError,
    ConfigurationError,
    NotFoundError,
    OpenLedgerError,
    StorageError,
    UnreachableError,
    from_hex,
    to_hex,
)
from openledger.storage import CheckpointRecord, Database, EventRecord

_LOG = logging.getLogger(__name__)

_STATE = "indexer.genesis"
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class ChainEvent:
    """One event. ``arguments`` by name, as web3 gives them: integers, bytes, addresses, lists; ``time`` in Unix seconds."""

    block: int
    position: int
    block_hash: str
    time: int
    transaction: str
    contract: str
    event: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Progress:
    """What one :meth:`Indexer.sync` did: the last block read, the events written, and those removed by a reorganisation."""

    block: int
    written: int
    removed: int


@dataclass(frozen=True)
class _Place:
    """A block up to which everything is read; ``hash`` is empty before the first."""

    number: int
    hash: str


class _MovedError(Exception):
    """The chain changed while it was read."""


class Indexer:
    """Keeps the events of a deployment's contracts in a database.

    Args:
        chain: the chain, with its deployment.
        database: where they go; it holds the events of one chain.
        span: most blocks read at once; fewer where the node refuses so many.
        confirmations: blocks that must lie on a block before it is read.
        checkpoints: how many blocks are remembered by hash, to find where a reorganisation began; a deeper one means reading
            everything again.

    Raises:
        ConfigurationError: the chain has no deployment, or the database holds the events of another chain.
    """

    def __init__(
        self, chain: Chain, database: Database, *, span: int = 2_000, confirmations: int = 0, checkpoints: int = 256
    ) -> None:
        if chain.deployment is None:
            raise ConfigurationError("an indexer needs to know where the contracts are; give the chain its deployment")
        indexed = database.state(_STATE)
        if indexed not in (None, chain.genesis):
            raise ConfigurationError(
                f"this database holds the events of the chain with genesis {indexed}, not of {chain.genesis}; use another one"
            )
        database.set_state(_STATE, chain.genesis)
        self._chain = chain
        self._database = database
        self._first = chain.deployment.block
        self._addresses = list(chain.deployment.addresses.values())
        self._names = {address.lower(): name for name, address in chain.deployment.addresses.items()}
        self._most = self._span = span
        self._confirmations = confirmations
        self._checkpoints = checkpoints

    def sync(self) -> Progress:
        """Reads up to the chain's last block that has enough confirmations.

        Raises:
            UnreachableError: the node does not answer.
            ChainError: the node refuses even a single block.
            StorageError: the database refuses.
        """
        written = removed = 0
        while True:
            place, gone = self._place()
            removed += gone
            head = self._chain.ask(lambda: int(self._chain.w3.eth.block_number)) - self._confirmations
            if place.number >= head:
                return Progress(place.number, written, removed)
            try:
                logs, reached = self._read(place, head)
                written += self._write(logs, reached)
            except _MovedError:
                continue
            except StorageError:
                if self._newest() == place:
                    raise
                # Another indexer was faster.

    def follow(self, stop: threading.Event, pause: float = 1.0) -> None:
        """Syncs every ``pause`` seconds until ``stop`` is set; after a failure, which is logged, it waits longer each time."""
        wait = pause
        while not stop.is_set():
            try:
                self.sync()
                wait = pause
            except OpenLedgerError as error:
                wait = min(2 * wait, _LONGEST_PAUSE)
                _LOG.warning("the indexer tries again in %.0f s: %s", wait, error)
            stop.wait(wait)

    def events(self, contract: str, event: str, from_block: int = 0) -> list[ChainEvent]:
        """Events of that name from ``from_block`` on, in order, as far as they are indexed.

        Raises:
            NotFoundError: the contract has no such event.
        """
        inputs = _inputs(contract, event)
        query = (
            select(EventRecord)
            .where(EventRecord.contract == contract, EventRecord.event == event, EventRecord.block >= from_block)
            .order_by(EventRecord.block, EventRecord.position)
        )
        with self._database.session() as session:
            rows = session.scalars(query).all()
        return [
            ChainEvent(
                row.block,
                row.position,
                row.block_hash,
                row.time,
                row.transaction,
                row.contract,
                row.event,
                {item["name"]: _restored(row.arguments[item["name"]], item) for item in inputs},
            )
            for row in rows
        ]

    def _place(self) -> tuple[_Place, int]:
        """Where to go on, and how many events were removed to get there."""
        removed = 0
        while (place := self._newest()).hash and self._hash_of(place.number) != place.hash:
            with self._database.session() as session:
                session.execute(delete(CheckpointRecord).where(CheckpointRecord.number == place.number))
                below = session.scalar(select(func.max(CheckpointRecord.number)))
                gone = session.execute(
                    delete(EventRecord).where(EventRecord.block > (self._first - 1 if below is None else below))
                )
                removed += int(getattr(gone, "rowcount", 0))
            _LOG.warning("block %d was %s and is no more: its events are read again", place.number, place.hash)
        return place, removed

    def _newest(self) -> _Place:
        with self._database.session() as session:
            row = session.scalars(select(CheckpointRecord).order_by(CheckpointRecord.number.desc()).limit(1)).first()
        return _Place(self._first - 1, "") if row is None else _Place(row.number, row.hash)

    def _read(self, place: _Place, head: int) -> tuple[list[LogReceipt], _Place]:
        """The logs of the next span, as they are on one and the same chain."""
        while True:
            last = min(place.number + self._span, head)
            before = self._hash_of(last)
            try:
                span: Any = {"address": self._addresses, "fromBlock": place.number + 1, "toBlock": last}
                logs = self._chain.ask(lambda span=span: list(self._chain.w3.eth.get_logs(span)))  # type: ignore[misc]
            except UnreachableError:
                raise
            except ChainError:
                if self._span == 1:
                    raise
                self._span //= 2
                continue
            if before is None or self._hash_of(last) != before:
                raise _MovedError
            if place.hash and self._hash_of(place.number) != place.hash:
                raise _MovedError
            self._span = min(2 * self._span, self._most)
            return logs, _Place(last, before)

    def _write(self, logs: list[LogReceipt], reached: _Place) -> int:
        rows = [self._row(log) for log in logs]
        with self._database.session() as session:
            session.add_all(rows)
            session.add(CheckpointRecord(number=reached.number, hash=reached.hash))
            session.flush()
            oldest = session.scalars(
                select(CheckpointRecord.number)
                .order_by(CheckpointRecord.number.desc())
                .offset(self._checkpoints - 1)
                .limit(1)
            ).first()
            if oldest is not None:
                session.execute(delete(CheckpointRecord).where(CheckpointRecord.number < oldest))
        return len(rows)

    def _row(self, log: LogReceipt) -> EventRecord:
        name = self._names[log["address"].lower()]
        event, arguments = self._decoded(name, log)
        block = int(log["blockNumber"])
        return EventRecord(
            block=block,
            position=int(log["logIndex"]),
            block_hash=to_hex(bytes(log["blockHash"])),
            time=self._time(log, block),
            transaction=to_hex(bytes(log["transactionHash"])),
            contract=name,
            address=log["address"],
            event=event,
            arguments=arguments,
        )

    def _decoded(self, name: str, log: LogReceipt) -> tuple[str, dict[str, Any]]:
        """Name and arguments of a log; one that the contract's interface does not have keeps its raw form."""
        topics = [bytes(topic) for topic in log["topics"]]
        for entry in load_artifact(name.partition(".")[0]).abi:
            if entry["type"] == "event" and topics and event_abi_to_log_topic(entry) == topics[0]:  # type: ignore[arg-type]
                decoded = self._chain.contract(name).events[entry["name"]]().process_log(log)
                return str(entry["name"]), {key: _plain(value) for key, value in decoded["args"].items()}
        return "", {"topics": [to_hex(topic) for topic in topics], "data": to_hex(bytes(log["data"]))}

    def _time(self, log: LogReceipt, block: int) -> int:
        stamp = log.get("blockTimestamp")
        if stamp is not None:
            return int(str(stamp), 0)
        return int(self._chain.ask(lambda: self._chain.w3.eth.get_block(block)["timestamp"]))

    def _hash_of(self, number: int) -> str | None:
        """Hash of a block, or None if the chain does not have it (any more)."""

        def find() -> str | None:
            try:
                return to_hex(bytes(self._chain.w3.eth.get_block(number)["hash"]))
            except BlockNotFound:
                return None

        return self._chain.ask(find)


def _inputs(contract: str, event: str) -> list[dict[str, Any]]:
    for entry in load_artifact(contract.partition(".")[0]).abi:
        if entry["type"] == "event" and entry["name"] == event:
            inputs: list[dict[str, Any]] = entry["inputs"]
            return inputs
    raise NotFoundError(f"{contract} has no event {event!r}")


def _plain(value: Any) -> Any:
    """A decoded argument as JSON can hold it exactly."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return to_hex(value)
    return [_plain(item) for item in value]


def _restored(value: Any, kind: Mapping[str, Any]) -> Any:
    """The argument that :func:`_plain` wrote, by its type in the contract's interface."""
    name = str(kind["type"])
    if name.endswith("]"):
        return [_restored(item, {**kind, "type": name[: name.rindex("[")]}) for item in value]
    if name == "tuple":
        return tuple(_restored(item, part) for item, part in zip(value, kind["components"], strict=True))
    if name.startswith(("uint", "int")):
        return int(value)
    return from_hex(value) if name.startswith("bytes") else value
