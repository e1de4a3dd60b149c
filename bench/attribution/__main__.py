"""Attribution methods side by side: how well they predict real retraining, and what they cost.

``python -m bench.attribution [--tasks docs,long,code,exploits] [--methods ...] [--work build/attribution]`` makes the tasks'
ground truth (hours of CPU the first time, then reused), runs our engine here and every peer in an environment of its
own, and writes ``bench/results/attribution.json``. Rows of methods that were not asked for again are kept.

LDS is the mean over queries of the Spearman correlation between predicted and real loss over the retrainings, with a 95%
bootstrap interval over queries and retrainings. Where a peer has a setting that must be tuned, the best on the
odd retrainings is taken, and every method's LDS is over the even ones alone in ``lds_*_confirmed``.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from bench.attribution.tasks import CODE, DOCS, LONG, Task, exploits_task, window_task
from openledger.attribution import Settings, SpanIndex, build_index, influence, lds

RESULTS = Path(__file__).parents[1] / "results" / "attribution.json"
TASKS: dict[str, Callable[[Path], Task]] = {
    "docs": lambda work: window_task(work, DOCS),
    "long": lambda work: window_task(work, LONG),
    "code": lambda work: window_task(work, CODE),
    "exploits": exploits_task,
}
PEERS = (
    "kronfluence",
    "bergson ekfac",
    "bergson tracin",
    "bergson gradient dot",
    "dattri DataInf",
    "traker",
    "rank-bm25",
)
REORDERED = "retraining in another order"
Found = tuple[np.ndarray, float, float, float | None]
"""Scores [candidates, queries, records], CPU seconds to build, CPU milliseconds per query, bytes per record."""


def ours(task: Task) -> Found:
    """The public function as it comes: everything is measured anew in every call."""
    queries = (*task.documents, *task.generations)
    begun = time.process_time()
    scores = influence(task.adapted(), task.examples, task.checkpoints, queries)
    return scores[None], time.process_time() - begun, float("nan"), None


def index(task: Task) -> Found:
    """The compressed index that the network keeps, from the checkpoints that it keeps."""
    begun = time.process_time()
    built = build_index(task.base, task.served or task.checkpoints, task.examples, Settings(), workers=1)
    ready = time.process_time()
    scores = built.scores(task.base, (*task.documents, *task.generations))
    spent = time.process_time() - ready
    return scores[None], ready - begun, 1000 * spent / len(scores), built.manifest.components + 4


def spans(task: Task) -> Found:
    """Verbatim spans found by our suffix array, each counted by its length over the number of records that hold it."""
    begun = time.process_time()
    found = SpanIndex.build([example.token_ids for example in task.examples])
    ready = time.process_time()
    queries = (*task.documents, *task.generations)
    scores = found.scores([query.token_ids[query.prompt_length :] for query in queries])
    tokens = float(np.mean([len(example.token_ids) for example in task.examples]))
    return scores[None], ready - begun, 1000 * (time.process_time() - ready) / len(queries), 8 * tokens


OURS: dict[str, Callable[[Task], Found]] = {
    "openledger": ours,
    "openledger index": index,
    "verbatim spans": spans,
}


def peer(name: str, folder: Path, python: Path, limit: int) -> Found:
    """A method in the peers' environment, stopped after ``limit`` CPU seconds."""
    output, script = folder / "result.npz", Path(__file__).with_name("peers.py")
    command = [str(python), str(script), name, str(folder / "task.json"), str(output), str(limit)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        raise RuntimeError(f"it was stopped after {limit} CPU seconds")
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if "Error" in line]
        raise RuntimeError(told[-1] if told else f"it ended with exit code {done.returncode}")
    with np.load(output) as found:
        return found["scores"], float(found["build_cpu_s"].mean()), float(found["query_cpu_ms"].mean()), None


def reordered(task: Task) -> dict[str, Any] | None:
    """What retraining itself foretells when only the order of the records differs: nothing that does not know the order
    can be expected to do better. None where it is not known."""
    if task.reordered is None:
        return None
    again = task.reordered()
    count, same = len(task.documents), np.eye(len(again), dtype=bool)
    value: dict[str, Any] = {"task": task.name, "method": REORDERED}
    for name, part, losses in (
        ("documents", slice(0, count), task.document_losses),
        ("generations", slice(count, None), task.generation_losses),
    ):
        whole = lds(-again[:, part].T, same, losses[: len(again)])
        value[f"lds_{name}"] = round(whole.lds, 4)
        value[f"lds_{name}_interval"] = [round(whole.low, 4), round(whole.high, 4)]
    return value | {"retrainings": len(again)}


