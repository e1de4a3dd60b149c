"""The decoder for GPUs, on the CPU: it computes what transformers, peft and the compiled decoder compute.

The Triton kernels run in Triton's interpreter, by ``make test-kernels``. CUDA graphs need a GPU.
"""

from __future__ import annotations

import copy
import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from openledger.models import BaseModel, pinned
from openledger.openlora import AdapterLimits, Engine, EngineLimits, Sampling
from openledger.openlora.adapters import AdapterStore
from openledger.openlora.decoder import Chunk, Decoder
from openledger.openlora.device import DeviceDecoder, Route, TorchProducts
from openledger.openlora.residents import Resident, ResidentAdapters
from openledger.primitives import ModelError
from tests.openlora.models import ALL, ARCHITECTURES, random_adapter, random_base

PROMPT = [(37 * number + 11) % 4000 + 5 for number in range(75)]
THEN = [9, 400, 77, 1234]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="make test-kernels installs Triton and runs its interpreter",
)


def close(found: torch.Tensor, right: torch.Tensor) -> bool:
    return float((found - right).abs().max() / right.abs().max()) < 1e-4


def device_decoder(base: BaseModel, slots: int = 4) -> DeviceDecoder:
    return DeviceDecoder(base.model, slots=slots, length=256, most_rows=128)


def resident(folder: Path, decoder: DeviceDecoder | Decoder, **limits: Any) -> Resident:
    store = AdapterStore(folder.parent / "store", decoder.dimensions, "0x", AdapterLimits(**limits), decoder.linear)
    found = ResidentAdapters(1 << 30, 1 << 30).take(store.take(folder))
    assert found is not None
    return found


