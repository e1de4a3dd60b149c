"""A record: one JSON object that fits its Datanet's schema, known everywhere by its hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from openledger.primitives import canonical_bytes, keccak, parse_json, to_hex


@dataclass(frozen=True, eq=False)
class Record:
    """One record of a Datanet. Two records are equal when their canonical bytes are.

    Attributes:
        canonical: the RFC 8785 bytes of the JSON object; ``hash`` is their keccak-256.
    """

    canonical: bytes

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        """The record of a JSON object.

        Raises:
            InputError: the value has no canonical JSON (a NaN, say).
        """
        return cls(canonical_bytes(dict(value)))

    @cached_property
    def hash(self) -> bytes:
        """``recordHash``, 32 bytes."""
        return keccak(self.canonical)

    @property
    def value(self) -> dict[str, Any]:
        """The JSON object, a fresh copy."""
        value: dict[str, Any] = parse_json(self.canonical)
        return value

    @cached_property
    def _fields(self) -> dict[str, Any]:
        return self.value

    @property
    def question(self) -> str:
        """What is asked; empty where the Datanet's records ask nothing."""
        return str(self._fields.get("question", ""))

    @property
    def answer(self) -> str:
        """What is to be answered; empty where the Datanet's records answer nothing."""
        return str(self._fields.get("answer", ""))

    @property
    def facts(self) -> dict[str, str]:
        """The facts that the answer holds word for word, by name; empty where none are stated."""
        facts = self._fields.get("facts")
        return {str(name): str(fact) for name, fact in facts.items()} if isinstance(facts, dict) else {}

    @property
    def reference(self) -> str:
        """Where in the source the record's facts stand; empty where no source is named."""
        source = self._fields.get("source")
        return str(source.get("reference", "")) if isinstance(source, dict) else ""

    @property
    def text(self) -> str:
        """All strings of the record's question and answer, or of the whole record where it has neither."""
        return f"{self.question}\n{self.answer}".strip() or json.dumps(self._fields, ensure_ascii=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)

    def __repr__(self) -> str:
        return f"Record({to_hex(self.hash)[:12]}… {self.text[:60]!r})"
