"""Ray Serve behind the engine's interface: replicas of our own engine on the machines of a Ray cluster.

Ray Serve starts the replicas, asks each for its health, replaces those that die, and lets those that go finish what they answer.
A request goes to a replica that has its adapter (Serve's multiplexing by model id), or else to one that then loads it. An adapter
is checked here and travels through Ray's object store, so machines need no common disk for it; the base they find under the same
name. The gateway with its keys stays in the process that owns this, and nothing of Ray listens for HTTP.

Ray's processes trust each other and exchange pickles: its cluster must be closed to strangers. Replicas on processors of one kind
answer with the same bits, as one engine does. No ensembles and no pins, which would have to be made on every replica.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from openledger.models import base_folder, load_tokenizer, model_digest
from openledger.openlora import metrics
from openledger.openlora.adapters import CONFIG, WEIGHTS, AdapterLimits, read_factors
from openledger.openlora.engine import Engine, Finished, Piece, check_name
from openledger.openlora.grammar import Grammar
from openledger.openlora.sampling import Sampling
from openledger.openlora.scheduler import CancelledError, EngineLimits
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

_TRIES = 3
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
        adapters: that a replica keeps.
        health_seconds: between two questions for a replica's health.
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
    """An adapter as it travels."""

    config: bytes
    weights: bytes


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
        self._adapters: dict[str, tuple[str, Any]] = {}
        self._homes: dict[str | None, str] = {}
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
        """What this process tells Prometheus; Ray tells of its replicas itself."""
        return generate_latest()

    def add(self, name: str, folder: Path) -> None:
        """Makes an adapter available; a replica loads it when it is first asked for it.

        Raises:
            InputError, NotFoundError, ModelError: as :meth:`Engine.add`.
        """
        check_name(name, self._adapters)
        read_factors(folder, self._dimensions, self._digest, self._adapter_limits)
        files = _Files((folder / CONFIG).read_bytes(), (folder / WEIGHTS).read_bytes())
        content = hashlib.sha256(files.config + files.weights).hexdigest()[:32]
        self._adapters[name] = (content, self._ray.put(files))
        metrics.ADAPTERS.set(len(self._adapters))

    def combine(self, name: str, parts: Mapping[str, float]) -> None:
        """Always refused."""
        raise InputError(f"replicas make no ensembles, such as {name!r} of {len(parts)} adapters; one engine does")

    def pin(self, name: str) -> None:
        """Always refused."""
        raise InputError(f"replicas take no pins, such as one of {name!r}; one engine does")

    unpin = pin

    def remove(self, name: str) -> None:
        """Takes an adapter away; replicas let it go when they need the room.

        Raises:
            NotFoundError: there is none of that name.
        """
        self._find(name)
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
        content, files = ("", None) if adapter is None else self._find(adapter)
        source = None if sampling.grammar is None else sampling.grammar.source
        handle = self._handle.options(method_name="generate", stream=True, multiplexed_model_id=content)
        events = handle.remote(files, list(prompt_ids), replace(sampling, grammar=None), source)
        taken = _next(events)
        self._homes[adapter] = str(taken)
        return self._stream(events, cancel or threading.Event())

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
        )(_replica_class(settings.adapters))

    def _find(self, name: str) -> tuple[str, Any]:
        if name not in self._adapters:
            raise NotFoundError(
                f"no adapter {name!r} is loaded; loaded: {', '.join(sorted(self._adapters)[:8]) or 'none'}"
            )
        return self._adapters[name]

    def _stream(self, events: Any, cancel: threading.Event) -> Iterator[Piece | Finished]:
        self._count(1)
        last: Any = None
        try:
            while not isinstance(last, Finished):
                last = _next(events)
                if cancel.is_set():
                    raise CancelledError
                yield last
        finally:
            self._count(-1)
            if not isinstance(last, Finished):
                events.cancel()

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


class _Loaded:
    """An adapter in a replica's engine, until Serve drops it."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self._engine = engine

    def __del__(self) -> None:
        with suppress(OpenLedgerError):
            self._engine.remove(self.name)


def _replica_class(adapters: int) -> type:
    """The class of a replica that keeps so many adapters."""
    from ray import serve

    class Replica:
        """One engine in a process of the cluster."""

        def __init__(self, base: str | None, limits: EngineLimits, adapter_limits: AdapterLimits) -> None:
            import torch

            from openledger.models import keep_freed_memory

            torch.set_num_threads(1)
            keep_freed_memory()
            self._engine = Engine(base_folder(base), limits, adapter_limits=adapter_limits)
            self._threads = ThreadPoolExecutor(limits.batch + limits.waiting + 8)
            self._files: dict[str, _Files] = {}

        def context(self) -> int:
            return self._engine.context_length

        def check_health(self) -> None:
            """Raises where the engine answers no more; Serve then replaces this replica."""
            if self._engine.failed:
                raise ModelError("the engine's worker has ended")

        @serve.multiplexed(max_num_models_per_replica=adapters)  # type: ignore[untyped-decorator]
        async def load(self, content: str) -> _Loaded:
            loaded: _Loaded = await self._aside(partial(self._add, content, self._files[content]))
            return loaded

        async def generate(
            self, files: _Files | None, prompt: list[int], sampling: Sampling, grammar: str | None
        ) -> AsyncIterator[Any]:
            cancel = threading.Event()
            try:
                adapter = None
                if files is not None:
                    content = serve.get_multiplexed_model_id()
                    self._files[content] = files
                    try:
                        adapter = await self.load(content)
                    finally:
                        self._files.pop(content, None)
                if grammar is not None:
                    sampling = replace(sampling, grammar=Grammar(grammar))
                name = None if adapter is None else adapter.name
                events = self._engine.generate(name, prompt, sampling, cancel=cancel)
                yield f"{serve.get_replica_context().replica_id.unique_id} {os.getpid()}"
                while (event := await self._aside(partial(next, events, None))) is not None:
                    yield event
            except Exception as error:
                yield _Failed.of(error)
            finally:
                cancel.set()

        def _add(self, content: str, files: _Files) -> _Loaded:
            with tempfile.TemporaryDirectory(prefix="openlora-ray-") as name:
                (Path(name) / CONFIG).write_bytes(files.config)
                (Path(name) / WEIGHTS).write_bytes(files.weights)
                if content not in self._engine.adapters:
                    self._engine.add(content, Path(name))
            return _Loaded(self._engine, content)

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
