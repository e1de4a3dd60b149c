"""Shorter numbers and larger models: weights and adapters in bfloat16 and int8, and Llamas of 0.4 and 1.1 billion parameters.

The tables ``weights``, ``precision`` and ``large`` of ``python -m bench.openlora --growth``. Logits are compared after prompts of
32 tokens with those of float32: ``error`` is the largest difference over 32 prompts, as a share of the largest logit,
``same_token`` the share of prompts whose likeliest token is the same. ``share`` is the rate as a share of the base's in the same
rounds; ``limit`` what it would be if adapters cost nothing but being read once a step from memory, at the rate at which one core
read a large array in the same rounds.

A large model has random weights, and so have its 32 adapters of rank 8 on all seven linears. The layers of the largest begin as
one layer, which changes nothing for an engine that keeps a copy of each, so that the original does not take as much memory again.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.openlora.common import BATCH, answer, cpu_seconds, prompts
from bench.openlora.growth import random_factors, row, speed, turns
from bench.openlora.make import ALL
from openledger.models import BaseModel, load_base, pinned, shared_copy
from openledger.openlora import AdapterLimits, Engine, EngineLimits, Sampling
from openledger.openlora.adapters import AdapterStore, StoredAdapter
from openledger.openlora.decoder import Chunk
from openledger.openlora.memory import floats
from openledger.openlora.residents import ResidentAdapters
from openledger.openlora.shapes import DTYPES

PRECISIONS = tuple(DTYPES)
CASES = ("base", *PRECISIONS)
"""What a large model is asked for: the base, or 32 adapters in a precision. peft has the first two."""
LARGE: dict[str, tuple[dict[str, int], int]] = {
    "Llama 0.4B, random weights, float32": (
        {
            "hidden_size": 960,
            "num_hidden_layers": 32,
            "num_attention_heads": 15,
            "num_key_value_heads": 5,
            "intermediate_size": 2560,
            "vocab_size": 49152,
        },
        32,
    ),
    "Llama 1.1B, random weights, float32": (
        {
            "hidden_size": 2048,
            "num_hidden_layers": 22,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "intermediate_size": 5632,
            "vocab_size": 32000,
        },
        16,
    ),
}
"""By name: the sizes of SmolLM2-360M and of TinyLlama, and how many tokens are written for each prompt."""


def add_in(engine: Engine, folder: Path, precision: Any, count: int = BATCH) -> None:
    """Adapters of rank 8 named by precision and number."""
    scheduler = engine._scheduler
    assert scheduler is not None
    size = scheduler._decoder.dimensions
    store = AdapterStore(folder, size, "0x", AdapterLimits(precision=precision))
    for number in range(count):
        engine._publish(f"{precision} {number}", store.put(random_factors(size, 8, number)))


def logits(engine: Engine, precision: str | None = None) -> torch.Tensor:
    """[32, vocabulary], after 32 prompts, each with an adapter of its own or all with none."""
    scheduler, found = engine._scheduler, []
    assert scheduler is not None
    decoder, residents = scheduler._decoder, ResidentAdapters(1 << 30, 1 << 30)
    with pinned():
        for number, ids in enumerate(prompts()):
            stored: StoredAdapter | None = None if precision is None else engine._find(f"{precision} {number}")
            adapter = None if stored is None else residents.take(stored)
            found.append(decoder.run([Chunk(tuple(ids), 0, decoder.new_cache(64), adapter)])[0].clone())
    return torch.stack(found)


def differences(found: torch.Tensor, right: torch.Tensor) -> dict[str, float]:
    """How far logits are from others."""
    return {
        "error": float((found - right).abs().max() / right.abs().max()),
        "same_token": float((found.argmax(dim=-1) == right.argmax(dim=-1)).float().mean()),
    }


def rounded(base: BaseModel) -> BaseModel:
    """The same model, published in bfloat16; an engine keeps its weights in it by itself."""
    model = copy.deepcopy(base.model)
    for one in model.parameters():
        one.data = one.data.bfloat16().float()
    return replace(base, model=model)


def weights(base: BaseModel) -> Iterator[dict[str, object]]:
    """The base alone, its weights in each kind: tokens per CPU second at batch 1, 8 and 32, and logits beside float32's."""
    engines = {
        "float32": Engine(base, EngineLimits(prefix_bytes=0)),
        "bfloat16": Engine(rounded(base), EngineLimits(prefix_bytes=0)),
        "int8": Engine(base, EngineLimits(prefix_bytes=0, weights="int8")),
    }
    linears = [one for one in base.model.model.layers.modules() if isinstance(one, torch.nn.Linear)]
    held = sum(one.weight.numel() for one in (*linears, base.model.lm_head))
    right = logits(engines["float32"])
    errors = {kind: differences(logits(engines[kind]), right) for kind in ("bfloat16", "int8")}
    for batch in (1, 8, 32):
        asked: list[tuple[str | None, list[int]]] = [(None, ids) for ids in prompts(batch)]
        for engine in engines.values():
            speed(engine, asked, 2)
        rates = turns({kind: partial(speed, engine, asked, 64) for kind, engine in engines.items()})
        for kind in engines:
            size = {"weights_mib": held * DTYPES[kind].itemsize / 2**20}
            rate = rates[kind]
            yield row(
                "weights", adapters=0, batch=batch, weights=kind, tokens_per_cpu_s=rate, **size, **errors.get(kind, {})
            )
    for engine in engines.values():
        engine.close()


