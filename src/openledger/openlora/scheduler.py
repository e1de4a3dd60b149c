"""Continuous batching: requests join and leave the running batch at every token.

One worker thread owns keys, values and resident adapters. Each turn it lets in what fits the memory (first come, first served),
and runs one token of every request that is writing together with some chunks of the prompts that are being read, in turn. If a
turn fails, the requests in it get an error, the state is made anew, and the next requests are answered.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import torch

from openledger.models import pinned
from openledger.openlora import metrics
from openledger.openlora.adapters import StoredAdapter
from openledger.openlora.answers import CancelledError
from openledger.openlora.caches import Caches
from openledger.openlora.choosing import Chooser, Chosen
from openledger.openlora.decoder import Chunk, Decoder
from openledger.openlora.device import DeviceDecoder
from openledger.openlora.prefix import PrefixCache
from openledger.openlora.residents import Resident, ResidentAdapters
from openledger.openlora.weights import Kind
from openledger.primitives import InputError, ModelError, OpenLedgerError, OverloadedError

_LOG = logging.getLogger(__name__)
_NO_ADAPTER = bytes(32)
_READ_BESIDE = 128
"""Most tokens of prompts that are read in a turn beside requests that are writing, which have to wait for them."""
_LOOK_UP_SECONDS = 0.25


@dataclass(frozen=True)
class EngineLimits:
    """What an engine may use.

    Attributes:
        batch: most requests decoded together.
        waiting: most requests that wait; more are refused with :class:`OverloadedError`.
        kv_bytes: bytes of keys and values of running requests.
        prefix_bytes: bytes of keys and values kept for prompts that begin alike.
        chunk: tokens of a prompt that are read at once; part of what makes an answer reproducible bit by bit.
        weights: how the base's weights are held: float32 (with ``torch``, as they were loaded), or int8 in a quarter of the
            memory, which rounds them.
        decoder: ``compiled`` for CPUs, the same bits in any batch; ``torch`` for any device, with ``batch`` slots of ``slot``
            positions for keys and values; ``auto`` takes torch where the base is not on a CPU.
        slot: see there.
        threads: of the compiled decoder, as far as there are processors; more of them answer sooner, with the same bits.
        adapter_bytes: bytes of adapters that are kept in memory.
        entry_bytes: an adapter up to this size is read into memory; a larger one is used where its file is mapped.
    """

    batch: int = 32
    waiting: int = 512
    kv_bytes: int = 1 << 30
    prefix_bytes: int = 64 << 20
    chunk: int = 64
    weights: Kind = "float32"
    decoder: Literal["auto", "compiled", "torch"] = "auto"
    slot: int = 4096
    threads: int = 1
    adapter_bytes: int = 512 << 20
    entry_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for name in ("batch", "chunk", "kv_bytes", "slot", "threads"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1")
        if self.weights not in ("float32", "int8"):
            raise InputError(f"weights is {self.weights!r}; it must be float32 or int8")
        if self.decoder not in ("auto", "compiled", "torch"):
            raise InputError(f"decoder is {self.decoder!r}; it must be auto, compiled or torch")
        if self.threads > 1 and self.decoder == "torch":
            raise InputError(
                f"threads is {self.threads}; they are the compiled decoder's, and the decoder is torch: leave them out"
            )
        if self.entry_bytes > self.adapter_bytes:
            raise InputError(
                f"entry_bytes is {self.entry_bytes}, above adapter_bytes, {self.adapter_bytes}: one adapter must fit"
            )
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
    left: bool = False
    events: queue.SimpleQueue[Chosen | OpenLedgerError | None] = field(default_factory=queue.SimpleQueue)
    pace: metrics.Pace = field(default_factory=metrics.Pace)
    produced: int = 0
    token: int = 0
    length: int = 0
    cache: torch.Tensor | None = None
    keys: list[bytes] = field(default_factory=list)
    resident: Resident | None = None

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
        return self.left or self.gone.is_set()

    def cancel(self) -> None:
        """Tells the engine that nobody waits for the rest; whoever shares ``gone`` is not concerned."""
        self.left = True

    @property
    def need(self) -> int:
        """Positions that it can come to use."""
        return len(self.prompt) + self.most

    def take(self, chosen: Chosen) -> bool:
        """Hands a token out; whether it was the last."""
        self.events.put(chosen)
        self.token = chosen.token
        self.produced += 1
        self.pace.observe()
        if chosen.token in self.ends or self.chooser.complete:
            self.reason = "stop"
            return True
        return self.produced >= self.most

    def end(self, outcome: str, error: OpenLedgerError | None = None) -> None:
        """Tells that no token follows."""
        metrics.REQUESTS.labels(outcome).inc()
        if outcome == "cancelled":
            error = CancelledError()
        if error is not None:
            self.events.put(error)
        self.events.put(None)


class Scheduler:
    """Runs requests on a decoder.

    Args:
        decoder: the base model.
        limits: memory and queue.
    """

    def __init__(self, decoder: Decoder | DeviceDecoder, limits: EngineLimits) -> None:
        self._decoder = decoder
        self._limits = limits
        self._waiting: deque[Ticket] = deque()
        self._reading: deque[Ticket] = deque()
        self._writing: list[Ticket] = []
        self._prefixes = PrefixCache(limits.chunk, limits.prefix_bytes)
        self._token_bytes = decoder.token_bytes
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._acts: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._pinned: dict[bytes, StoredAdapter] = {}
        self._renew()

    @property
    def longest(self) -> int:
        """Most positions of one request: the model's context, or what the memory budget has room for."""
        return min(self._decoder.context, self._limits.kv_bytes // self._token_bytes)

    @property
    def load(self) -> tuple[int, int]:
        """(requests running, requests waiting)."""
        return len(self._reading) + len(self._writing), len(self._waiting)

    @property
    def failed(self) -> bool:
        """Whether the worker has ended without being told to."""
        return not self._closed and self._thread is not None and not self._thread.is_alive()

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
            if len(self._waiting) + len(tickets) > self._limits.waiting + self._limits.batch - self.load[0]:
                metrics.REQUESTS.labels("refused").inc(len(tickets))
                raise OverloadedError(
                    f"{len(self._waiting) + self.load[0]} requests are under way, and {self._limits.batch} may run and "
                    f"{self._limits.waiting} wait; send it again later",
                    retry_after=1 + len(self._waiting) // max(1, self._limits.batch),
                )
            self._waiting.extend(tickets)
            self._have_worker()

    def pin(self, stored: StoredAdapter) -> None:
        """Keeps an adapter in memory until it is unpinned.

        Raises:
            InputError: it would leave no room for others.
            ModelError: its file cannot be read, or the engine is closed.
        """
        self._do(lambda: self._adapters.pin(stored))
        self._pinned[stored.digest] = stored

    def unpin(self, digest: bytes) -> None:
        """Lets a pinned adapter go again."""
        self._pinned.pop(digest, None)
        self._do(lambda: self._adapters.unpin(digest))

    def _do(self, act: Callable[[], None]) -> None:
        """Does something with what is the worker's own, between two of its turns."""
        done: Future[None] = Future()
        with self._condition:
            if self._closed:
                raise ModelError("the engine is closed")
            self._acts.append((act, done))
            self._have_worker()
        done.result()

    def _have_worker(self) -> None:
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
        self._decoder.close()

    def _running(self) -> list[Ticket]:
        return [*self._reading, *self._writing]

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._closed and not self._acts and not self._waiting and not self._running():
                    self._condition.wait()
                if self._closed:
                    break
            with pinned(), torch.inference_mode():
                self._turns()
        for _, done in self._acts:
            done.set_exception(ModelError("the engine was closed"))
        for ticket in (*self._waiting, *self._running()):
            ticket.end("closed", ModelError("the engine was closed"))

    def _turns(self) -> None:
        """Works until nothing is left."""
        while not self._closed and (self._acts or self._waiting or self._running()):
            self._act()
            try:
                self._turn()
            except Exception as error:
                _LOG.exception("the engine failed and starts anew", extra={"requests": len(self._running())})
                metrics.FAILURES.inc()
                self._reset(error)
            running, waiting = self.load
            metrics.RUNNING.set(running)
            metrics.WAITING.set(waiting)
            metrics.CACHE_BYTES.labels("requests").set(self._caches.held)
            metrics.CACHE_BYTES.labels("prefixes").set(self._prefixes.size)

    def _act(self) -> None:
        while self._acts:
            act, done = self._acts.popleft()
            try:
                act()
            except OpenLedgerError as error:
                done.set_exception(error)
            except Exception as error:
                done.set_exception(ModelError(f"the adapter's file cannot be read: {error}"))
            else:
                done.set_result(None)

    def _renew(self) -> None:
        self._reading.clear()
        self._writing.clear()
        self._prefixes.clear()
        self._decoder.forget()
        budget, step = self._limits.kv_bytes, self._decoder.cache_step
        self._caches = Caches(self._decoder.new_cache, self._token_bytes, budget, self.longest, step)
        self._adapters = ResidentAdapters(self._limits.adapter_bytes, self._limits.entry_bytes)
        for stored in self._pinned.values():
            with suppress(OpenLedgerError, OSError):
                self._adapters.pin(stored)

    def _reset(self, error: Exception) -> None:
        failed = self._running()
        self._renew()
        for ticket in failed:
            ticket.end("failed", ModelError(f"the engine failed on this batch ({error}); send the request again"))

    def _turn(self) -> None:
        for ticket in [ticket for ticket in self._running() if ticket.cancelled]:
            self._end(ticket, "cancelled")
        while self._waiting and self._let_in(self._waiting[0]):
            with self._condition:
                self._waiting.popleft()
        most, writing = self._decoder.rows, list(self._writing)
        room = min(_READ_BESIDE, most - len(writing)) if writing else most
        together = room >= self._limits.chunk
        reading = self._next_to_read(room if together else most)
        for tickets in [writing + reading] if together else [writing, reading]:
            if tickets:
                self._run(tickets)

    def _run(self, tickets: list[Ticket]) -> None:
        """Runs the next token, or the next chunk of the prompt, of each."""
        chunks = [self._chunk(ticket) for ticket in tickets]
        logits = self._decoder.run(chunks)
        best = iter(zip(logits, logits.argmax(dim=-1).tolist(), strict=True))
        for ticket, chunk in zip(tickets, chunks, strict=True):
            number = chunk.start // self._limits.chunk
            if chunk.start < len(ticket.prompt) and number < len(ticket.keys):
                self._prefixes.keep(ticket.keys[number], chunk.cache, number)
            ticket.length += len(chunk.tokens)
            if chunk.wanted:
                self._choose(ticket, *next(best))

    def _let_in(self, ticket: Ticket) -> bool:
        """Gives the next request what it needs; False while there is no room."""
        if ticket.cancelled:
            ticket.end("cancelled")
            return True
        if self.load[0] >= self._limits.batch:
            return False
        digest = _NO_ADAPTER
        cache = self._caches.take(ticket.need)
        if cache is None:
            return False
        try:
            if ticket.adapter is not None:
                digest = ticket.adapter.digest
                ticket.resident = self._adapters.take(ticket.adapter)
                if ticket.resident is None:
                    self._caches.give(cache)
                    return False
        except (OSError, ModelError) as error:
            self._caches.give(cache)
            ticket.end("failed", ModelError(f"the adapter's file cannot be read: {error}"))
            return True
        ticket.cache = cache
        ticket.keys = self._prefixes.keys(digest, ticket.prompt)
        ticket.length = ticket.cached = self._prefixes.fill(ticket.keys, cache) * self._limits.chunk
        metrics.CACHED_TOKENS.inc(ticket.cached)
        metrics.PROMPT_TOKENS.inc(len(ticket.prompt))
        self._reading.append(ticket)
        return True

    def _next_to_read(self, room: int) -> list[Ticket]:
        """Requests whose next chunks ``room`` tokens hold; they go to the end, so that a long one holds up no short one."""
        chosen: list[Ticket] = []
        for ticket in self._reading:
            room -= min(self._limits.chunk, len(ticket.prompt) - ticket.length)
            if room < 0:
                break
            chosen.append(ticket)
        self._reading.rotate(-len(chosen))
        return chosen

    def _chunk(self, ticket: Ticket) -> Chunk:
        assert ticket.cache is not None  # noqa: S101
        start = ticket.length
        tokens = ticket.prompt[start : start + self._limits.chunk] or (ticket.token,)
        wanted = start + len(tokens) >= len(ticket.prompt)
        return Chunk(tokens, start, ticket.cache, ticket.resident, wanted)

    def _choose(self, ticket: Ticket, logits: torch.Tensor, best: int) -> None:
        """Chooses a request's next token, and ends it if that was the last."""
        metrics.OUTPUT_TOKENS.inc()
        try:
            ended = ticket.take(Chosen(best) if ticket.greedy else ticket.chooser(logits))
        except OpenLedgerError as error:
            self._end(ticket, "failed", error)
            return
        if ended:
            self._end(ticket, "finished")
        elif ticket in self._reading:
            self._reading.remove(ticket)
            self._writing.append(ticket)

    def _end(self, ticket: Ticket, outcome: str, error: OpenLedgerError | None = None) -> None:
        """Ends a running request and takes back what it had."""
        (self._reading if ticket in self._reading else self._writing).remove(ticket)
        if ticket.cache is not None:
            self._caches.give(ticket.cache)
        if ticket.resident is not None:
            self._adapters.give(ticket.resident)
        ticket.cache = ticket.resident = None
        ticket.end(outcome, error)
