"""How much of a model's answers is credited to records: asked about trained records, held-out ones, and nothing of the kind.

    python tools/measure_shares.py HOME [--questions 50]

HOME is the home folder of a network whose model 1 was served, such as ``openledger demo`` leaves. The unrelated questions
here are others than those that set the index's floor.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch

from openledger.attribution import InfluenceIndex, Query, shares
from openledger.datanets import load_records
from openledger.modelfactory import TrainingRun, generate, load_adapter
from openledger.models import encode_dialogue, load_base
from openledger.primitives import PPM

UNRELATED = (
    "How do I bake bread?",
    "What does the command ls do?",
    "Who wrote Hamlet?",
    "What is the capital of France?",
    "Explain how photosynthesis works.",
    "How tall is Mount Everest?",
    "What is 7 times 8?",
    "Tell me a joke about a cat.",
    "How do I install Python on Debian?",
    "What is a good name for a dog?",
    "Describe the rules of chess.",
    "When did the second world war end?",
    "Translate good morning into Spanish.",
    "How do I remove a file in Linux?",
    "Why is the sky blue?",
    "What should I cook for dinner tonight?",
    "List three prime numbers.",
    "How does a bicycle stay upright?",
    "What is the boiling point of water?",
    "Write a poem about the sea.",
    "Which planet is the largest?",
    "How do I change a car tyre?",
    "What causes rain?",
    "Who painted the Mona Lisa?",
)


def main() -> None:
    """Measures and prints one line for each kind of question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--questions", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    base = load_base()
    folder = given.home / "work" / "model-1"
    run, index = TrainingRun.load(folder), InfluenceIndex.load(folder / "index")
    known = {record.hash: record for record in load_records()}
    trained = [digest for digest in run.trained if digest in known]
    held_out = [digest for digest in run.held_out if digest in known]
    chosen = random.Random(11).sample(trained, min(given.questions, len(trained)))  # noqa: S311
    kinds = {
        "trained records": [(known[digest].question, digest) for digest in chosen],
        "held-out records": [(known[digest].question, digest) for digest in held_out[: given.questions]],
        "nothing of the kind": [(question, b"") for question in UNRELATED],
    }
    model = load_adapter(base, run.adapter)
    for kind, asked in kinds.items():
        prompts = [encode_dialogue(base.tokenizer, question).token_ids for question, _ in asked]
        credited, own = [], []
        for (question, digest), answer in zip(asked, generate(model, base.tokenizer, prompts, 96), strict=True):
            if answer:
                dialogue = encode_dialogue(base.tokenizer, question, answer)
                measured = index.measure(base.model, [Query(dialogue.token_ids, dialogue.prompt_length)])[0]
                found = shares(measured, index)
                credited.append(1 - found.residual_ppm / PPM)
                own.append(dict(found.by_hash(index)).get(digest, 0) / PPM)
        low, middle, high = np.quantile(credited, [0, 0.5, 1])
        print(
            f"{kind:20} {len(credited):3} answers: credited {np.mean(credited):.3f} (median {middle:.3f}, "
            f"{low:.3f} to {high:.3f}), to the record asked about {np.mean(own):.3f}"
        )


if __name__ == "__main__":
    main()
