"""Writes the model and its adapters."""

from __future__ import annotations

import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from bench.openlora.common import ADAPTERS, HIDDEN, INNER, LAYERS, MODEL, RANK, VOCABULARY
from openledger.models.base import SHIPPED

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def config(layers: int = LAYERS, hidden: int = HIDDEN, inner: int = INNER, context: int = 8192) -> LlamaConfig:
    """A Llama without grouped heads, as measured before."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def make(adapters: int = 32) -> None:
    """The 29M-parameter model and ``adapters`` adapters of rank 8 on all seven linears, once."""
    if (ADAPTERS / str(adapters - 1)).is_dir():
        return
    torch.manual_seed(0)
    model = LlamaForCausalLM(config())
    model.save_pretrained(MODEL)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(SHIPPED / name, MODEL / name)
    tuned = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=ALL, task_type="CAUSAL_LM"))
    factors = [parameter for name, parameter in tuned.named_parameters() if "lora_" in name]
    for number in range(adapters):
        with torch.no_grad():
            for parameter in factors:
                parameter.normal_(0, 0.02)
        tuned.save_pretrained(str(ADAPTERS / str(number)))
