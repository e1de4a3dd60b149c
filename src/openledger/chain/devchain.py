"""The embedded development chain: an OP-Stack-like L2 in one process, with OPEN as its native asset.

What is real: the EVM with the OP Stack's fee vaults, our genesis, signed transactions, blocks, logs, receipts. What is not:
there is no L1, hence no batch submission, no L1 data fee and no bridge; one sequencer decides alone.

* All 1,000,000,000 OPEN are one account's at genesis, the account ``genesis`` of the home's key store.
* Blocks are made when transactions arrive; those that arrive together share a block. After ``idle_seconds`` without one, the
  next read that depends on the clock makes an empty block first, so that contracts and callers agree on the time.
* A transaction is acknowledged when its block is in the journal, on disk. A start replays the journal, from a snapshot if
  there is one, and compares every block's hash with the one recorded.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import logging
import os
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openledger.chain.anvil import Anvil, RpcError
from openledger.chain.chain_id import DEFAULT_CHAIN_ID
from openledger.chain.files import sync_folder, write_atomic
from openledger.chain.front import Front, FrontServer
from openledger.chain.journal import BlockRecord, Journal
from openledger.chain.limits import RateLimit
from openledger.chain.wallet import KeyStore
from openledger.primitives import TOTAL_SUPPLY, ChainError, ConfigurationError, InputError, StorageError

_LOG = logging.getLogger(__name__)

GAS_LIMIT = 60_000_000
MINIMUM_BASE_FEE = 1_000_000
"""Least base fee in wei per gas; above it EIP-1559 moves it as on the OP Stack."""

SEQUENCER_FEE_VAULT = "0x4200000000000000000000000000000000000011"
BASE_FEE_VAULT = "0x4200000000000000000000000000000000000019"
"""Where priority fees and base fees go; nothing is burnt, so that the supply stays whole."""

REQUESTS_PER_SECOND, BURST = 500, 5_000
"""What one client may ask of the front: more than a program needs, less than would keep the others out."""

_ELASTICITY, _DENOMINATOR = 6, 250
_HISTORY_BLOCKS = 256
_SNAPSHOT_BLOCKS = 1_000
_SNAPSHOTS_KEPT = 3
_MOST_PER_BLOCK = 200
_MOST_WAITING = 5_000


@dataclass(frozen=True)
class _Head:
    number: int
    timestamp: int
    base_fee: int
    gas_used: int
    hash: str

    def next_base_fee(self) -> int:
        """Base fee of the next block: EIP-1559 with the OP Stack's constants, and a floor."""
        target = GAS_LIMIT // _ELASTICITY
        change = self.base_fee * abs(self.gas_used - target) // target // _DENOMINATOR
        following = self.base_fee + max(change, 1) if self.gas_used > target else self.base_fee - change
        return max(following, MINIMUM_BASE_FEE)


@dataclass
class _Order:
    """Something for the sequencer to do: include ``raw``, or else make an empty block ``skip`` seconds later."""

    raw: str | None
    skip: int
    done: Future[Any]


