"""Memory for the keys and values of running requests, within a budget; what a request leaves is used again by the next."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Caches:
    """Keys and values of running requests.

    Args:
        make: makes room for a number of positions.
        token_bytes: of one position.
        budget: bytes in all.
        longest: most positions of one request.
        step: positions in which they are measured out.
    """

    def __init__(
        self, make: Callable[[int], torch.Tensor], token_bytes: int, budget: int, longest: int, step: int = 64
    ) -> None:
        self._make = make
        self._token_bytes = token_bytes
        self._budget = budget
        self._longest = longest
        self._step = step
        self._used = 0
        self._idle: list[torch.Tensor] = []

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._used

    @property
    def held(self) -> int:
        """Bytes in use, and kept for the next requests."""
        return self._used + sum(map(_bytes, self._idle))

    def take(self, positions: int) -> torch.Tensor | None:
        """Room for that many positions or some more, or None while there is none."""
        length = min(-(-positions // self._step) * self._step, self._longest)
        if self._used + length * self._token_bytes > self._budget:
            return None
        for place, cache in enumerate(self._idle):
            if cache.shape[3] == length:
                self._used += _bytes(cache)
                return self._idle.pop(place)
        self._used += length * self._token_bytes
        while self._idle and self.held > self._budget:
            self._idle.pop(0)
        return self._make(length)

    def give(self, cache: torch.Tensor) -> None:
        """Takes a request's room back; a quarter of the budget is kept for the next ones."""
        self._used -= _bytes(cache)
        self._idle.append(cache)
        while sum(map(_bytes, self._idle)) > self._budget // 4:
            self._idle.pop(0)


def _bytes(cache: torch.Tensor) -> int:
    return cache.numel() * cache.element_size()
