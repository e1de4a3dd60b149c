"""From an example's gradients to its place in the index: rotate, whiten, fold, project.

The same code embeds records when the index is built and queries when they are asked, and its transpose turns a record's
code back into a direction among the adapter's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openledger.attribution.curvature import Bases, Whitening
from openledger.attribution.gradients import Batch, Block
from openledger.attribution.integers import product
from openledger.attribution.sketch import Sketch, signs


@dataclass(frozen=True, slots=True)
class Metric:
    """The inner product in which gradients are compared.

    Attributes:
        bases: eigenbases of every block.
        whitenings: one per block for each checkpoint.
        weights: the checkpoints' weights, summing to 1.
        size: coordinates of the sketch.
    """

    bases: Bases
    whitenings: tuple[tuple[Whitening, ...], ...]
    weights: tuple[float, ...]
    size: int


_ROWS = 16


@dataclass(frozen=True, slots=True)
class Projection:
    """Directions among the sketches, one bit a coordinate.

    A sketch's inner product with a direction v is taken as <sign(v), sketch> |v|^2 / sum|v|, which is right in
    expectation. For the same bytes, many one-bit coordinates lose less than few exact ones: the standard error is 1.25
    times that of a sketch of the same size.

    Attributes:
        bits: signs, packed, uint8 [components, bytes]; a set bit is +1.
        scales: |v|^2 / sum|v|, float32 [components].
        size: coordinates of a sketch.
    """

    bits: Tensor
    scales: Tensor
    size: int

    @classmethod
    def of(cls, directions: Tensor) -> Projection:
        """From directions [size, components]."""
        packed = np.packbits((directions.T >= 0).numpy(), axis=1)
        scales = directions.square().sum(dim=0) / directions.abs().sum(dim=0)
        return cls(torch.from_numpy(packed), scales.contiguous(), len(directions))

    def opened(self) -> OpenedProjection:
        """Ready for use."""
        values = np.unpackbits(self.bits.numpy(), axis=1, count=self.size).astype(np.int8) * 2 - 1
        return OpenedProjection(torch.from_numpy(values), self.scales)


@dataclass(frozen=True, slots=True)
class OpenedProjection:
    """Signs as +1 and -1 in int8 [components, size], and scales."""

    signs: Tensor
    scales: Tensor

    def apply(self, sketches: Tensor) -> Tensor:
        """Sketches [rows, size] to embeddings [rows, components]; a row's bits are its own."""
        return product(self.signs, sketches) * self.scales

    def transpose(self, embeddings: Tensor) -> Tensor:
        """The transpose of :meth:`apply`: [rows, components] to [rows, size]."""
        scaled = embeddings * self.scales
        found = torch.zeros(len(embeddings), self.signs.shape[1])
        for begin in range(0, len(self.signs), _ROWS):
            found += scaled[:, begin : begin + _ROWS] @ self.signs[begin : begin + _ROWS].float()
        return found


class Embedding:
    """A metric ready for use: gradients of a checkpoint to sketches, and back."""

    def __init__(self, blocks: Sequence[Block], metric: Metric) -> None:
        self._blocks = tuple(blocks)
        self._bases = metric.bases.opened()
        length = sum(block.size for block in blocks)
        self._factors = [
            torch.cat([whitening.factors().flatten() for whitening in whitenings]) * weight**0.5 * signs(length, place)
            for place, (whitenings, weight) in enumerate(zip(metric.whitenings, metric.weights, strict=True))
        ]
        self.sketch = Sketch(length, metric.size, len(metric.weights))

    def sketches(self, batch: Batch, checkpoint: int) -> Tensor:
        """A batch's part of the sketch from one checkpoint, float32 [examples, size]; sum over checkpoints."""
        return self.sketches_of(self._bases.gradients(batch), checkpoint)

    def sketches_of(self, rotated: Sequence[Tensor], checkpoint: int) -> Tensor:
        """The same from gradients that are already in the eigenbases."""
        return self.sketch.fold([part.flatten(1).cpu() for part in rotated], self._factors[checkpoint], checkpoint)

    def directions(self, sketches: Tensor, checkpoint: int) -> list[dict[str, Tensor]]:
        """The transpose of :meth:`sketches`: for each row a step of the adapter's matrices by block name."""
        flat = self.sketch.unfold(sketches, self._factors[checkpoint], checkpoint)
        parts = torch.split(flat, [block.size for block in self._blocks], dim=1)
        steps: list[dict[str, Tensor]] = [{} for _ in flat]
        for place, (block, part) in enumerate(zip(self._blocks, parts, strict=True)):
            shaped = part.reshape(-1, block.rows, block.columns)
            for step, value in zip(steps, self._bases.unrotate(place, shaped), strict=True):
                step[block.name] = value
        return steps
