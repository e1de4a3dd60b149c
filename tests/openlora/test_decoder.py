"""The fused decoder computes what transformers and peft compute, and the same bits alone as in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from openledger.models import pinned
from openledger.openlora import decoder as module
from openledger.openlora import team
from openledger.openlora.adapters import AdapterLimits, AdapterStore, StoredAdapter
from openledger.openlora.decoder import Chunk, Decoder
from openledger.openlora.residents import Resident, ResidentAdapters
from openledger.primitives import InputError
from tests.openlora.models import ALL, ARCHITECTURES, random_adapter, random_base

TOLERANCE = 1e-4
CHUNK = 32


def close(found: torch.Tensor, right: torch.Tensor) -> bool:
    return float((found - right).abs().max() / right.abs().max()) < TOLERANCE


def run(decoder: Decoder, prompt: list[int], adapter: Resident | None, then: list[int]) -> torch.Tensor:
    """Logits after the prompt and after each of the next tokens, [1 + len(then), vocabulary]."""
    cache = decoder.new_cache(256)
    logits = []
    for start in range(0, len(prompt), CHUNK):
        tokens = tuple(prompt[start : start + CHUNK])
        last = start + CHUNK >= len(prompt)
        found = decoder.run([Chunk(tokens, start, cache, adapter, wanted=last)])
        assert len(found) == last
    logits.append(found[0].clone())
    for place, token in enumerate(then):
        logits.append(decoder.run([Chunk((token,), len(prompt) + place, cache, adapter)])[0].clone())
    return torch.stack(logits)


def store(path: Path, decoder: Decoder, **limits: Any) -> AdapterStore:
    return AdapterStore(path / "store", decoder.dimensions, "0x", AdapterLimits(**limits), decoder.linear)


def resident(stored: StoredAdapter) -> Resident:
    found = ResidentAdapters(1 << 30, 1 << 30).take(stored)
    assert found is not None
    return found


PROMPT = [(37 * number + 11) % 4000 + 5 for number in range(75)]
THEN = [9, 400, 77, 1234]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_those_of_transformers_and_peft(name: str, tmp_path: Path) -> None:
    base = random_base(name)
    decoder = Decoder(base.model, most_rows=8)
    tokens = torch.tensor([PROMPT + THEN])
    with pinned(), torch.inference_mode():
        right = base.model(tokens).logits[0, len(PROMPT) - 1 :]
        assert close(run(decoder, PROMPT, None, THEN), right)
        oracle = random_adapter(base, tmp_path / "peft")
        stored = store(tmp_path, decoder).take(tmp_path / "peft")
        adapted = oracle(tokens).logits[0, len(PROMPT) - 1 :]
        assert not close(adapted, right)
        assert close(run(decoder, PROMPT, resident(stored), THEN), adapted)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"], "r": 3},
        {"target_modules": ["gate_proj", "down_proj"], "r": 16, "use_rslora": True},
        {"target_modules": ["k_proj", "lm_head"], "r": 5},
        {"target_modules": ALL, "r": 4, "rank_pattern": {"q_proj": 12}, "alpha_pattern": {"layers.1.mlp.up_proj": 3}},
        {"target_modules": ALL, "r": 2, "layers_to_transform": [1]},
        {"target_modules": ALL, "r": 4, "use_dora": True},
        {"target_modules": ["v_proj", "up_proj", "lm_head"], "r": 3, "use_dora": True, "use_rslora": True},
        {"target_modules": ALL, "r": 4, "use_dora": True, "bias": "all"},
        {"target_modules": ["q_proj", "down_proj"], "bias": "all"},
        {"target_modules": ["q_proj", "down_proj"], "bias": "lora_only"},
        {"target_modules": ["q_proj", "down_proj"], "lora_bias": True},
    ],
    ids=[
        *("q and v", "rsLoRA", "head", "patterns", "one layer", "DoRA", "DoRA on some modules and the head"),
        *("DoRA with all biases", "all biases", "biases of its modules", "biases of the up-projections"),
    ],
)
def test_any_modules_ranks_and_scalings_are_served_as_peft_serves_them(
    settings: dict[str, object], tmp_path: Path
) -> None:
    base = random_base("llama with biases")
    decoder = Decoder(base.model, most_rows=8)
    oracle = random_adapter(base, tmp_path / "peft", **settings)
    stored = store(tmp_path, decoder).take(tmp_path / "peft")
    with pinned(), torch.inference_mode():
        right = oracle(torch.tensor([PROMPT + THEN])).logits[0, len(PROMPT) - 1 :]
        assert close(run(decoder, PROMPT, resident(stored), THEN), right)


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.02), ("int8", 0.04)])
def test_adapters_in_fewer_bytes_give_nearly_the_same_logits(precision: str, most: float, tmp_path: Path) -> None:
    base = random_base()
    decoder = Decoder(base.model, most_rows=8)
    random_adapter(base, tmp_path / "peft", use_dora=True)
    exact = store(tmp_path, decoder).take(tmp_path / "peft")
    short = store(tmp_path, decoder, precision=precision).take(tmp_path / "peft")
    with pinned(), torch.inference_mode():
        right, found = (run(decoder, PROMPT, resident(one), THEN) for one in (exact, short))
    assert not torch.equal(found, right)
    assert float((found - right).abs().max() / right.abs().max()) < most
    assert short.layout.size < 0.7 * exact.layout.size


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team, "_WORTH_SHARING", 1)
    base = random_base()
    alone, together = Decoder(base.model), Decoder(base.model, threads=threads)
    adapters: list[Resident | None] = [None]
    for number in range(3):
        random_adapter(base, tmp_path / str(number), seed=number)
        adapters.append(resident(store(tmp_path, alone).take(tmp_path / str(number))))
    found = []
    for decoder in (alone, together):
        caches = [decoder.new_cache(128) for _ in range(6)]
        turn = [
            Chunk(tuple(PROMPT[number : number + length]), 0, caches[number], adapters[number % 4])
            for number, length in enumerate((1, 1, 40, 1, 17, 33))
        ]
        with pinned(), torch.inference_mode():
            first = decoder.run(turn).clone()
            then = [Chunk((9,), len(chunk.tokens), chunk.cache, chunk.adapter) for chunk in turn]
            found.append(torch.cat((first, decoder.run(then))))
        decoder.close()
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["llama", "mistral with a window", "qwen 3"])
def test_a_prompt_gives_the_same_bits_however_it_is_cut(name: str, tmp_path: Path) -> None:
    base = random_base(name)
    decoder = Decoder(base.model)
    random_adapter(base, tmp_path / "peft")
    adapter = resident(store(tmp_path, decoder).take(tmp_path / "peft"))
    found = []
    for cut in (75, 1, 7, 32, 74):
        cache, start = decoder.new_cache(128), 0
        while start < len(PROMPT):
            tokens = tuple(PROMPT[start : start + cut])
            logits = decoder.run([Chunk(tokens, start, cache, adapter)])
            start += cut
        found.append(logits.clone())
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("fails", [0, 1])
def test_a_thread_that_fails_keeps_none_waiting(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_WORTH_SHARING", 1)
    decoder = Decoder(random_base().model, threads=2)
    chunk = Chunk(tuple(PROMPT), 0, decoder.new_cache(128), None)
    right = decoder.run([chunk]).clone()
    run_layers = module.run_layers

    def without(*arguments: Any) -> None:
        if arguments[-1].part == fails:
            raise MemoryError("no room")
        run_layers(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(module, "run_layers", without)
        with pytest.raises(MemoryError, match="no room"):
            decoder.run([chunk])
    assert torch.equal(decoder.run([chunk]), right)
    decoder.close()


def test_what_fails_in_another_thread_is_told() -> None:
    def fail(part: int, _parts: int) -> None:
        if part:
            raise InputError("no")

    two = team.Team(2)
    with pytest.raises(InputError, match="no"):
        two.share(fail, 1 << 30)
    two.close()
