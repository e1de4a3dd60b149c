"""What a processor computes, as digests to compare with those of another kind."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from openledger.openlora.adapters import AdapterStore
from openledger.openlora.decoder import Chunk, Decoder
from openledger.openlora.residents import ResidentAdapters
from openledger.openlora.weights import Kind
from tests.openlora.models import random_adapter, random_base

CASES: dict[str, tuple[str, dict[str, Any], Kind]] = {
    "norms of heads, powers of 1e6": (
        "qwen 3",
        {"head_dim": 128, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        "float32",
    ),
    "a base that bfloat16 holds": ("yarn rotary", {"head_dim": 32}, "float32"),
    "int8, a window, sizes that fill no vector": ("mistral with a window", {"head_dim": 22, "hidden_size": 90}, "int8"),
}


def write(folder: Path) -> None:
    """A base's weights and two adapters for each case: random numbers themselves depend on the kind of processor."""
    for number, (name, changes, _) in enumerate(CASES.values()):
        base = random_base(name, **changes)
        weights = {key: value.contiguous() for key, value in base.model.state_dict().items()}
        if name == "yarn rotary":
            weights = {key: value.bfloat16().float() for key, value in weights.items()}
        save_file(weights, folder / f"{number}.safetensors")
        random_adapter(base, folder / f"{number} plain", r=8)
        random_adapter(base, folder / f"{number} dora", seed=1, r=3, use_dora=True)


def digests(folder: Path) -> list[str]:
    """Of the logits of prompts, cut in two, and of tokens after them, with the base and with the adapters."""
    found = []
    for number, (name, changes, kind) in enumerate(CASES.values()):
        model = random_base(name, **changes).model
        model.load_state_dict(load_file(folder / f"{number}.safetensors"))
        decoder = Decoder(model, weights=kind)
        store = AdapterStore(folder / "store", decoder.dimensions, "0x", linears=decoder.linear)
        residents = ResidentAdapters(1 << 26, 1 << 26)
        adapters = [None, *(residents.take(store.take(folder / f"{number} {which}")) for which in ("plain", "dora"))]
        prompt, caches = [7 * place % 4096 for place in range(1, 71)], [decoder.new_cache(128) for _ in adapters]
        for start, end in ((0, 45), (45, 70), *((at, at + 1) for at in range(70, 73))):
            tokens = tuple(prompt[start:end]) or (start,)
            logits = decoder.run([Chunk(tokens, start, *one) for one in zip(caches, adapters, strict=True)])
            assert torch.isfinite(logits).all()
            found.append(hashlib.sha256(logits.numpy().tobytes()).hexdigest())
        decoder.close()
    return found
