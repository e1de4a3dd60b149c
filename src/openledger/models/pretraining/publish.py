"""Turn a finished pretraining run into the folder that ships: weights, tokenizer, model card, training log."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from openledger.models.base import SHIPPED

_SHIPPED_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


def publish(work: Path, output: Path = SHIPPED) -> None:
    """Copy the last checkpoint's model to ``output`` and write ``training.json`` and ``README.md`` beside it.

    Args:
        work: the pretraining folder: ``run/checkpoint`` and ``sources.json``.
        output: the folder that ships.
    """
    checkpoint = work / "run" / "checkpoint"
    state = json.loads((checkpoint / "state.json").read_text())
    sources = json.loads((work / "sources.json").read_text())
    output.mkdir(parents=True, exist_ok=True)
    for name in _SHIPPED_FILES:
        shutil.copyfile(checkpoint / name, output / name)
    last = state["curve"][-1]
    per_byte = _bits_per_byte(work, output, last["held_out_documents"])
    log = {
        "settings": state["settings"],
        "steps": state["step"],
        "seconds": round(state["seconds"], 1),
        "tokens": last["tokens"],
        "held_out": {
            "documents_nats_per_token": last["held_out_documents"],
            "documents_bits_per_byte": per_byte,
            "dialogues_nats_per_token": last["held_out_dialogues"],
        },
        "curve": state["curve"],
        "sources": {
            name: {"licence": source["licence"], "characters": source["characters"]}
            for name, source in sources["sources"].items()
        },
        "dialogues": sources["dialogues"],
    }
    (output / "training.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    (output / "README.md").write_text(_card(log, json.loads((output / "config.json").read_text())), encoding="utf-8")


def _bits_per_byte(work: Path, tokenizer_folder: Path, nats: float) -> float:
    """Held-out loss per byte of text, from the tokens per byte of the last thousand documents."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    with (work / "documents.jsonl").open(encoding="utf-8") as stream:
        texts = [json.loads(line)["text"] for line in stream][-1000:]
    tokens = sum(len(row) for row in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    return round(nats / math.log(2) * tokens / sum(len(text.encode()) for text in texts), 4)


def _card(log: dict[str, Any], config: dict[str, Any]) -> str:
    hidden, layers, wide = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["head_dim"]
    block = hidden * width * (2 * heads + 2 * shared) + 3 * hidden * wide + 2 * hidden
    parameters = config["vocab_size"] * hidden + layers * block + hidden
    rows = "\n".join(
        f"| {name} | {source['characters'] / 1e6:.2f} MB | {source['licence']} |"
        for name, source in log["sources"].items()
    )
    pairs = "\n".join(f"| {kind} | {count:,} |" for kind, count in log["dialogues"].items())
    held = log["held_out"]
    return f"""---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# openledger-base

A Llama-architecture causal language model with {parameters / 1e6:.2f} million parameters, small enough to be
fine-tuned on two CPU cores in about a minute. It ships with OpenLedger so that every system works offline; for
answers that people rely on, fine-tune a larger model from the hub with the same commands.

| | |
|---|---|
| shape | {layers} layers, width {hidden}, {heads} heads ({shared} for keys and values), SwiGLU {wide}, tied embeddings |
| context | {config["max_position_embeddings"]} tokens |
| tokenizer | byte-level BPE, {config["vocab_size"]:,} tokens, each digit its own token |
| dialogue | `<|bos|><|user|>question<|assistant|>answer<|eos|>`, optional `<|system|>` first |
| trained on | {log["tokens"] / 1e6:.1f} million tokens, {log["seconds"] / 60:.0f} minutes on two shared CPU cores |
| held-out text | {held["documents_nats_per_token"]:.3f} nats per token, {held["documents_bits_per_byte"]:.3f} bits per byte |
| held-out dialogues | {held["dialogues_nats_per_token"]:.3f} nats per token |

It writes English of a technical kind and knows the form of a question and its answer. It knows few facts, makes
many up, and was taught nothing about blockchain incidents: what it can say about them after fine-tuning comes
from the Datanet. It was not trained to refuse anything. Do not rely on what it says by itself.

## How it was made
`python -m openledger.models.pretraining all --work FOLDER` makes it again from its sources on a Debian machine
with apt-get and npm. Optimisers: Muon for the layers' matrices, AdamW for the rest; warm-up, constant rate,
linear decay in the last {log["settings"]["decay"]:.0%}, where the share of dialogues rises from
{log["settings"]["dialogue_share"]:.0%} to {log["settings"]["decay_dialogue_share"]:.0%}. Settings and the whole
loss curve are in `training.json`. Every 200th packed row of each stream was held out.

## Sources
Characters are those left after cleaning and removing duplicates. Paragraphs that are not English prose (code,
tables, menus) were dropped. Names of people in change logs were not used.

| source | text | licence |
|---|---|---|
{rows}

Dialogues were built by fixed patterns from the same packages, the Free On-line Dictionary of Computing
(GFDL-1.1-or-later, no invariant sections) and WordNet 3.0 (WordNet licence):

| kind | pairs |
|---|---|
{pairs}

WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. The weights are published under
Apache-2.0; the texts stay under their own licences and are not part of the package.
"""
