"""Ray Serve behind the engine's interface: replicas of our own engine on the machines of a Ray cluster.

Ray Serve starts the replicas, asks each for its health, replaces those that die, and lets those that go finish what they answer.
A request goes to the replica at which its adapter is at home (:mod:`openledger.openlora.ray_router`), which loads it when it is
first asked for it; so does any other that has to answer instead. An adapter is checked here and travels through Ray's object
store, so machines need no common disk for it; the base they find under the same name. An ensemble travels as its parts and their
weights, and a replica makes it as one engine would. A pin is told to the adapter's home again and again, so that it follows the
adapter to another home and ends with whoever asked for it. The gateway with its keys stays in the process that owns this, and
nothing of Ray listens for HTTP.

Ray's processes trust each other and exchange pickles: its cluster must be closed to strangers. Replicas answer with the bits of
one engine, whatever processors they run on.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from openledger.models import base_folder, load_tokenizer, model_digest
from openledger.openlora import metrics
from openledger.openlora.adapters import CONFIG, WEIGHTS, AdapterLimits, NeedsMerging, read_factors
from openledger.openlora.answers import CancelledError, Finished, Piece
from openledger.openlora.engine import Engine, check_name
from openledger.openlora.grammar import Grammar
from openledger.openlora.sampling import Sampling
from openledger.openlora.scheduler import EngineLimits
from openledger.openlora.shapes import Dimensions
from openledger.primitives import (
    ConfigurationError,
    InputError,
    ModelError,
    NotFoundError,
    OpenLedgerError,
    OverloadedError,
    UnavailableError,
    to_hex,
)

_LOG = logging.getLogger(__name__)
_TRIES = 3
_LEASE = 12
"""For how many questions for health a pin holds if nobody tells it again."""
_RETRY_SECONDS = 5
LOCAL = "local"
"""The address of a cluster that is this machine alone, and lives as long as this process."""


@dataclass(frozen=True)
class RaySettings:
    """How replicas are started.

    Attributes:
        address: of the cluster, ``auto`` for the one that this machine belongs to, or :data:`LOCAL`.
        replicas: how many.
        cpus: of each.
        adapters: that a replica keeps in its store, pinned ones besides.
        health_seconds: between two questions for a replica's health, and between telling pins again.
        drain_seconds: that a replica which goes may take to finish its answers.
        name: of the application in the cluster.
    """

    address: str = LOCAL
    replicas: int = 2
    cpus: float = 1.0
    adapters: int = 1000
    health_seconds: float = 5.0
    drain_seconds: float = 120.0
    name: str = "openlora"


@dataclass(frozen=True)
class _Files:
    """What an uploader sent."""

    config: bytes
    weights: bytes


@dataclass(frozen=True)
class _Adapter:
    """An adapter as requests tell it to replicas, which fetch its files only when they need them.

    Attributes:
        content: the hash of all that it is made of, its name on the replicas.
        files: a reference to its :class:`_Files` in Ray's object store; None for an ensemble.
        parts: of an ensemble, with their weights.
    """

    content: str
    files: Any = None
    parts: tuple[tuple[_Adapter, float], ...] = ()


class RayBackend:
    """Replicas of one base model on a cluster.

    Args:
        base: the base model's folder or hub id, the same on every machine; None for the one that ships.
        settings: how to start them.
        limits: of each replica's engine.
        adapter_limits: what adapters are accepted.

    Attributes:
        name: the base model's.
        tokenizer: the base model's.

    Raises:
        ConfigurationError: Ray Serve is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        base: str | None,
        settings: RaySettings | None = None,
        limits: EngineLimits | None = None,
        *,
        adapter_limits: AdapterLimits | None = None,
    ) -> None:
        folder = base_folder(base)
        self.name = folder.resolve().name
        self.tokenizer = load_tokenizer(folder)
        self._settings = settings or RaySettings()
        self._limits = limits or EngineLimits()
        self._adapter_limits = adapter_limits or AdapterLimits()
        self._dimensions = _dimensions(folder)
        self._digest = to_hex(model_digest(folder))
        self._adapters: dict[str, _Adapter] = {}
        self._homes: dict[str | None, str] = {}
        self._pinned: dict[str, str] = {}
        self._closed = threading.Event()
        self._running = 0
        self._lock = threading.Lock()
        self._ray = _join(self._settings)
        self._base = base
        try:
            self._deployment = self._deploy(self._settings)
            self._handle = self._run()
            self._context = int(self._handle.options(method_name="context").remote().result())
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._keep_pins, name="ray-pins", daemon=True).start()

    @property
    def adapters(self) -> frozenset[str]:
        """The names that can be asked for."""
        return frozenset(self._adapters)

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, of one request."""
        return self._context

    @property
    def load(self) -> tuple[int, int]:
        """(requests under way from here, 0): replicas queue them themselves."""
        return self._running, 0

    def exposition(self) -> bytes:
        """What this process tells Prometheus of the answers of all replicas; Ray tells of its actors itself."""
        return generate_latest()

    def add(self, name: str, folder: Path) -> None:
        """Makes an adapter available; a replica loads it when it is first asked for it.

        Raises:
            InputError, NotFoundError, ModelError: as :meth:`Engine.add`.
        """
        check_name(name, self._adapters)
        needs_base = False
        try:
            read_factors(folder, self._dimensions, self._digest, self._adapter_limits)
        except NeedsMerging:
            needs_base = True
        files = _Files((folder / CONFIG).read_bytes(), (folder / WEIGHTS).read_bytes())
        content = hashlib.sha256(files.config + files.weights).hexdigest()[:32]
        adapter = _Adapter(content, self._ray.put(files))
        if needs_base:
            self._tell(adapter)
        self._publish(name, adapter)

    def combine(self, name: str, parts: Mapping[str, float]) -> None:
        """Makes an ensemble, which one replica tries at once and another when it is first asked for it.

        Raises:
            InputError, NotFoundError, ModelError: as :meth:`Engine.combine`.
        """
        check_name(name, self._adapters)
        chosen = tuple((self._find(part), float(weight)) for part, weight in parts.items())
        told = ";".join(f"{part.content}*{weight!r}" for part, weight in chosen)
        ensemble = _Adapter(hashlib.sha256(told.encode()).hexdigest()[:32], parts=chosen)
        self._tell(ensemble)
        self._publish(name, ensemble)

    def pin(self, name: str) -> None:
        """Keeps an adapter in memory where it is at home, and where its next home is once that one is gone.

        Raises:
            NotFoundError, InputError, ModelError: as :meth:`Engine.pin`.
        """
        self._pinned[name] = self._tell(self._find(name), self._lease)

    def unpin(self, name: str) -> None:
        """Lets a pinned adapter go again.

        Raises:
            NotFoundError: there is none of that name.
        """
        adapter = self._find(name)
        if self._pinned.pop(name, None) is not None:
            self._tell(adapter, 0.0)

    def pinned_at(self, name: str) -> str:
        """The replica that has a pinned adapter in memory, as ``id process``; empty while none has."""
        return self._pinned.get(name, "")

    def remove(self, name: str) -> None:
        """Takes an adapter away; replicas let it go when they need the room.

        Raises:
            NotFoundError: there is none of that name.
        """
        adapter = self._find(name)
        if self._pinned.pop(name, None) is not None:
            with suppress(OverloadedError):  # a replica that is not there pins nothing
                self._tell(adapter, 0.0)
        del self._adapters[name]
        self._homes.pop(name, None)
        metrics.ADAPTERS.set(len(self._adapters))

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
            UnavailableError: the replica that answered died; from the iterator too.
        """
        wanted = None if adapter is None else self._find(adapter)
        source = None if sampling.grammar is None else sampling.grammar.source
        content = "" if wanted is None else wanted.content
        handle = self._handle.options(method_name="generate", stream=True, multiplexed_model_id=content)
        answer = metrics.Answer(len(prompt_ids))
        events = handle.remote(wanted, list(prompt_ids), replace(sampling, grammar=None), source)
        try:
            taken = _next(events)
        except OverloadedError:
            metrics.REQUESTS.labels("refused").inc()
            raise
        self._homes[adapter] = str(taken)
        return self._stream(events, cancel or threading.Event(), answer)

    def complete(self, adapter: str | None, prompt_ids: Sequence[int], sampling: Sampling) -> Finished:
        """The whole answer at once; if its replica dies, another makes it: the same bits, as nothing was told yet."""
        for tried in range(1, _TRIES + 1):
            try:
                *_, last = self.generate(adapter, prompt_ids, sampling)
            except UnavailableError:
                if tried == _TRIES:
                    raise
                continue
            if isinstance(last, Finished):
                return last
        raise ModelError("the generation ended without a result")

    def home(self, adapter: str | None) -> str:
        """The replica that answered for an adapter last, as ``id process``; empty if none did."""
        return self._homes.get(adapter, "")

    def resize(self, replicas: int) -> None:
        """Changes how many replicas there are. Serve starts others in the place of those that run, which finish what they answer.

        Raises:
            InputError: fewer than one.
        """
        if replicas < 1:
            raise InputError(f"{replicas} replicas would answer nobody; keep one at least")
        self._settings = replace(self._settings, replicas=replicas)
        self._handle = self._run()

    def close(self) -> None:
        """Lets the replicas finish and ends them; a cluster of this process's own ends too."""
        from ray import serve

        self._closed.set()
        with suppress(Exception):  # Ray raises plain ones where a cluster is gone already
            serve.delete(self._settings.name)
        if self._settings.address == LOCAL:
            serve.shutdown()  # type: ignore[no-untyped-call]
            self._ray.shutdown()

    def _run(self) -> Any:
        """Has as many replicas as the settings say."""
        from ray import serve

        resized = self._deployment.options(num_replicas=self._settings.replicas)
        bound = resized.bind(self._base, self._limits, self._adapter_limits)
        return serve.run(bound, name=self._settings.name, route_prefix=None)

    def _deploy(self, settings: RaySettings) -> Any:
        from ray import serve
        from ray.serve.config import RequestRouterConfig

        from openledger.openlora.ray_router import HomeRouter

        most = self._limits.batch + self._limits.waiting
        return serve.deployment(
            name="Replica",
            ray_actor_options={"num_cpus": settings.cpus},
            max_ongoing_requests=most,
            max_queued_requests=most,
            health_check_period_s=settings.health_seconds,
            health_check_timeout_s=max(60.0, 2 * settings.health_seconds),
            graceful_shutdown_wait_loop_s=1.0,
            graceful_shutdown_timeout_s=settings.drain_seconds,
            request_router_config=RequestRouterConfig(
                request_router_class=HomeRouter,  # type: ignore[arg-type]
                request_router_kwargs={"busy": self._limits.batch},
            ),
        )(_replica_class(settings.adapters))

    @property
    def _lease(self) -> float:
        return _LEASE * self._settings.health_seconds

    def _publish(self, name: str, adapter: _Adapter) -> None:
        with self._lock:
            check_name(name, self._adapters)
            self._adapters[name] = adapter
        metrics.ADAPTERS.set(len(self._adapters))

    def _tell(self, adapter: _Adapter, lease: float | None = None) -> str:
        """Has the adapter's home load it; see ``Replica.have``. Returns the replica as ``id process``."""
        handle = self._handle.options(method_name="have", stream=True, multiplexed_model_id=adapter.content)
        return str(_next(handle.remote(adapter, lease)))

    def _keep_pins(self) -> None:
        """Tells every pin again and again: another replica may be the adapter's home by now."""
        while not self._closed.wait(self._settings.health_seconds):
            for name in tuple(self._pinned):
                try:
                    place = self._tell(self._find(name), self._lease)
                except OpenLedgerError as error:
                    if self._closed.is_set() or name not in self._adapters:
                        continue
                    place = ""
                    if self._pinned.get(name):
                        _LOG.warning("a pinned adapter is not in memory", extra={"adapter": name, "error": str(error)})
                if name in self._pinned:
                    self._pinned[name] = place

    def _find(self, name: str) -> _Adapter:
        if name not in self._adapters:
            raise NotFoundError(
                f"no adapter {name!r} is loaded; loaded: {', '.join(sorted(self._adapters)[:8]) or 'none'}"
            )
        return self._adapters[name]

    def _stream(self, events: Any, cancel: threading.Event, answer: metrics.Answer) -> Iterator[Piece | Finished]:
        self._count(1)
        last: Any = None
        try:
            with answer.counted():
                while not isinstance(last, Finished):
                    last = _next(events)
                    if cancel.is_set():
                        raise CancelledError
                    if isinstance(last, Finished):
                        answer.tokens, answer.cached_tokens = len(last.token_ids), last.cached_tokens
                    else:
                        answer.observe()
                        yield last
        finally:
            self._count(-1)
            if not isinstance(last, Finished):
                events.cancel()
        yield last

    def _count(self, more: int) -> None:
        with self._lock:
            self._running += more
            metrics.RUNNING.set(self._running)


