"""A base model's linear layers as the decoder uses them, those that read the same input beside each other.

float32 is exact. Where bfloat16 holds every weight exactly, as it does for what was published in bfloat16, weights are kept in
it: half the memory, the same products bit by bit. int8 holds a code for each weight and a scale for each output (symmetric,
nearest): a quarter of the memory, for operators who sell no receipts. Short numbers are widened in registers.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from openledger.openlora.memory import floats
from openledger.openlora.product_kernel import COLUMNS, multiply, pack, unpacked
from openledger.openlora.shapes import DTYPES, Precision
from openledger.openlora.team import Team

Kind = Literal["float32", "int8"]
_NO_READS = np.empty((0, 2), dtype=np.int64)


class Linear:
    """Some linear layers with the same input.

    Args:
        held: their weights, by :func:`openledger.openlora.product_kernel.pack`.
        precision: of the weights.
        scales: [outputs] of int8 codes; None for other weights.
        bias: [outputs]; None where no layer has one.
        team: who computes.

    Attributes:
        precision: of the weights.
    """

    def __init__(
        self,
        held: torch.Tensor,
        precision: Precision,
        scales: torch.Tensor | None,
        bias: torch.Tensor | None,
        team: Team,
    ) -> None:
        self._held = held
        self.precision = precision
        self._scales = scales
        self._bias = bias
        self._team = team

    @property
    def size(self) -> int:
        """How many weights."""
        return self._held.numel()

    @property
    def place(self) -> tuple[int, int, int]:
        """Addresses of the weights, the scales and the bias; 0 for none."""
        scales, bias = (0 if one is None else one.data_ptr() for one in (self._scales, self._bias))
        return self._held.data_ptr(), scales, bias

    def times(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """Writes their outputs for ``x`` [rows, input] to ``out`` [rows, outputs]; both are contiguous."""
        rows, made, panels = x.numpy(), out.numpy(), len(self._held)

        def some(part: int, parts: int) -> None:
            first, last = panels * part // parts, panels * (part + 1) // parts
            multiply(rows, self.place, self.precision, _NO_READS, made, first, last)

        self._team.share(some, len(rows) * self._held.numel())

    def part(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights [outputs, input] and the bias, if any, of some of the outputs; from any thread."""
        weight = unpacked(self._held, start, end).float()
        if self._scales is not None:
            weight = weight * self._scales[start:end]
        return weight.t(), None if self._bias is None else self._bias[start:end]


class Weights:
    """Makes them, in the order in which they are used.

    Args:
        model: the transformers model whose layers will be taken.
        kind: how they are held.
        team: who computes with them.
        keep: whether the model keeps its own weights; if not, each is let go as soon as it is taken.

    Attributes:
        precision: in which numbers.
    """

    def __init__(self, model: Any, kind: Kind, team: Team, *, keep: bool = True) -> None:
        self._team = team
        self._keep = keep
        linears = [module for module in model.model.layers.modules() if isinstance(module, torch.nn.Linear)]
        linears.append(model.lm_head)
        self.precision: Precision = kind
        if kind == "float32" and all(_fits(linear.weight.detach()) for linear in linears):
            self.precision = "bfloat16"
        dtype = DTYPES[self.precision]
        # Layers beside each other fill panels together, so each by itself needs no less.
        count = sum(linear.in_features * -(-linear.out_features // COLUMNS) * COLUMNS for linear in linears)
        self._flat = floats(-(-count * dtype.itemsize // 4)).view(dtype)
        self._end = 0

    def across(self, *linears: Any) -> Linear:
        """The layers, whose inputs are the same, beside each other."""
        bias = scales = None
        if any(linear.bias is not None for linear in linears):
            bias = torch.cat(
                [
                    torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().float()
                    for linear in linears
                ]
            )
        if self.precision == "int8":
            largest = torch.cat([linear.weight.detach().abs().amax(dim=1).float() for linear in linears])
            scales = largest.clamp_min(1e-12) / 127
        inputs, outputs = linears[0].in_features, sum(linear.out_features for linear in linears)
        shape = (-(-outputs // COLUMNS), inputs, COLUMNS)
        start, self._end = self._end, self._end + shape[0] * shape[1] * shape[2]
        held = self._flat[start : self._end].view(shape)
        column = 0
        for linear in linears:
            weight = linear.weight.detach()
            if scales is not None:
                weight = (weight.float() / scales[column : column + len(weight), None]).round()
            pack(held, column, weight)
            column += len(weight)
        if not self._keep:
            for linear in linears:
                let_go(linear)
        return Linear(held, self.precision, scales, bias, self._team)


def let_go(module: Any) -> None:
    """Takes the memory of a module's weight back, unless others use it."""
    module.weight = torch.nn.Parameter(module.weight.new_empty(0), requires_grad=False)


def _fits(weight: torch.Tensor) -> bool:
    """Whether bfloat16 holds it exactly."""
    return weight.dtype == torch.bfloat16 or torch.equal(weight.bfloat16().float(), weight.float())
