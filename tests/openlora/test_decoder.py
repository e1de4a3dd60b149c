"""The fused decoder computes what transformers and peft compute, and the same bits alone as in any batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from openledger.models import pinned
from openledger.openlora.adapters import AdapterStore
from openledger.openlora.decoder import Decoder, NoDeltas, smallest_stable_rows
from openledger.openlora.tables import BatchAdapters, OneAdapter
from tests.openlora.models import ALL, ARCHITECTURES, random_adapter, random_base

TOLERANCE = 1e-4
CHUNK = 32


def close(found: torch.Tensor, right: torch.Tensor) -> bool:
    return float((found - right).abs().max() / right.abs().max()) < TOLERANCE


@torch.inference_mode()
def run(decoder: Decoder, prompt: list[int], deltas: object, then: list[int], batch: object = None) -> torch.Tensor:
    """Logits after the prompt and after each of the next tokens, [1 + len(then), vocabulary]."""
    cache = decoder.new_cache(None, len(prompt))
    for start in range(0, len(prompt), CHUNK):
        tokens = torch.tensor(prompt[start : start + CHUNK])
        found = decoder.prefill(tokens, start, cache, deltas, last=start + CHUNK >= len(prompt))
    rows = max(1, decoder.rows)
    whole = decoder.new_cache(rows, 256)
    whole[:, 0, :, :, : len(prompt)] = cache
    logits = [found]
    for place, token in enumerate(then):
        tokens = torch.tensor([token] + [0] * (rows - 1))
        positions = torch.tensor([len(prompt) + place] + [0] * (rows - 1))
        logits.append(decoder.decode(tokens, positions, whole, batch or NoDeltas())[0])
    return torch.stack(logits)


PROMPT = [(37 * number + 11) % 4000 + 5 for number in range(75)]
THEN = [9, 400, 77, 1234]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_those_of_transformers_and_peft(name: str, tmp_path: Path) -> None:
    base = random_base(name)
    decoder = Decoder(base.model, most_rows=8)
    tokens = torch.tensor([PROMPT + THEN])
    with pinned(), torch.inference_mode():
        right = base.model(tokens).logits[0, len(PROMPT) - 1 :]
        assert close(run(decoder, PROMPT, NoDeltas(), THEN), right)
        oracle = random_adapter(base, tmp_path / "peft")
        stored = AdapterStore(tmp_path / "store", decoder.dimensions, "0x").take(tmp_path / "peft")
        flat = stored.open()
        batch = BatchAdapters(8, 1 << 30)
        batch.put(0, stored.digest, flat, stored.layout)
        batch.prepare(decoder.rows)
        adapted = oracle(tokens).logits[0, len(PROMPT) - 1 :]
        assert not close(adapted, right)
        assert close(run(decoder, PROMPT, OneAdapter(flat, stored.layout), THEN, batch), adapted)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"], "r": 3},
        {"target_modules": ["gate_proj", "down_proj"], "r": 16, "use_rslora": True},
        {"target_modules": ["k_proj", "lm_head"], "r": 5},
        {"target_modules": ALL, "r": 4, "rank_pattern": {"q_proj": 12}, "alpha_pattern": {"layers.1.mlp.up_proj": 3}},
        {"target_modules": ALL, "r": 2, "layers_to_transform": [1]},
    ],
    ids=["q and v", "rsLoRA", "head", "patterns", "one layer"],
)
def test_any_modules_ranks_and_scalings_are_served_as_peft_serves_them(
    settings: dict[str, object], tmp_path: Path
) -> None:
    base = random_base()
    decoder = Decoder(base.model, most_rows=8)
    oracle = random_adapter(base, tmp_path / "peft", **settings)
    stored = AdapterStore(tmp_path / "store", decoder.dimensions, "0x").take(tmp_path / "peft")
    batch = BatchAdapters(8, 1 << 30)
    batch.put(0, stored.digest, stored.open(), stored.layout)
    batch.prepare(decoder.rows)
    with pinned(), torch.inference_mode():
        right = oracle(torch.tensor([PROMPT + THEN])).logits[0, len(PROMPT) - 1 :]
        assert close(run(decoder, PROMPT, OneAdapter(stored.open(), stored.layout), THEN, batch), right)


def test_rows_of_a_product_are_stable_from_the_number_that_is_measured() -> None:
    with pinned(), torch.inference_mode():
        weight = torch.randn(96, 160)
        least = smallest_stable_rows([weight], 24)
        x = torch.randn(24, 96)
        for count in range(least, 24):
            assert torch.equal(x[:count] @ weight, (x @ weight)[:count])
