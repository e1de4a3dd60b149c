"""How a request wants its tokens chosen, and what it is told of a chosen one: plain data, without a library for tensors."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.openlora.grammar import Grammar
from openledger.primitives import InputError

MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_tokens: most tokens of the output.
        temperature: 0 is greedy.
        top_p: keep the smallest set of tokens with that much probability.
        seed: of the draws; the same seed gives the same answer.
        stop: strings that end the answer; the one that appears is cut off.
        top_k: keep that many most likely tokens; 0 keeps all.
        min_p: keep tokens at least that likely in proportion to the likeliest.
        repetition_penalty: divides positive and multiplies negative logits of tokens seen in prompt or output (CTRL,
            arXiv:1909.05858); 1 does nothing.
        presence_penalty: taken off the logit of each token that the output holds (OpenAI).
        frequency_penalty: taken off that logit once for each time it occurs (OpenAI).
        logprobs: how many of the likeliest tokens to tell with each chosen one; None tells nothing.
        grammar: what the output must match; None is free text.

    Raises:
        InputError: a value is out of range.
    """

    max_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 1 << 20:
            raise InputError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0 <= self.temperature <= 2:
            raise InputError(f"temperature is {self.temperature}; it must be from 0 to 2")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.seed < 1 << 63:
            raise InputError(f"seed is {self.seed}; it must be from 0 to 2**63 - 1")
        if len(self.stop) > 4 or any(not isinstance(text, str) or not text for text in self.stop):
            raise InputError(f"stop is {self.stop!r}; give at most 4 non-empty strings")
        if not 0 <= self.top_k <= 1 << 20:
            raise InputError(f"top_k is {self.top_k}; it must be 0 (all tokens) or more")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p is {self.min_p}; it must be from 0 to 1")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise InputError(f"repetition_penalty is {self.repetition_penalty}; it must be from 0.01 to 100")
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                raise InputError(f"{name} is {getattr(self, name)}; it must be from -2 to 2")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise InputError(f"logprobs asks for {self.logprobs} tokens; it must be from 0 to {MAX_TOP_LOGPROBS}")

    @property
    def plain(self) -> bool:
        """Whether the choice is the largest logit and nothing more."""
        penalties = (self.presence_penalty, self.frequency_penalty, self.repetition_penalty - 1)
        return self.temperature == 0 and self.logprobs is None and self.grammar is None and not any(penalties)


@dataclass(frozen=True)
class TokenLogprob:
    """One chosen token with its log-probability (nats), before penalties and temperature, and the likeliest ones.

    The texts are each token's own; the engine fills them in.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    text: str = ""
    top_texts: tuple[str, ...] = ()
