"""Our engine over the common workload."""

from __future__ import annotations

import torch

from bench.openlora.common import ADAPTERS, BATCH, MODEL, adapter_of, answer, prompts
from openledger.openlora import Engine, EngineLimits, Sampling


def main() -> None:
    """Answers the parent."""
    torch.set_num_threads(1)
    with Engine(MODEL, EngineLimits(batch=BATCH, prefix_bytes=0)) as engine:
        for number in range(32):
            engine.add(str(number), ADAPTERS / str(number))

        def run(count: int, output: int, seed: int) -> int:
            names = [adapter_of(row, count) for row in range(BATCH)]
            requests = [
                (None if name is None else str(name), ids) for name, ids in zip(names, prompts(seed=seed), strict=True)
            ]
            answers = engine.generate_many(requests, Sampling(max_tokens=output))
            return sum(len(one.token_ids) for one in answers)

        answer(run)


if __name__ == "__main__":
    main()
