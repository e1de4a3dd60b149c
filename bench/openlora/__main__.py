"""Serving many adapters: our engine beside peft and vLLM, on the same model, prompts and adapters, one thread each.

Run ``python -m bench.openlora`` (``make bench-openlora``); rows go to ``bench/results/openlora.json`` and to the terminal. The
model is a 29M-parameter Llama with random weights, float32; an adapter has rank 8 on all seven linears. Each engine answers 32
requests of 32 prompt tokens and writes 64 tokens for each, greedily; ``adapters`` is how many different ones the 32 requests
use in turn, 0 for the base. ``tokens_per_cpu_s`` is tokens written per CPU second of the whole answer, reading the prompts
included; ``ttft_ms`` is CPU milliseconds until all 32 have their first token. CPU seconds are of all threads.

Peers run in processes and environments of their own (``bench/openlora/setup.sh``), vLLM with the allocator and OpenMP library
that its documentation names, once with LoRA enabled and, for its base, once without. One that is not installed is named and
left out.
BENCH_COUNTS=0,32 measures those numbers of adapters alone. After that the growth of our own engine: with adapters, batch, rank
and context.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.openlora.common import ROOT, WORK, chosen_counts
from bench.openlora.make import make

RESULTS = ROOT / "bench" / "results" / "openlora.json"
MODEL_NAME = "Llama 29M, random weights, float32"
_VLLM = WORK / "vllm" / "bin" / "python"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def measured(name: str, *command: str, **more: str) -> list[dict[str, object]]:
    """The rows that a process reports."""
    print(f"… {name}", file=sys.stderr, flush=True)
    environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **more}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    if done.returncode or not rows:
        print(f"{name} ended with {done.returncode}: {done.stderr[-1500:]}", file=sys.stderr)
    return rows


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


def main() -> None:
    """Runs everything; ``--peers`` the comparison alone, ``--growth`` our own growth alone."""
    only = set(sys.argv[1:])
    rows: list[dict[str, object]] = [] if not only or not RESULTS.exists() else json.loads(RESULTS.read_text())
    if not only or "--peers" in only:
        make()
        rows = [row for row in rows if "growth" in row]
        rows += measured("openledger", sys.executable, "-m", "bench.openlora.ours")
        adapted = ",".join(str(count) for count in chosen_counts() if count)
        if _VLLM.exists():
            vllm = (str(_VLLM), "-m", "bench.openlora.vllm_peer")
            rows += measured("vllm, base", *vllm, **vllm_environment(), BENCH_COUNTS="0")
            rows += measured("vllm, adapters", *vllm, **vllm_environment(), BENCH_COUNTS=adapted)
        else:
            print(f"vLLM is left out: {_VLLM} does not exist; run bench/openlora/setup.sh", file=sys.stderr)
        for mode in ("mixed", "switch"):
            rows += measured(f"peft, {mode}", sys.executable, "-m", "bench.openlora.peft_peer", mode)
        rows = [{"model": MODEL_NAME, **row} for row in rows]
    if not only or "--growth" in only:
        rows = [row for row in rows if "growth" not in row]
        rows += measured("growth", sys.executable, "-m", "bench.openlora.growth")
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


def show(rows: list[dict[str, object]]) -> None:
    """The rows as a table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*names)
    for row in rows:
        table.add_row(
            *(f"{row[name]:,.1f}" if isinstance(row.get(name), float) else str(row.get(name, "")) for name in names)
        )
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
    sys.exit(0 if Path(RESULTS).exists() else 1)