def _next(events: Any) -> Any:
    """The next event of a replica.

    Raises:
        OpenLedgerError: what the replica says went wrong.
        UnavailableError: it died.
    """
    from ray.exceptions import RayError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    try:
        told = next(events)
    except BackPressureError as error:
        raise OverloadedError("too many requests are waiting for a replica", retry_after=_RETRY_SECONDS) from error
    except (RayError, DeploymentUnavailableError) as error:
        raise UnavailableError(
            "the replica that answered has ended; send the request again", retry_after=_RETRY_SECONDS
        ) from error
    except StopIteration:
        raise ModelError("the generation ended without a result") from None
    if isinstance(told, _Failed):
        raise told.error()
    return told


@dataclass(frozen=True)
class _Failed:
    """An error as it travels: Ray would wrap the exception itself."""

    kind: type[OpenLedgerError]
    message: str
    retry_after: int = 0

    def error(self) -> OpenLedgerError:
        if issubclass(self.kind, OverloadedError):
            return self.kind(self.message, retry_after=self.retry_after)
        return CancelledError() if self.kind is CancelledError else self.kind(self.message)

    @classmethod
    def of(cls, error: Exception) -> _Failed:
        kind = type(error) if isinstance(error, OpenLedgerError) else ModelError
        return cls(kind, str(error), getattr(error, "retry_after", 0))


