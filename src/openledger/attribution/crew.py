"""Who measures the records' gradients: threads of this process, or the machines of a Ray cluster, with the same code.

Records are handed out in chunks of a fixed size, and each chunk is summed by itself in a fixed order: what comes out has
the same bits whoever works on which chunk, as long as the machines' processors are of one kind.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel

from openledger.attribution.common import Common
from openledger.attribution.gradients import AdapterModel, Query, TrainingExample, batched, padded_length
from openledger.attribution.projection import Embedding, Metric
from openledger.models import pinned
from openledger.primitives.errors import ConfigurationError

Examples = Sequence[Query | TrainingExample]

LOCAL = "local"
"""The address that starts a Ray cluster on this machine, reachable from nowhere else."""
_CHUNK = 64
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Run:
    """What is needed to measure gradients: base, adapter configuration, and the adapter's matrices at each checkpoint."""

    base: PreTrainedModel
    config: LoraConfig
    weights: tuple[Mapping[str, Tensor], ...]
    batch_tokens: int

    def open(self) -> list[AdapterModel]:
        """The base with each checkpoint's adapter."""
        return [AdapterModel(self.base, self.config, weights) for weights in self.weights]


class Surveyor:
    """One worker: measures chunk after chunk, one thread."""

    def __init__(self, run: Run, models: Sequence[AdapterModel] | None = None) -> None:
        self._models = models or run.open()
        self._batch_tokens = run.batch_tokens
        self._embedding: Embedding | None = None

    def learn(self, metric: Metric) -> None:
        """Take the metric in which gradients are compared."""
        self._embedding = Embedding(self._models[0].blocks, metric)

    def rows(self, examples: Examples, directions: Tensor | None) -> Tensor:
        """Sketches summed over checkpoints [examples, size], or their products with directions [examples, components]."""
        assert self._embedding is not None  # noqa: S101
        rows = torch.zeros(len(examples), self._embedding.sketch.size)
        for positions in batched(examples, self._batch_tokens):
            common = Common()
            for stage, model in enumerate(self._models):
                batch = model.capture(positions, [examples[place] for place in positions], common)
                rows[list(positions)] += self._embedding.sketches(batch, stage)
        return rows if directions is None else rows @ directions


class Crew(Protocol):
    """Some workers."""

    def learn(self, metric: Metric) -> None:
        """Hand the metric to every worker, before any rows are asked for."""

    def rows(self, examples: Examples, directions: Tensor | None = None) -> Iterator[tuple[list[int], Tensor]]:
        """Places of some examples and their rows as :meth:`Surveyor.rows` gives them, until all are done."""


@contextmanager
def gathered(run: Run, models: Sequence[AdapterModel], workers: int, address: str | None) -> Iterator[Crew]:
    """A crew, sent home at the end.

    Args:
        run: what they work on.
        models: ``run`` opened, for the first of this process's threads.
        workers: threads, or with ``address`` "local" processes.
        address: of a Ray cluster, whose every processor core works then; None for threads of this process.

    Raises:
        ConfigurationError: Ray is not installed, or there is no such cluster.
    """
    if address is None:
        with ThreadPoolExecutor(workers) as pool:
            yield _Threads(run, models, workers, pool)
    else:
        with _cluster(address, workers) as ray:
            yield _Machines(run, ray)


class _Threads:
    def __init__(self, run: Run, models: Sequence[AdapterModel], workers: int, pool: ThreadPoolExecutor) -> None:
        self._run = run
        self._pool = pool
        self._hired = [Surveyor(run, models)]
        self._workers = workers

    def learn(self, metric: Metric) -> None:
        self._metric = metric
        self._hired[0].learn(metric)

    def rows(self, examples: Examples, directions: Tensor | None = None) -> Iterator[tuple[list[int], Tensor]]:
        chunks = _chunks(examples)
        while len(self._hired) < min(self._workers, len(chunks)):
            self._hired.append(Surveyor(self._run))
            self._hired[-1].learn(self._metric)
        idle: SimpleQueue[Surveyor] = SimpleQueue()
        for surveyor in self._hired:
            idle.put(surveyor)

        def work(chunk: list[int]) -> Tensor:
            surveyor = idle.get()
            try:
                with pinned():
                    return surveyor.rows([examples[place] for place in chunk], directions)
            finally:
                idle.put(surveyor)

        yield from zip(chunks, self._pool.map(work, chunks), strict=True)


class _Remote:
    """A surveyor in a process of a cluster."""

    def __init__(self, run: Run) -> None:
        with pinned():
            self._surveyor = Surveyor(run)

    def learn(self, metric: Metric) -> None:
        self._surveyor.learn(metric)

    def rows(self, examples: Examples, directions: Tensor | None) -> Any:
        with pinned():
            return self._surveyor.rows(examples, directions).numpy()


class _Machines:
    def __init__(self, run: Run, ray: Any) -> None:
        self._ray = ray
        kind, shared = ray.remote(_Remote), ray.put(run)
        count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._actors = [kind.options(num_cpus=1).remote(shared) for _ in range(count)]

    def learn(self, metric: Metric) -> None:
        shared = self._ray.put(metric)
        self._ray.get([actor.learn.remote(shared) for actor in self._actors])

    def rows(self, examples: Examples, directions: Tensor | None = None) -> Iterator[tuple[list[int], Tensor]]:
        from ray.util import ActorPool

        chunks = _chunks(examples)
        shared = self._ray.put(directions)
        found = ActorPool(self._actors).map(
            lambda actor, chunk: actor.rows.remote([examples[place] for place in chunk], shared), chunks
        )
        for chunk, rows in zip(chunks, found, strict=True):
            yield chunk, torch.from_numpy(rows.copy())


@contextmanager
def _cluster(address: str, workers: int) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            "building on a cluster needs Ray: pip install 'openledger[distributed]' on all its machines"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    alone: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ending = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, **(alone if address == LOCAL else {}))
    except Exception as error:  # Ray raises plain ones where a node does not start in time
        raise ConfigurationError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ending)


def _reach(address: str) -> None:
    """Raise OSError or ValueError unless somebody listens at an address with a port; Ray itself tries for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


def _chunks(examples: Examples) -> list[list[int]]:
    """Places of the examples in the order of their padded lengths, in chunks of a fixed size."""
    lengths = [padded_length(len(example.token_ids)) for example in examples]
    order = sorted(range(len(examples)), key=lengths.__getitem__)
    return [order[begin : begin + _CHUNK] for begin in range(0, len(order), _CHUNK)]
