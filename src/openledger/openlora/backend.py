"""What answers: our own engine, an engine in a process of its own, or replicas of vLLM. A gateway knows no more than this."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from openledger.openlora.answers import Finished, Piece
from openledger.openlora.sampling import Sampling


class Backend(Protocol):
    """One base model and its adapters; every method may be called from any thread. See :class:`Engine` for errors."""

    @property
    def name(self) -> str:
        """The base model's."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The base model's."""
        ...

    @property
    def adapters(self) -> frozenset[str]:
        """The names that can be asked for."""
        ...

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, of one request."""
        ...

    @property
    def load(self) -> tuple[int, int]:
        """(requests running, requests waiting)."""
        ...

    def exposition(self) -> bytes:
        """What it tells Prometheus, in the text format."""
        ...

    def add(self, name: str, folder: Path) -> None:
        """Makes a peft adapter available."""
        ...

    def combine(self, name: str, parts: Mapping[str, float]) -> None:
        """Makes an ensemble of adapters."""
        ...

    def remove(self, name: str) -> None:
        """Takes an adapter away."""
        ...

    def pin(self, name: str) -> None:
        """Keeps an adapter in memory."""
        ...

    def unpin(self, name: str) -> None:
        """Lets it go again."""
        ...

    def generate(
        self,
        adapter: str | None,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece | Finished]:
        """Yields pieces of text as they come, then one :class:`Finished`."""
        ...

    def complete(self, adapter: str | None, prompt_ids: Sequence[int], sampling: Sampling) -> Finished:
        """The whole answer at once."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...
