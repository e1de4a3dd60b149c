"""Keys and values of prompts' beginnings, kept for the next prompt that begins in the same way under the same adapter.

Only whole chunks are kept, and they are the chunks in which the prompt would be read anyway: a hit changes no bit.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch


class PrefixCache:
    """Least recently used chunks up to a budget.

    Args:
        chunk: tokens in a chunk.
        budget: bytes; 0 keeps nothing.
    """

    def __init__(self, chunk: int, budget: int) -> None:
        self._chunk = chunk
        self._budget = budget
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes kept now."""
        return self._bytes

    def keys(self, adapter: bytes, prompt: Sequence[int]) -> list[bytes]:
        """A key for each whole chunk of the prompt but the one with its last token: the hash of all before its end."""
        return list(self._chain(adapter, prompt)) if self._budget else []

    def fill(self, keys: Sequence[bytes], cache: torch.Tensor) -> int:
        """Copies the longest known beginning into ``cache`` [layers, 2, heads, length, size]; returns its chunks."""
        for number, key in enumerate(keys):
            kept = self._kept.get(key)
            if kept is None:
                return number
            self._kept.move_to_end(key)
            cache[:, :, :, number * self._chunk : (number + 1) * self._chunk] = kept
        return len(keys)

    def keep(self, key: bytes, cache: torch.Tensor, number: int) -> None:
        """Keeps chunk ``number`` of a prompt's ``cache`` under ``key``."""
        if key in self._kept:
            return
        part = cache[:, :, :, number * self._chunk : (number + 1) * self._chunk].clone()
        size = part.numel() * part.element_size()
        if size > self._budget:
            return
        self._kept[key] = part
        self._bytes += size
        while self._bytes > self._budget:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.numel() * oldest.element_size()

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()
        self._bytes = 0

    def _chain(self, adapter: bytes, prompt: Sequence[int]) -> Iterator[bytes]:
        key = adapter
        for start in range(0, (len(prompt) - 1) // self._chunk * self._chunk, self._chunk):
            tokens = b"".join(token.to_bytes(4, "little") for token in prompt[start : start + self._chunk])
            key = hashlib.blake2b(key + tokens, digest_size=32).digest()
            yield key
