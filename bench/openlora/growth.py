"""How our engine grows: with adapters on disk, batch, rank, context, precision and size of the model; what a cold adapter costs;
how long a busy engine takes, and how long an engine takes to start and to end.

Run ``python -m bench.openlora --growth``, or with some tables' names after it (:func:`grow`). ``growth`` names the table.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from bench.openlora.common import MODEL, cpu_seconds, prompts
from bench.openlora.make import config
from openledger.models import BaseModel, load_base
from openledger.openlora import Engine, EngineLimits, EngineProcess, Piece, Sampling
from openledger.openlora.adapters import Change, Factors
from openledger.openlora.shapes import SITES, Dimensions

_MODEL = "Llama 29M, random weights, float32"
_SMALL = "Llama 1.8M, random weights, float32"
_ROUNDS = 3
_SEVEN = tuple(site for site in SITES if site != "head")


def small_base() -> BaseModel:
    """1.8M parameters: four layers of 128."""
    torch.manual_seed(0)
    shipped = load_base()
    model = LlamaForCausalLM(config(layers=4, hidden=128, inner=344, context=512)).eval().requires_grad_(False)
    return BaseModel(model, shipped.tokenizer, bytes(32), Path("small"))


def random_factors(size: Dimensions, rank: int, seed: int) -> Factors:
    """Factors on all seven linears."""
    generator = torch.Generator().manual_seed(seed)
    found: Factors = {}
    for layer in range(size.layers):
        for site in _SEVEN:
            inputs, outputs = size.site(site)
            a = torch.randn(rank, inputs, generator=generator).mul_(0.02)
            found[layer, site] = Change(a, torch.randn(outputs, rank, generator=generator).mul_(0.02))
    return found


def add(engine: Engine, count: int, rank: int) -> None:
    """Adapters named by their numbers, straight into the store."""
    store, scheduler = engine._store, engine._scheduler
    assert store is not None
    assert scheduler is not None
    for number in range(len(engine.adapters), count):
        engine._publish(str(number), store.put(random_factors(scheduler._decoder.dimensions, rank, number)))


def resident_mib() -> float:
    """MiB of this process's own memory now; mapped files, which the system can drop, are not counted."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) / 1024


def speed(engine: Engine, requests: list[tuple[str | None, list[int]]], output: int) -> float:
    """Tokens written per CPU second."""
    before = cpu_seconds()
    answers = engine.generate_many(requests, Sampling(max_tokens=output))
    return sum(len(answer.token_ids) for answer in answers) / (cpu_seconds() - before)