def together(decoder: DeviceDecoder | Decoder, adapters: list[Resident | None]) -> torch.Tensor:
    """Logits after the prompt and each next token, [adapters, 1 + len(THEN), vocabulary]; one request for each adapter."""
    caches = [decoder.new_cache(256) for _ in adapters]
    steps = []
    for start, end in ((0, 32), (32, 75)):
        tokens = tuple(PROMPT[start:end])
        logits = decoder.run(
            [Chunk(tokens, start, cache, one, wanted=end == 75) for cache, one in zip(caches, adapters, strict=True)]
        )
    steps.append(logits.clone())
    for place, token in enumerate(THEN):
        chunks = [Chunk((token,), 75 + place, cache, one) for cache, one in zip(caches, adapters, strict=True)]
        steps.append(decoder.run(chunks).clone())
    return torch.stack(steps, dim=1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_those_of_transformers_and_peft(name: str, tmp_path: Path) -> None:
    base = random_base(name)
    decoder = device_decoder(base)
    tokens = torch.tensor([PROMPT + THEN])
    oracles = [random_adapter(base, tmp_path / "plain"), random_adapter(base, tmp_path / "dora", seed=1, use_dora=True)]
    adapters = [resident(tmp_path / "plain", decoder), None, resident(tmp_path / "dora", decoder)]
    with pinned(), torch.inference_mode():
        right = [model(tokens).logits[0, len(PROMPT) - 1 :] for model in (oracles[0], base.model, oracles[1])]
        found = together(decoder, adapters)
        assert all(close(one, other) for one, other in zip(found, right, strict=True))


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_short_adapters_give_what_the_compiled_decoder_gives(precision: str, tmp_path: Path) -> None:
    base = random_base()
    random_adapter(base, tmp_path / "a", r=5, target_modules=[*ALL, "lm_head"])
    how = Sampling(max_tokens=12, logprobs=5)
    answers = []
    for decoder in ("compiled", "torch"):
        limits = EngineLimits(batch=4, chunk=16, decoder=decoder, slot=256)  # type: ignore[arg-type]
        with Engine(base, limits, adapter_limits=AdapterLimits(precision=precision)) as engine:  # type: ignore[arg-type]
            engine.add("a", tmp_path / "a")
            answers.append(engine.complete("a", PROMPT, how))
    assert answers[0].token_ids == answers[1].token_ids
    for one, other in zip(answers[0].logprobs, answers[1].logprobs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


def test_more_requests_and_adapters_than_slots_and_rows_are_answered_as_by_the_compiled_decoder(tmp_path: Path) -> None:
    base = random_base()
    for number in range(9):
        random_adapter(base, tmp_path / str(number), seed=number, r=4, use_dora=number == 3)
    how = Sampling(max_tokens=9)
    requests = [(None if number % 10 == 9 else str(number % 10), PROMPT[number : number + 30]) for number in range(30)]
    answers = []
    for decoder in ("compiled", "torch"):
        limits = EngineLimits(batch=3, chunk=16, decoder=decoder, slot=256, prefix_bytes=1 << 20)  # type: ignore[arg-type]
        with Engine(base, limits) as engine:
            for number in range(9):
                engine.add(str(number), tmp_path / str(number))
            answers.append(engine.generate_many(requests, how))
            answers[-1] += engine.generate_many(requests[:4], how)
    assert answers[0] == answers[1]


def test_a_failed_turn_gives_the_slots_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(random_base(), EngineLimits(batch=2, decoder="torch", slot=256)) as engine:
        assert engine.context_length == 256
        right = engine.complete(None, PROMPT, Sampling(max_tokens=3))
        decoder = engine._scheduler._decoder  # type: ignore[union-attr]
        monkeypatch.setattr(decoder, "_forward", lambda *_: 1 / 0)
        for _ in range(3):
            with pytest.raises(ModelError, match="send the request again"):
                engine.generate_many([(None, PROMPT), (None, PROMPT)], Sampling(max_tokens=3))
        monkeypatch.undo()
        assert engine.generate_many([(None, PROMPT)] * 2, Sampling(max_tokens=3)) == [right, right]


def test_a_slot_is_free_again_when_nothing_refers_to_it() -> None:
    decoder = device_decoder(random_base(), slots=2)
    kept = [decoder.new_cache(10), decoder.new_cache(10)]
    with pytest.raises(ModelError, match="all 2 slots"):
        decoder.new_cache(10)
    kept.pop()
    assert decoder.new_cache(10).shape[3] == 10


def test_a_base_in_bfloat16_is_widened_or_runs_in_it_on_the_torch_decoder(tmp_path: Path) -> None:
    base = random_base()
    random_adapter(base, tmp_path / "a")
    base.model.double()
    with pytest.raises(ModelError, match=r"torch\.float64 on cpu"):
        Engine(base)
    base.model.to(torch.bfloat16)
    wide = replace(base, model=copy.deepcopy(base.model).float())
    how = Sampling(max_tokens=4, logprobs=5)
    with Engine(base) as engine, Engine(wide) as right:
        for one in (engine, right):
            one.add("a", tmp_path / "a")
        assert engine.complete("a", PROMPT, how) == right.complete("a", PROMPT, how)
        assert {one.dtype for one in engine.base.model.parameters()} == {torch.bfloat16}
    for weights in ("float32", "int8"):
        limits = EngineLimits(batch=2, decoder="torch", slot=128, weights=weights)  # type: ignore[arg-type]
        with Engine(base, limits) as engine:
            engine.add("a", tmp_path / "a")
            assert len(engine.complete("a", PROMPT, Sampling(max_tokens=4)).token_ids) == 4


@pytest.mark.parametrize("name", ["llama with biases", "qwen 3", "smollm: tied embeddings"])
def test_int8_weights_give_the_logits_of_the_compiled_decoders_int8_weights(name: str, tmp_path: Path) -> None:
    base = random_base(name)
    random_adapter(base, tmp_path / "a", use_dora=True)
    compiled = Decoder(base.model, most_rows=128, weights="int8")
    decoder = DeviceDecoder(base.model, slots=4, length=256, most_rows=128, weights="int8")
    with pinned(), torch.inference_mode():
        for site in ("k", "gate", "head"):
            layer = base.model.config.num_hidden_layers if site == "head" else 1
            assert torch.equal(decoder.linear(layer, site)[0], compiled.linear(layer, site)[0])
        ours, right = (together(one, [None, resident(tmp_path / "a", one)]) for one in (decoder, compiled))
        assert close(ours, right)


@needs_triton
@pytest.mark.parametrize("tokens", [1, 21])
@pytest.mark.parametrize(
    ("rank", "dtype"), [(4, torch.float32), (32, torch.float32), (8, torch.bfloat16), (16, torch.int8)]
)
def test_the_triton_kernels_compute_what_torch_computes(tokens: int, rank: int, dtype: torch.dtype) -> None:
    from openledger.openlora.grouped import TritonProducts

    generator = torch.Generator().manual_seed(0)
    table, n, inputs, outputs = 7, 40, 150, 90
    flat = torch.randn(table, rank * (inputs + outputs) + 32, generator=generator) * (30 if dtype == torch.int8 else 1)
    flat[0] = 0
    factors = flat.to(dtype)
    a = factors[:, : rank * inputs].unflatten(1, (rank, inputs))
    b = factors[:, rank * inputs : rank * (inputs + outputs)].unflatten(1, (rank, outputs))
    scales = torch.rand(table, rank, generator=generator) if dtype == torch.int8 else None
    # One adapter has more tokens than a block, some have one, and some requests have none.
    x, rows = torch.randn(n, tokens, inputs, generator=generator), torch.tensor([3, 0, 6, 3, 1, *[4, 0, 4, 4, 5] * 7])
    route = Route.of(rows, tokens)
    found = TritonProducts().change(x, a, b, route, scales)
    assert close(found, TorchProducts().change(x, a, b, route, scales))
    assert not found[1].any()


@needs_triton
@pytest.mark.parametrize(("tokens", "dtype"), [(1, torch.float32), (21, torch.float32), (3, torch.bfloat16)])
def test_the_triton_kernel_of_int8_weights_computes_what_torch_computes(tokens: int, dtype: torch.dtype) -> None:
    from openledger.openlora.grouped import TritonProducts

    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-127, 128, (90, 150), generator=generator).to(torch.int8)
    scales, x = torch.rand(90, generator=generator), torch.randn(5, tokens, 150, generator=generator).to(dtype)
    found, right = TritonProducts().coded(x, codes, scales), TorchProducts().coded(x.float(), codes, scales)
    assert float((found.float() - right).abs().max() / right.abs().max()) < (1e-5 if dtype == torch.float32 else 1e-2)


@needs_triton
def test_the_decoder_runs_with_the_triton_kernels(tmp_path: Path) -> None:
    from openledger.openlora.grouped import TritonProducts

    base = random_base("qwen 2")
    oracle = random_adapter(base, tmp_path / "a", use_dora=True)
    sizes: dict[str, Any] = {"slots": 2, "length": 256, "most_rows": 128}
    decoder = DeviceDecoder(base.model, **sizes, products=TritonProducts())
    with pinned(), torch.inference_mode():
        right = oracle(torch.tensor([PROMPT + THEN])).logits[0, len(PROMPT) - 1 :]
        assert close(together(decoder, [resident(tmp_path / "a", decoder), None])[0], right)
        coded, plain = (
            DeviceDecoder(base.model, **sizes, weights="int8", products=products)
            for products in (TritonProducts(), TorchProducts())
        )
        assert close(together(coded, [None, None]), together(plain, [None, None]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_graphs_and_kernels_give_what_the_cpu_gives(tmp_path: Path) -> None:
    base = random_base()
    random_adapter(base, tmp_path / "a", use_dora=True)
    how = Sampling(max_tokens=8)
    answers = []
    for device in ("cpu", "cuda"):
        base.model.to(device)
        with Engine(base, EngineLimits(batch=4, slot=256)) as engine:
            engine.add("a", tmp_path / "a")
            answers.append(engine.generate_many([("a", PROMPT), (None, PROMPT)], how))
    assert answers[0] == answers[1]
