"""Curvature of the loss in LoRA's matrices: EK-FAC, shared bases, one set of eigenvalues per checkpoint.

Per matrix the Fisher information is approximated as Q diag(s) Q^T. Q is the Kronecker product of the eigenvectors of
the covariances of the matrix's inputs and of its output gradients (Martens & Grosse, 2015, K-FAC); s is the mean
square of the rotated per-example gradients (George et al., 2018, EK-FAC). Damping adds a fraction of the mean of s.
``1 / sqrt(s + damping)`` times the rotated gradient is the whitened gradient: inner products of whitened gradients are
influences (Grosse et al., 2023).

The bases come from the covariances averaged over all checkpoints, each scaled to trace one: measured, this costs
nothing against a basis for every checkpoint. They are kept in int8, and it is those rounded bases that are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openledger.attribution.gradients import Batch, Block
from openledger.primitives.errors import ModelError


@dataclass(frozen=True, slots=True)
class Rounded:
    """A matrix in int8 with one float32 scale per column."""

    values: Tensor
    scales: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> Rounded:
        scales = (matrix.abs().amax(dim=0) / 127).float()
        safe = torch.where(scales > 0, scales, torch.ones_like(scales))
        return cls(torch.round(matrix / safe).to(torch.int8).contiguous(), scales.contiguous())

    def matrix(self) -> Tensor:
        """Back in float32."""
        return self.values.float() * self.scales


@dataclass(frozen=True, slots=True)
class Bases:
    """Eigenbases of every block's two sides.

    Attributes:
        matrices: the different bases; columns are eigenvectors.
        sides: for each block the places of its row and its column basis in ``matrices``; -1 leaves a side as it is.
    """

    matrices: tuple[Rounded, ...]
    sides: tuple[tuple[int, int], ...]

    def opened(self) -> OpenedBases:
        """Ready for use, in float32."""
        return OpenedBases(tuple(matrix.matrix() for matrix in self.matrices), self.sides)


@dataclass(frozen=True, slots=True)
class OpenedBases:
    """Eigenbases in float32."""

    matrices: tuple[Tensor, ...]
    sides: tuple[tuple[int, int], ...]

    def gradients(self, batch: Batch) -> list[Tensor]:
        """Per-example gradients of every block in its eigenbasis, [examples, rows, columns] each.

        A gradient is a product over tokens; a side is turned before it where there are fewer tokens than the other side
        is long, and once for all blocks that share it.
        """
        turned: dict[tuple[int, int], Tensor] = {}

        def turn(values: Tensor, basis: int) -> Tensor:
            key = (values.data_ptr(), basis)
            if key not in turned:
                turned[key] = values @ self.matrices[basis]
            return turned[key]

        found = []
        for captured, (rows, columns) in zip(batch.blocks, self.sides, strict=True):
            inputs, deltas = captured.inputs.cpu(), captured.deltas.cpu()
            tokens = inputs.shape[1]
            inside = columns >= 0 and tokens <= deltas.shape[2]
            outside = rows >= 0 and tokens <= inputs.shape[2]
            product = torch.bmm(
                (turn(deltas, rows) if outside else deltas).transpose(1, 2), turn(inputs, columns) if inside else inputs
            )
            if columns >= 0 and not inside:
                product = product @ self.matrices[columns]
            found.append(self.matrices[rows].T @ product if rows >= 0 and not outside else product)
        return found

    def unrotate(self, block: int, gradients: Tensor) -> Tensor:
        """The transpose of turning a block's gradients [examples, rows, columns] into its eigenbasis."""
        rows, columns = self.sides[block]
        if columns >= 0:
            gradients = gradients @ self.matrices[columns].T
        return self.matrices[rows] @ gradients if rows >= 0 else gradients


class Covariances:
    """Sums of the outer products of inputs and output gradients, block by block, at one checkpoint."""

    def __init__(self, blocks: Sequence[Block], largest: int) -> None:
        self._largest = largest
        self.rows = [torch.zeros(block.rows, block.rows) if block.rows <= largest else None for block in blocks]
        self.columns = [
            torch.zeros(block.columns, block.columns) if block.columns <= largest else None for block in blocks
        ]

    def add(self, batch: Batch) -> None:
        """Count a batch's tokens in, padding left out."""
        for place, captured in enumerate(batch.blocks):
            for sums, values in ((self.rows[place], captured.deltas), (self.columns[place], captured.inputs)):
                if sums is not None:
                    flat = values[batch.mask]
                    sums.add_((flat.T @ flat).to(sums.device))


def bases(checkpoints: Sequence[Covariances]) -> Bases:
    """Eigenbases of the covariances averaged over checkpoints, each scaled to trace one.

    Raises:
        ModelError: a covariance is not finite.
    """
    found: list[Rounded] = []
    known: dict[bytes, int] = {}

    def basis(sides: Sequence[Tensor | None]) -> int:
        if sides[0] is None:
            return -1
        total = torch.zeros_like(sides[0])
        for side in sides:
            assert side is not None  # noqa: S101
            trace = side.trace()
            if trace > 0:
                total += side / trace
        if not torch.isfinite(total).all():
            raise ModelError("the curvature is not finite; the training run diverged or the adapter is damaged")
        key = total.numpy().tobytes()
        if key not in known:
            known[key] = len(found)
            found.append(Rounded.of(_eigenvectors(total)))
        return known[key]

    count = len(checkpoints[0].rows)
    sides = tuple(
        (basis([one.rows[place] for one in checkpoints]), basis([one.columns[place] for one in checkpoints]))
        for place in range(count)
    )
    return Bases(tuple(found), sides)


@dataclass(frozen=True, slots=True)
class Whitening:
    """``1 / sqrt(s + damping * mean(s))`` of a block [rows, columns]: float16 in units of ``scale``."""

    values: Tensor
    scale: float

    @classmethod
    def of(cls, squares: Tensor, damping: float) -> Whitening:
        """From the mean squares of the rotated gradients; a block that has no gradient gets zeros."""
        mean = squares.mean()
        if not mean > 0:
            return cls(torch.zeros_like(squares).half(), 1.0)
        factors = torch.rsqrt(squares + damping * mean)
        scale = float(factors.max())
        return cls((factors / scale).half(), scale)

    def factors(self) -> Tensor:
        """Back in float32."""
        return self.values.float() * self.scale


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Eigenvectors by falling eigenvalue, computed in float64 on one thread so that every machine setting agrees."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        vectors: Tensor = torch.linalg.eigh(matrix.double())[1]
    finally:
        torch.set_num_threads(threads)
    return vectors.flip(1).float()