class _Shelf:
    """A replica's adapters: made when they are asked for; the one asked for least lately goes when there are too many.

    Args:
        engine: the replica's.
        most: adapters besides those that are pinned.
    """

    def __init__(self, engine: Engine, most: int) -> None:
        self._engine = engine
        self._most = most
        self._order: OrderedDict[str, None] = OrderedDict()
        self._pinned_until: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def holding(self, adapter: _Adapter) -> Iterator[str]:
        """What the engine calls it; it is there until the block ends, and for what was submitted in it.

        Raises:
            InputError, ModelError: as :meth:`Engine.add` and :meth:`Engine.combine`.
        """
        with self._lock:
            name = self._make(adapter)
            idle = [one for one in self._order if one not in self._pinned_until]
            for old in idle[: -self._most]:
                self._engine.remove(old)
                del self._order[old]
            yield name

    def pin(self, adapter: _Adapter, seconds: float) -> None:
        """Keeps an adapter in memory for so long, if nobody says so again."""
        with self.holding(adapter) as name:
            self._engine.pin(name)
            self._pinned_until[name] = time.monotonic() + seconds

    def unpin(self, *contents: str) -> None:
        """Lets adapters go again."""
        with self._lock:
            for name in contents:
                if self._pinned_until.pop(name, None) is not None:
                    self._engine.unpin(name)

    def expire(self) -> None:
        """Lets those go whose time is over."""
        now = time.monotonic()
        self.unpin(*(name for name, until in tuple(self._pinned_until.items()) if until < now))

    def _make(self, adapter: _Adapter) -> str:
        if adapter.content not in self._order:
            if adapter.files is None:
                weights: dict[str, float] = {}
                for part, weight in adapter.parts:
                    name = self._make(part)  # the same adapter under two names is one here
                    weights[name] = weights.get(name, 0.0) + weight
                self._engine.combine(adapter.content, weights)
            else:
                self._add(adapter)
        self._order[adapter.content] = None
        self._order.move_to_end(adapter.content)
        return adapter.content

    def _add(self, adapter: _Adapter) -> None:
        import ray

        files = ray.get(adapter.files)
        with tempfile.TemporaryDirectory(prefix="openlora-ray-") as name:
            (Path(name) / CONFIG).write_bytes(files.config)
            (Path(name) / WEIGHTS).write_bytes(files.weights)
            self._engine.add(adapter.content, Path(name))


