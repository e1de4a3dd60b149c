"""From chosen tokens to text that may be shown: whole characters only, and nothing that a stop string would take back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TextStream:
    """The text of one answer, token by token.

    Args:
        tokenizer: the model's.
        stops: strings that end the answer; the first that appears is cut off with what follows.

    Attributes:
        text: the text so far.
        stopped: whether a stop string appeared.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._tokens: list[int] = []
        self._settled_tokens = 0
        self._window = 0
        self._settled_text = ""
        self._shown = 0
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that can be shown now that ``token`` follows; often empty."""
        self._tokens.append(token)
        # Only a window of the last tokens is decoded anew: the tokens before it fix how it begins.
        before = self._decode(self._tokens[self._window : self._settled_tokens])
        window = self._decode(self._tokens[self._window :])
        self.text = self._settled_text + window[len(before) :]
        if not window.endswith("\ufffd") and len(window) > len(before):
            self._settled_text = self.text
            self._window, self._settled_tokens = self._settled_tokens, len(self._tokens)
        found = [place for place in (self.text.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True
            return self.rest()
        return self._show(_settled(self.text, self._stops))

    def finish(self, tokens: Sequence[int]) -> None:
        """All tokens are known and no stop string appeared: the text is theirs, decoded as a whole."""
        whole = self._decode(tokens)
        if whole.startswith(self.text[: self._shown]):
            self.text = whole

    def rest(self) -> str:
        """What is left to show at the end."""
        return self._show(len(self.text))

    def _show(self, end: int) -> str:
        piece = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)) if tokens else ""


def _settled(text: str, stops: Sequence[str]) -> int:
    """How much of ``text`` can no longer change: not a half-decoded character, nor the beginning of a stop string."""
    end = len(text)
    while end and text[end - 1] == "\ufffd":
        end -= 1
    for stop in stops:
        for length in range(min(len(stop) - 1, end), 0, -1):
            if text[:end].endswith(stop[:length]):
                end -= length
                break
    return end
