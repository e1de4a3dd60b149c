"""A turn's products in Triton kernels: what adapters change, for requests of many adapters at once, and int8 weights.

The tokens of a turn are taken in the order of their adapters, sixteen of one adapter a program (the segments of Punica's SGMV,
https://arxiv.org/abs/2310.18547; S-LoRA, https://arxiv.org/abs/2311.03285): ``shrink`` makes x Aᵀ, ``expand`` that times B. So
factors are read once for all tokens of a block, where they stand in the table; tokens without an adapter name row 0, whose
factors are zeros, and are skipped. Shapes depend on the number of tokens alone, as CUDA graphs need it: there is a program for
every place in the order, and those within a block end at once. ``TRITON_INTERPRET=1`` runs the kernels without a
GPU, which is how they are tested.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from openledger.openlora.device import Route

_TOKENS, _INPUTS, _OUTPUTS = 16, 64, 64


@triton.jit
def _shrink(x, a, route, middle, count, inputs, stride, rank, t: tl.constexpr, k: tl.constexpr, r: tl.constexpr):
    place = tl.program_id(0)
    row = tl.load(route + count + place)
    if row == 0:
        return
    if (place - tl.load(route + 2 * count + place)) % t != 0:
        return
    at = place + tl.arange(0, t)
    same = tl.load(route + count + at, mask=at < count, other=-1) == row
    token = tl.load(route + at, mask=same, other=0)
    column, of_rank = tl.arange(0, k), tl.arange(0, r)
    total = tl.zeros((t, r), dtype=tl.float32)
    for start in range(0, inputs, k):
        of_input = start + column
        left = tl.load(
            x + token[:, None] * inputs + of_input[None, :],
            mask=same[:, None] & (of_input[None, :] < inputs),
            other=0.0,
        )
        right = tl.load(
            a + row * stride + of_rank[None, :] * inputs + of_input[:, None],
            mask=(of_rank[None, :] < rank) & (of_input[:, None] < inputs),
            other=0,
        )
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision="ieee")
    tl.store(middle + token[:, None] * rank + of_rank[None, :], total, mask=same[:, None] & (of_rank[None, :] < rank))


@triton.jit
def _expand(middle, b, route, out, count, outputs, stride, rank, t: tl.constexpr, o: tl.constexpr, r: tl.constexpr):
    place, block = tl.program_id(0), tl.program_id(1)
    row = tl.load(route + count + place)
    if row == 0:
        return
    if (place - tl.load(route + 2 * count + place)) % t != 0:
        return
    at = place + tl.arange(0, t)
    same = tl.load(route + count + at, mask=at < count, other=-1) == row
    token = tl.load(route + at, mask=same, other=0)
    of_output, of_rank = block * o + tl.arange(0, o), tl.arange(0, r)
    left = tl.load(
        middle + token[:, None] * rank + of_rank[None, :],
        mask=same[:, None] & (of_rank[None, :] < rank),
        other=0.0,
    )
    right = tl.load(
        b + row * stride + of_rank[:, None] * outputs + of_output[None, :],
        mask=(of_rank[:, None] < rank) & (of_output[None, :] < outputs),
        other=0,
    )
    total = tl.dot(left, right.to(tl.float32), input_precision="ieee")
    tl.store(
        out + token[:, None] * outputs + of_output[None, :],
        total.to(out.dtype.element_ty),
        mask=same[:, None] & (of_output[None, :] < outputs),
    )


@triton.jit
def _coded(
    x, codes, scales, out, count, inputs, outputs, how: tl.constexpr, t: tl.constexpr, k: tl.constexpr, o: tl.constexpr
):
    token = tl.program_id(0) * t + tl.arange(0, t)
    of_output, column = tl.program_id(1) * o + tl.arange(0, o), tl.arange(0, k)
    total = tl.zeros((t, o), dtype=tl.float32)
    for start in range(0, inputs, k):
        of_input = start + column
        left = tl.load(
            x + token[:, None] * inputs + of_input[None, :],
            mask=(token[:, None] < count) & (of_input[None, :] < inputs),
            other=0.0,
        )
        right = tl.load(
            codes + of_output[None, :] * inputs + of_input[:, None],
            mask=(of_output[None, :] < outputs) & (of_input[:, None] < inputs),
            other=0,
        )
        total = tl.dot(left.to(tl.float32), right.to(tl.float32), total, input_precision=how)
    total *= tl.load(scales + of_output, mask=of_output < outputs, other=0.0)[None, :]
    tl.store(
        out + token[:, None] * outputs + of_output[None, :],
        total.to(out.dtype.element_ty),
        mask=(token[:, None] < count) & (of_output[None, :] < outputs),
    )


class TritonProducts:
    """See :class:`openledger.openlora.device.Products`."""

    def change(
        self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, route: Route, scales: torch.Tensor | None
    ) -> torch.Tensor:
        """x Aᵀ B for each request, [n, t, output]; [r, input] and [r, output] of the tables are contiguous."""
        (n, tokens, inputs), (_, rank, outputs) = x.shape, b.shape
        x, count = x.contiguous(), n * tokens
        middle = torch.zeros(n, tokens, rank, device=x.device)
        out = torch.zeros(n, tokens, outputs, device=x.device, dtype=x.dtype)
        width = max(16, triton.next_power_of_2(rank))
        shrink: Any = _shrink[(count,)]
        shrink(x, a, route.places, middle, count, inputs, a.stride(0), rank, t=_TOKENS, k=_INPUTS, r=width)
        if scales is not None:
            middle *= scales[route.rows][:, None]
        expand: Any = _expand[(count, triton.cdiv(outputs, _OUTPUTS))]
        expand(middle, b, route.places, out, count, outputs, b.stride(0), rank, t=_TOKENS, o=_OUTPUTS, r=width)
        return out

    def coded(self, x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """x times the weights that int8 codes stand for: codes are read as they are, and widened in registers."""
        (n, tokens, inputs), outputs = x.shape, len(codes)
        x, count = x.contiguous(), n * tokens
        out = torch.empty(n, tokens, outputs, device=x.device, dtype=x.dtype)
        launch: Any = _coded[(triton.cdiv(count, _TOKENS), triton.cdiv(outputs, _OUTPUTS))]
        # Codes and 16-bit numbers are exact in tf32, which has tensor cores.
        how = "ieee" if x.dtype == torch.float32 else "tf32"
        launch(x, codes, scales, out, count, inputs, outputs, how=how, t=_TOKENS, k=_INPUTS, o=_OUTPUTS)
        return out
