"""Attention of single tokens is right for any sizes, writes nothing else, and a row's bits are its own."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.openlora import kernels

LENGTH, LAYERS = 48, 2


@settings(max_examples=80, deadline=None)
@given(
    size=st.sampled_from((2, 10, 16, 24, 32, 64, 80, 128)),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    positions=st.lists(st.integers(0, LENGTH - 1), min_size=1, max_size=4),
    window=st.sampled_from((0, 1, 5, 17)),
    layer=st.integers(0, LAYERS - 1),
    seed=st.integers(0, 99),
)
def test_each_row_attends_to_what_it_sees_and_keeps_its_own(
    size: int, kv_heads: int, group: int, positions: list[int], window: int, layer: int, seed: int
) -> None:
    rows, heads = len(positions), kv_heads * group
    generator = torch.Generator().manual_seed(seed)
    caches = [torch.randn(LAYERS, 2, kv_heads, LENGTH, size, generator=generator) for _ in range(rows)]
    before = [cache.clone() for cache in caches]
    qkv = torch.randn(rows, heads + 2 * kv_heads, size, generator=generator)
    at, lengths = np.array(positions, dtype=np.int64), np.full(rows, LENGTH, dtype=np.int64)

    def attend(first: int, last: int) -> torch.Tensor:
        """[rows + 1, heads, size], of which nothing may touch the last."""
        out = torch.full((last - first + 1, heads, size), 7.0)
        places = np.array([cache.data_ptr() for cache in caches[first:last]], dtype=np.int64)
        part = (places, lengths[first:last], at[first:last])
        shape = (heads, kv_heads)
        kernels.attend(qkv[first:last].numpy(), *part, layer, window, shape, out[:-1].numpy())
        return out

    found = attend(0, rows)
    assert torch.equal(found[-1], torch.full((heads, size), 7.0))
    for row, position in enumerate(positions):
        kept, new = before[row], qkv[row, heads:].view(2, kv_heads, size)
        kept[layer, :, :, position] = new
        assert torch.equal(caches[row], kept)
        seen = slice(max(0, position + 1 - window) if window else 0, position + 1)
        keys, values = kept[layer, :, :, seen].double().repeat_interleave(group, dim=1)
        scores = torch.einsum("hd,htd->ht", qkv[row, :heads].double(), keys) / size**0.5
        right = torch.einsum("ht,htd->hd", scores.softmax(dim=-1), values)
        assert torch.allclose(found[row].double(), right, rtol=1e-5, atol=1e-5)
        assert torch.equal(attend(row, row + 1)[0], found[row])