def turns(runs: dict[object, Callable[[], float]]) -> dict[object, float]:
    """The median of several rounds of each, which take turns."""
    found: dict[object, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            found[name].append(run())
    return {name: statistics.median(values) for name, values in found.items()}


def row(what: str, **fields: object) -> dict[str, object]:
    """One row of the 29M model."""
    return {"engine": "openledger", "model": _MODEL, "growth": what, **fields}


def adapters_on_disk() -> Iterator[dict[str, object]]:
    """Up to 10,000 adapters of rank 4, asked for evenly over 32 rows by 128 requests of 16 + 32 tokens."""
    counts = (1, 32, 100, 1_000, 2_000, 10_000)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_TMP")) as folder:
        limits = EngineLimits(batch=32, waiting=4096, prefix_bytes=0, adapter_bytes=32 << 20, kv_bytes=64 << 20)
        with Engine(small_base(), limits, store=Path(folder)) as engine:
            add(engine, counts[-1], 4)
            memory: dict[object, float] = {}

            def run(count: int) -> float:
                asked: list[tuple[str | None, list[int]]]
                asked = [(str(number * 7919 % count), ids) for number, ids in enumerate(prompts(128, 16))]
                found = speed(engine, asked, 32)
                memory[count] = resident_mib()
                return found

            run(1)
            found = turns({count: lambda count=count: run(count) for count in counts})
            for count in counts:
                yield row(
                    "adapters", adapters=count, batch=32, tokens_per_cpu_s=found[count], anonymous_mib=memory[count]
                ) | {
                    "model": _SMALL,
                    "bytes_per_adapter": engine._find("0").layout.size * 4,  # type: ignore[union-attr]
                }


def batches_and_ranks(base: BaseModel) -> Iterator[dict[str, object]]:
    """Batch 1 to 128 and rank 4 to 128, an adapter for each request."""
    for batch in (1, 8, 32, 64, 128):
        with Engine(base, EngineLimits(batch=batch, prefix_bytes=0, kv_bytes=4 << 30)) as engine:
            add(engine, batch, 8)
            asked: list[tuple[str | None, list[int]]] = [
                (str(number), ids) for number, ids in enumerate(prompts(batch))
            ]
            speed(engine, asked, 2)
            yield row("batch", adapters=batch, batch=batch, rank=8, tokens_per_cpu_s=speed(engine, asked, 32))
    for rank in (4, 8, 16, 32, 64, 128):
        with Engine(
            base, EngineLimits(batch=32, prefix_bytes=0, adapter_bytes=2 << 30, entry_bytes=64 << 20)
        ) as engine:
            add(engine, 32, rank)
            asked = [(str(number), ids) for number, ids in enumerate(prompts(32))]
            speed(engine, asked, 2)
            size = engine._find("0").layout.size * 4  # type: ignore[union-attr]
            rate = speed(engine, asked, 32)
            yield row("rank", adapters=32, batch=32, rank=rank, tokens_per_cpu_s=rate, bytes_per_adapter=size)


def threads(base: BaseModel) -> Iterator[dict[str, object]]:
    """One thread and two: tokens per second on the wall, and per CPU second, an adapter for each request."""
    engines = {count: Engine(base, EngineLimits(prefix_bytes=0, threads=count)) for count in (1, 2)}
    for engine in engines.values():
        add(engine, 32, 8)
    for batch in (1, 8, 32):
        asked: list[tuple[str | None, list[int]]] = [(str(number), ids) for number, ids in enumerate(prompts(batch))]
        walls: dict[int, list[float]] = {count: [] for count in engines}

        def run(count: int, asked: list[tuple[str | None, list[int]]] = asked, walls: Any = walls) -> float:
            before = time.perf_counter()
            rate = speed(engines[count], asked, 64)
            walls[count].append(64 * len(asked) / (time.perf_counter() - before))
            return rate

        for engine in engines.values():
            speed(engine, asked, 2)
        rates = turns({count: partial(run, count) for count in engines})
        for count in engines:
            wall = statistics.median(walls[count])
            yield row(
                "threads", adapters=batch, batch=batch, threads=count, tokens_per_cpu_s=rates[count], tokens_per_s=wall
            )
    for engine in engines.values():
        engine.close()


def contexts(base: BaseModel) -> Iterator[dict[str, object]]:
    """A prompt of up to 8,000 tokens: CPU milliseconds to the first token, and the rate of 32 more after a cached prefix."""
    for context in (128, 512, 2048, 4096, 8000):
        with Engine(base, EngineLimits(batch=4, prefix_bytes=1 << 30, kv_bytes=4 << 30)) as engine:
            add(engine, 1, 8)
            asked: list[tuple[str | None, list[int]]] = [("0", prompts(1, context)[0])]
            speed(engine, [("0", prompts(1, 32, seed=1)[0])], 1)
            first, again = 1 / speed(engine, asked, 1), 1 / speed(engine, asked, 1)
            both = 33 / speed(engine, asked, 33)
            yield row(
                "context",
                adapters=1,
                batch=1,
                context=context,
                tokens_per_cpu_s=32 / (both - again),
                ttft_ms=1000 * first,
            )


def cold_and_warm(base: BaseModel, name: str) -> Iterator[dict[str, object]]:
    """CPU milliseconds to the first token of an adapter that was never used, and of one that was just used, in turn."""
    with Engine(base, EngineLimits(batch=4, prefix_bytes=0)) as engine:
        add(engine, 41, 8)
        ids = prompts(1)[0]
        found: dict[str, list[float]] = {"warm": [], "cold": []}
        for number in range(41):
            for state in ("cold", "warm"):
                before = cpu_seconds()
                engine.complete(str(number), ids, Sampling(max_tokens=1))
                if number:
                    found[state].append(1000 * (cpu_seconds() - before))
        for state, times in found.items():
            yield row(state, adapters=40, batch=1, ttft_ms=statistics.median(times)) | {"model": name}


def under_load(base: BaseModel) -> Iterator[dict[str, object]]:
    """Wall milliseconds to the first token and between pieces of text: 48 clients that ask again, 32 rows, 48 adapters."""
    first, between = [], []

    def client(number: int) -> None:
        for again in range(3):
            last = started = time.perf_counter()
            for event in engine.generate(
                str(number), prompts(1, 32, seed=number + 99 * again)[0], Sampling(max_tokens=32)
            ):
                now = time.perf_counter()
                if isinstance(event, Piece):
                    (first if last == started else between).append(1000 * (now - last))
                    last = now

    with Engine(base, EngineLimits(batch=32, prefix_bytes=0)) as engine:
        add(engine, 48, 8)
        threads = [threading.Thread(target=client, args=(number,)) for number in range(48)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for what, times in (("first token under load", first), ("between tokens under load", between)):
        cuts = statistics.quantiles(times, n=100)
        yield row(what, adapters=48, batch=32, p50_ms=cuts[49], p99_ms=cuts[98])


def starts_and_ends() -> Iterator[dict[str, object]]:
    """An engine's process, with compiled loops to make and then with those kept: CPU seconds to its first token, and wall
    seconds until it is gone once it is closed.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder
        for loops in ("made", "kept"):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            with EngineProcess(MODEL, EngineLimits(prefix_bytes=0)) as process:
                process.complete(None, prompts(1)[0], Sampling(max_tokens=1))
                closed = time.perf_counter()
            ended = time.perf_counter() - closed
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            yield row("start", adapters=0, batch=1, loops=loops, cpu_s=used, end_s=ended)
        del os.environ["NUMBA_CACHE_DIR"]


def grow(only: set[str]) -> Iterator[dict[str, object]]:
    """The tables of these names, or every table."""
    from bench.openlora import sizes
    from bench.openlora.__main__ import ROUNDS, turn
    from bench.openlora.loading import loading

    torch.set_num_threads(1)
    base = load_base(MODEL)
    tables: dict[str, Callable[[], Iterator[dict[str, object]]]] = {
        "cold": lambda: cold_and_warm(base, _MODEL),
        "cold-small": lambda: cold_and_warm(small_base(), _SMALL),
        "load": lambda: under_load(base),
        "batch": lambda: batches_and_ranks(base),
        "context": lambda: contexts(base),
        "threads": lambda: threads(base),
        "adapters": adapters_on_disk,
        "weights": lambda: sizes.weights(base),
        "precision": lambda: sizes.precisions(base),
        "large": lambda: sizes.large(ROUNDS),
        "start": starts_and_ends,
        "loading": loading,
    }
    if unknown := only - tables.keys():
        raise SystemExit(f"there is no table {', '.join(sorted(unknown))}; there are {', '.join(tables)}")
    for name, table in tables.items():
        if not only or name in only:
            # The large models take the lock themselves, for a round of one engine at a time.
            with nullcontext() if name == "large" else turn():
                for found in table():
                    print(f"… {found}", file=sys.stderr, flush=True)
                    yield {**found, "table": name}
