"""What is put before a question: records that were looked up for it."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LOOKED_UP = 8


@dataclass(frozen=True)
class Passage:
    """A record as it is put before a question: its hash, 32 bytes, and its text."""

    record: bytes
    text: str
