"""Continuous batching: requests join and leave the running batch at every token.

One worker thread owns the key-value cache. Each turn it lets in what fits the memory budget (first come, first served), reads
some chunks of waiting prompts in turn, puts finished prompts into free rows, and decodes one token for every row. If a turn
fails, the requests in it get an error, the state is made anew, and the next requests are answered.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from openledger.models import pinned
from openledger.openlora import metrics
from openledger.openlora.adapters import StoredAdapter
from openledger.openlora.decoder import TILE, Decoder, Deltas, NoDeltas
from openledger.openlora.prefix import PrefixCache
from openledger.openlora.sampling import Chooser, Chosen
from openledger.openlora.tables import BatchAdapters, OneAdapter
from openledger.primitives import InputError, ModelError, OpenLedgerError, OverloadedError

_LOG = logging.getLogger(__name__)
_NO_ADAPTER = bytes(32)
_LENGTH_STEP = 128
_TURN_CHUNKS = 4
_READING = 4
_LOOK_UP_SECONDS = 0.25


class CancelledError(OpenLedgerError):
    """Whoever asked went away before the end."""

    def __init__(self) -> None:
        super().__init__("the request was cancelled")


@dataclass(frozen=True)
class EngineLimits:
    """What an engine may use.

    Attributes:
        batch: most requests decoded together.
        waiting: most requests that wait; more are refused with :class:`OverloadedError`.
        kv_bytes: bytes of keys and values of running requests.
        prefix_bytes: bytes of keys and values kept for prompts that begin alike.
        chunk: tokens of a prompt that are read at once; part of what makes an answer reproducible bit by bit.
        entry_bytes: an adapter up to this size is copied into the batch's table; a larger one is shared.
    """

    batch: int = 32
    waiting: int = 512
    kv_bytes: int = 1 << 30
    prefix_bytes: int = 64 << 20
    chunk: int = 64
    entry_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for name in ("batch", "chunk", "kv_bytes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.waiting < 0 or self.prefix_bytes < 0:
            raise InputError("waiting and prefix_bytes must be 0 or more")


@dataclass(eq=False)
class Ticket:
    """One request in the engine. Iterating gives its tokens as they are chosen; ``reason`` is known after the last."""

    prompt: tuple[int, ...]
    most: int
    ends: frozenset[int]
    chooser: Chooser
    greedy: bool
    adapter: StoredAdapter | None
    reason: str = "length"
    cached: int = 0
    gone: threading.Event = field(default_factory=threading.Event)
    events: queue.SimpleQueue[Chosen | OpenLedgerError | None] = field(default_factory=queue.SimpleQueue)
    submitted: float = field(default_factory=time.perf_counter)
    told: float = 0.0
    produced: int = 0
    token: int = 0
    length: int = 0
    cache: torch.Tensor | None = None
    keys: list[bytes] = field(default_factory=list)
    flat: torch.Tensor | None = None
    deltas: Deltas = field(default_factory=NoDeltas)

    def __iter__(self) -> Iterator[Chosen]:
        while True:
            try:
                event = self.events.get(timeout=_LOOK_UP_SECONDS)
            except queue.Empty:
                if self.cancelled:
                    raise CancelledError from None
                continue
            if event is None:
                return
            if isinstance(event, OpenLedgerError):
                raise event
            yield event

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the rest."""
        return self.gone.is_set()

    def cancel(self) -> None:
        """Tells the engine that nobody waits for the rest."""
        self.gone.set()

    @property
    def need(self) -> int:
        """Positions that it can come to use."""
        return len(self.prompt) + self.most

    def take(self, chosen: Chosen) -> bool:
        """Hands a token out; whether it was the last."""
        self.events.put(chosen)
        self.token = chosen.token
        self.produced += 1
        now = time.perf_counter()
        if self.produced == 1:
            metrics.FIRST_TOKEN.observe(now - self.submitted)
        else:
            metrics.BETWEEN_TOKENS.observe(now - self.told)
        self.told = now
        if chosen.token in self.ends or self.chooser.complete:
            self.reason = "stop"
            return True
        return self.produced >= self.most

    def end(self, outcome: str, error: OpenLedgerError | None = None) -> None:
        """Tells that no token follows."""
        metrics.REQUESTS.labels(outcome).inc()
        if error is not None:
            self.events.put(error)
        self.events.put(None)
        self.cache = self.flat = None
        self.deltas = NoDeltas()


