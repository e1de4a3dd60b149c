"""Serving many adapters: our engine beside peft and vLLM, on the same model, prompts and adapters, one thread each.

Run ``python -m bench.openlora`` (``make bench-openlora``); rows go to ``bench/results/openlora.json`` and to the terminal. The
model is a 29M-parameter Llama with random weights, float32; an adapter has rank 8 on all seven linears. Each engine answers 32
requests of 32 prompt tokens and writes 64 tokens for each, greedily; ``adapters`` is how many different ones the 32 requests
use in turn, 0 for the base. ``tokens_per_cpu_s`` is tokens written per CPU second of the whole answer, reading the prompts
included; ``ttft_ms`` is CPU milliseconds until all 32 have their first token. CPU seconds are of all threads.

Every engine is loaded once, in a process and environment of its own (``bench/openlora/setup.sh``). They then take turns, three
rounds of them (BENCH_ROUNDS gives another number), so that what else the machine does hits all alike; a row is the median of the
rounds, ``low`` and ``high`` their ends.
vLLM has the allocator and OpenMP library that its documentation names, once with LoRA enabled and, for its base, once without.
A peer that is not installed is named and left out: llama.cpp always, since it comes as sources only.

BENCH_COUNTS=0,32 measures those numbers of adapters alone. BENCH_LOCK names a file that is locked for each round, where several
share a machine. After that the growth of our own engine (``bench.openlora.growth``).
"""

from __future__ import annotations

import fcntl
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.openlora.common import BATCH, COUNTS, OUTPUT, ROOT, WORK
from bench.openlora.make import make

