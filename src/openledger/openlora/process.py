"""An engine in a process of its own, which is started again when it dies.

What kills the engine (a fault in a library, the system short of memory) then ends the streams that it was answering, with an
error that says so, and nothing else: the gateway, its receipts and its vouchers live on here. The new process gets the same
adapters; until it is there, streams are told to come back, and whole answers (:meth:`EngineProcess.complete`) wait for it and are
made again. The two speak JSON lines over pipes (:mod:`openledger.openlora.worker`).
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import IO, Any

from openledger.models import load_tokenizer
from openledger.openlora.adapters import AdapterLimits
from openledger.openlora.answers import CancelledError, Finished, Piece
from openledger.openlora.sampling import Sampling, TokenLogprob
from openledger.openlora.scheduler import EngineLimits
from openledger.primitives import (
    InputError,
    ModelError,
    NotFoundError,
    OpenLedgerError,
    OverloadedError,
    UnavailableError,
)

_LOG = logging.getLogger(__name__)
_LOOK_UP_SECONDS = 0.25
_RESTART_SECONDS = 1.0
_TRIES = 3
_RETRY_SECONDS = 5
_ENDED = "ended"
_UP_HEAD = (
    "# HELP openledger_engine_up Whether the engine's process takes requests\n# TYPE openledger_engine_up gauge\n"
)
_RESTARTS_HEAD = (
    "# HELP openledger_engine_restarts_total Times that the engine's process was started again\n"
    "# TYPE openledger_engine_restarts_total counter\n"
)
_KINDS = {kind.__name__: kind for kind in (InputError, ModelError, NotFoundError)}


class EngineProcess:
    """The same as :class:`~openledger.openlora.engine.Engine`, elsewhere.

    Args:
        base: the base model's folder.
        limits: memory, batch and queue.
        store: folder for converted adapters; None for a temporary one.
        adapter_limits: what adapters are accepted.
        start_seconds: how long it may take to load the base.
        silent_seconds: a process that answers nothing for so long is killed, and started again.
        wait: whether to return only once it is loaded; else :meth:`wait` does.

    Attributes:
        name: the base model's.
        tokenizer: the base model's.
        fallback: why the base runs through transformers; None if it runs on the fused decoder.
        restarts: how many times the process died and was started again.

    Raises:
        ModelError: the base cannot be loaded.
    """

    def __init__(
        self,
        base: Path,
        limits: EngineLimits | None = None,
        *,
        store: Path | None = None,
        adapter_limits: AdapterLimits | None = None,
        start_seconds: float = 600.0,
        silent_seconds: float = 60.0,
        wait: bool = True,
    ) -> None:
        self.name = base.resolve().name
        self.fallback: str | None = None
        self.restarts = 0
        self._start_seconds = start_seconds
        self._silent_seconds = silent_seconds
        self._settings = {
            "base": str(base),
            "limits": asdict(limits or EngineLimits()),
            "store": None if store is None else str(store),
            "adapter_limits": asdict(adapter_limits or AdapterLimits()),
        }
        self._added: dict[str, dict[str, Any]] = {}
        self._pinned: set[str] = set()
        self._numbers = count()
        self._asked: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._changing = threading.Lock()
        self._closed = threading.Event()
        self._ready = threading.Event()
        self._context = 0
        self._failure = f"the engine's process could not load {base}; its error output says why"
        self._process = self._start()
        try:
            self.tokenizer = load_tokenizer(base)  # meanwhile: libraries take seconds to load, in both processes
        except BaseException:
            self._closed.set()
            self._process.kill()
            self._process.wait()
            raise
        self._attending = threading.Thread(target=self._attend, name="openlora-process", daemon=True)
        self._attending.start()
        threading.Thread(target=self._watch, name="openlora-watch", daemon=True).start()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Returns once the process takes requests.

        Raises:
            ModelError: the base cannot be loaded, or not in time; the engine is then closed.
            UnavailableError: a process that was started again does not take requests in time.
        """
        until = time.monotonic() + self._start_seconds
        while not self._ready.wait(0.1):
            if self._closed.is_set():
                raise ModelError("the engine is closed")
            if time.monotonic() > until and self._context:
                raise _starting()
            if time.monotonic() > until or not self._attending.is_alive():
                self.close()
                raise ModelError(self._failure)

    @property
    def adapters(self) -> frozenset[str]:
        """The names that can be asked for."""
        return frozenset(self._added)

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, of one request."""
        return self._context

    @property
    def load(self) -> tuple[int, int]:
        """(requests running, requests waiting)."""
        running, waiting = self._call({"do": "load"})["load"]
        return running, waiting

    @property
    def process_id(self) -> int:
        """Of the process that runs now."""
        return self._process.pid

    def exposition(self) -> bytes:
        """What the engine tells Prometheus, whether it takes requests, and how often its process was started again."""
        told, up = "", 0
        with suppress(UnavailableError):  # while there is no process, this is how its absence is seen
            told, up = str(self._call({"do": "exposition"})["text"]), 1
        own = f"{_UP_HEAD}openledger_engine_up {up}\n{_RESTARTS_HEAD}openledger_engine_restarts_total {self.restarts}\n"
        return (told + own).encode()

    def add(self, name: str, folder: Path) -> None:
        """See :meth:`Engine.add`."""
        self._change(name, {"do": "add", "name": name, "folder": str(folder.resolve())})

    def combine(self, name: str, parts: Mapping[str, float]) -> None:
        """See :meth:`Engine.combine`."""
        self._change(name, {"do": "combine", "name": name, "parts": dict(parts)})

    def remove(self, name: str) -> None:
        """See :meth:`Engine.remove`."""
        with self._changing:
            self._call({"do": "remove", "name": name})
            self._added.pop(name, None)
            self._pinned.discard(name)

    def pin(self, name: str) -> None:
        """See :meth:`Engine.pin`."""
        with self._changing:
            self._call({"do": "pin", "name": name})
            self._pinned.add(name)

    def unpin(self, name: str) -> None:
        """See :meth:`Engine.unpin`."""
        with self._changing:
            self._call({"do": "unpin", "name": name})
            self._pinned.discard(name)

    def generate(
        self,
        adapter: str | None,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece | Finished]:
        """See :meth:`Engine.generate`.

        Raises:
            UnavailableError: the process died, or is being started again; from the iterator too.
        """
        how = {**asdict(sampling), "grammar": None if sampling.grammar is None else sampling.grammar.source}
        number, events = self._send({"do": "ask", "adapter": adapter, "prompt": list(prompt_ids), "sampling": how})
        first = self._next(number, events, None)
        return self._stream(number, events, first, cancel)

    def complete(self, adapter: str | None, prompt_ids: Sequence[int], sampling: Sampling) -> Finished:
        """The whole answer at once. If the process dies, the next one makes it again: the same bits, as nothing was told yet.

        Raises:
            UnavailableError: the process died over it again and again.
        """
        for tried in range(1, _TRIES + 1):
            self.wait()
            try:
                *_, last = self.generate(adapter, prompt_ids, sampling)
            except UnavailableError:
                if tried == _TRIES:
                    raise
                continue
            if isinstance(last, Finished):
                return last
        raise ModelError("the generation ended without a result")

    def close(self) -> None:
        """Ends the process."""
        self._closed.set()
        with suppress(OSError, ValueError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            _LOG.warning("the engine's process does not end and is killed", extra={"pid": self._process.pid})
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "openledger.openlora.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            process_group=0,  # a terminal's Ctrl-C is for us; the process ends when we close it, or with us
        )
        _write(_pipe(process.stdin), self._settings)
        return process

    def _attend(self) -> None:
        """Hands out what the process tells, and starts it again when it has died."""
        while True:
            for line in _pipe(self._process.stdout):
                if not line.endswith(b"\n"):
                    break  # cut by its death
                told = json.loads(line)
                if "failed" in told:
                    self._failure = told["failed"]
                elif "context" in told:
                    self._context, self.fallback = told["context"], told["fallback"]
                    threading.Thread(target=self._restore, args=(dict(self._added),), daemon=True).start()
                elif (events := self._asked.get(told["number"])) is not None:
                    events.put(told)
            self._ready.clear()
            code = self._process.wait()
            with self._lock:
                asked, self._asked = self._asked, {}
            for events in asked.values():
                events.put({"error": _ENDED})
            if self._closed.wait(_RESTART_SECONDS) or not self._context:
                return
            _LOG.error("the engine's process ended; it is started again", extra={"code": code, "requests": len(asked)})
            self.restarts += 1
            self._process = self._start()

    def _watch(self) -> None:
        """Kills a process that has stopped to answer."""
        while not self._closed.wait(self._silent_seconds / 4):
            process = self._process
            if self._ready.is_set() and not self._answers() and process is self._process and not self._closed.is_set():
                _LOG.error("the engine's process answers nothing and is killed", extra={"pid": process.pid})
                process.kill()

    def _answers(self) -> bool:
        # Whoever writes to a process that reads no more holds the lock.
        if not self._lock.acquire(timeout=self._silent_seconds):
            return False
        self._lock.release()
        number = None
        try:
            number, events = self._send({"do": "load"})
            events.get(timeout=self._silent_seconds)
        except queue.Empty:
            return False
        except OpenLedgerError:
            return True  # it ended, which is seen elsewhere
        finally:
            if number is not None:
                self._asked.pop(number, None)
        return True

    def _restore(self, added: dict[str, dict[str, Any]]) -> None:
        """Gives a new process its adapters, in the order in which they came."""
        for name, request in added.items():
            try:
                self._call(request, wait=False)
            except OpenLedgerError as error:
                _LOG.error("an adapter is lost with the process", extra={"adapter": name, "error": str(error)})
                self._added.pop(name, None)
        for name in tuple(self._pinned):
            try:
                self._call({"do": "pin", "name": name}, wait=False)
            except OpenLedgerError as error:
                _LOG.error("a pin is lost with the process", extra={"adapter": name, "error": str(error)})
                self._pinned.discard(name)
        self._ready.set()
        told = {"pid": self._process.pid, "adapters": len(added), "restarts": self.restarts}
        _LOG.info("the engine's process takes requests", extra=told)

    def _change(self, name: str, request: dict[str, Any]) -> None:
        with self._changing:
            self._call(request)
            self._added[name] = request

    def _call(self, request: dict[str, Any], *, wait: bool = True) -> dict[str, Any]:
        number, events = self._send(request, wait=wait)
        return self._next(number, events, None, last=True)

    def _send(self, request: dict[str, Any], *, wait: bool = True) -> tuple[int, queue.SimpleQueue[dict[str, Any]]]:
        if self._closed.is_set():
            raise ModelError("the engine is closed")
        if wait and not self._ready.is_set():
            raise _starting()
        events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            number = next(self._numbers)
            self._asked[number] = events
            try:
                _write(_pipe(self._process.stdin), {**request, "number": number})
            except (OSError, ValueError) as error:
                del self._asked[number]
                raise _error({"error": _ENDED}) from error
        return number, events

    def _next(
        self,
        number: int,
        events: queue.SimpleQueue[dict[str, Any]],
        cancel: threading.Event | None,
        *,
        last: bool = False,
    ) -> dict[str, Any]:
        while True:
            try:
                told = events.get(timeout=_LOOK_UP_SECONDS)
                break
            except queue.Empty:
                if cancel is not None and cancel.is_set():
                    raise CancelledError from None
        if last or "error" in told:
            self._asked.pop(number, None)
        if "error" in told:
            raise _error(told)
        return told

    def _stream(
        self,
        number: int,
        events: queue.SimpleQueue[dict[str, Any]],
        told: dict[str, Any],
        cancel: threading.Event | None,
    ) -> Iterator[Piece | Finished]:
        """``told`` is the word that the request was taken."""
        try:
            while "finished" not in told:
                told = self._next(number, events, cancel)
                if cancel is not None and cancel.is_set():
                    raise CancelledError
                if "piece" in told:
                    yield Piece(told["piece"], _logprobs(told["logprobs"]))
            whole = told["finished"]
            yield Finished(
                whole["text"],
                tuple(whole["token_ids"]),
                whole["reason"],
                _logprobs(whole["logprobs"]),
                whole["cached_tokens"],
            )
        finally:
            if self._asked.pop(number, None) is not None and "finished" not in told:
                with self._lock, suppress(OSError, ValueError):
                    _write(_pipe(self._process.stdin), {"do": "cancel", "number": number})


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the process has no pipe")
    return pipe


def _write(pipe: IO[bytes], message: Mapping[str, Any]) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


def _starting() -> UnavailableError:
    return UnavailableError("the engine is being started; send the request again", retry_after=_RETRY_SECONDS)


def _error(told: Mapping[str, Any]) -> OpenLedgerError:
    if told["error"] == _ENDED:
        return UnavailableError("the engine's process ended; send the request again", retry_after=_RETRY_SECONDS)
    if told["error"] == "OverloadedError":
        return OverloadedError(told["message"], retry_after=told["retry_after"])
    if told["error"] == "CancelledError":
        return CancelledError()
    return _KINDS.get(told["error"], ModelError)(told["message"])


def _logprobs(told: Sequence[Mapping[str, Any]]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            one["token"],
            one["logprob"],
            tuple((token, logprob) for token, logprob in one["top"]),
            one["text"],
            tuple(one["top_texts"]),
        )
        for one in told
    )
