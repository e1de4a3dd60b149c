"""How long work tells how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

_LOG = logging.getLogger(__name__)


class Advance(Protocol):
    """Says how many of the stage's units are done; ``of`` corrects how many there are."""

    def __call__(self, done: int, of: int = ..., /) -> None: ...


class Reporter(Protocol):
    """Shows stages of work to a person."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """A stage of ``total`` units; inside it, call what the block receives with the number of units done."""
        ...


class LogReporter:
    """Writes each stage to the log, for a service without a terminal."""

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """Logs the beginning of the stage."""
        _LOG.info("%s (%d)", title, total)
        yield lambda _done, _of=total: None


class TimedReporter:
    """Passes every stage on to another reporter, and keeps how long each took.

    Attributes:
        stages: (title, seconds of wall clock) of the stages that ended, in order.
    """

    def __init__(self, inner: Reporter) -> None:
        self._inner = inner
        self.stages: list[tuple[str, float]] = []

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """Times the stage."""
        begun = time.monotonic()
        with self._inner.stage(title, total) as advance:
            yield advance
        self.stages.append((title, time.monotonic() - begun))
