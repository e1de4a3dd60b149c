"""Progress bars for long work in a terminal, and plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from openledger.node.progress import Advance


class TerminalReporter:
    """Shows each stage of work as a bar, and keeps the finished ones with their time. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("[dim]{task.completed:.0f}/{task.total:.0f}[/]"),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> TerminalReporter:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if isinstance(error, KeyboardInterrupt):
            self._console.print("Interrupted. Nothing is half-written; run it again when you like.")

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """A stage of ``total`` units."""
        begun = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"· {title}")
        task = self._progress.add_task(title, total=total)

        def advance(done: int, of: int = 0, /) -> None:
            self._progress.update(task, completed=done, total=of or None)

        yield advance
        whole = self._progress.tasks[task].total or 1
        self._progress.update(task, completed=whole)
        if not self._console.is_terminal:
            self._console.print(f"  {time.monotonic() - begun:.1f} s")
