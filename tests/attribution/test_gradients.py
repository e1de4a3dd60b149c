"""Per-example gradients are those that autograd gives one example at a time, on every kind of model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
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
)

from openledger.attribution import AdapterModel, Query
from openledger.attribution.gradients import ADAPTER_CONFIG, ADAPTER_WEIGHTS, bare
from openledger.primitives import InputError, ModelError

VOCABULARY = 64
QUERIES = [
    Query(tuple((7 * place + shift) % VOCABULARY for place in range(length)), prompt)
    for shift, (length, prompt) in enumerate([(12, 4), (9, 0), (17, 16), (33, 5), (12, 1), (8, 3)])
]
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}


def family(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 48}
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**SMALL, **heads))
    if name == "qwen":
        return Qwen2ForCausalLM(Qwen2Config(**SMALL, **heads, bos_token_id=1, eos_token_id=2))
    if name == "mistral":
        return MistralForCausalLM(MistralConfig(**SMALL, **heads, sliding_window=16))
    shape = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=48, bos_token_id=1, eos_token_id=2
    )
    return GPT2LMHeadModel(shape)


def saved_adapter(base: PreTrainedModel, folder: Path, **changes: object) -> Path:
    """An adapter with random B matrices, so that every gradient is alive."""
    torch.manual_seed(5)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | changes
    model = get_peft_model(base, LoraConfig(**options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(str(folder))
    return folder


def all_gradients(model: AdapterModel, queries: list[Query], tokens: int = 2048) -> Tensor:
    found = torch.zeros(len(queries), sum(block.size for block in model.blocks))
    for batch in model.batches(queries, tokens):
        flat = torch.cat([captured.gradients().flatten(1) for captured in batch.blocks], dim=1)
        found[list(batch.positions)] = flat
    return found


@pytest.mark.parametrize("name", ["llama", "qwen", "mistral", "gpt2"])
def test_every_gradient_is_the_one_autograd_gives_for_the_example_alone(name: str, tmp_path: Path) -> None:
    adapter = saved_adapter(family(name), tmp_path / "adapter")
    model = AdapterModel.from_folder(family(name).eval(), adapter)
    found = all_gradients(model, QUERIES)
    reference = get_peft_model(family(name), LoraConfig.from_pretrained(str(adapter)))
    reference.load_state_dict(
        {key.replace("weight", "default.weight"): value for key, value in load_file(adapter / ADAPTER_WEIGHTS).items()},
        strict=False,
    )
    parameters = {key.replace(".default", ""): value for key, value in reference.named_parameters() if "lora_" in key}
    for value in parameters.values():
        value.requires_grad_(True)
    reference.eval()
    for query, row in zip(QUERIES, found, strict=True):
        ids = torch.tensor([query.token_ids])
        first = max(query.prompt_length, 1)
        logits = reference(input_ids=ids).logits[0, first - 1 : -1]
        loss = cross_entropy(logits, ids[0, first:], reduction="sum")
        wanted = torch.autograd.grad(loss, [parameters[block.name] for block in model.blocks])
        flat = torch.cat([part.flatten() for part in wanted])
        assert (flat - row).abs().max() < 1e-5 * flat.abs().max()


def test_gradients_have_the_same_bits_in_batches_of_any_size_and_order(trained: Any) -> None:
    model = AdapterModel.from_folder(trained.base, trained.adapter)
    alone = all_gradients(model, QUERIES, tokens=1)
    assert torch.equal(alone, all_gradients(model, QUERIES, tokens=100_000))
    assert torch.equal(alone, all_gradients(model, list(reversed(QUERIES))).flip(0))


def test_token_derivatives_sum_to_the_inner_product_with_the_gradient(trained: Any) -> None:
    model = AdapterModel.from_folder(trained.base, trained.adapter)
    torch.manual_seed(2)
    direction = {block.name: torch.randn(block.rows, block.columns) for block in model.blocks}
    flat = torch.cat([direction[block.name].flatten() for block in model.blocks])
    for query in QUERIES:
        derivatives = model.derivatives(query, [direction, {name: -value for name, value in direction.items()}])
        assert derivatives.shape == (2, len(query.token_ids) - max(query.prompt_length, 1))
        wanted = (all_gradients(model, [query])[0] @ flat).item()
        assert derivatives[0].sum().item() == pytest.approx(wanted, rel=1e-4, abs=1e-4)
        assert torch.equal(derivatives[0], -derivatives[1])


def test_opening_a_model_leaves_it_as_it_was(tmp_path: Path) -> None:
    adapter = saved_adapter(family("llama"), tmp_path / "adapter")
    base = family("llama")
    names, flags = [name for name, _ in base.named_modules()], [p.requires_grad for p in base.parameters()]
    attention = base.config._attn_implementation
    all_gradients(AdapterModel.from_folder(base, adapter), QUERIES)
    assert [name for name, _ in base.named_modules()] == names
    assert [parameter.requires_grad for parameter in base.parameters()] == flags
    assert base.config._attn_implementation == attention
    assert all(parameter.grad is None for parameter in base.parameters())


def test_a_peft_model_gives_the_same_gradients_as_its_files(trained: Any) -> None:
    model = get_peft_model(trained.fresh_base(), LoraConfig.from_pretrained(str(trained.adapter)))
    model.load_state_dict(
        {
            name.replace("weight", "default.weight"): value
            for name, value in load_file(trained.adapter / ADAPTER_WEIGHTS).items()
        },
        strict=False,
    )
    opened = AdapterModel(*bare(model))
    assert torch.equal(
        all_gradients(opened, QUERIES), all_gradients(AdapterModel.from_folder(trained.base, trained.adapter), QUERIES)
    )
    assert any("lora" in name for name, _ in model.named_modules())


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (Query((1, 2, 3), 3), "output is empty"),
        (Query((), 0), "output is empty"),
        (Query((5,), 0), "output is empty"),
        (Query((1, 2), -1), "output is empty"),
        (Query(tuple([1] * 49), 4), "context of 48"),
        (Query((1, VOCABULARY), 1), "outside the vocabulary"),
        (Query((1, -2), 1), "outside the vocabulary"),
    ],
)
def test_a_query_that_cannot_be_differentiated_is_refused_in_words(trained: Any, query: Query, words: str) -> None:
    model = AdapterModel.from_folder(trained.base, trained.adapter)
    with pytest.raises(InputError, match=words):
        list(model.batches([query]))


def test_an_adapter_that_is_damaged_or_of_another_model_is_refused(trained: Any, tmp_path: Path) -> None:
    weights = load_file(trained.adapter / ADAPTER_WEIGHTS)
    config = (trained.adapter / ADAPTER_CONFIG).read_text()

    def written(name: str, changed: dict[str, Tensor]) -> Path:
        (tmp_path / name).mkdir()
        save_file(changed, tmp_path / name / ADAPTER_WEIGHTS)
        (tmp_path / name / ADAPTER_CONFIG).write_text(config)
        return tmp_path / name

    first = sorted(weights)[0]
    cases = {
        "not finite": weights | {first: torch.full_like(weights[first], float("nan"))},
        "missing": {name: value for name, value in weights.items() if name != first},
        "unknown": weights | {"other.weight": torch.zeros(2)},
        "has shape": weights | {first: torch.zeros(3, 3)},
    }
    for words, changed in cases.items():
        with pytest.raises(ModelError, match=words):
            AdapterModel.from_folder(trained.base, written(words, changed))
    (tmp_path / "has shape" / ADAPTER_WEIGHTS).write_bytes(b"junk")
    with pytest.raises(ModelError, match="no readable adapter"):
        AdapterModel.from_folder(trained.base, tmp_path / "has shape")


@pytest.mark.parametrize(
    "change", [{"use_dora": True}, {"bias": "lora_only"}, {"modules_to_save": ["lm_head"]}, {"peft_type": "IA3"}]
)
def test_adapters_whose_influence_would_be_incomplete_are_refused(
    trained: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    config = json.loads((trained.adapter / ADAPTER_CONFIG).read_text()) | change
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps(config))
    (tmp_path / ADAPTER_WEIGHTS).write_bytes((trained.adapter / ADAPTER_WEIGHTS).read_bytes())
    with pytest.raises(ModelError):
        AdapterModel.from_folder(trained.base, tmp_path)


def test_lower_precision_is_refused(trained: Any) -> None:
    with pytest.raises(ModelError, match="float32"):
        AdapterModel.from_folder(trained.fresh_base().bfloat16(), trained.adapter)
