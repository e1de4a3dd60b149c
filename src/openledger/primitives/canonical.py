"""Canonical JSON (RFC 8785): the one byte string of a JSON value, so that everyone hashes the same thing."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import rfc8785

from openledger.primitives.errors import InputError
from openledger.primitives.hashing import keccak

_MAX_DEPTH = 100
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def canonical_bytes(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value.

    Raises:
        InputError: it holds something JSON has not (NaN, bytes, an integer beyond 2**53, a key that is no string).
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"not canonical JSON: {error}; write amounts of wei as decimal strings") from error


def record_hash(record: Any) -> bytes:
    """``recordHash = keccak256(RFC 8785 bytes)``: the identity of a record everywhere."""
    return keccak(canonical_bytes(record))


def parse_json(data: str | bytes) -> Any:
    """A JSON value read strictly: UTF-8, no NaN or Infinity, no key twice in one object, at most 100 levels deep.

    Raises:
        InputError: with the line and column of what is wrong.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            twice = Counter(key for key, _ in items).most_common(1)[0][0]
            raise InputError(f"the key {twice!r} stands twice in one JSON object; keep one")
        return result

    def constant(name: str) -> Any:
        raise InputError(f"{name} is not JSON; use a number, a string or null")

    try:
        text = data.decode() if isinstance(data, bytes) else data
        if _depth(text) > _MAX_DEPTH:
            raise InputError(f"the JSON is nested more than {_MAX_DEPTH} levels deep; flatten it")
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON at line {error.lineno} column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise InputError(f"the JSON holds a number with too many digits: {error}") from error


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= _MAX_DEPTH:
        return 0
    depth = deepest = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = token.group()[0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest
