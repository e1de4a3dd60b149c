"""How the next token is chosen from the logits of one row.

Whatever else is in the batch, a request's choices depend only on its own logits, its own tokens and its own seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from openledger.openlora.grammar import GrammarState
from openledger.openlora.sampling import Sampling, TokenLogprob

_FIRST_LOOK = 128


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
