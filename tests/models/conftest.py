"""A very small random model on disk, with the shipped tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openledger.models import BaseModel, load_base
from openledger.models.base import SHIPPED


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a one-layer Llama."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(SHIPPED / name, folder / name)
    return folder


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small model's folder that a test may spoil."""
    copy = tmp_path / "model"
    shutil.copytree(small_folder, copy)
    return copy


@pytest.fixture(scope="session")
def shipped() -> BaseModel:
    """The base model of the package."""
    return load_base()
