"""How commands show things: rich tables for people, JSON for programs, errors on the other stream."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table

from openledger.client.core import adapter
from openledger.node.views import Party
from openledger.primitives import PPM, format_open

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(value: Any, kind: Any = None) -> None:
    """Writes ``value`` as JSON on the standard output; amounts of wei are decimal strings where ``kind`` is a view."""
    document = to_jsonable_python(value) if kind is None else adapter(kind).dump_python(value, mode="json")
    console.print_json(data=document, indent=2) if sys.stdout.isatty() else _plain(document)


def _plain(document: Any) -> None:
    import json

    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """A quiet table; the columns named in ``right`` are aligned right."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def open_amount(wei: int, places: int = 6) -> str:
    """An amount for a table, cut to ``places`` decimals; what is too small to show is ``<``."""
    if wei and abs(wei) < 10 ** (18 - places):
        return f"<{10.0**-places:.{places}f}"
    return format_open(wei, places)


def percent(ppm: int) -> str:
    """Parts per million as percent."""
    return f"{ppm * 100 / PPM:.2f}%"


def short(text: str, length: int = 60) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def short_hash(value: str) -> str:
    """The beginning and end of a hash or address."""
    return value if len(value) <= 14 else f"{value[:8]}…{value[-4:]}"


def party(who: Party | None) -> str:
    """A name with its short address."""
    return "—" if who is None else who.label


def when(seconds: int) -> str:
    """A time in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "—"


def bar(ppm: int, width: int = 24) -> str:
    """A bar of ``ppm`` out of a million."""
    filled = round(ppm * width / PPM)
    return "█" * filled + "·" * (width - filled)
