"""Work that a node does again and again in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class Duty:
    """Does ``act`` every ``seconds`` in a thread of its own until ``stop`` is set; a failure is logged, and the next try comes.

    Args:
        name: for the log.
        seconds: between the end of one and the beginning of the next.
        act: what is done; may raise anything.
        stop: ends it.
    """

    def __init__(self, name: str, seconds: float, act: Callable[[], None], stop: threading.Event) -> None:
        self._name = name
        self._seconds = seconds
        self._act = act
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits until what is under way has ended, a minute at most."""
        self._thread.join(timeout=60)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._act()
            except Exception:
                _LOG.exception("%s failed; it is tried again in %g s", self._name, self._seconds)
