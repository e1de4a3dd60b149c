"""A base model's linear layers as the decoder uses them: [input, output], those that read the same input beside each other.

float32 is exact. int8 holds a code for each weight and a scale for each output (symmetric, nearest): a quarter of the memory.
A turn widens one layer at a time to float32 and multiplies as before, so that a row's bits still do not depend on the batch. It
is not what receipts are recomputed with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
import torch

from openledger.openlora import kernels
from openledger.openlora.memory import floats

Kind = Literal["float32", "int8"]


class Linear(Protocol):
    """Some linear layers with the same input."""

    def times(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """Writes their outputs for ``x`` [rows, input] to ``out`` [rows, outputs]."""
        ...

    def dense(self) -> torch.Tensor:
        """The weights [input, outputs]; valid until another is asked for."""
        ...

    def part(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights [outputs, input] and the bias, if any, of some of the outputs; from any thread."""
        ...


class _Dense:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def dense(self) -> torch.Tensor:
        return self._weight

    def part(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._weight[:, start:end].t(), None if self._bias is None else self._bias[start:end]

    def times(self, x: torch.Tensor, out: torch.Tensor) -> None:
        torch.mm(x, self._weight, out=out)
        if self._bias is not None:
            out.add_(self._bias)


class _Coded:
    def __init__(self, codes: Any, scales: Any, bias: torch.Tensor | None, room: torch.Tensor) -> None:
        self._codes = codes
        self._scales = scales
        self._bias = bias
        self._room = room

    def dense(self) -> torch.Tensor:
        weight = self._room[: self._codes.size].view(*self._codes.shape)
        kernels.widen(self._codes, self._scales, weight.numpy())
        return weight

    def part(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        weight = torch.from_numpy(self._codes[:, start:end] * self._scales[start:end])
        return weight.t(), None if self._bias is None else self._bias[start:end]

    def times(self, x: torch.Tensor, out: torch.Tensor) -> None:
        torch.mm(x, self.dense(), out=out)
        if self._bias is not None:
            out.add_(self._bias)


class Weights:
    """Makes them.

    Args:
        model: the transformers model whose layers will be taken.
        kind: how they are held.
    """

    def __init__(self, model: Any, kind: Kind) -> None:
        self._kind = kind
        head = model.lm_head.weight.numel()
        groups = [module.weight for module in model.model.layers.modules() if isinstance(module, torch.nn.Linear)]
        if kind == "float32":
            self._flat = floats(sum(-(-weight.numel() // 16) * 16 for weight in groups) + -(-head // 16) * 16)
        else:
            # The largest group is at most a layer.
            layer = sum(weight.numel() for weight in groups) // len(model.model.layers)
            self._flat = floats(max(head, layer))
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
            return _Coded(codes, scales, bias, self._flat)
        start, self._end = self._end, self._end + -(-shape[0] * shape[1] // 16) * 16
        placed = self._flat[start : start + shape[0] * shape[1]].view(shape)
        for place, weight in _columns(linears):
            placed[:, place] = weight.t()
        return _Dense(placed, bias)


def _columns(linears: tuple[Any, ...]) -> Iterator[tuple[slice, torch.Tensor]]:
    column = 0
    for linear in linears:
        width = len(linear.weight)
        yield slice(column, column + width), linear.weight.detach()
        column += width
