"""On the pinned path the same input gives the same bits, in whatever batch and whatever process."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch

from openledger.models import BaseModel, pinned

_SCRIPT = """
import hashlib, torch
from openledger.models import load_base, pinned
torch.set_num_threads({threads})
base = load_base()
with pinned(), torch.no_grad():
    logits = base.model(torch.arange(20, 60)[None]).logits
print(hashlib.sha256(logits.numpy().tobytes()).hexdigest())
"""


def test_logits_of_sixteen_tokens_and_more_are_the_same_bits_in_any_batch(shipped: BaseModel) -> None:
    generator = torch.Generator().manual_seed(3)
    for length in (16, 17, 23, 64):
        rows = torch.randint(10, 4000, (6, length), generator=generator)
        with pinned(), torch.no_grad():
            together = shipped.model(rows).logits
            apart = torch.cat([shipped.model(row[None]).logits for row in rows])
        assert torch.equal(together, apart)


def test_gradients_are_the_same_bits_again(shipped: BaseModel) -> None:
    rows = torch.arange(30, 60)[None]

    def gradient() -> torch.Tensor:
        embedded = shipped.model.get_input_embeddings()(rows).detach().requires_grad_(True)
        loss = shipped.model(inputs_embeds=embedded).logits.log_softmax(-1).mean()
        return torch.autograd.grad(loss, embedded)[0]

    with pinned():
        assert torch.equal(gradient(), gradient())


def test_another_process_with_another_thread_count_gets_the_same_bits(shipped: BaseModel) -> None:
    with pinned(), torch.no_grad():
        here = shipped.model(torch.arange(20, 60)[None]).logits
    script = _SCRIPT.format(threads=2)
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == hashlib.sha256(here.numpy().tobytes()).hexdigest()


def test_pinning_puts_every_setting_back() -> None:
    torch.set_default_dtype(torch.float64)
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
    )
    try:
        with pytest.raises(RuntimeError, match="on purpose"), pinned():
            assert torch.get_num_threads() == 1
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.get_default_dtype() == torch.float32
            raise RuntimeError("on purpose")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    after = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
    )
    assert before == after


def test_what_ends_first_does_not_unpin_what_still_runs() -> None:
    first, second = pinned(), pinned()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.are_deterministic_algorithms_enabled()
    second.__exit__(None, None, None)
    assert not torch.are_deterministic_algorithms_enabled()
