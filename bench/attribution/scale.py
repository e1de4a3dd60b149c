"""How scoring grows with the number of records, and what a query costs beside generating the answer.

``python -m bench.attribution.scale`` writes ``bench/results/attribution_scale.json``:

- ``scoring``: 10^3 to 10^7 synthetic records of 256 int8 components, scored by the index's own product for one query and
  for a batch of eight, on one thread and on two; milliseconds of wall clock and of CPU, the best of three.
- ``query``: CPU seconds of generating 256 tokens with the fine-tuned shipped base, and of measuring that answer's influence
  (all checkpoints, losses, scores), on one thread. The run is that of the ``exploits`` task, with the checkpoints that
  the shipped recipe keeps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.attribution.tasks import exploits_run
from openledger.attribution import Query, build_index
from openledger.attribution.integers import product
from openledger.models import encode_dialogue
from openledger.openlora import Engine, Sampling

RESULTS = Path(__file__).parents[1] / "results" / "attribution_scale.json"
COMPONENTS = 256
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
TOKENS = 256


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of wall clock and of CPU, each the least of three."""
    work()
    walls, spent = [], []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(1000 * (time.perf_counter() - wall))
        spent.append(1000 * (time.process_time() - cpu))
    return round(min(walls), 3), round(min(spent), 3)


def scoring() -> list[dict[str, Any]]:
    """The growth curve."""
    rows = []
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        codes = torch.randint(-127, 128, (size, COMPONENTS), dtype=torch.int8, generator=generator)
        scales = torch.rand(size, generator=generator)
        for queries in (1, 8) if size < SIZES[-1] else (1,):
            embeddings = torch.randn(queries, COMPONENTS, generator=generator)
            for threads in (1, 2):
                torch.set_num_threads(threads)
                wall, cpu = timed(lambda: product(codes, embeddings) * scales)  # noqa: B023
                rows.append({"records": size, "queries": queries, "threads": threads, "wall_ms": wall, "cpu_ms": cpu})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def query(work: Path) -> dict[str, Any]:
    """One answer of 256 tokens: generating it, and measuring its influence."""
    torch.set_num_threads(1)
    base, run, checkpoints, examples = exploits_run(work)
    index = build_index(base.model, checkpoints, examples, workers=1)
    engine = Engine(base)
    engine.add("run", run.adapter)
    prompt = encode_dialogue(base.tokenizer, "What happened to the protocol?").token_ids
    begun = time.process_time()
    tokens: list[int] = []
    while len(tokens) < TOKENS:  # an answer that ends early is gone on with, so that 256 tokens are generated
        sampling = Sampling(max_tokens=TOKENS - len(tokens))
        tokens += engine.complete("run", (*prompt, *tokens), sampling).token_ids
    generated = time.process_time() - begun
    asked = Query((*prompt, *tokens), len(prompt))
    index.measure(base.model, [asked])
    begun = time.process_time()
    for _ in range(3):
        index.measure(base.model, [asked])
    measured = (time.process_time() - begun) / 3
    return {
        "tokens": TOKENS,
        "generate_cpu_s": round(generated, 3),
        "measure_cpu_s": round(measured, 3),
        "part": round(measured / generated, 3),
        "records": index.records,
        "components": index.manifest.components,
    }


def main() -> None:
    """Run both and write the result."""
    found = {"components": COMPONENTS, "query": query(Path("build/attribution")), "scoring": scoring()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["query"]))


if __name__ == "__main__":
    main()
