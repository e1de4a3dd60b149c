"""A very small model that learns a few facts in a second, with every part real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from openledger.attribution import Checkpoint, InfluenceIndex, Query, Settings, TrainingExample, build_index
from openledger.primitives import keccak

VOCABULARY = 64
CONTRIBUTORS = 4
RECORDS = 24
STEPS = 80
SAVED = (8, 30, STEPS)
RATE = 0.02


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_base(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=48,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(shape).eval()


def make_examples() -> list[TrainingExample]:
    """Facts of four contributors; those of one contributor begin and end alike."""
    generator = np.random.default_rng(3)
    examples = []
    for place in range(RECORDS):
        owner = place % CONTRIBUTORS
        subject = [3, 10 + owner, *generator.integers(20, VOCABULARY, 2).tolist()]
        answer = [4, 14 + owner, *generator.integers(20, VOCABULARY, 5).tolist(), 2]
        tokens = tuple(subject + answer)
        examples.append(TrainingExample(tokens, 4, record_hash=keccak(bytes(tokens)), seniority=place))
    return examples


@dataclass
class Trainer:
    """Trains an adapter from one start with one schedule; weight 0 leaves a record out."""

    base: LlamaForCausalLM
    examples: list[TrainingExample]

    def __post_init__(self) -> None:
        torch.manual_seed(1)
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        twin = make_base()
        twin.load_state_dict(self.base.state_dict())
        self.model: PeftModel = get_peft_model(twin, config)
        self.start = {name: value.clone() for name, value in get_peft_model_state_dict(self.model).items()}
        self.ids = torch.tensor([example.token_ids for example in self.examples])

    def train(self, weights: np.ndarray, save: Path | None = None) -> PeftModel:
        set_peft_model_state_dict(self.model, self.start)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
        weight = torch.tensor(weights, dtype=torch.float32)
        for step in range(1, STEPS + 1):
            optimiser.param_groups[0]["lr"] = RATE * (1 - (step - 1) / STEPS)
            logits = self.model(input_ids=self.ids, use_cache=False).logits[:, 3:-1]
            losses = cross_entropy(logits.transpose(1, 2), self.ids[:, 4:], reduction="none").sum(dim=1)
            optimiser.zero_grad()
            ((losses * weight).sum() / len(self.ids)).backward()
            optimiser.step()
            if save and step in SAVED:
                self.model.save_pretrained(str(save / f"step-{step}"))
        return self.model

    def losses(self, weights: np.ndarray, queries: list[Query]) -> list[float]:
        model = self.train(weights)
        found = []
        for query in queries:
            ids = torch.tensor([query.token_ids])
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0, query.prompt_length - 1 : -1]
            found.append(cross_entropy(logits, ids[0, query.prompt_length :], reduction="sum").item())
        return found


@dataclass(frozen=True)
class Trained:
    base: LlamaForCausalLM
    examples: list[TrainingExample]
    checkpoints: list[Checkpoint]
    trainer: Trainer
    index: InfluenceIndex

    @staticmethod
    def fresh_base(seed: int = 0) -> LlamaForCausalLM:
        return make_base(seed)

    @property
    def adapter(self) -> Path:
        return self.checkpoints[-1].path

    def query(self, place: int) -> Query:
        return Query(self.examples[place].token_ids, self.examples[place].prompt_length)

    def held_out(self, count: int = 12) -> list[Query]:
        """New facts in the contributors' manner."""
        generator = np.random.default_rng(9)
        return [
            Query(
                (3, 10 + place % 4, *generator.integers(20, VOCABULARY, 2).tolist(), 4, 14 + place % 4,
                 *generator.integers(20, VOCABULARY, 5).tolist(), 2),
                4,
            )
            for place in range(count)
        ]  # fmt: skip


@pytest.fixture(scope="session")
def checkpoint_rate() -> Callable[[int], float]:
    return lambda step: RATE * (1 - (step - 1) / STEPS)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoint_rate: Callable[[int], float]) -> Trained:
    folder = tmp_path_factory.mktemp("run")
    base, examples = make_base(), make_examples()
    trainer = Trainer(base, examples)
    trainer.train(np.ones(RECORDS), folder)
    checkpoints = [Checkpoint(folder / f"step-{step}", checkpoint_rate(step), step) for step in SAVED]
    return Trained(base, examples, checkpoints, trainer, build_index(base, checkpoints, examples, Settings()))
