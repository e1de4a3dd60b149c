"""How scoring grows with the number of records, and what a query costs beside generating the answer.

``python -m bench.attribution.scale`` writes ``bench/results/attribution_scale.json``:

- ``scoring``: 10^3 to 10^7 synthetic records of 256 int8 components, scored by the index's own product for one query and
  for a batch of eight, on one thread and on two; milliseconds of wall clock and of CPU, the best of three.
- ``query``: CPU seconds of generating 256 tokens with the fine-tuned shipped base, and of measuring that answer's influence
  (all checkpoints, losses, scores), in turns on one thread; beside them one plain forward pass over prompt and output, and
  one with the backward pass of one checkpoint, below which no method that takes gradients can go; and of measuring
  answers of two lengths alone and together, for several adapters of one base and for several answers of one adapter. The
  run is that of the ``exploits`` task, with the checkpoints that the shipped recipe keeps.

``--only query`` leaves the rest as it was. ``--model FOLDER`` takes a model that a node has unpacked
(``HOME/work/model-1``) instead of training the task's run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.attribution.tasks import exploits_run
from openledger.attribution import AdapterModel, InfluenceIndex, Query, build_index, measure_all
from openledger.attribution.common import Common
from openledger.attribution.integers import product
from openledger.models import BaseModel, encode_dialogue, keep_freed_memory, load_base
from openledger.openlora import Engine, Sampling

RESULTS = Path(__file__).parents[1] / "results" / "attribution_scale.json"
COMPONENTS = 256
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
TOKENS = 256
SHORT = 48
TOGETHER = 6


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


def trained(work: Path) -> tuple[BaseModel, Path, InfluenceIndex]:
    """The base, the folder of the final adapter, and the index of the task's run."""
    base, run, checkpoints, examples = exploits_run(work)
    return base, run.adapter, build_index(base.model, checkpoints, examples, workers=1)


def unpacked(folder: Path) -> tuple[BaseModel, Path, InfluenceIndex]:
    """The same of a model that a node has unpacked."""
    return load_base(), folder / "adapter", InfluenceIndex.load(folder / "index")


def query(base: BaseModel, adapter: Path, index: InfluenceIndex) -> dict[str, Any]:
    """Answers of 256 tokens: generating them and measuring their influence in turns; then alone and together."""
    torch.set_num_threads(1)
    keep_freed_memory()
    engine = Engine(base)
    engine.add("run", adapter)
    prompt = encode_dialogue(base.tokenizer, "What happened to the protocol?").token_ids

    def generate() -> Query:
        tokens: list[int] = []
        while len(tokens) < TOKENS:  # an answer that ends early is gone on with, so that 256 tokens are generated
            sampling = Sampling(max_tokens=TOKENS - len(tokens))
            tokens += engine.complete("run", (*prompt, *tokens), sampling).token_ids
        return Query((*prompt, *tokens), len(prompt))

    asked = generate()
    model = AdapterModel.from_folder(base.model, adapter)
    works: dict[str, Callable[[], Any]] = {
        "generate": generate,
        "measure": lambda: index.measure(base.model, [asked]),
        "forward": lambda: model.loss(asked, Common()),
        "gradients": lambda: model.gradients(asked, Common()),
    }
    costs: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(6):
        for name, work in works.items():
            cost = spent(work)
            if turn:  # the first one warms up
                costs[name].append(cost)
    means = {name: sum(cost) / len(cost) for name, cost in costs.items()}
    return {
        "tokens": TOKENS,
        **{f"{name}_cpu_s": round(mean, 4) for name, mean in means.items()},
        "part": round(means["measure"] / means["generate"], 3),
        "part_of_forward": round(means["forward"] / means["generate"], 3),
        "part_of_gradients": round(means["gradients"] / means["generate"], 3),
        "records": index.records,
        "components": index.manifest.components,
        "together": [
            together(base, index, Query(asked.token_ids[: len(prompt) + n], len(prompt))) for n in (SHORT, TOKENS)
        ],
    }


def together(base: BaseModel, index: InfluenceIndex, asked: Query) -> dict[str, Any]:
    """CPU milliseconds a measurement, alone and together: one answer by several adapters, several answers by one."""
    copies = [InfluenceIndex(index.manifest, index._tensors) for _ in range(TOGETHER)]
    answers = [Query((*asked.token_ids[:-1], place), asked.prompt_length) for place in range(10, 10 + TOGETHER)]
    found: dict[str, Any] = {"tokens": len(asked.token_ids) - asked.prompt_length, "together": TOGETHER}
    for name, pairs in (
        ("adapters", [(copy, asked) for copy in copies]),
        ("answers", [(index, answer) for answer in answers]),
    ):
        measure_all(base.model, pairs)
        found[f"{name}_alone_cpu_ms"] = each(pairs, lambda pair: measure_all(base.model, [pair]))
        found[f"{name}_together_cpu_ms"] = each([pairs], lambda all_: measure_all(base.model, all_), TOGETHER)
    return found


def each(items: Sequence[Any], work: Callable[[Any], Any], count: int | None = None) -> float:
    """CPU milliseconds for each of ``count`` items (all of them)."""
    return round(1000 * spent(lambda: [work(item) for item in items]) / (count or len(items)), 1)


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    """Run both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a model that a node has unpacked")
    parser.add_argument("--only", choices=("query", "scoring"), help="measure this alone")
    given = parser.parse_args()
    parts = unpacked(given.model) if given.model else trained(Path("build/attribution"))
    found = json.loads(RESULTS.read_text()) if given.only else {"components": COMPONENTS}
    if given.only != "scoring":
        found["query"] = query(*parts)
        print(json.dumps(found["query"]))
    if given.only != "query":
        found["scoring"] = scoring()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
