"""The shapes of the OpenAI-compatible API: what is accepted, and how it is read.

Fields that would change the answer and are not served yet (several choices, tools, audio …) are refused by name, never
ignored in silence; fields that only label a request are accepted.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from openledger.openlora import Sampling
from openledger.primitives import InputError

DEFAULT_MAX_TOKENS = 96

Text = Annotated[str, StringConstraints(max_length=200_000)]


class ContentPart(BaseModel):
    """One part of a message's content; only text is served."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One message of a dialogue."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """``{"role", "content"}`` with the text parts joined."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": content}


class StreamOptions(BaseModel):
    """Whether the last chunk tells the usage."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    store: bool | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None

    def limit(self) -> int | None:
        """The most output tokens that the caller wants, if they said."""
        return self.max_tokens

    def sampling(self) -> Sampling:
        """The request's sampling.

        Raises:
            InputError: a value is out of range, or asks for what is not served.
        """
        if self.n not in (None, 1):
            raise InputError(f"n is {self.n}; one choice per request is served: send the request again for another")
        for name in ("frequency_penalty", "presence_penalty"):
            if getattr(self, name):
                raise InputError(f"{name} is {getattr(self, name)}; penalties are not served, leave it at 0")
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        limit = self.limit()
        return Sampling(
            max_tokens=DEFAULT_MAX_TOKENS if limit is None else limit,
            temperature=0.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=0 if self.seed is None else self.seed,
            stop=stop,
        )


class ChatRequest(_Request):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None

    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def dialogue(self) -> list[dict[str, str]]:
        """The messages as plain role and content.

        Raises:
            InputError: a response format other than text is asked for.
        """
        if self.response_format is not None and self.response_format.get("type") != "text":
            raise InputError(f"response_format is {self.response_format}; only {{'type': 'text'}} is served")
        return [message.plain() for message in self.messages]


class CompletionRequest(_Request):
    """``POST /v1/completions``: one prompt of text."""

    prompt: Text