def reading() -> Callable[[], float]:
    """Measures how many bytes of memory one core reads in a CPU second."""
    array = floats(64 << 20)
    array.fill_(1)

    def rate() -> float:
        before = cpu_seconds()
        for _ in range(4):
            array.sum()
        return 4 * 4 * len(array) / (cpu_seconds() - before)

    return rate


def precisions(base: BaseModel) -> Iterator[dict[str, object]]:
    """32 adapters of rank 8 in a batch of 32, kept in float32, bfloat16 and int8, beside the base."""
    with tempfile.TemporaryDirectory() as folder, Engine(base, EngineLimits(prefix_bytes=0)) as engine:
        for precision in PRECISIONS:
            add_in(engine, Path(folder), precision)
        asked = {case: requests(case) for case in CASES}
        for each in asked.values():
            speed(engine, each, 2)
        runs: dict[object, Callable[[], float]] = {case: partial(speed, engine, asked[case], 64) for case in CASES}
        rates = turns({**runs, "reading": reading()})
        right = logits(engine, "float32")
        yield row("precision", adapters=0, batch=BATCH, tokens_per_cpu_s=rates["base"], share=1.0)
        for precision in PRECISIONS:
            stored = engine._find(f"{precision} 0")
            assert stored is not None
            error = differences(logits(engine, precision), right) if precision != "float32" else {}
            rate = {"tokens_per_cpu_s": rates[precision], "share": rates[precision] / rates["base"]}
            size = {"bytes_per_adapter": stored.layout.size * 4, "bytes_per_cpu_s": rates["reading"]}
            size["limit"] = 1 / (1 + rates["base"] * size["bytes_per_adapter"] / rates["reading"])
            yield row("precision", adapters=BATCH, batch=BATCH, precision=precision, **rate, **size, **error)


def requests(case: str) -> list[tuple[str | None, list[int]]]:
    """32 prompts, each with an adapter of its own unless the base is asked."""
    return [(None if case == "base" else f"{case} {number}", ids) for number, ids in enumerate(prompts())]