RESULTS = ROOT / "bench" / "results" / "openlora.json"
MODEL_NAME = "Llama 29M, random weights, float32"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
_VLLM = WORK / "vllm" / "bin" / "python"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@contextmanager
def turn() -> Iterator[None]:
    """Holds the lock that BENCH_LOCK names, if it does."""
    path = os.environ.get("BENCH_LOCK")
    if path is None:
        yield
        return
    with Path(path).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Worker:
    """An engine in a process of its own.

    Args:
        name: the engine's.
        counts: the numbers of adapters that it is asked for.
        command: what runs it.
        more: more environment variables.
    """

    def __init__(self, name: str, counts: tuple[int, ...], *command: str, **more: str) -> None:
        self.name = name
        self.counts = counts
        print(f"… loading {name}", file=sys.stderr, flush=True)
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **more}
        self._log = (WORK / f"{name.replace(' ', '-')}.log").open("w")
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._row()

    def run(self, adapters: int, output: int, seed: int) -> tuple[int, float]:
        """(tokens written, CPU seconds)."""
        assert self._process.stdin is not None
        print(json.dumps({"adapters": adapters, "output": output, "seed": seed}), file=self._process.stdin, flush=True)
        row = self._row()
        return row["tokens"], row["cpu_s"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()

    def _row(self) -> dict[str, object]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ROW "):
                return json.loads(line[4:])
        raise SystemExit(f"{self.name} ended with {self._process.wait()}; see {self._log.name}")


def vllm_environment() -> dict[str, str]:
    """vLLM's best documented settings for one thread."""
    preload = [*(WORK / "vllm" / "lib").glob("libiomp5.so"), *WORK.glob("tcmalloc/usr/lib/*/libtcmalloc_minimal.so.4")]
    return {
        "LD_PRELOAD": ":".join(map(str, preload)),
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
    }


def workers(counts: tuple[int, ...]) -> Iterator[Worker]:
    """Every engine that is installed, loaded."""
    adapted = tuple(count for count in counts if count)
    yield Worker("openledger", counts, sys.executable, "-m", "bench.openlora.ours")
    if _VLLM.exists():
        command = (str(_VLLM), "-m", "bench.openlora.vllm_peer")
        if 0 in counts:
            yield Worker("vllm", (0,), *command, "base", **vllm_environment())
        if adapted:
            yield Worker("vllm with adapters", adapted, *command, "lora", **vllm_environment())
    else:
        print(f"vLLM is left out: {_VLLM} does not exist; run bench/openlora/setup.sh", file=sys.stderr)
    print("llama.cpp is left out: it has no wheel", file=sys.stderr)
    command = (sys.executable, "-m", "bench.openlora.peft_peer")
    yield Worker("peft adapter_names", counts, *command, "mixed")
    if adapted:
        yield Worker("peft set_adapter", adapted, *command, "switch")


def write(rows: list[dict[str, object]]) -> None:
    """Keeps the rows."""
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def compare(counts: tuple[int, ...], earlier: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows of every engine and number of adapters; of the earlier rows, the other tables are kept at every round."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        engines = []
        with turn():
            for worker in workers(counts):
                stack.callback(worker.close)
                engines.append(worker)
        with turn():
            for count in counts:
                for worker in engines:
                    if count in worker.counts:
                        worker.run(count, 4, 9)
        for number in range(ROUNDS):
            with turn():
                for count in counts:
                    for worker in (one for one in engines if count in one.counts):
                        _, first = worker.run(count, 1, number)
                        tokens, seconds = worker.run(count, OUTPUT, number)
                        found.setdefault((worker.name, count), []).append((tokens / seconds, 1000 * first))
                        print(f"… {worker.name}, {count} adapters: {tokens / seconds:.0f}", file=sys.stderr, flush=True)
            write(rows_of(found) + [row for row in earlier if "table" in row])
    return rows_of(found)


def rows_of(found: dict[tuple[str, int], list[tuple[float, float]]]) -> list[dict[str, object]]:
    """A row for each engine and number of adapters, from each round's (tokens per CPU second, milliseconds)."""
    rows: list[dict[str, object]] = []
    for (name, count), runs in found.items():
        rates = sorted(rate for rate, _ in runs)
        rows.append(
            {
                "engine": name.removesuffix(" with adapters") if count or "peft" not in name else "transformers",
                "model": MODEL_NAME,
                "adapters": count,
                "batch": BATCH,
                "rounds": len(runs),
                "tokens_per_cpu_s": statistics.median(rates),
                "low": rates[0],
                "high": rates[-1],
                "ttft_ms": statistics.median(first for _, first in runs),
            }
        )
    return rows


def main() -> None:
    """Runs everything; ``--peers`` the comparison alone, ``--growth`` our own growth alone, or the tables named after it."""
    only = set(sys.argv[1:])
    rows: list[dict[str, object]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    make()
    if not only or "--peers" in only:
        chosen = os.environ.get("BENCH_COUNTS")
        counts = tuple(map(int, chosen.split(","))) if chosen else COUNTS
        rows = compare(counts, rows) + [row for row in rows if "table" in row]
        write(rows)
    if not only or "--growth" in only:
        from bench.openlora.growth import grow

        begun: set[object] = set()
        for found in grow({name for name in only if not name.startswith("--")}):
            if found["table"] not in begun:
                begun.add(found["table"])
                rows = [row for row in rows if row.get("table") != found["table"]]
            rows.append(found)
            write(rows)
    show(rows)


def show(rows: list[dict[str, object]]) -> None:
    """The rows in a table for each thing that was measured, with the columns that it has."""
    groups: dict[tuple[object, object], list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault((row.get("table", "beside its peers"), row["model"]), []).append(row)
    for (title, model), group in groups.items():
        names = [
            name for name in dict.fromkeys(name for row in group for name in row) if name not in ("table", "model")
        ]
        table = Table(*names, title=f"{title}: {model}", title_justify="left")
        for row in group:
            cells = (row.get(name, "") for name in names)
            table.add_row(*(f"{cell:,.1f}" if isinstance(cell, float) else str(cell) for cell in cells))
        Console(width=160).print(table)


if __name__ == "__main__":
    main()