def _replica_class(adapters: int) -> type:
    """The class of a replica that keeps so many adapters."""
    from ray import serve

    def here() -> str:
        return f"{serve.get_replica_context().replica_id.unique_id} {os.getpid()}"

    class Replica:
        """One engine in a process of the cluster."""

        def __init__(self, base: str | None, limits: EngineLimits, adapter_limits: AdapterLimits) -> None:
            import torch

            from openledger.models import keep_freed_memory

            torch.set_num_threads(1)
            keep_freed_memory()
            self._engine = Engine(base_folder(base), limits, adapter_limits=adapter_limits)
            self._threads = ThreadPoolExecutor(limits.batch + limits.waiting + 8)
            self._shelf = _Shelf(self._engine, adapters)

        def context(self) -> int:
            return self._engine.context_length

        async def check_health(self) -> None:
            """Raises, or does not end, where the engine answers no more; Serve then replaces this replica."""
            if self._engine.failed:
                raise ModelError("the engine's worker has ended")
            await self._aside(self._shelf.expire)

        async def have(self, adapter: _Adapter, lease: float | None) -> AsyncIterator[Any]:
            """Loads an adapter; with a lease keeps it in memory for so many seconds, and lets it go for 0."""
            try:
                await self._aside(partial(self._have, adapter, lease))
                yield here()
            except Exception as error:
                yield _Failed.of(error)

        async def generate(
            self, adapter: _Adapter | None, prompt: list[int], sampling: Sampling, grammar: str | None
        ) -> AsyncIterator[Any]:
            cancel = threading.Event()
            try:
                if grammar is not None:
                    sampling = replace(sampling, grammar=Grammar(grammar))
                events = await self._aside(partial(self._submit, adapter, prompt, sampling, cancel))
                yield here()
                while (event := await self._aside(partial(next, events, None))) is not None:
                    yield event
            except Exception as error:
                yield _Failed.of(error)
            finally:
                cancel.set()

        def _submit(
            self, adapter: _Adapter | None, prompt: list[int], sampling: Sampling, cancel: threading.Event
        ) -> Iterator[Piece | Finished]:
            if adapter is None:
                return self._engine.generate(None, prompt, sampling, cancel=cancel)
            with self._shelf.holding(adapter) as name:
                return self._engine.generate(name, prompt, sampling, cancel=cancel)

        def _have(self, adapter: _Adapter, lease: float | None) -> None:
            if lease is None:
                with self._shelf.holding(adapter):
                    return
            if lease:
                self._shelf.pin(adapter, lease)
            else:
                self._shelf.unpin(adapter.content)

        async def _aside(self, work: Any) -> Any:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    return Replica


def _dimensions(folder: Path) -> Dimensions:
    from transformers import AutoConfig

    return Dimensions.of(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True))


def _join(settings: RaySettings) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise ConfigurationError(
            "replicas on a cluster need Ray Serve: pip install 'openledger[distributed]' on all its machines"
        ) from error
    if not ray.is_initialized():
        alone: dict[str, Any] = {
            "num_cpus": max(1, round(settings.cpus * settings.replicas)),
            "include_dashboard": False,
            "object_store_memory": 256 << 20,
            "_node_ip_address": "127.0.0.1",
        }
        ending = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=settings.address, log_to_driver=False, **(alone if settings.address == LOCAL else {}))
        except Exception as error:  # Ray raises plain ones where a node does not start in time
            raise ConfigurationError(f"no Ray cluster at {settings.address!r}: {error}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, ending)  # Ray puts its own there
    serve.start(proxy_location="Disabled")
    return ray
