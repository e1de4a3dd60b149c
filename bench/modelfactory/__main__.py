"""How fast fine-tuning remembers: the default recipe beside AdamW, which people use with peft, and beside its own variants.

Run ``python -m bench.modelfactory``; the table goes to ``bench/results/modelfactory.json`` and to the terminal, about a
quarter of an hour on one core. Base: the one that ships. Records: those of the exploits Datanet, in the order of their hashes.

The short runs train 360 records, less the held-out ones, for five epochs with the batch in one part, hence on one thread.
The full runs train on every record that is not held out and then ask 100 of them. Columns: mean loss over the last epoch,
nats per record, each batch measured before its step; CPU seconds of the training; and, for full runs, answers that are
right word for word and answers that hold every fact.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from openledger.datanets import load_records
from openledger.modelfactory import Recipe, TrainingRecord, evaluate, examples_of, train
from openledger.models import load_base

RESULTS = Path(__file__).resolve().parents[1] / "results" / "modelfactory.json"
SHORT = 360
_SHORT = {"epochs": 5, "shards": 1, "holdout": 0.02}
_WHOLE = {"upper_layers": 1.0, "rank": 64, "alpha": 128}
_ALL = {**_WHOLE, "target_modules": "all-linear"}
_ADAMW = {**_ALL, "optimiser": "adamw", "batch_size": 4}
RUNS = (
    ("adamw + peft", {**_ADAMW, "rank": 16, "alpha": 32, "learning_rate": 0.003}),
    ("adamw + peft", {**_ADAMW, "learning_rate": 0.002}),
    ("openledger", _ALL),
    ("openledger", _WHOLE),
    ("openledger, bfloat16", {**_WHOLE, "precision": "bfloat16"}),
    ("openledger", {"rank": 64, "alpha": 128}),
    ("openledger", {"upper_layers": 0.25, "rank": 256, "alpha": 512}),
    ("openledger, default", {}),
)
FULL_EPOCHS = (8, Recipe().epochs)


@dataclass(frozen=True)
class Row:
    """One run; see the module for the columns."""

    method: str
    records: int
    epochs: int
    layers: str
    upper_layers: float
    rank: int
    batch: int
    learning_rate: float
    nats_per_record: float
    train_cpu_s: float
    asked: int = 0
    exact: int = 0
    with_facts: int = 0
    contains: int = 0


def measure() -> Iterator[Row]:
    """Every row."""
    base = load_base()
    records = sorted(
        (TrainingRecord(r.hash, r.question, r.answer, tuple(map(str, r.facts.values()))) for r in load_records()),
        key=lambda record: record.record_hash,
    )
    runs = [(method, records[:SHORT], Recipe(**{**_SHORT, **change}), False) for method, change in RUNS]
    runs += [("openledger", records, Recipe(epochs=epochs), True) for epochs in FULL_EPOCHS]
    for method, given, recipe, ask in runs:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.process_time()
            run = train(base, given, recipe, Path(folder) / "run")
            cpu = time.process_time() - begun
            tokens = sum(len(dialogue.answer_ids) for _, dialogue in examples_of(base, given, run))
            epoch = run.losses[-(len(run.losses) // recipe.epochs) :]
            row = Row(
                method=method,
                records=len(run.trained),
                epochs=recipe.epochs,
                layers=str(recipe.target_modules),
                upper_layers=recipe.upper_layers,
                rank=recipe.rank,
                batch=recipe.batch_size,
                learning_rate=recipe.learning_rate,
                nats_per_record=round(sum(epoch) / len(epoch) * tokens / len(run.trained), 2),
                train_cpu_s=round(cpu, 1),
            )
            if not ask:
                yield row
                continue
            found = evaluate(base, run.adapter, run, given)
            assert found.tuned is not None
            asked = {"asked": found.sampled, "exact": found.tuned.exact}
            facts = {"with_facts": found.with_facts, "contains": found.tuned.contains}
            yield Row(**{**asdict(row), **asked, **facts})


def main() -> None:
    """Measure, print and write."""
    table = Table(
        "method",
        "layers",
        "upper",
        "records",
        "epochs",
        "rank",
        "batch",
        "rate",
        "nats a record",
        "CPU s",
        "exact",
        "facts",
    )
    rows = []
    for row in measure():
        rows.append(row)
        told = f"{row.exact} of {row.asked}", f"{row.contains} of {row.with_facts}"
        table.add_row(
            *(row.method, row.layers, f"{row.upper_layers:.0%}", f"{row.records}", f"{row.epochs}", f"{row.rank}"),
            *(f"{row.batch}", f"{row.learning_rate:g}", f"{row.nats_per_record:.1f}", f"{row.train_cpu_s:.0f}"),
            *(told if row.asked else ("", "")),
        )
        print(row.method, row.nats_per_record, flush=True)
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
