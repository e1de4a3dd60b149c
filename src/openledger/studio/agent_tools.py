"""What a running agent can call, and how a call is told to a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jsonschema

from openledger.openlora import Grammar, tool_grammar
from openledger.primitives import InputError

QUERY = {
    "type": "object",
    "properties": {"query": {"type": "string", "minLength": 1, "maxLength": 120}},
    "required": ["query"],
    "additionalProperties": False,
}
QUESTION_ASKED = {
    "type": "object",
    "properties": {"question": {"type": "string", "minLength": 1, "maxLength": 120}},
    "required": ["question"],
    "additionalProperties": False,
}
_LONGEST_DESCRIPTION = 300


@dataclass(frozen=True)
class Outcome:
    """What a tool brought: text from outside, and what it cost in wei with which receipts and run of another agent; it may have
    cost something and failed."""

    text: str
    fee: int = 0
    receipts: tuple[str, ...] = ()
    run: int = 0
    failed: bool = False


@dataclass(frozen=True)
class Tool:
    """One function that a model may call.

    Attributes:
        name: what the model calls it.
        description: what it does, cut to a sentence or two.
        parameters: JSON schema of its arguments.
        run: does it; raises an ``OpenLedgerError`` whose message the model is told.
        missing: why it cannot be called, if it cannot; it is then not offered.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[[dict[str, Any]], Outcome] = field(repr=False)
    missing: str = ""

    def call(self, arguments: dict[str, Any]) -> Outcome:
        """Runs it.

        Raises:
            InputError: the arguments do not fit its schema, or it cannot be called.
            OpenLedgerError: it failed.
        """
        if self.missing:
            raise InputError(self.missing)
        try:
            jsonschema.validate(arguments, self.parameters)
        except jsonschema.ValidationError as error:
            raise InputError(f"its arguments do not fit its schema: {error.message[:200]}") from error
        return self.run(arguments)


def offer(tools: Sequence[Tool]) -> dict[str, str]:
    """The system message that tells a model what it may call."""
    return tools_message(
        [
            {"name": tool.name, "description": tool.description[:_LONGEST_DESCRIPTION], "parameters": tool.parameters}
            for tool in tools
        ]
    )


def tools_message(functions: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same of functions by name, description and parameters."""
    told = json.dumps(list(functions), ensure_ascii=False)
    return {
        "role": "system",
        "content": 'To call a tool, answer with {"name": …, "arguments": {…}} and nothing else. Tools: ' + told,
    }


def grammar(tools: Sequence[Tool], *, forced: bool) -> Grammar:
    """What the model's output must match."""
    return tool_grammar({tool.name: tool.parameters for tool in tools}, forced=forced)


def told_call(name: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """A call as the assistant's message."""
    return {
        "role": "assistant",
        "content": json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False),
    }


def told_result(name: str, text: str) -> dict[str, str]:
    """A result as a user's message: a model is trained on no role of its own for tools."""
    return {"role": "user", "content": f"Result of the tool {name}: {text}"}
