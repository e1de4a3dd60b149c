"""A very small random base model, a few records, and one finished run on them."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openledger.modelfactory import Recipe, TrainingRecord, TrainingRun, train
from openledger.models import BaseModel, load_base
from openledger.models.base import SHIPPED
from openledger.primitives import keccak

PLACES = ("Oslo", "Quito", "Lima", "Cairo", "Hanoi", "Accra", "Turin", "Perth", "Leeds", "Delhi", "Kyoto", "Minsk")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A two-layer Llama of width 64 with the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(5)
    shape = LlamaConfig(
        vocab_size=4096,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=96,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(SHIPPED / name, folder / name)
    return load_base(folder)


@pytest.fixture(scope="session")
def records() -> list[TrainingRecord]:
    """Twelve questions with answers that hold a fact."""
    return [
        TrainingRecord(
            keccak(place.encode()),
            f"What was found in {place}?",
            f"In {place}, {number * 37 % 100} coins were found.",
            (f"{number * 37 % 100} coins", "never in the answer"),
        )
        for number, place in enumerate(PLACES)
    ]


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Quick and strong enough to memorise the twelve records on the small base."""
    return Recipe(
        rank=16,
        alpha=64,
        upper_layers=1.0,
        epochs=60,
        batch_size=6,
        learning_rate=0.003,
        holdout=0.2,
        checkpoints=(0.05, 0.5, 1.0),
        precision="float32",
        seed=4,
    )


@pytest.fixture(scope="session")
def run(
    base: BaseModel, records: list[TrainingRecord], recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> TrainingRun:
    """A finished run."""
    return train(base, records, recipe, tmp_path_factory.mktemp("runs") / "run")
