"""Small random models of several architectures, and random adapters made by peft itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from openledger.models import BaseModel, load_base, shared_copy

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_SMALL: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "eos_token_id": 2,
    "attn_implementation": "eager",
}


def _rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


ARCHITECTURES: dict[str, tuple[type[PreTrainedModel], Any]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**_SMALL)),
    "smollm: tied embeddings": (LlamaForCausalLM, LlamaConfig(**_SMALL, tie_word_embeddings=True)),
    "llama with biases": (LlamaForCausalLM, LlamaConfig(**_SMALL, attention_bias=True, mlp_bias=True)),
    "llama 3 rotary": (
        LlamaForCausalLM,
        LlamaConfig(
            **_SMALL,
            **_rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=128,
            ),
        ),
    ),
    "linear rotary": (LlamaForCausalLM, LlamaConfig(**_SMALL, **_rope("linear", factor=2.0))),
    "yarn rotary": (
        LlamaForCausalLM,
        LlamaConfig(**_SMALL, **_rope("yarn", factor=4.0, original_max_position_embeddings=128)),
    ),
    "mistral with a window": (MistralForCausalLM, MistralConfig(**_SMALL, sliding_window=24)),
    "qwen 2": (Qwen2ForCausalLM, Qwen2Config(**{k: v for k, v in _SMALL.items() if k != "head_dim"})),
    "qwen 3": (Qwen3ForCausalLM, Qwen3Config(**_SMALL)),
    "many heads": (LlamaForCausalLM, LlamaConfig(**{**_SMALL, "num_key_value_heads": 6})),
}


def random_base(name: str = "llama", **changes: Any) -> BaseModel:
    """A model with random weights large enough that its logits differ clearly, and the shipped tokenizer."""
    kind, config = ARCHITECTURES[name]
    if changes:
        config = type(config)(**{**config.to_dict(), **changes})
        config._attn_implementation = "eager"
    return _ready(kind(config))


def gpt2_base() -> BaseModel:
    """An architecture that the fused decoder does not run."""
    return _ready(GPT2LMHeadModel(GPT2Config(vocab_size=4096, n_embd=64, n_layer=2, n_head=2, eos_token_id=2)))


def _ready(model: Any) -> BaseModel:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if "norm" in name and parameter.dim() == 1 else 0.12 * noise)
            parameter.requires_grad_(False)
    shipped = load_base()
    return BaseModel(model.float().eval(), shipped.tokenizer, bytes(32), shipped.path)


def random_adapter(base: BaseModel, folder: Path, *, seed: int = 0, **settings: Any) -> Any:
    """A peft adapter with random factors, saved in ``folder``; returns the peft model as the oracle."""
    settings = {"r": 8, "lora_alpha": 16, "target_modules": ALL, **settings}
    model = get_peft_model(shared_copy(base.model), LoraConfig(task_type="CAUSAL_LM", **settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            if "magnitude" in name:
                parameter.mul_(1 + 3 * noise)
            elif "lora_" in name:
                parameter.copy_(noise)
            elif "bias" in name and parameter.requires_grad:
                parameter.data = parameter + noise
    model.eval().requires_grad_(False)
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return model
