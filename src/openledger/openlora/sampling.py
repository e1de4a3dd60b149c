"""How the next token is chosen from the logits of one row.

Whatever else is in the batch, a request's choices depend only on its own logits, its own tokens and its own seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from openledger.openlora.grammar import Grammar, GrammarState
from openledger.primitives import InputError

_FIRST_LOOK = 128
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


@dataclass(frozen=True)
class Chosen:
    """A chosen token; ``logprob`` only where it was asked for."""

    token: int
    logprob: TokenLogprob | None = None


class Chooser:
    """Chooses the tokens of one request, one after the other.

    Args:
        sampling: how.
        prompt_ids: what the repetition penalty counts besides the output.
        grammar: the request's own state of ``sampling.grammar``.
    """

    def __init__(self, sampling: Sampling, prompt_ids: Sequence[int] = (), grammar: GrammarState | None = None) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._grammar = grammar
        self._seen = set(prompt_ids) if sampling.repetition_penalty != 1 else set()
        self._counts: Counter[int] = Counter()

    @property
    def complete(self) -> bool:
        """Whether a grammar is matched and nothing can follow."""
        return self._grammar is not None and self._grammar.stopped

    def __call__(self, logits: torch.Tensor) -> Chosen:
        """The next token for float32 ``logits`` of shape [vocabulary]."""
        scores = self._penalised(logits)
        if self._grammar is not None:
            scores = self._grammar.masked(scores)
        token = self._draw(scores)
        if self._grammar is not None:
            self._grammar.accept(token)
        self._counts[token] += 1
        self._seen.add(token)
        return Chosen(token, self._logprob(logits, token))

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        sampling = self._sampling
        if sampling.repetition_penalty != 1 and self._seen:
            seen = torch.tensor(sorted(self._seen))
            values = logits[seen]
            changed = torch.where(
                values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty
            )
            logits = logits.index_copy(0, seen, changed)
        if (sampling.presence_penalty or sampling.frequency_penalty) and self._counts:
            tokens = torch.tensor(list(self._counts))
            counts = torch.tensor(list(self._counts.values()), dtype=logits.dtype)
            taken = sampling.presence_penalty + sampling.frequency_penalty * counts
            logits = logits.index_add(0, tokens, -taken)
        return logits

    def _draw(self, scores: torch.Tensor) -> int:
        sampling = self._sampling
        if sampling.temperature == 0:
            return int(scores.argmax())
        probabilities = torch.softmax(scores.double() / sampling.temperature, dim=-1)
        tokens: torch.Tensor | None = None
        if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
            probabilities, tokens = _likeliest(probabilities, sampling)
        cumulative = probabilities.cumsum(0)
        point = torch.rand((), dtype=torch.float64, generator=self._generator) * cumulative[-1]
        place = min(int(torch.searchsorted(cumulative, point, right=True)), len(cumulative) - 1)
        return place if tokens is None else int(tokens[place])

    def _logprob(self, logits: torch.Tensor, token: int) -> TokenLogprob | None:
        if self._sampling.logprobs is None:
            return None
        logs = torch.log_softmax(logits.double(), dim=-1)
        values, tokens = logs.topk(min(self._sampling.logprobs, len(logs)))
        top = tuple(zip(tokens.tolist(), map(_finite, values.tolist()), strict=True))
        return TokenLogprob(token, _finite(float(logs[token])), top)


def _likeliest(probabilities: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities, tokens) that top-k, top-p and min-p keep, likeliest first."""
    most = min(sampling.top_k or len(probabilities), len(probabilities))
    looked = min(_FIRST_LOOK, most)
    while True:
        kept, tokens = probabilities.topk(looked)
        mass = 1.0 if not sampling.top_k else float(probabilities.topk(most).values.sum())
        enough = kept.sum() >= sampling.top_p * mass or kept[-1] < sampling.min_p * kept[0]
        if looked == most or enough:
            break
        looked = min(most, looked * 8)
    keep = (kept.cumsum(0) - kept < sampling.top_p * mass) & (kept >= sampling.min_p * kept[0])
    return kept[keep], tokens[keep]


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -9999.0
