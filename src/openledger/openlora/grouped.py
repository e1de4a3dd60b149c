"""The adapters' products in two Triton kernels, for requests of many adapters at once.

Each program takes one request and a block of outputs: ``shrink`` makes x Aᵀ of its adapter's rank, ``expand`` that times B.
Factors are read where they stand in the table, by the row number, so that nothing is gathered; requests without an adapter name
row 0, whose factors are zeros, and are skipped. The idea is that of Punica (https://arxiv.org/abs/2310.18547) and S-LoRA
(https://arxiv.org/abs/2311.03285). ``TRITON_INTERPRET=1`` runs them without a GPU, which is how they are tested.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_TOKENS, _INPUTS, _OUTPUTS = 16, 64, 64


@triton.jit
def _shrink(x, a, rows, middle, tokens, inputs, stride, rank, t: tl.constexpr, k: tl.constexpr, r: tl.constexpr):
    request, part = tl.program_id(0), tl.program_id(1)
    row = tl.load(rows + request)
    if row == 0:
        return
    token, column, of_rank = part * t + tl.arange(0, t), tl.arange(0, k), tl.arange(0, r)
    total = tl.zeros((t, r), dtype=tl.float32)
    for start in range(0, inputs, k):
        at = start + column
        left = tl.load(
            x + (request * tokens + token[:, None]) * inputs + at[None, :],
            mask=(token[:, None] < tokens) & (at[None, :] < inputs),
            other=0.0,
        )
        right = tl.load(
            a + row * stride + of_rank[None, :] * inputs + at[:, None],
            mask=(of_rank[None, :] < rank) & (at[:, None] < inputs),
            other=0,
        )
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="ieee")
    place = middle + (request * tokens + token[:, None]) * rank + of_rank[None, :]
    tl.store(place, total, mask=(token[:, None] < tokens) & (of_rank[None, :] < rank))


@triton.jit
def _expand(middle, b, rows, out, tokens, outputs, stride, rank, t: tl.constexpr, o: tl.constexpr, r: tl.constexpr):
    request, part, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tl.load(rows + request)
    if row == 0:
        return
    token, at, of_rank = part * t + tl.arange(0, t), block * o + tl.arange(0, o), tl.arange(0, r)
    left = tl.load(
        middle + (request * tokens + token[:, None]) * rank + of_rank[None, :],
        mask=(token[:, None] < tokens) & (of_rank[None, :] < rank),
        other=0.0,
    )
    right = tl.load(
        b + row * stride + of_rank[:, None] * outputs + at[None, :],
        mask=(of_rank[:, None] < rank) & (at[None, :] < outputs),
        other=0,
    )
    total = tl.dot(left, right.to(tl.float32), input_precision="ieee")
    place = out + (request * tokens + token[:, None]) * outputs + at[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=(token[:, None] < tokens) & (at[None, :] < outputs))


def grouped(
    x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, rows: torch.Tensor, scales: torch.Tensor | None
) -> torch.Tensor:
    """x Aᵀ B for each request, [n, t, output]; see :data:`openledger.openlora.device.Change`.

    Args:
        x: [n, t, input].
        a: [table, r, input], of which [r, input] is contiguous.
        b: [table, r, output], likewise.
        rows: [n], each request's row of the table; 0 for none.
        scales: [table, r] between the two products, or None for 1.
    """
    (n, tokens, inputs), (_, rank, outputs) = x.shape, b.shape
    x = x.contiguous()
    middle = torch.zeros(n, tokens, rank, device=x.device)
    out = torch.zeros(n, tokens, outputs, device=x.device, dtype=x.dtype)
    parts, width = triton.cdiv(tokens, _TOKENS), max(16, triton.next_power_of_2(rank))
    shrink: Any = _shrink[(n, parts)]
    shrink(x, a, rows, middle, tokens, inputs, a.stride(0), rank, t=_TOKENS, k=_INPUTS, r=width)
    if scales is not None:
        middle *= scales[rows][:, None]
    expand: Any = _expand[(n, parts, triton.cdiv(outputs, _OUTPUTS))]
    expand(middle, b, rows, out, tokens, outputs, b.stride(0), rank, t=_TOKENS, o=_OUTPUTS, r=width)
    return out