class DevChain:
    """A development chain that lives in ``home/chain``. Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Args:
        home: folder of this installation; its key store holds the genesis account.
        chain_id: EIP-155 chain id.
        port: loopback port of the JSON-RPC front; 0 for any free one.
        idle_seconds: age of the last block at which a read makes a new one.
        limit: what one client may ask of the front; :data:`REQUESTS_PER_SECOND` and :data:`BURST` if none is given.
    """

    def __init__(
        self,
        home: Path,
        chain_id: int = DEFAULT_CHAIN_ID,
        *,
        port: int = 0,
        idle_seconds: float = 30.0,
        limit: RateLimit | None = None,
    ) -> None:
        self.home = Path(home)
        self.chain_id = chain_id
        self.keys = KeyStore(self.home)
        self._folder = self.home / "chain"
        self._wanted_port = port
        self._idle_seconds = idle_seconds
        self._limit = limit or RateLimit(REQUESTS_PER_SECOND, BURST)
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._lock_handle: int | None = None
        self._anvil: Anvil | None = None
        self._journal: Journal | None = None
        self._server: FrontServer | None = None
        self._front: Front | None = None
        self._sequencer: threading.Thread | None = None
        self._refreshing: Future[None] | None = None
        self._refresh_lock = threading.Lock()
        self._clock_offset = 0
        self._last_snapshot = 0
        self._head = _Head(0, 0, MINIMUM_BASE_FEE, 0, "")

    def start(self) -> Self:
        """Brings the chain to where its journal ends and opens the front.

        Raises:
            ConfigurationError: another process runs this home's chain, or ``anvil`` is missing.
            StorageError: the journal is damaged, or its replay gives other blocks.
            ChainError: the node did not start, or the port is taken.
        """
        if self._anvil is not None:
            raise ConfigurationError("the chain is running already")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock()
        try:
            self._restore()
            self._failure = None
            self._sequencer = threading.Thread(target=self._sequence, name="chain-sequencer", daemon=True)
            self._sequencer.start()
            self._front = Front(self._node.url, self.submit, self._refresh, self._following, self._limit)
            self._server = FrontServer(self._front.app(), self._wanted_port)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Closes the front, finishes what was begun and ends the node. Does nothing if the chain is not running."""
        if self._server is not None:
            self._server.stop()
        if self._sequencer is not None:
            self._orders.put(None)
            self._sequencer.join()
            self._refuse_waiting()
        if self._anvil is not None:
            self._anvil.stop()
        if self._journal is not None:
            self._journal.close()
        if self._lock_handle is not None:
            os.close(self._lock_handle)
        self._server = self._sequencer = self._anvil = self._journal = self._lock_handle = self._front = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def rpc_url(self) -> str:
        """Address of the JSON-RPC front."""
        if self._server is None:
            raise ConfigurationError("the chain is not running; start it first")
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def ws_url(self) -> str:
        """Address of the front for websockets."""
        return self.rpc_url.replace("http", "ws", 1)

    @property
    def front(self) -> Front:
        """The front, to mount its :meth:`~openledger.chain.front.Front.app` elsewhere."""
        if self._front is None:
            raise ConfigurationError("the chain is not running; start it first")
        return self._front

    @property
    def height(self) -> int:
        """Number of the last block."""
        return self._head.number

    @property
    def time(self) -> int:
        """The chain's present time in Unix seconds, which is the computer's time plus what was warped."""
        return max(self._head.timestamp, int(time.time()) + self._clock_offset)

    def submit(self, raw: str) -> Future[str]:
        """Promises the hash of a raw transaction (0x hex) once its block is on disk.

        The future raises RpcError if the node refused it or too many wait, ChainError if it could not be included.
        """
        if self._orders.qsize() >= _MOST_WAITING:
            full: Future[str] = Future()
            message = f"txpool is full: {_MOST_WAITING} transactions wait; try again later"
            full.set_exception(RpcError({"code": -32000, "message": message}))
            return full
        return self._order(_Order(raw, 0, Future()))

    def warp(self, seconds: int) -> None:
        """Moves the chain's clock forward and makes a block at the new time. Not reachable through the front.

        Raises:
            InputError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise InputError(f"time can only move forward, not by {seconds} s")
        self._order(_Order(None, seconds, Future())).result()

    def balances(self) -> dict[str, int]:
        """Every account with OPEN and its wei, read from the node's whole state. For audits of the supply.

        Raises:
            ChainError: the node does not answer.
        """
        node = self._node.another()
        try:
            accounts = _read_state(node.call("anvil_dumpState"))["accounts"]
        finally:
            node.close()
        return {address: wei for address, entry in accounts.items() if (wei := int(entry["balance"], 16))}

    @property
    def _node(self) -> Anvil:
        if self._anvil is None:
            raise ConfigurationError("the chain is not running; start it first")
        return self._anvil

    @property
    def _book(self) -> Journal:
        if self._journal is None:
            raise ConfigurationError("the chain is not running; start it first")
        return self._journal

    def _lock(self) -> None:
        handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise ConfigurationError(f"another process runs the chain in {self._folder}; stop it first") from error
        self._lock_handle = handle

    # Starting: genesis, snapshot, replay.

    def _restore(self) -> None:
        genesis = self._genesis()
        self._boot(genesis)
        journal = self._journal = Journal(
            self._folder / "journal.jsonl", chain_id=self.chain_id, genesis=self._read_head().hash
        )
        while not self._replay_from_some_state(genesis, journal):
            # What follows a damaged block cannot be computed without it, nor without a later snapshot.
            gap = journal.missing()[-1]
            lost = journal.height - gap + 1
            aside = journal.set_aside(gap)
            _LOG.error(
                "block %d of the journal is damaged: the chain goes on from block %d, and %d blocks are lost, those after the "
                "damage included; the damaged journal is kept as %s, and a backup of it would bring them back",
                gap, gap - 1, lost, aside,
            )  # fmt: skip
        if missing := journal.missing():
            _LOG.warning(
                "blocks %s of the journal are damaged; nothing is lost as long as a later snapshot is there: copy the folder "
                "now", ", ".join(map(str, missing)),
            )  # fmt: skip
        journal.forget()
        self._last_snapshot = max((number for number, _ in self._snapshots()), default=0)

    def _replay_from_some_state(self, genesis: dict[str, Any], journal: Journal) -> bool:
        """Replays the journal from the newest state that leads to its end; False if a damaged block is in the way of all."""
        fresh = True
        for height, snapshot in [*self._snapshots(), (0, None)]:
            # A block can ask for the hashes of 256 blocks before it, which a snapshot does not hold.
            if snapshot is not None and height > journal.height - _HISTORY_BLOCKS:
                continue
            if not all(number in journal.blocks for number in range(max(height, 1), journal.height + 1)):
                continue
            if not fresh:
                self._boot(genesis)
            fresh = False
            try:
                self._replay(journal, height, snapshot)
            except (StorageError, RpcError) as error:
                if snapshot is None:
                    raise StorageError(str(error)) from error
                _LOG.warning("%s cannot be used (%s); trying an older state", snapshot, error)
                continue
            return True
        if not journal.missing():
            raise StorageError(f"no state leads to block {journal.height} of the journal; restore a backup")
        return False

    def _genesis(self) -> dict[str, Any]:
        path = self._folder / "genesis.json"
        if path.exists():
            try:
                content: dict[str, Any] = json.loads(path.read_bytes())
                recorded = content["config"]["chainId"]
            except (ValueError, KeyError, TypeError) as error:
                raise StorageError(f"{path} is damaged ({error!r}); restore it from a backup") from error
            if recorded != self.chain_id:
                raise ConfigurationError(f"the chain in {self._folder} has the id {recorded}, not {self.chain_id}")
            return content
        if (self._folder / "journal.jsonl").exists():
            raise StorageError(f"{path} is missing but the journal is there; restore it from a backup")
        content = _genesis(self.chain_id, self.keys.wallet("genesis").address, int(time.time()))
        write_atomic(path, json.dumps(content, indent=1).encode() + b"\n")
        return content

    def _boot(self, genesis: dict[str, Any]) -> None:
        if self._anvil is not None:
            self._anvil.stop()
        self._anvil = Anvil(
            self._folder / "genesis.json",
            self._folder / "anvil.log",
            chain_id=self.chain_id,
            timestamp=int(genesis["timestamp"], 16),
            gas_limit=GAS_LIMIT,
            history=_HISTORY_BLOCKS,
        )
        self._head = self._read_head()

    def _replay(self, journal: Journal, height: int, snapshot: Path | None) -> None:
        if snapshot is not None:
            self._node.call("anvil_loadState", "0x" + snapshot.read_bytes().hex())
            self._head = self._read_head()
            if (self._head.number, self._head.hash) != (height, journal.blocks[height].hash):
                raise StorageError(f"its block {self._head.number} is not block {height} of the journal")
        for number in range(height + 1, journal.height + 1):
            record = journal.blocks[number]
            try:
                self._make_block(record.timestamp, record.base_fee, list(record.transactions))
            except RpcError as error:
                raise StorageError(f"block {record.number} of the journal cannot be replayed: {error}") from error
            if self._head.hash != record.hash:
                raise StorageError(
                    f"replaying block {record.number} gives {self._head.hash}, the journal says {record.hash}; "
                    "the journal or anvil's version changed: restore a backup or install the former anvil"
                )
        # The clock goes on from the recorded time if that is ahead of the computer's.
        self._clock_offset = max(0, self._head.timestamp - int(time.time()))

    def _snapshots(self) -> list[tuple[int, Path]]:
        """Height and file of each snapshot, newest first."""
        folder = self._folder / "snapshots"
        return sorted(((int(path.stem), path) for path in folder.glob("*.state")), reverse=True)

    def _snapshot(self) -> None:
        folder = self._folder / "snapshots"
        folder.mkdir(exist_ok=True)
        state = bytes.fromhex(self._node.call("anvil_dumpState")[2:])
        write_atomic(folder / f"{self._head.number}.state", state)
        self._last_snapshot = self._head.number
        for _, path in self._snapshots()[_SNAPSHOTS_KEPT:]:
            path.unlink()
        sync_folder(folder)

    def _snapshot_if_possible(self) -> None:
        """A snapshot only shortens the next start: where the disk refuses it, the chain goes on."""
        try:
            self._snapshot()
        except StorageError as error:
            self._last_snapshot = self._head.number
            _LOG.warning("no snapshot after block %d: %s", self._head.number, error)

    # Running: one thread makes all blocks.

    def _order(self, order: _Order) -> Future[Any]:
        if self._failure is not None:
            order.done.set_exception(ChainError(f"the chain has stopped: {self._failure}"))
        elif self._sequencer is None:
            raise ConfigurationError("the chain is not running; start it first")
        else:
            self._orders.put(order)
        return order.done

    def _refresh(self) -> Future[None] | None:
        """Orders an empty block if the last one is too old; at most one such order is open."""
        if self.time - self._head.timestamp < self._idle_seconds:
            return None
        with self._refresh_lock:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = self._order(_Order(None, 0, Future()))
            return self._refreshing

    def _following(self) -> int:
        """A time that no block has before an estimate for it is answered, if that takes less than a second."""
        return self.time + 2

    def _refuse_waiting(self) -> None:
        while not self._orders.empty():
            if (order := self._orders.get()) is not None:
                order.done.set_exception(ChainError("the chain was stopped"))

    def _sequence(self) -> None:
        running = True
        while running:
            batch: list[_Order] = []
            order = self._orders.get()
            while True:
                if order is None:
                    running = False
                    break
                batch.append(order)
                if len(batch) == _MOST_PER_BLOCK:
                    break
                try:
                    order = self._orders.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._carry_out(batch)

    def _carry_out(self, batch: list[_Order]) -> None:
        try:
            if self._failure is not None:
                raise ChainError(f"the chain has stopped: {self._failure}")
            self._clock_offset += sum(order.skip for order in batch)
            self._include([order for order in batch if order.raw is not None])
            idle = [order for order in batch if order.raw is None]
            if any(order.skip for order in idle) or (idle and self._head.timestamp < self.time):
                self._record(self.time, self._head.next_base_fee(), {})
            for order in idle:
                order.done.set_result(None)
            if self._head.number - self._last_snapshot >= _SNAPSHOT_BLOCKS:
                self._snapshot_if_possible()
        except Exception as error:
            # The node and the journal may now differ: nothing more is taken until a restart replays the journal.
            self._failure = self._failure or error
            for order in batch:
                if not order.done.done():
                    order.done.set_exception(error)

    def _include(self, orders: list[_Order]) -> None:
        waiting: dict[str, _Order] = {}
        for order in orders:
            try:
                name = str(self._node.call("eth_sendRawTransaction", order.raw))
                waiting[name] = order
                if self._front is not None:
                    self._front.feed.pending(name)
            except RpcError as error:
                order.done.set_exception(error)
        while waiting and int(self._node.call("txpool_status")["pending"], 16) > 0:
            raws = {name: str(order.raw) for name, order in waiting.items()}
            included = self._record(self.time, self._head.next_base_fee(), raws)
            for name in included:
                waiting.pop(name).done.set_result(name)
            if not included:
                break
        if waiting:
            self._node.call("anvil_dropAllTransactions")
        for order in waiting.values():
            message = "not included: its nonce is ahead of the account's, it was replaced, or it cannot pay"
            order.done.set_exception(RpcError({"code": -32003, "message": message}))

    def _record(self, timestamp: int, base_fee: int, raws: dict[str, str]) -> list[str]:
        """Makes a block out of what the node's pool holds, writes it down and tells of it; returns the hashes included."""
        block = self._make_block(timestamp, base_fee, [])
        included = [str(name) for name in block["transactions"]]
        self._book.append(
            BlockRecord(
                self._head.number,
                self._head.timestamp,
                self._head.base_fee,
                self._head.hash,
                tuple(raws[name] for name in included),
            )
        )
        if self._front is not None and not self._front.feed.idle:
            self._front.feed.block(block, self._node.call("eth_getLogs", {"blockHash": self._head.hash}))
        return included

    def _make_block(self, timestamp: int, base_fee: int, raws: list[str]) -> dict[str, Any]:
        node = self._node
        node.call("evm_setNextBlockTimestamp", hex(timestamp))
        node.call("anvil_setNextBlockBaseFeePerGas", hex(base_fee))
        for raw in raws:
            node.call("eth_sendRawTransaction", raw)
        node.call("evm_mine")
        block: dict[str, Any] = node.call("eth_getBlockByNumber", "latest", False)
        self._head = _head(block)
        # Set now and not only above, so that estimates and fee suggestions are for the block that will come.
        node.call("anvil_setNextBlockBaseFeePerGas", hex(self._head.next_base_fee()))
        return block

    def _read_head(self) -> _Head:
        return _head(self._node.call("eth_getBlockByNumber", "latest", False))


