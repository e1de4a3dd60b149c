"""A base model's linear layers as the decoder uses them: [input, output], those that read the same input beside each other.

float32 is exact. int8 holds a code for each weight and a scale for each output (symmetric, nearest): a quarter of the memory. A
turn widens some columns at a time to float32, few enough to stay in the processor's cache, and multiplies as before: memory is
asked for a quarter of the bytes, and a row's bits still do not depend on the batch. It is not what receipts are recomputed with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
import torch

from openledger.openlora import kernels
from openledger.openlora.memory import floats

Kind = Literal["float32", "int8"]
_TILE_FLOATS = 256 << 10


class Linear(Protocol):
    """Some linear layers with the same input."""

    def times(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """Writes their outputs for ``x`` [rows, input] to ``out`` [rows, outputs]."""
        ...

    def factors(self) -> Iterator[torch.Tensor]:
        """Matrices [input, outputs] of every shape that is multiplied with; each valid until the next."""
        ...

    def part(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights [outputs, input] and the bias, if any, of some of the outputs; from any thread."""
        ...


class _Dense:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def factors(self) -> Iterator[torch.Tensor]:
        yield self._weight

    def part(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._weight[:, start:end].t(), None if self._bias is None else self._bias[start:end]

    def times(self, x: torch.Tensor, out: torch.Tensor) -> None:
        torch.mm(x, self._weight, out=out)
        if self._bias is not None:
            out.add_(self._bias)


class _Coded:
    def __init__(self, codes: list[Any], scales: Any, bias: torch.Tensor | None, room: torch.Tensor) -> None:
        self._codes = codes
        self._scales = scales
        self._bias = bias
        self._room = room

    def factors(self) -> Iterator[torch.Tensor]:
        for place in (0, -1):
            yield self._widen(self._codes[place], self._scales[: self._codes[place].shape[1]])

    def part(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        codes = np.concatenate(self._codes, axis=1)[:, start:end]
        weight = torch.from_numpy(codes * self._scales[start:end])
        return weight.t(), None if self._bias is None else self._bias[start:end]

    def times(self, x: torch.Tensor, out: torch.Tensor) -> None:
        end = 0
        for codes in self._codes:
            start, end = end, end + codes.shape[1]
            torch.mm(x, self._widen(codes, self._scales[start:end]), out=out[:, start:end])
        if self._bias is not None:
            out.add_(self._bias)

    def _widen(self, codes: Any, scales: Any) -> torch.Tensor:
        weight = self._room[: codes.size].view(*codes.shape)
        kernels.widen(codes, scales, weight.numpy())
        return weight


class Weights:
    """Makes them.

    Args:
        model: the transformers model whose layers will be taken.
        kind: how they are held.
    """

    def __init__(self, model: Any, kind: Kind) -> None:
        self._kind = kind
        linears = [module for module in model.model.layers.modules() if isinstance(module, torch.nn.Linear)]
        linears.append(model.lm_head)
        if kind == "float32":
            self._flat = floats(sum(-(-linear.weight.numel() // 16) * 16 for linear in linears))
        else:
            self._flat = floats(max(linear.in_features * _tile(linear.in_features) for linear in linears))
        self._end = 0

    def across(self, *linears: Any) -> Linear:
        """The layers, whose inputs are the same, beside each other."""
        bias = None
        if any(linear.bias is not None for linear in linears):
            bias = torch.cat(
                [
                    linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias.detach()
                    for linear in linears
                ]
            )
        shape = (linears[0].weight.shape[1], sum(len(linear.weight) for linear in linears))
        if self._kind == "int8":
            codes, scales = np.empty(shape, dtype=np.int8), np.empty(shape[1], dtype=np.float32)
            for place, weight in _columns(linears):
                scale = weight.abs().amax(dim=1).clamp_min(1e-12) / 127
                codes[:, place] = (weight / scale[:, None]).round().to(torch.int8).t().numpy()
                scales[place] = scale.numpy()
            tile = _tile(shape[0])
            parts = [np.ascontiguousarray(codes[:, at : at + tile]) for at in range(0, shape[1], tile)]
            return _Coded(parts, scales, bias, self._flat)
        start, self._end = self._end, self._end + -(-shape[0] * shape[1] // 16) * 16
        placed = self._flat[start : start + shape[0] * shape[1]].view(shape)
        for place, weight in _columns(linears):
            placed[:, place] = weight.t()
        return _Dense(placed, bias)


def _tile(inputs: int) -> int:
    """Columns that are widened together."""
    return max(16, _TILE_FLOATS // inputs // 16 * 16)


def _columns(linears: tuple[Any, ...]) -> Iterator[tuple[slice, torch.Tensor]]:
    column = 0
    for linear in linears:
        width = len(linear.weight)
        yield slice(column, column + width), linear.weight.detach()
        column += width
