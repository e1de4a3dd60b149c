"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024, arXiv:2409.11321), for LoRA tensors.

LoRA tensors are long and thin, so the preconditioners are small. In that basis the many directions that only
one record needs are no longer drowned by the few that all records share: short fine-tunes remember in about
two thirds of the steps that AdamW takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import torch

_MOST_STACKED = 8


@dataclass(slots=True)
class _Stack:
    """Tensors of one shape, [count, rows, columns], with their state; a basis is None on a side that is too long.

    ``first`` and ``second`` are kept in the basis: means of the rotated gradient and of its squares.
    """

    parameters: list[torch.nn.Parameter]
    factor: float
    first: torch.Tensor
    second: torch.Tensor
    sides: list[torch.Tensor | None]
    bases: list[torch.Tensor | None] = field(default_factory=lambda: [None, None])


class Soap:
    """The optimiser over matrices.

    Args:
        groups: (matrices, factor on the rate) each.
        betas: decay of the mean gradient and of the second moments.
        refresh: steps between two refreshes of the bases.
        longest: a side longer than this keeps its own basis.
    """

    def __init__(
        self,
        groups: Iterable[tuple[Sequence[torch.nn.Parameter], float]],
        betas: tuple[float, float] = (0.8, 0.95),
        refresh: int = 5,
        longest: int = 300,
    ) -> None:
        self._betas = betas
        self._refresh = refresh
        self._steps = 0
        self._stacks: list[_Stack] = []
        for parameters, factor in groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for parameter in parameters:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for alike in shapes.values():
                for first in range(0, len(alike), _MOST_STACKED):
                    self._stacks.append(_stack(alike[first : first + _MOST_STACKED], factor, longest))

    def step(self, rate: float, pool: Executor) -> None:
        """Move every matrix against its ``grad``; stacks are worked on side by side, each by one thread."""
        self._steps += 1
        for _ in pool.map(self._move, self._stacks, [rate] * len(self._stacks)):
            pass

    @torch.no_grad()
    def _move(self, stack: _Stack, rate: float) -> None:
        keep, keep_second = self._betas
        gradient = torch.stack([parameter.grad for parameter in stack.parameters if parameter.grad is not None])
        self._learn_sides(stack, gradient)
        rotated = _rotate(gradient, *stack.bases)
        stack.first.lerp_(rotated, 1 - keep)
        stack.second.lerp_(rotated.square_(), 1 - keep_second)
        mean = stack.first / (1 - keep**self._steps)
        spread = (stack.second / (1 - keep_second**self._steps)).sqrt_().add_(1e-8)
        move = mean.div_(spread)
        rows, columns = stack.bases
        if rows is not None:
            move = rows @ move
        if columns is not None:
            move = move @ columns.mT
        for parameter, change in zip(stack.parameters, move, strict=True):
            parameter.sub_(change, alpha=rate * stack.factor)

    def _learn_sides(self, stack: _Stack, gradient: torch.Tensor) -> None:
        """Update the covariance of each side; at a refresh turn its basis, and the mean gradient with it."""
        turns: list[torch.Tensor | None] = [None, None]
        for side, covariance in enumerate(stack.sides):
            if covariance is None:
                continue
            product = gradient @ gradient.mT if side == 0 else gradient.mT @ gradient
            covariance.lerp_(product, 1 - self._betas[1])
            basis = stack.bases[side]
            if basis is None:
                stack.bases[side] = torch.linalg.eigh(covariance)[1].flip(-1)
            elif self._steps % self._refresh == 0:
                fresh = torch.linalg.qr(covariance @ basis)[0]
                turns[side] = basis.mT @ fresh
                stack.bases[side] = fresh
        stack.first = _rotate(stack.first, *turns)


def _stack(parameters: list[torch.nn.Parameter], factor: float, longest: int) -> _Stack:
    count, (rows, columns) = len(parameters), parameters[0].shape
    zeros = parameters[0].new_zeros
    return _Stack(
        parameters,
        factor,
        zeros(count, rows, columns),
        zeros(count, rows, columns),
        [zeros(count, side, side) if side <= longest else None for side in (rows, columns)],
    )


def _rotate(value: torch.Tensor, rows: torch.Tensor | None, columns: torch.Tensor | None) -> torch.Tensor:
    if rows is not None:
        value = rows.mT @ value
    return value if columns is None else value @ columns
