"""Attention is right for any sizes and pieces of prompts, writes nothing else, and a row's bits are its own."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.openlora import kernels

LENGTH, LAYERS = 160, 2


@settings(max_examples=80, deadline=None)
@given(
    size=st.sampled_from((2, 10, 16, 24, 32, 64, 80, 128)),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    pieces=st.lists(st.tuples(st.integers(0, LENGTH - 20), st.integers(1, 20)), min_size=1, max_size=4),
    window=st.sampled_from((0, 1, 5, 17)),
    layer=st.integers(0, LAYERS - 1),
    seed=st.integers(0, 99),
)
def test_each_row_attends_to_what_it_sees_and_keeps_its_own(
    size: int, kv_heads: int, group: int, pieces: list[tuple[int, int]], window: int, layer: int, seed: int
) -> None:
    heads, shape = kv_heads * group, (kv_heads * group, kv_heads)
    generator = torch.Generator().manual_seed(seed)
    before = [torch.randn(LAYERS, 2, kv_heads, LENGTH, size, generator=generator) for _ in pieces]
    positions = np.concatenate([np.arange(start, start + count) for start, count in pieces])
    qkv = torch.randn(len(positions), heads + 2 * kv_heads, size, generator=generator)

    def attend(caches: list[torch.Tensor], lots: list[tuple[int, int, int]], parts: int = 1) -> torch.Tensor:
        """[rows + 1, heads, size], of which nothing may touch the last, for (which request, first row, one after the last)."""
        out = torch.full((len(positions) + 1, heads, size), 7.0)
        places = [(caches[which].data_ptr(), LENGTH, first, last) for which, first, last in lots]
        weights = np.full((kernels.TOGETHER * group, LENGTH), np.nan, dtype=np.float32)
        units = len(lots) * kv_heads
        for part in range(parts):
            some = (units * part // parts, units * (part + 1) // parts)
            table, made = np.array(places, dtype=np.int64), out[:-1].numpy()
            kernels.attend(qkv.numpy(), table, positions, (layer, window), shape, weights, made, some)
        return out

    bounds = np.cumsum([0, *(count for _, count in pieces)])
    whole = [(which, int(bounds[which]), int(bounds[which + 1])) for which in range(len(pieces))]
    caches = [one.clone() for one in before]
    found = attend(caches, whole)
    assert torch.equal(found[-1], torch.full((heads, size), 7.0))
    assert torch.equal(attend([one.clone() for one in before], whole, parts=2), found)
    for which, first, last in whole:
        kept = before[which].clone()
        for row in range(first, last):
            kept[layer, :, :, positions[row]] = qkv[row, heads:].view(2, kv_heads, size)
            end = int(positions[row]) + 1
            keys, values = kept[layer, :, :, max(0, end - window) if window else 0 : end].double()
            scores = torch.einsum("hd,htd->ht", qkv[row, :heads].double(), keys.repeat_interleave(group, dim=0))
            right = torch.einsum(
                "ht,htd->hd", (scores / size**0.5).softmax(dim=-1), values.repeat_interleave(group, dim=0)
            )
            assert torch.allclose(found[row].double(), right, rtol=1e-5, atol=1e-5)
        assert torch.equal(caches[which], kept)
        alone = [before[which].clone() for _ in pieces]
        for row in range(first, last):
            assert torch.equal(attend(alone, [(which, row, row + 1)])[row], found[row])