def _head(block: dict[str, Any]) -> _Head:
    return _Head(
        int(block["number"], 16),
        int(block["timestamp"], 16),
        int(block["baseFeePerGas"], 16),
        int(block["gasUsed"], 16),
        str(block["hash"]),
    )


def _read_state(dumped: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress(bytes.fromhex(dumped[2:])))
    return content


def _genesis(chain_id: int, holder: str, timestamp: int) -> dict[str, Any]:
    """The genesis file: every fork from the start, and the whole supply with ``holder``."""
    forks = (
        "homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul", "berlin",
        "london",
    )  # fmt: skip
    return {
        "config": {
            "chainId": chain_id,
            **{f"{fork}Block": 0 for fork in forks},
            "terminalTotalDifficulty": 0,
            "shanghaiTime": 0,
            "cancunTime": 0,
            "pragueTime": 0,
        },
        "nonce": "0x0",
        "timestamp": hex(timestamp),
        "extraData": "0x",
        "gasLimit": hex(GAS_LIMIT),
        "difficulty": "0x0",
        "mixHash": "0x" + "00" * 32,
        "coinbase": SEQUENCER_FEE_VAULT,
        "baseFeePerGas": hex(MINIMUM_BASE_FEE),
        "number": "0x0",
        "gasUsed": "0x0",
        "parentHash": "0x" + "00" * 32,
        "alloc": {holder: {"balance": hex(TOTAL_SUPPLY)}},
    }