def hand_over(task: Task, folder: Path) -> None:
    """Write what a peer needs: no loss of any retraining is among it."""
    task.base.save_pretrained(str(folder / "base"))
    empty = PreTrainedTokenizerFast(  # some peers want a tokenizer; nothing is tokenised by it
        tokenizer_object=Tokenizer(WordLevel({"<none>": 0}, "<none>")),
        model_max_length=1 << 20,
    )
    empty.add_special_tokens(dict.fromkeys(("unk_token", "pad_token", "eos_token"), "<none>"))
    empty.save_pretrained(str(folder / "base"))
    points = []
    for point in task.checkpoints:
        target = folder / f"step-{point.step}"
        target.mkdir()
        config = json.loads((point.path / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = str(folder / "base")
        (target / "adapter_config.json").write_text(json.dumps(config))
        weights = (point.path / "adapter_model.safetensors").read_bytes()
        (target / "adapter_model.safetensors").write_bytes(weights)
        points.append({"path": str(target), "rate": point.learning_rate})
    rows = [
        [
            {"token_ids": [int(token) for token in item.token_ids], "prompt_length": item.prompt_length, "text": text}
            for item, text in zip(items, texts, strict=True)
        ]
        for items, texts in (
            (task.examples, task.texts),
            ((*task.documents, *task.generations), task.query_texts),
        )
    ]
    value = {"base": str(folder / "base"), "checkpoints": points, "records": rows[0], "queries": rows[1]}
    (folder / "task.json").write_text(json.dumps(value))


def row(task: Task, method: str, found: Found) -> dict[str, Any]:
    """One line of the table; of several candidates the best on the odd retrainings."""
    candidates, build, query, size = found
    count = len(task.documents)
    losses = np.concatenate([task.document_losses, task.generation_losses], axis=1)
    odd, even = slice(1, None, 2), slice(0, None, 2)
    chosen = max(
        range(len(candidates)), key=lambda place: lds(candidates[place], task.kept[odd], losses[odd], draws=0).lds
    )
    scores = candidates[chosen]
    value: dict[str, Any] = {"task": task.name, "method": method}
    for name, part in (("documents", slice(0, count)), ("generations", slice(count, None))):
        whole = lds(scores[part], task.kept, losses[:, part])
        value[f"lds_{name}"] = round(whole.lds, 4)
        value[f"lds_{name}_interval"] = [round(whole.low, 4), round(whole.high, 4)]
        value[f"lds_{name}_confirmed"] = round(
            lds(scores[part], task.kept[even], losses[even][:, part], draws=0).lds, 4
        )
    value |= {
        "build_cpu_s": round(build, 2),
        "query_cpu_ms": None if np.isnan(query) else round(query, 2),
        "bytes_per_record": size if size is None else round(size),
        "candidate": chosen if len(candidates) > 1 else None,
        "retrainings": len(task.kept),
    }
    return value


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join((*OURS, *PEERS, REORDERED)))
    parser.add_argument("--work", type=Path, default=Path("build/attribution"))
    parser.add_argument("--peers", type=Path, default=Path("build/peers"))
    parser.add_argument("--limit", type=int, default=3600, help="CPU seconds after which a peer is stopped")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    methods = asked.methods.split(",")
    if set(methods) & set(PEERS):
        subprocess.run(["bash", str(Path(__file__).with_name("peers.sh")), str(asked.peers)], check=True)
    for name in asked.tasks.split(","):
        task = TASKS[name](asked.work)
        with tempfile.TemporaryDirectory() as scratch:
            hand_over(task, Path(scratch))
            for method in methods:
                if method == REORDERED:
                    if control := reordered(task):
                        print(json.dumps(control), flush=True)
                        _keep(control)
                    continue
                try:
                    found = (
                        OURS[method](task)
                        if method in OURS
                        else peer(method, Path(scratch), asked.peers.absolute() / "bin" / "python", asked.limit)
                    )
                    value = row(task, method, found)
                except RuntimeError as error:
                    value = {"task": task.name, "method": method, "error": str(error)}
                print(json.dumps(value), flush=True)
                _keep(value)
    print(table(json.loads(RESULTS.read_text())))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The result file as the table in docs/attribution.md, in Markdown."""
    head = (
        "task",
        "method",
        "LDS, held-out documents",
        "LDS, own generations",
        "build, CPU-s",
        "query, CPU-ms",
        "bytes per record",
    )
    lines = [head, ("---",) * len(head)]
    for one in rows:
        if "error" in one:
            lines.append((one["task"], one["method"], "not run to its end", "", "", "", ""))
            continue
        scores = (
            f"{one[f'lds_{name}']:.2f} ({one[f'lds_{name}_interval'][0]:.2f} to {one[f'lds_{name}_interval'][1]:.2f})"
            for name in ("documents", "generations")
        )
        costs = (one.get(name) for name in ("build_cpu_s", "query_cpu_ms", "bytes_per_record"))
        shown = ("" if cost is None else f"{cost:.1f}" if 0 < cost < 10 else f"{cost:.0f}" for cost in costs)
        lines.append((one["task"], one["method"], *scores, *shown))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _keep(value: dict[str, Any]) -> None:
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    kept = [one for one in rows if (one["task"], one["method"]) != (value["task"], value["method"])]
    kept.append(value)
    order = [*OURS, *PEERS, REORDERED]
    kept.sort(key=lambda one: (list(TASKS).index(one["task"]), order.index(one["method"])))
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
