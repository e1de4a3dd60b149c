"""How far scores and shares drift when another instruction set does the arithmetic.

``python -m bench.attribution.drift --model HOME/work/model-1`` takes a model that a node has unpacked, lets it answer
questions about its records, held-out ones and everyday ones, and measures the answers in processes whose libraries
are told to use other instructions: what another kind of processor does, as far as one machine can show it. Writes
``bench/results/attribution_drift.json``: for each setting, against the one that the machine chooses by itself,

- ``score_ppm``: largest and median difference of a score, in ppm of the answer's largest;
- ``loss_ppm``: largest relative difference of a loss;
- ``share_ppm``: largest difference of a share or residual, and of how many answers any differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openledger.attribution import InfluenceIndex, Query, shares
from openledger.datanets import load_records
from openledger.modelfactory import TrainingRun, generate, load_adapter
from openledger.models import encode_dialogue, load_base
from openledger.node.unrelated import QUESTIONS

RESULTS = Path(__file__).parents[1] / "results" / "attribution_drift.json"
SETTINGS: dict[str, dict[str, str]] = {
    "again": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4.2": {"ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "compatible": {"ATEN_CPU_CAPABILITY": "default", "DNNL_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
ANSWERS = {"trained": 24, "held out": 8, "everyday": 8}


def answers(folder: Path) -> list[Query]:
    """The model's own answers."""
    base, run = load_base(), TrainingRun.load(folder)
    known = {record.hash: record.question for record in load_records()}
    trained = [known[digest] for digest in run.trained if digest in known]
    held_out = [known[digest] for digest in run.held_out if digest in known]
    order = np.random.default_rng(5).permutation(len(trained))[: ANSWERS["trained"]]
    asked = [*(trained[place] for place in order), *held_out[: ANSWERS["held out"]], *QUESTIONS[: ANSWERS["everyday"]]]
    prompts = [encode_dialogue(base.tokenizer, question).token_ids for question in asked]
    found = generate(load_adapter(base, run.adapter), base.tokenizer, prompts, 96)
    dialogues = [
        encode_dialogue(base.tokenizer, question, answer) for question, answer in zip(asked, found, strict=True)
    ]
    return [Query(dialogue.token_ids, dialogue.prompt_length) for dialogue in dialogues]


def measure(folder: Path, asked: Path, output: Path) -> None:
    """What a child process does: measure the answers under the instructions that its environment names."""
    torch.set_num_threads(1)
    base, index = load_base(), InfluenceIndex.load(folder / "index")
    queries = [Query(tokens, prompt) for tokens, prompt in json.loads(asked.read_text())]
    measured = index.measure(base.model, queries)
    divided = np.zeros((len(queries), index.records + 1), np.int64)
    for row, one in zip(divided, measured, strict=True):
        found = shares(one, index)
        row[list(found.ppm)] = list(found.ppm.values())
        row[-1] = found.residual_ppm
    np.savez(
        output,
        scores=np.stack([one.scores for one in measured]),
        losses=np.asarray([(one.base_loss, one.adapted_loss) for one in measured]),
        shares=divided,
    )


def compared(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict[str, Any]:
    """Differences in ppm."""
    largest = np.abs(before["scores"]).max(axis=1, keepdims=True)
    scores = 1e6 * np.abs(after["scores"].astype(float) - before["scores"]) / largest
    divided = np.abs(after["shares"] - before["shares"])
    return {
        "same_bits": bool(all(np.array_equal(before[name], after[name]) for name in before)),
        "score_ppm": {"largest": round(float(scores.max()), 2), "median": round(float(np.median(scores)), 3)},
        "loss_ppm": round(float(1e6 * np.abs(after["losses"] / before["losses"] - 1).max()), 3),
        "share_ppm": {
            "largest": int(divided.max()),
            "largest_of_each_answer": sorted(divided.max(axis=1).tolist(), reverse=True)[:8],
            "answers_that_differ": int((divided.max(axis=1) > 0).sum()),
        },
    }


def main() -> None:
    """Run every setting and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a model that a node has unpacked")
    parser.add_argument("--measure", type=Path, nargs=2, metavar=("ASKED", "OUTPUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.model, *given.measure)
        return
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch) / "asked.json"
        queries = answers(given.model)
        asked.write_text(json.dumps([(list(query.token_ids), query.prompt_length) for query in queries]))
        found: dict[str, dict[str, np.ndarray]] = {}
        for name, changes in {"own": {}, **SETTINGS}.items():
            output = Path(scratch) / "found.npz"
            command = [sys.executable, "-m", "bench.attribution.drift", "--model", str(given.model)]
            subprocess.run([*command, "--measure", str(asked), str(output)], check=True, env={**os.environ, **changes})
            with np.load(output) as read:
                found[name] = dict(read)
            print(name, json.dumps(compared(found["own"], found[name])), flush=True)
    credited = int((found["own"]["shares"][:, :-1].sum(axis=1) > 0).sum())
    document = {
        "answers": len(queries),
        "answers_that_credit_records": credited,
        "settings": {name: {"environment": SETTINGS[name], **compared(found["own"], found[name])} for name in SETTINGS},
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
