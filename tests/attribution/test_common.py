"""What passes over the same tokens have in common is worked out once, and nothing comes out otherwise than alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention

from openledger.attribution import (
    AdapterModel,
    Checkpoint,
    InfluenceIndex,
    Query,
    build_index,
    gradients,
    measure_all,
)
from openledger.attribution.common import Common, unreached

UPPER = ["down_proj", "up_proj"]


def saved_adapter(base: PreTrainedModel, folder: Path, seed: int = 5, **options: Any) -> Path:
    """An adapter with random B matrices, so that every gradient is alive."""
    torch.manual_seed(seed)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def upper(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> InfluenceIndex:
    """An index of another adapter of the same base, which changes only the feed-forward of its upper layer."""
    folder = tmp_path_factory.mktemp("upper")
    points = []
    for step in (1, 2):
        options = {"target_modules": UPPER, "layers_to_transform": [1]}
        adapter = saved_adapter(trained.fresh_base(), folder / str(step), seed=step, **options)
        points.append(Checkpoint(adapter, 1.0 / step, step))
    return build_index(trained.base, points, trained.examples, workers=1)


def test_a_module_that_is_done_before_the_adapter_begins_is_not_run_again(
    trained: Any, upper: InfluenceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = trained.query(2)
    wanted = upper.measure(trained.base, [query])[0]
    runs = {0: 0, 1: 0}
    plain = LlamaAttention.forward

    def counting(self: LlamaAttention, *arguments: Any, **options: Any) -> Any:
        runs[self.layer_idx] += 1
        return plain(self, *arguments, **options)

    monkeypatch.setattr(LlamaAttention, "forward", counting)
    found = upper.measure(trained.base, [query])[0]
    assert runs == {0: 1, 1: 1}, "four passes: two checkpoints, the base and the final adapter"
    assert np.array_equal(found.scores, wanted.scores)


def test_gradients_and_losses_have_the_same_bits_with_and_without_what_is_known(
    trained: Any, upper: InfluenceIndex
) -> None:
    models = [*upper._models(trained.base), *trained.index._models(trained.base)]
    query, common = trained.query(4), Common()
    for model in models:
        alone, after = model.gradients(query, Common()), model.gradients(query, common)
        assert torch.equal(alone.losses, after.losses)
        for left, right in zip(alone.blocks, after.blocks, strict=True):
            assert torch.equal(left.inputs, right.inputs)
            assert torch.equal(left.deltas, right.deltas)
        assert model.loss(query, common) == model.loss(query, Common())
        assert model.loss(query, common, adapter=False) == model.loss(query, Common(), adapter=False)


def test_many_queries_and_adapters_are_measured_together_as_each_alone(trained: Any, upper: InfluenceIndex) -> None:
    queries = [trained.query(3), *trained.held_out(2), trained.query(3), Query(trained.examples[3].token_ids, 6)]
    asked = [(index, query) for query in queries for index in (upper, trained.index)]
    asked.append((upper, queries[1]))
    found = measure_all(trained.base, asked)
    for (index, query), measured in zip(asked, found, strict=True):
        alone = index.measure(trained.base, [query])[0]
        assert np.array_equal(measured.scores, alone.scores)
        assert (measured.norm, measured.base_loss, measured.adapted_loss) == (
            alone.norm,
            alone.base_loss,
            alone.adapted_loss,
        )
    assert measure_all(trained.base, []) == []


def test_the_base_is_run_once_for_all_adapters_that_are_asked(
    trained: Any, upper: InfluenceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[bool] = []
    plain = AdapterModel.loss

    def noting(self: AdapterModel, query: Query, common: Common, adapter: bool = True) -> float:
        alone.append(adapter)
        return plain(self, query, common, adapter)

    monkeypatch.setattr(AdapterModel, "loss", noting)
    measure_all(trained.base, [(upper, trained.query(1)), (trained.index, trained.query(1))])
    assert sorted(alone) == [False, True, True]


def test_an_adapter_too_large_to_merge_gives_the_same_gradients(
    trained: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shape = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=48, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(0)
    turned = GPT2LMHeadModel(shape).eval()
    other = saved_adapter(GPT2LMHeadModel(shape), tmp_path / "gpt2", target_modules="all-linear")
    for base, adapter in ((trained.base, trained.adapter), (turned, other)):
        merged = AdapterModel.from_folder(base, adapter).gradients(trained.query(1), Common())
        with monkeypatch.context() as patch:
            patch.setattr(gradients, "_LARGEST_MERGED", 0)
            added = AdapterModel.from_folder(base, adapter).gradients(trained.query(1), Common())
        torch.testing.assert_close(merged.losses, added.losses, rtol=1e-5, atol=0)
        for left, right in zip(merged.blocks, added.blocks, strict=True):
            wanted = left.gradients()
            torch.testing.assert_close(right.gradients(), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


class Talking(nn.Module):
    """Two layers; the second also reads what the first left behind."""

    def __init__(self, listens: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(8, 4)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 8)
        self.listens = listens
        self.heard = 0.0

    def forward(self, input_ids: Tensor, use_cache: bool) -> Any:
        hidden = self.first(self.embed(input_ids))
        self.heard += 1.0
        logits = self.second(hidden) + (self.heard if self.listens else 0.0)
        return type("Output", (), {"logits": logits})


@pytest.mark.parametrize(("listens", "wanted"), [(False, ("embed", "first")), (True, ())])
def test_nothing_is_taken_as_known_where_passes_differ_for_other_reasons(listens: bool, wanted: tuple[str]) -> None:
    assert unreached(Talking(listens), {"second"}, torch.ones(1, 3, dtype=torch.int64)) == wanted


def test_only_the_largest_modules_are_kept(trained: Any) -> None:
    model = trained.fresh_base()
    ids = torch.ones(1, 4, dtype=torch.int64)
    path: Callable[[int], str] = "model.layers.{}.mlp.up_proj".format
    assert set(unreached(model, {path(1)}, ids)) == {
        "model.embed_tokens",
        "model.rotary_emb",
        "model.layers.0",
        "model.layers.1.input_layernorm",
        "model.layers.1.self_attn",
        "model.layers.1.post_attention_layernorm",
        "model.layers.1.mlp.gate_proj",
        "model.layers.1.mlp.act_fn",
    }