def large(rounds: int) -> Iterator[dict[str, object]]:
    """The large models: our engine with adapters in each precision, and beside it peft's mixed batch of the smaller one."""
    from bench.openlora.__main__ import Worker, turn

    for model, (_, output) in LARGE.items():
        with turn():
            engines = [
                Worker("openledger large", tuple(range(len(CASES))), sys.executable, "-m", __name__, "ours", model)
            ]
            if model == next(iter(LARGE)):
                engines.append(Worker("peft large", (0, 1), sys.executable, "-m", __name__, "peft", model))
        found: dict[tuple[str, int], list[float]] = {}
        for number in range(-1, rounds):
            for engine in engines:
                with turn():
                    for case in engine.counts:
                        tokens, seconds = engine.run(case, 1 if number < 0 else output, max(0, number))
                        name = engine.name.removesuffix(" large")
                        if number >= 0:
                            found.setdefault((name, case), []).append(tokens / seconds)
                            print(
                                f"… {name}, {model}, {CASES[case]}: {tokens / seconds:.1f}", file=sys.stderr, flush=True
                            )
        for engine in engines:
            engine.close()
        for (engine_name, case), rates in found.items():
            base = statistics.median(found[engine_name, 0])
            yield {
                "engine": engine_name if case or engine_name != "peft" else "transformers",
                "model": model,
                "adapters": BATCH if case else 0,
                "batch": BATCH,
                "precision": CASES[case] if case else "",
                "rounds": rounds,
                "tokens_per_cpu_s": statistics.median(rates),
                "share": statistics.median(rates) / base,
            }


def random_model(name: str, *, alike: bool) -> LlamaForCausalLM:
    """One of :data:`LARGE`; ``alike`` lets its layers share their tensors."""
    torch.manual_seed(0)
    sizes, _ = LARGE[name]
    layers = 1 if alike else sizes["num_hidden_layers"]
    config = LlamaConfig(
        **{**sizes, "num_hidden_layers": layers},
        tie_word_embeddings=True,
        eos_token_id=None,
        max_position_embeddings=512,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    if alike:
        model.config.num_hidden_layers = sizes["num_hidden_layers"]
        model.model.layers.extend([shared_copy(model.model.layers[0]) for _ in range(1, sizes["num_hidden_layers"])])
    return model


def _ours(name: str) -> None:
    model = random_model(name, alike=name != next(iter(LARGE)))
    base = BaseModel(model, load_base().tokenizer, bytes(32), Path("large"))
    base.model.generation_config.eos_token_id = None
    limits = EngineLimits(batch=BATCH, prefix_bytes=0, adapter_bytes=2 << 30)
    with tempfile.TemporaryDirectory() as folder, Engine(base, limits) as engine:
        for precision in PRECISIONS:
            add_in(engine, Path(folder), precision)

        def run(case: int, output: int, seed: int) -> int:
            asked = requests(CASES[case])
            ids = prompts(seed=seed)
            named = [(adapter, row_) for (adapter, _), row_ in zip(asked, ids, strict=True)]
            return sum(len(one.token_ids) for one in engine.generate_many(named, Sampling(max_tokens=output)))

        answer(run)


def _peft(name: str) -> None:
    from peft import LoraConfig, get_peft_model

    base = random_model(name, alike=False)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=ALL, task_type="CAUSAL_LM")
    tuned: Any = get_peft_model(random_model(name, alike=False), config, adapter_name="0")
    for number in range(1, BATCH):
        tuned.add_adapter(str(number), config)
    with torch.no_grad():
        for parameter_name, parameter in tuned.named_parameters():
            if "lora_" in parameter_name:
                parameter.normal_(0, 0.02)
    tuned.eval()

    @torch.inference_mode()
    def run(case: int, output: int, seed: int) -> int:
        ids = torch.tensor(prompts(seed=seed))
        how: dict[str, Any] = {
            "do_sample": False,
            "max_new_tokens": output,
            "min_new_tokens": output,
            "pad_token_id": 0,
        }
        if case:
            how["adapter_names"] = [str(number) for number in range(BATCH)]
        model: Any = tuned if case else base
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
        return int(written.shape[0] * (written.shape[1] - ids.shape[1]))

    answer(run)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"ours": _ours, "peft": _peft}[sys.argv[1]](sys.argv[2])
