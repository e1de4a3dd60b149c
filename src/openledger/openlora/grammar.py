"""Constrained decoding: the output is a JSON document of a schema, or matches a grammar (llguidance does the matching)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import llguidance
import llguidance.numpy
import numpy as np

from openledger.primitives import InputError

if TYPE_CHECKING:
    import torch

_MOST_CHARACTERS = 100_000
_ANY_OBJECT = {"type": "object"}


@dataclass(frozen=True)
class Grammar:
    """What an output must match; ``source`` is what the matcher compiles.

    Raises:
        InputError: the schema is not one that can be compiled; the message says why.
    """

    source: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | None = None) -> Grammar:
        """A JSON document of ``schema``; None is any JSON object."""
        text = json.dumps(dict(schema) if schema is not None else _ANY_OBJECT)  # in its own order: so is the output
        if len(text) > _MOST_CHARACTERS:
            raise InputError(f"the JSON schema has {len(text):,} characters; at most {_MOST_CHARACTERS:,} are served")
        return cls._checked(
            llguidance.LLMatcher.grammar_from_json_schema(text, defaults={"whitespace_flexible": False})
        )

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """A text that matches a grammar in llguidance's Lark dialect."""
        return cls._checked(llguidance.LLMatcher.grammar_from_lark(text))

    @classmethod
    def _checked(cls, source: str) -> Grammar:
        wrong = llguidance.LLMatcher.validate_grammar(source)
        if wrong:
            raise InputError(f"the output's schema or grammar cannot be followed: {' '.join(wrong.split())[:300]}")
        return cls(source)


class GrammarState:
    """One request's place in its grammar.

    Args:
        grammar: what to match.
        tokenizer: a fast Hugging Face tokenizer.
        vocabulary: number of logits.
        ends: the model's end tokens.
    """

    def __init__(self, grammar: Grammar, tokenizer: Any, vocabulary: int, ends: tuple[int, ...]) -> None:
        self._matcher = llguidance.LLMatcher(_tokens(tokenizer, vocabulary, ends), grammar.source)
        self._check()
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocabulary)

    @property
    def stopped(self) -> bool:
        """Whether the output is whole and nothing can follow."""
        return bool(self._matcher.is_stopped())

    def masked(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits with everything that the grammar forbids at minus infinity."""
        import torch

        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._mask, 0)
        self._check()
        allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little")[: len(logits)].astype(bool)
        return logits.masked_fill(torch.from_numpy(~allowed), float("-inf"))

    def accept(self, token: int) -> None:
        """Moves on by one token."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InputError(f"the output's schema or grammar cannot be followed: {self._matcher.get_error()[:300]}")


@cache
def _tokens(tokenizer: Any, vocabulary: int, ends: tuple[int, ...]) -> llguidance.LLTokenizer:
    import llguidance.hf

    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=list(ends))


def tool_grammar(tools: Mapping[str, Mapping[str, Any]], *, forced: bool) -> Grammar:
    """A call of one of the tools: ``{"name": …, "arguments": {…}}``, with the arguments of its own JSON schema.

    Unless it is forced, the output may also be any text that does not begin with a brace.
    """
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": dict(parameters) or dict(_ANY_OBJECT)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, parameters in tools.items()
    ]
    schema: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if forced:
        return Grammar.json_schema(schema)
    return Grammar.lark(f"start: call | TEXT\nTEXT: /[^{{\\s](.|\\n)*/\ncall: %json {json.dumps(schema)}\n")


def read_call(text: str) -> tuple[str, str] | None:
    """(name, arguments as JSON) of a whole tool call; None if the text was cut off before its end."""
    try:
        call = json.loads(text)
        return str(call["name"]), json.dumps(call["arguments"], ensure_ascii=False)
    except (ValueError, KeyError, TypeError):
        return None