class Scheduler:
    """Runs requests on a decoder.

    Args:
        decoder: the base model.
        limits: memory and queue.
    """

    def __init__(self, decoder: Decoder, limits: EngineLimits) -> None:
        self._decoder = decoder
        self._limits = limits
        self._waiting: deque[Ticket] = deque()
        self._reading: deque[Ticket] = deque()
        self._ready: deque[Ticket] = deque()
        self._rows: list[Ticket | None] = []
        self._least = max(1, decoder.rows)
        self._most_rows = max(limits.batch, self._least)
        self._cache: torch.Tensor | None = None
        self._prefixes = PrefixCache(limits.chunk, limits.prefix_bytes)
        self._adapters = BatchAdapters(self._most_rows, limits.entry_bytes)
        self._token_bytes = 4 * decoder.dimensions.kv_floats
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def longest(self) -> int:
        """Most positions of one request: the model's context, or what the memory budget has room for."""
        room = self._limits.kv_bytes // (self._token_bytes * self._least)
        return min(self._decoder.context, room // TILE * TILE)

    @property
    def load(self) -> tuple[int, int]:
        """(requests running, requests waiting)."""
        return len(self._running()), len(self._waiting)

    def submit(self, *tickets: Ticket) -> None:
        """Queues requests, all or none.

        Raises:
            InputError: one can never fit.
            OverloadedError: the queue is full.
            ModelError: the engine is closed.
        """
        for ticket in tickets:
            if ticket.need > self.longest:
                raise InputError(
                    f"prompt and answer can take {ticket.need} tokens and there is room for {self.longest}; ask for fewer"
                )
        with self._condition:
            if self._closed:
                raise ModelError("the engine is closed")
            if len(self._waiting) + len(tickets) > self._limits.waiting + self._limits.batch - len(self._running()):
                metrics.REQUESTS.labels("refused").inc(len(tickets))
                raise OverloadedError(
                    f"{len(self._waiting)} requests are waiting and {self._limits.waiting} may; send it again later",
                    retry_after=1 + len(self._waiting) // max(1, self._limits.batch),
                )
            self._waiting.extend(tickets)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="openlora", daemon=True)
                self._thread.start()
            self._condition.notify()

    def close(self) -> None:
        """Ends the worker; requests that are running get an error."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _running(self) -> list[Ticket]:
        return [*self._reading, *self._ready, *(row for row in self._rows if row is not None)]

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._closed and not self._waiting and not self._running():
                    self._condition.wait()
                if self._closed:
                    break
            with pinned(), torch.inference_mode():
                self._turns()
        for ticket in (*self._waiting, *self._running()):
            ticket.end("closed", ModelError("the engine was closed"))

    def _turns(self) -> None:
        """Works until nothing is left."""
        while not self._closed and (self._waiting or self._running()):
            try:
                self._turn()
            except Exception as error:
                _LOG.exception("the engine failed and starts anew", extra={"requests": len(self._running())})
                metrics.FAILURES.inc()
                self._reset(error)
            metrics.RUNNING.set(len(self._running()))
            metrics.WAITING.set(len(self._waiting))
        self._settle()
        metrics.CACHE_BYTES.labels("prefixes").set(self._prefixes.size)

    def _reset(self, error: Exception) -> None:
        failed = self._running()
        self._reading.clear()
        self._ready.clear()
        self._rows.clear()
        self._cache = None
        self._prefixes.clear()
        self._adapters = BatchAdapters(self._most_rows, self._limits.entry_bytes)
        for ticket in failed:
            ticket.end("failed", ModelError(f"the engine failed on this batch ({error}); send the request again"))

    def _turn(self) -> None:
        self._let_in()
        self._read()
        self._settle()
        if self._rows:
            self._decode()

    def _let_in(self) -> None:
        while self._waiting and len(self._reading) < _READING:
            ticket = self._waiting[0]
            if not ticket.cancelled:
                running = self._running()
                length = _tiled(max(other.need for other in (ticket, *running)))
                rows = max(len(running) + 1, self._least)
                if len(running) >= self._limits.batch or rows * length * self._token_bytes > self._limits.kv_bytes:
                    return
            with self._condition:
                self._waiting.popleft()
            if ticket.cancelled:
                ticket.end("cancelled")
                continue
            try:
                self._begin(ticket)
            except OSError as error:
                ticket.end("failed", ModelError(f"the adapter's file cannot be read: {error}"))

    def _begin(self, ticket: Ticket) -> None:
        digest = _NO_ADAPTER
        if ticket.adapter is not None:
            digest = ticket.adapter.digest
            ticket.flat = ticket.adapter.open()
            ticket.deltas = OneAdapter(ticket.flat, ticket.adapter.layout)
        ticket.cache = self._decoder.new_cache(None, len(ticket.prompt))
        ticket.keys = self._prefixes.keys(digest, ticket.prompt)
        ticket.length = ticket.cached = self._prefixes.fill(ticket.keys, ticket.cache) * self._limits.chunk
        metrics.CACHED_TOKENS.inc(ticket.cached)
        metrics.PROMPT_TOKENS.inc(len(ticket.prompt))
        self._reading.append(ticket)

    def _read(self) -> None:
        """Reads chunks of the prompts in turn, so that a long one does not hold up a short one."""
        for _ in range(_TURN_CHUNKS if self._rows else len(self._reading)):
            if not self._reading:
                return
            ticket = self._reading.popleft()
            if ticket.cancelled:
                ticket.end("cancelled")
                continue
            assert ticket.cache is not None  # noqa: S101
            start, chunk = ticket.length, self._limits.chunk
            tokens = torch.tensor(ticket.prompt[start : start + chunk])
            last = start + len(tokens) == len(ticket.prompt)
            logits = self._decoder.prefill(tokens, start, ticket.cache, ticket.deltas, last=last)
            ticket.length += len(tokens)
            number = start // chunk
            if number < len(ticket.keys):
                self._prefixes.keep(ticket.keys[number], ticket.cache, number)
            if logits is None:
                self._reading.append(ticket)
            elif not self._choose(ticket, logits):
                self._ready.append(ticket)

    def _settle(self) -> None:
        """Takes cancelled requests out, puts ready ones into free rows, and closes what gaps are left."""
        for row, ticket in enumerate(self._rows):
            if ticket is not None and ticket.cancelled:
                ticket.end("cancelled")
                self._rows[row] = None
        while self._ready:
            ticket = self._ready.popleft()
            if ticket.cancelled:
                ticket.end("cancelled")
                continue
            if None in self._rows:
                row = self._rows.index(None)
            else:
                row = len(self._rows)
                self._rows.append(None)
            self._activate(ticket, row)
        while None in self._rows:
            gap, last = self._rows.index(None), len(self._rows) - 1
            if gap == last or self._rows[last] is None:
                self._adapters.drop(last)
                self._rows.pop()
                continue
            self._adapters.drop(gap)
            self._adapters.move(last, gap)
            moved = self._rows.pop()
            assert moved is not None  # noqa: S101
            assert self._cache is not None  # noqa: S101
            self._cache[:, gap, :, :, : moved.length] = self._cache[:, last, :, :, : moved.length]
            self._rows[gap] = moved

    def _activate(self, ticket: Ticket, row: int) -> None:
        assert ticket.cache is not None  # noqa: S101
        cache = self._room(ticket)
        cache[:, row, :, :, : ticket.length] = ticket.cache
        if ticket.adapter is None or ticket.flat is None:
            self._adapters.drop(row)
        elif not self._adapters.replace(row, ticket.flat, ticket.adapter.layout):
            self._adapters.drop(row)
            self._adapters.put(row, ticket.adapter.digest, ticket.flat, ticket.adapter.layout)
        ticket.cache = ticket.flat = None
        ticket.deltas = NoDeltas()
        self._rows[row] = ticket

    def _room(self, ticket: Ticket) -> torch.Tensor:
        """The cache, made anew where the rows in use with ``ticket`` among them do not fit."""
        rows = max(len(self._rows), self._least)
        length = _tiled(max(other.need for other in (ticket, *filter(None, self._rows))))
        old = self._cache
        if old is not None and old.shape[1] >= rows and old.shape[4] >= length:
            return old
        most = self._limits.kv_bytes // self._token_bytes
        wide = -(-max(length, 0 if old is None else old.shape[4]) // _LENGTH_STEP) * _LENGTH_STEP
        if wide * self._most_rows <= most:
            length = wide
        size = self._decoder.dimensions
        shape = (size.layers, min(self._most_rows, most // length), 2, size.kv_heads, length, size.head_size)
        # Pages that were never used take no memory.
        new = torch.from_numpy(np.zeros(shape, dtype=np.float32))
        for row, other in enumerate(self._rows):
            if other is not None and old is not None:
                new[:, row, :, :, : other.length] = old[:, row, :, :, : other.length]
        self._cache = new
        metrics.CACHE_BYTES.labels("requests").set(new.numel() * new.element_size())
        return new

    def _decode(self) -> None:
        assert self._cache is not None  # noqa: S101
        tickets = [ticket for ticket in self._rows if ticket is not None]
        rows = max(len(tickets), self._least)
        padding = [0] * (rows - len(tickets))
        tokens = torch.tensor([ticket.token for ticket in tickets] + padding)
        positions = torch.tensor([ticket.length for ticket in tickets] + padding)
        self._adapters.prepare(rows)
        logits = self._decoder.decode(tokens, positions, self._cache, self._adapters)
        metrics.OUTPUT_TOKENS.inc(len(tickets))
        best = logits.argmax(dim=-1).tolist()
        for row, ticket in enumerate(tickets):
            ticket.length += 1
            if self._choose(ticket, logits[row], best[row]):
                self._rows[row] = None

    def _choose(self, ticket: Ticket, logits: torch.Tensor, best: int | None = None) -> bool:
        """Chooses a request's next token; whether it ended, well or not."""
        try:
            greedy = int(logits.argmax()) if best is None else best
            chosen = Chosen(greedy) if ticket.greedy else ticket.chooser(logits)
        except OpenLedgerError as error:
            ticket.end("failed", error)
            return True
        if ticket.take(chosen):
            ticket.end("finished")
            return True
        return False


def _tiled(length: int) -> int:
    return -(-length // TILE) * TILE
