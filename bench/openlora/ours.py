"""OpenLedger's engine over the common workload."""

from __future__ import annotations

import torch

from bench.openlora.common import (
    ADAPTERS,
    BATCH,
    MODEL,
    OUTPUT,
    adapter_of,
    chosen_counts,
    cpu_seconds,
    prompts,
    report,
)
from bench.openlora.make import make
from openledger.openlora import Engine, EngineLimits, Sampling


def main() -> None:
    """One row for each number of adapters."""
    torch.set_num_threads(1)
    make()
    engine = Engine(MODEL, EngineLimits(batch=BATCH, prefix_bytes=0))
    for number in range(32):
        engine.add(str(number), ADAPTERS / str(number))

    def run(count: int, output: int, seed: int) -> tuple[int, float]:
        names = [adapter_of(row, count) for row in range(BATCH)]
        requests = [
            (None if name is None else str(name), ids) for name, ids in zip(names, prompts(seed=seed), strict=True)
        ]
        before = cpu_seconds()
        answers = engine.generate_many(requests, Sampling(max_tokens=output))
        return sum(len(answer.token_ids) for answer in answers), cpu_seconds() - before

    run(0, 4, 9)
    for count in chosen_counts():
        run(count, 4, 9)
        _, first = run(count, 1, 1)
        tokens, seconds = run(count, OUTPUT, 0)
        report(
            engine="openledger", adapters=count, batch=BATCH, tokens_per_cpu_s=tokens / seconds, ttft_ms=1000 * first
        )
    engine.close()


if __name__ == "__main__":
    main()
