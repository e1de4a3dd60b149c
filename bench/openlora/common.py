"""The workload that every engine gets: one random Llama, random adapters in peft's format, and the same prompts.

Imported by each engine's own process, also under the peers' environments, so it needs torch and transformers alone.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "openlora"
MODEL = WORK / "llama-29m"
ADAPTERS = WORK / "adapters"
PROMPT, OUTPUT, BATCH = 32, 64, 32
COUNTS = (0, 1, 8, 32)
LAYERS, HIDDEN, INNER, VOCABULARY, RANK = 8, 512, 1408, 8192, 8


def prompts(count: int = BATCH, length: int = PROMPT, seed: int = 0) -> list[list[int]]:
    """Token ids, different for each request."""
    state, found = 12345 + seed, []
    for _ in range(count):
        row = []
        for _ in range(length):
            state = (1103515245 * state + 12345) % 2**31
            row.append(10 + state % (VOCABULARY - 20))
        found.append(row)
    return found


def adapter_of(row: int, count: int) -> int | None:
    """The adapter of a request when ``count`` are in use, one after the other; None for the base."""
    return None if count == 0 else row % count


def cpu_seconds() -> float:
    """CPU time of this process and the processes that it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def report(**row: object) -> None:
    """One row for the parent process."""
    print("ROW " + json.dumps(row), flush=True)


def answer(run: Callable[[int, int, int], int]) -> None:
    """Serves the parent: each line of input asks for a run, whose tokens and CPU seconds are told.

    Args:
        run: (different adapters, tokens to write for each prompt, seed of the prompts) → tokens written.
    """
    report(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        before = cpu_seconds()
        tokens = run(asked["adapters"], asked["output"], asked["seed"])
        report(tokens=tokens, cpu_s=cpu_seconds() - before)
