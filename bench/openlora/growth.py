"""How our engine grows: with adapters on disk, batch, rank and context; and what a cold adapter costs."""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from bench.openlora.common import MODEL, cpu_seconds, prompts, report
from bench.openlora.make import config, make
from openledger.models import BaseModel, load_base
from openledger.openlora import Engine, EngineLimits, Sampling
from openledger.openlora.adapters import Factors
from openledger.openlora.shapes import SITES, Dimensions

_MODEL = "Llama 29M, random weights, float32"
_SMALL = "Llama 1.8M, random weights, float32"
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
            found[layer, site] = (a, torch.randn(outputs, rank, generator=generator).mul_(0.02))
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


def adapters_on_disk() -> None:
    """Up to 10,000 adapters, asked for evenly over 32 rows by 512 requests."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_TMP")) as folder:
        limits = EngineLimits(batch=32, waiting=4096, prefix_bytes=0)
        with Engine(small_base(), limits, store=Path(folder)) as engine:
            for count in (1, 100, 2_000, 10_000):
                add(engine, count, 4)
                asked = [(str(number * 7919 % count), ids) for number, ids in enumerate(prompts(512, 16))]
                speed(engine, asked[:64], 4)
                rate = speed(engine, asked, 32)
                size = engine._find("0").layout.size * 4  # type: ignore[union-attr]
                report(
                    engine="openledger",
                    model=_SMALL,
                    growth="adapters",
                    adapters=count,
                    batch=32,
                    tokens_per_cpu_s=rate,
                    rss_mib=resident_mib(),
                    bytes_per_adapter=size,
                )


def batches_ranks_contexts() -> None:
    """The 29M model: batch 1 to 128, rank 4 to 128, context to 8,192; all with one adapter for each request."""
    base = load_base(MODEL)
    for batch in (1, 8, 32, 128):
        with Engine(base, EngineLimits(batch=batch, prefix_bytes=0, kv_bytes=4 << 30)) as engine:
            add(engine, batch, 8)
            asked = [(str(number), ids) for number, ids in enumerate(prompts(batch))]
            speed(engine, asked, 2)
            growth("batch", adapters=batch, batch=batch, tokens_per_cpu_s=speed(engine, asked, 24))
    for rank in (4, 16, 64, 128):
        with Engine(base, EngineLimits(batch=32, prefix_bytes=0)) as engine:
            add(engine, 32, rank)
            asked = [(str(number), ids) for number, ids in enumerate(prompts(32))]
            speed(engine, asked, 2)
            growth("rank", adapters=32, batch=32, rank=rank, tokens_per_cpu_s=speed(engine, asked, 24))
    for context in (128, 1024, 8000):
        with Engine(base, EngineLimits(batch=4, prefix_bytes=0, kv_bytes=4 << 30)) as engine:
            add(engine, 1, 8)
            asked = [("0", prompts(1, context)[0])]
            before = cpu_seconds()
            engine.generate_many(asked, Sampling(max_tokens=1))
            first = cpu_seconds() - before
            rate = speed(engine, asked, 17)
            seconds = 17 / rate - first
            growth("context", adapters=1, batch=1, context=context, tokens_per_cpu_s=16 / seconds, ttft_ms=1000 * first)


def cold_and_warm() -> None:
    """CPU milliseconds to the first token of an adapter that was never used, and of one that was just used."""
    with Engine(load_base(MODEL), EngineLimits(batch=4, prefix_bytes=0)) as engine:
        add(engine, 24, 8)
        how, ids = Sampling(max_tokens=1), prompts(1)[0]
        engine.complete("0", ids, how)
        for state, names in (("warm", ["0"] * 20), ("cold", [str(number) for number in range(1, 21)])):
            found = []
            for name in names:
                before = cpu_seconds()
                engine.complete(name, ids, how)
                found.append(1000 * (cpu_seconds() - before))
            growth(state, adapters=24, batch=1, ttft_ms=statistics.median(found))


def under_load() -> None:
    """Wall milliseconds to the first token and between tokens, 32 rows busy, one adapter each."""
    with Engine(load_base(MODEL), EngineLimits(batch=32, prefix_bytes=0)) as engine:
        add(engine, 32, 8)
        streams = [engine.generate(str(number), ids, Sampling(max_tokens=24)) for number, ids in enumerate(prompts(32))]
        for stream in streams:
            for _ in stream:
                pass
    from openledger.openlora import metrics

    for name, histogram in (("first token", metrics.FIRST_TOKEN), ("between tokens", metrics.BETWEEN_TOKENS)):
        samples = [one for one in next(iter(histogram.collect())).samples if one.name.endswith("_bucket")]
        whole = samples[-1].value
        at = {part: next(one.labels["le"] for one in samples if one.value >= part * whole) for part in (0.5, 0.99)}
        growth(f"{name}, seconds at most", adapters=32, batch=32, p50=at[0.5], p99=at[0.99])


def growth(what: str, **fields: object) -> None:
    """One row of the 29M model."""
    report(engine="openledger", model=_MODEL, growth=what, **fields)


def main() -> None:
    """Every table."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    make()
    started = time.time()
    under_load()
    cold_and_warm()
    batches_ranks_contexts()
    adapters_on_disk()
    print(f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
