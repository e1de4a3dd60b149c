"""What a websocket client hears of without asking: new blocks, logs and pending transactions (``eth_subscribe``).

Each client has a bounded queue. One that reads too slowly is cut off rather than left to believe that it missed nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from openledger.primitives import InputError, from_hex, to_hex

NEW_HEADS, LOGS, PENDING = "newHeads", "logs", "newPendingTransactions"
KINDS = (NEW_HEADS, LOGS, PENDING)

MAX_SUBSCRIPTIONS = 64
"""Subscriptions of one connection."""
MAX_CONNECTIONS = 64
"""Connections of one client."""
MAX_WAITING = 1_000
"""Messages that wait for one connection."""

_NOT_IN_A_HEADER = frozenset({"transactions", "uncles", "withdrawals", "size", "totalDifficulty"})


@dataclass(frozen=True)
class LogFilter:
    """Which logs are wanted: from any of ``addresses`` (all if empty), with a topic of each set (any where it is empty)."""

    addresses: frozenset[str] = frozenset()
    topics: tuple[frozenset[str], ...] = ()

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The filter of a request's object.

        Raises:
            InputError: it is malformed.
        """
        if not isinstance(value, dict):
            raise InputError("a log filter is an object with address and topics")
        topics = value.get("topics") or []
        if not isinstance(topics, list) or len(topics) > 4:
            raise InputError("topics is a list of at most four")
        return cls(_words(value.get("address"), 20), tuple(_words(topic, 32) for topic in topics))

    def matches(self, log: dict[str, Any]) -> bool:
        """Whether a log, as the node gives it, is wanted."""
        topics = log["topics"]
        return (
            (not self.addresses or log["address"].lower() in self.addresses)
            and len(topics) >= len(self.topics)
            and all(not wanted or topic.lower() in wanted for wanted, topic in zip(self.topics, topics, strict=False))
        )


class Subscriber:
    """One connection: what it subscribed to and what waits to be sent to it. Made in the event loop that serves it."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.overrun = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Any] = asyncio.Queue(MAX_WAITING)
        self._subscriptions: dict[str, tuple[str, LogFilter]] = {}

    def open(self, parameters: list[Any]) -> str:
        """Begins the subscription that the parameters of ``eth_subscribe`` name; returns its id.

        Raises:
            InputError: there is no such kind, the filter is malformed, or there are too many.
        """
        if not parameters or parameters[0] not in KINDS:
            raise InputError(f"subscribe to one of {', '.join(KINDS)}, not to {parameters[:1]}")
        kind, *rest = parameters
        if len(rest) > (kind == LOGS):
            raise InputError(f"{kind} takes no further parameter here; got {rest}")
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise InputError(f"this connection has {MAX_SUBSCRIPTIONS} subscriptions; end one first")
        name = "0x" + secrets.token_hex(16)
        self._subscriptions[name] = (kind, LogFilter.parse(rest[0]) if rest else LogFilter())
        return name

    def close(self, name: Any) -> bool:
        """Ends a subscription; False if there is none of that id."""
        return isinstance(name, str) and self._subscriptions.pop(name, None) is not None

    def publish(self, kind: str, items: list[Any]) -> None:
        """Queues a notification of each item for each subscription of that kind. May be called from any thread."""
        with contextlib.suppress(RuntimeError):  # its event loop has ended
            self._loop.call_soon_threadsafe(self._notify, kind, items)

    async def answer(self, message: Any) -> None:
        """Queues an answer, waiting while the queue is full."""
        await self._waiting.put(message)

    async def next(self) -> Any:
        """The next message to send."""
        return await self._waiting.get()

    def _notify(self, kind: str, items: list[Any]) -> None:
        for name, (wanted, logs) in self._subscriptions.items():
            if wanted != kind:
                continue
            for item in items:
                if kind == LOGS and not logs.matches(item):
                    continue
                notice = {"subscription": name, "result": item}
                try:
                    self._waiting.put_nowait({"jsonrpc": "2.0", "method": "eth_subscription", "params": notice})
                except asyncio.QueueFull:
                    self.overrun.set()
                    return


class Feed:
    """All connections, whatever event loop serves them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: set[Subscriber] = set()
        self._clients: Counter[str] = Counter()

    def join(self, client: str) -> Subscriber | None:
        """A new connection of a client, or None if it has too many."""
        with self._lock:
            if self._clients[client] >= MAX_CONNECTIONS:
                return None
            subscriber = Subscriber(client)
            self._subscribers.add(subscriber)
            self._clients[client] += 1
            return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Forgets a connection."""
        with self._lock:
            self._subscribers.discard(subscriber)
            self._clients[subscriber.client] -= 1
            self._clients += Counter()

    @property
    def idle(self) -> bool:
        """Whether nobody listens."""
        return not self._subscribers

    def block(self, block: dict[str, Any], logs: list[Any]) -> None:
        """Tells of a new block, as the node gives it, and of its logs."""
        header = {name: value for name, value in block.items() if name not in _NOT_IN_A_HEADER}
        self._publish(NEW_HEADS, [header])
        self._publish(LOGS, logs)

    def pending(self, name: str) -> None:
        """Tells of a transaction that waits for a block."""
        self._publish(PENDING, [name])

    def _publish(self, kind: str, items: list[Any]) -> None:
        with self._lock:
            for subscriber in self._subscribers:
                subscriber.publish(kind, items)


def _words(value: Any, size: int) -> frozenset[str]:
    """One or several byte strings of a filter; nothing stands for any."""
    words: Iterable[Any] = [] if value is None else value if isinstance(value, list) else [value]
    found = set()
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"a filter holds hex strings, not {word!r}")
        found.add(to_hex(from_hex(word, size)))
    return frozenset(found)
