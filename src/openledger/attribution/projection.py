"""From an example's gradients to its place in the index: rotate, whiten, fold, project.

The same code embeds records when the index is built and queries when they are asked, and its transpose turns a record's
code back into a direction among the adapter's weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openledger.attribution.curvature import Bases, Whitening
from openledger.attribution.gradients import Batch, Block
from openledger.attribution.sketch import Sketch


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


class Embedding:
    """A metric ready for use: gradients of a checkpoint to sketches, and back."""

    def __init__(self, blocks: Sequence[Block], metric: Metric) -> None:
        self._blocks = tuple(blocks)
        self._bases = metric.bases.opened()
        self._factors = [
            [whitening.factors() * weight**0.5 for whitening in whitenings]
            for whitenings, weight in zip(metric.whitenings, metric.weights, strict=True)
        ]
        self.sketch = Sketch(sum(block.size for block in blocks), metric.size, len(metric.weights))

    def sketches(self, batch: Batch, checkpoint: int) -> Tensor:
        """A batch's part of the sketch from one checkpoint, float32 [examples, size]; sum over checkpoints."""
        rotated = (self._bases.rotate(place, captured.gradients()) for place, captured in enumerate(batch.blocks))
        return self.sketches_of(list(rotated), checkpoint)

    def sketches_of(self, rotated: Sequence[Tensor], checkpoint: int) -> Tensor:
        """The same from gradients that are already in the eigenbases."""
        factors = self._factors[checkpoint]
        parts = [(part * factor).flatten(1).cpu() for part, factor in zip(rotated, factors, strict=True)]
        return self.sketch.fold(torch.cat(parts, dim=1), checkpoint)

    def directions(self, sketches: Tensor, checkpoint: int) -> list[Mapping[str, Tensor]]:
        """The transpose of :meth:`sketches`: for each row a step of the adapter's matrices by block name."""
        flat = self.sketch.unfold(sketches, checkpoint)
        parts = flat.split([block.size for block in self._blocks], dim=1)
        steps: list[dict[str, Tensor]] = [{} for _ in flat]
        for place, (block, part, factor) in enumerate(zip(self._blocks, parts, self._factors[checkpoint], strict=True)):
            shaped = part.reshape(-1, block.rows, block.columns) * factor
            for step, value in zip(steps, self._bases.unrotate(place, shaped), strict=True):
                step[block.name] = value
        return steps
