"""Measure a fine-tuned model against its base: exact and factual answers, and loss on seen and unseen records."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from openledger.modelfactory.adapters import adapter_digest, load_adapter
from openledger.modelfactory.training import TrainingRecord, TrainingRun, answer_losses, examples_of
from openledger.models import BaseModel, Dialogue, decode_answer, encode_dialogue, pinned
from openledger.primitives.canonical import canonical_bytes
from openledger.primitives.errors import InputError, ModelError
from openledger.primitives.hashing import keccak, to_hex

_BATCH = 50


@dataclass(frozen=True, slots=True)
class Score:
    """What one model did; counts are of sampled records.

    Attributes:
        exact: answers that are the record's answer, white space at the ends aside.
        contains: answers that hold every one of the record's facts.
        held_in_loss: nats per answer token over the sampled trained records.
        held_out_loss: the same over the held-out records; None when there are none.
    """

    exact: int
    contains: int
    held_in_loss: float
    held_out_loss: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; losses with six decimals."""
        return {
            "exact": self.exact,
            "contains": self.contains,
            "held_in_loss": self.held_in_loss,
            "held_out_loss": self.held_out_loss,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Base against tuned on the same sample.

    Attributes:
        base_digest: 32 bytes.
        adapter_digest: 32 bytes; None when only the base was measured.
        sampled: trained records that were asked.
        with_facts: how many of them have facts; ``contains`` counts among these.
        held_out: records in the held-out loss.
        base: the base model's score.
        tuned: the tuned model's score; None without an adapter.
    """

    base_digest: bytes
    adapter_digest: bytes | None
    sampled: int
    with_facts: int
    held_out: int
    base: Score
    tuned: Score | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; hashes in hex."""
        return {
            "base_digest": to_hex(self.base_digest),
            "adapter_digest": None if self.adapter_digest is None else to_hex(self.adapter_digest),
            "sampled": self.sampled,
            "with_facts": self.with_facts,
            "held_out": self.held_out,
            "base": self.base.to_json(),
            "tuned": None if self.tuned is None else self.tuned.to_json(),
        }

    def digest(self) -> bytes:
        """keccak256 of the evaluation's canonical JSON, 32 bytes."""
        return keccak(canonical_bytes(self.to_json()))


def evaluate(
    base: BaseModel,
    adapter: Path | None,
    run: TrainingRun,
    records: Sequence[TrainingRecord],
    *,
    sample: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask both models a sample of the trained records, greedily, and measure their losses; each on a thread of its own.

    Args:
        base: the base model of the run.
        adapter: folder of the adapter to measure, usually ``run.adapter``; None measures the base alone.
        run: tells which records were trained on (with a weight above 0) and which were held out.
        records: those of the run, in any order; others are ignored.
        sample: most trained records to ask; drawn by the recipe's seed.
        progress: called with (answers so far, answers in all).

    Raises:
        InputError: a record of the run is missing, or ``sample`` is below 1.
        ModelError: the run belongs to another base.
        NotFoundError: the folder holds no adapter.
    """
    if sample < 1:
        raise InputError(f"sample is {sample}: ask at least one record")
    if run.base_digest != base.digest:
        raise ModelError(f"the run was trained on the base {to_hex(run.base_digest)}, not on {to_hex(base.digest)}")
    known = [pair for pair, weight in zip(examples_of(base, records, run), run.weights, strict=True) if weight > 0]
    if not known:
        raise InputError("every record of the run has weight 0: there is nothing to measure")
    asked = random.Random(run.recipe.seed).sample(known, min(sample, len(known)))  # noqa: S311
    by_hash = {record.record_hash: record for record in records}
    unseen = [by_hash[record] for record in run.held_out if record in by_hash][:sample]
    if len(unseen) < min(sample, len(run.held_out)):
        raise InputError("a held-out record of this run is not among the given records")
    left_out = [encode_dialogue(base.tokenizer, record.question, record.answer) for record in unseen]
    facts = [tuple(fact for fact in record.facts if _plain(fact) in _plain(record.answer)) for record, _ in asked]
    tuned_model = None if adapter is None else load_adapter(base, adapter)
    in_all = len(asked) * (1 if tuned_model is None else 2)
    done, counting = 0, threading.Lock()

    def count(answers: int) -> None:
        nonlocal done
        with counting:
            done += answers
            if progress is not None:
                progress(done, in_all)

    def measured(model: torch.nn.Module) -> Score:
        with pinned():
            return score(model)

    def score(model: torch.nn.Module) -> Score:
        prompts = [dialogue.prompt_ids for _, dialogue in asked]
        longest = max(len(dialogue.answer_ids) for _, dialogue in asked) + 8
        answers: list[str] = []
        for first in range(0, len(prompts), _BATCH):
            answers += generate(model, base.tokenizer, prompts[first : first + _BATCH], longest)
            count(len(answers) - first)
        exact = sum(given == record.answer.strip() for given, (record, _) in zip(answers, asked, strict=True))
        contains = sum(
            bool(wanted) and all(_plain(fact) in _plain(given) for fact in wanted)
            for given, wanted in zip(answers, facts, strict=True)
        )
        return Score(
            exact,
            contains,
            _mean_loss(model, [dialogue for _, dialogue in asked], base),
            _mean_loss(model, left_out, base) if left_out else None,
        )

    with ThreadPoolExecutor(2) as pool:
        scores = list(pool.map(measured, [base.model] if tuned_model is None else [base.model, tuned_model]))
    return Evaluation(
        base_digest=base.digest,
        adapter_digest=None if adapter is None else adapter_digest(adapter),
        sampled=len(asked),
        with_facts=sum(map(bool, facts)),
        held_out=len(left_out),
        base=scores[0],
        tuned=None if tuned_model is None else scores[1],
    )


@torch.no_grad()
def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    longest: int,
) -> list[str]:
    """Greedy answers to a batch of prompts.

    Args:
        model: a causal language model, with or without an adapter.
        tokenizer: its tokenizer.
        prompts: tokens of each.
        longest: most new tokens per answer.

    Returns:
        One text per prompt, up to its end-of-sequence token.
    """
    width = max(len(prompt) for prompt in prompts)
    device = next(model.parameters()).device
    pad = int(tokenizer.pad_token_id)
    tokens = torch.full((len(prompts), width), pad, dtype=torch.long, device=device)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    room = int(getattr(model.config, "max_position_embeddings", width + longest)) - width
    written: torch.Tensor = model.generate(  # type: ignore[operator]
        input_ids=tokens,
        attention_mask=mask,
        max_new_tokens=max(1, min(longest, room)),
        do_sample=False,
        num_beams=1,
        pad_token_id=pad,
        eos_token_id=tokenizer.eos_token_id,
    )
    end = tokenizer.eos_token_id
    rows = [row[width:].tolist() for row in written]
    return [decode_answer(tokenizer, row[: row.index(end)] if end in row else row) for row in rows]


@torch.no_grad()
def _mean_loss(model: torch.nn.Module, dialogues: Sequence[Dialogue], base: BaseModel) -> float:
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    ordered = sorted(dialogues, key=lambda dialogue: len(dialogue.token_ids))
    for first in range(0, len(ordered), _BATCH):
        sums, counts = answer_losses(model, ordered[first : first + _BATCH], int(base.tokenizer.pad_token_id), device)
        total += float(sums.sum())
        tokens += int(counts.sum())
    return round(total / tokens, 6)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
