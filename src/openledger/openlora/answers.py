"""What is told of an answer: its pieces, its end, or that nobody waits for it any more."""

from __future__ import annotations

from dataclasses import dataclass, field

from openledger.openlora.sampling import TokenLogprob
from openledger.primitives import OpenLedgerError


@dataclass(frozen=True)
class Piece:
    """Text that may be shown now; the pieces of one answer joined are the answer."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Finished:
    """The end of one generation.

    Attributes:
        text: the whole answer.
        token_ids: the chosen tokens, the end token included when it ended the answer.
        reason: ``stop`` or ``length``.
        logprobs: one for each token, where they were asked for.
        cached_tokens: tokens of the prompt that were taken from the prefix cache.
    """

    text: str
    token_ids: tuple[int, ...]
    reason: str
    logprobs: tuple[TokenLogprob, ...] = field(default=(), compare=False)
    cached_tokens: int = field(default=0, compare=False)


class CancelledError(OpenLedgerError):
    """Whoever asked went away before the end."""

    def __init__(self) -> None:
        super().__init__("the request was cancelled")
