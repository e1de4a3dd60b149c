"""The shapes of the OpenAI-compatible API: what is accepted, and how it is read.

Fields that would change the answer and are not served (several choices, audio …) are refused by name, never ignored in
silence; fields that only label a request are accepted.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from openledger.openlora import Grammar, Sampling, tool_grammar
from openledger.primitives import InputError
from openledger.studio.agent_tools import tools_message
from openledger.studio.inference import Prompt
from openledger.studio.passages import MAX_LOOKED_UP

DEFAULT_MAX_TOKENS = 96
MAX_CHOICES = 8

Text = Annotated[str, StringConstraints(max_length=200_000)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class ContentPart(_Strict):
    """One part of a message's content; only text is served."""

    type: Literal["text"]
    text: Text


class CalledFunction(_Strict):
    """A function that the assistant called, with its arguments as JSON text."""

    name: Name
    arguments: Text


class ToolCall(_Strict):
    """One call in an assistant's message."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(_Strict):
    """One message of a dialogue."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def plain(self) -> dict[str, str]:
        """``{"role", "content"}``: text parts joined, a call as its JSON, a tool's result as a user's message."""
        parts = (
            [ContentPart(type="text", text=self.content or "")] if not isinstance(self.content, list) else self.content
        )
        content = "".join(part.text for part in parts)
        if self.tool_calls:
            calls = [
                f'{{"name": {json.dumps(call.function.name)}, "arguments": {call.function.arguments}}}'
                for call in self.tool_calls
            ]
            content = "\n".join((*filter(None, [content]), *calls))
        if self.role == "tool":
            return {"role": "user", "content": f"Result of the tool: {content}"}
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(_Strict):
    """Whether the last chunk tells the usage."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Function(_Strict):
    """A function that the model may call; ``parameters`` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None


class Tool(_Strict):
    """A tool; only functions are served."""

    type: Literal["function"]
    function: Function


class NamedTool(_Strict):
    """The function of a ``tool_choice``."""

    name: Name


class ToolChoice(_Strict):
    """The tool that must be called."""

    type: Literal["function"]
    function: NamedTool


class JsonSchema(_Strict):
    """A named JSON schema."""

    name: Name
    description: str | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Strict):
    """Free text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def grammar(self) -> Grammar | None:
        """What the output must match."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return Grammar.json_schema()
        if self.json_schema is None:
            raise InputError("response_format has the type json_schema and no json_schema; add one")
        return Grammar.json_schema(self.json_schema.schema_)


class _Request(_Strict):
    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    store: bool | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None

    def limit(self) -> int | None:
        """The most output tokens that the caller wants, if they said."""
        return self.max_tokens

    def told(self) -> int | None:
        """How many likeliest tokens to tell with each; None for no log-probabilities."""
        return None

    def grammar(self) -> Grammar | None:
        """What the output must match."""
        return None

    def choices(self) -> int:
        """How many answers are wanted; number i has the seed of the request plus i.

        Raises:
            InputError: more than are served.
        """
        wanted = 1 if self.n is None else self.n
        if not 1 <= wanted <= MAX_CHOICES:
            raise InputError(f"n is {wanted}; it must be from 1 to {MAX_CHOICES}")
        return wanted

    def sampling(self, defaults: Sampling | None = None) -> Sampling:
        """The request's sampling; what it leaves out is as in ``defaults``.

        Raises:
            InputError: a value is out of range, or asks for what is not served.
        """
        given = {
            name: getattr(self, name)
            for name in (
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "repetition_penalty",
                "frequency_penalty",
                "presence_penalty",
                "seed",
            )
            if getattr(self, name) is not None
        }
        if self.stop is not None:
            given["stop"] = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if (limit := self.limit()) is not None:
            given["max_tokens"] = limit
        known = defaults or Sampling(max_tokens=DEFAULT_MAX_TOKENS)
        return replace(known, logprobs=self.told(), grammar=self.grammar(), **given)


class Retrieval(_Strict):
    """Records of the model's Datanet to look up and put before the last message; a field of ours."""

    top_k: int = Field(default=3, ge=1, le=MAX_LOOKED_UP)


class ChatRequest(_Request):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    retrieval: Retrieval | None = None

    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def told(self) -> int | None:
        if self.top_logprobs is not None and not self.logprobs:
            raise InputError(f"top_logprobs is {self.top_logprobs} without logprobs; set logprobs to true")
        return (self.top_logprobs or 0) if self.logprobs else None

    def offered(self) -> list[Function]:
        """The functions that may be called."""
        functions = [tool.function for tool in self.tools or []]
        if isinstance(self.tool_choice, ToolChoice):
            wanted = self.tool_choice.function.name
            functions = [function for function in functions if function.name == wanted]
            if not functions:
                raise InputError(f"tool_choice names {wanted!r}, which is none of the tools; name one of them")
        if self.tool_choice == "required" and not functions:
            raise InputError("tool_choice is 'required' and there are no tools; send some")
        return [] if self.tool_choice == "none" else functions

    def grammar(self) -> Grammar | None:
        functions = self.offered()
        form = self.response_format.grammar() if self.response_format else None
        if not functions:
            return form
        if form is not None:
            raise InputError("tools and a response_format other than text cannot both shape the answer; leave one out")
        forced = self.tool_choice == "required" or isinstance(self.tool_choice, ToolChoice)
        return tool_grammar({function.name: function.parameters for function in functions}, forced=forced)

    def asked(self) -> Prompt:
        """What is asked."""
        return Prompt.chat(self.dialogue(), self.retrieval.top_k if self.retrieval else 0)

    def dialogue(self) -> list[dict[str, str]]:
        """The messages as plain role and content; what the tools are goes before the first."""
        messages = [message.plain() for message in self.messages]
        if functions := self.offered():
            told = [
                {"name": one.name, "description": one.description or "", "parameters": one.parameters}
                for one in functions
            ]
            messages.insert(0, tools_message(told))
        return messages


class CompletionRequest(_Request):
    """``POST /v1/completions``: one prompt of text."""

    prompt: Text
    logprobs: int | None = None
    echo: Literal[False] | None = None

    def asked(self) -> Prompt:
        """What is asked."""
        return Prompt.text(self.prompt)

    def told(self) -> int | None:
        return self.logprobs
