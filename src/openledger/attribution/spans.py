"""Verbatim spans: which stretches of an output stand word for word in the records.

A suffix array over the tokens of all records finds, for each output token, the longest stretch that starts there and
occurs somewhere; stretches inside longer ones are dropped (maximal spans, Liu et al., 2025, "OLMoTrace"). Spans are
ranked by rarity: the bits that the stretch would cost under the records' own token frequencies.

A span says that the words are the same. It does not say that the model has them from there: that is influence, which is
measured elsewhere and shown beside it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydivsufsort import divsufsort
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from openledger.primitives.errors import InputError, StorageError
from openledger.primitives.hashing import keccak, to_hex

_WIDTH = 4
_LARGEST_TOKEN = 2**32 - 2


@dataclass(frozen=True, slots=True)
class Span:
    """A maximal stretch of the output that occurs in records.

    Attributes:
        start: first output token.
        length: number of tokens.
        records: places of the records that hold it, ascending; at most the limit that was asked for.
        occurrences: how often it occurs in all records.
        rarity: bits of information of its tokens under the records' token frequencies.
    """

    start: int
    length: int
    records: tuple[int, ...]
    occurrences: int
    rarity: float


class SpanIndex:
    """A suffix array over the tokens of a Datanet version's records. Build it with :meth:`build`."""

    def __init__(self, tokens: NDArray[np.uint32], suffixes: NDArray[np.int64], starts: NDArray[np.int64]) -> None:
        self._tokens = tokens
        self._suffixes = suffixes
        self._starts = starts
        self._text = tokens.astype(">u4").tobytes()
        values, counts = np.unique(tokens[tokens > 0], return_counts=True)
        bits = -np.log2(counts / max(1, counts.sum()))
        self._bits = dict(zip(values.tolist(), bits.tolist(), strict=True))

    @classmethod
    def build(cls, documents: Sequence[Sequence[int]]) -> SpanIndex:
        """Index documents of token ids; spans name them by their place in this sequence.

        Raises:
            InputError: a token id is negative or beyond 2**32 - 2.
        """
        flat: list[int] = []
        starts = []
        for document in documents:
            starts.append(len(flat))
            flat.extend(_shifted(document))
            flat.append(0)
        tokens = np.asarray(flat, dtype=np.uint32)
        found = divsufsort(tokens) if len(tokens) else np.zeros(0)
        order = np.asarray(found, dtype=np.int64)
        return cls(tokens, order[tokens[order] > 0] if len(order) else order, np.asarray(starts, dtype=np.int64))

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self._starts)

    def spans(self, output_ids: Sequence[int], minimum: int = 3, limit: int = 20) -> list[Span]:
        """Maximal spans of an output, rarest first.

        Args:
            output_ids: the output's token ids.
            minimum: shortest span in tokens that is told.
            limit: most records that are named for one span.

        Raises:
            InputError: a token id is negative or beyond 2**32 - 2.
        """
        text = np.asarray(_shifted(output_ids), dtype=">u4").tobytes()
        found: list[Span] = []
        reached = 0
        for start in range(len(output_ids)):
            length = self._longest(text[start * _WIDTH :])
            if length >= minimum and start + length > reached:
                found.append(self._span(start, text[start * _WIDTH : (start + length) * _WIDTH], limit))
            reached = max(reached, start + length)
        return sorted(found, key=lambda span: (-span.rarity, span.start))

    def scores(self, outputs: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """What verbatim spans say of every document [outputs, documents]: each span of any length counts by its tokens,
        divided among the documents that hold it.

        Args:
            outputs: token ids of every output.

        Raises:
            InputError: as :meth:`spans`.
        """
        found = np.zeros((len(outputs), self.documents), np.float32)
        for row, output in enumerate(outputs):
            for span in self.spans(output, minimum=1, limit=self.documents):
                for place in span.records:
                    found[row, place] += span.length / len(span.records)
        return found

    def _longest(self, text: bytes) -> int:
        """Length in tokens of the longest prefix of ``text`` that occurs."""
        place = bisect_left(self._suffixes, text, key=lambda suffix: self._slice(suffix, len(text)))
        return max(
            (_common(text, self._slice(self._suffixes[near], len(text))) for near in (place - 1, place)
             if 0 <= near < len(self._suffixes)),
            default=0,
        )  # fmt: skip

    def _span(self, start: int, text: bytes, limit: int) -> Span:
        def key(suffix: int) -> bytes:
            return self._slice(suffix, len(text))

        low, high = bisect_left(self._suffixes, text, key=key), bisect_right(self._suffixes, text, key=key)
        records = np.unique(np.searchsorted(self._starts, self._suffixes[low:high], side="right") - 1)
        tokens = np.frombuffer(text, dtype=">u4").tolist()
        rarity = round(sum(self._bits[token] for token in tokens), 6)
        return Span(start, len(tokens), tuple(records[:limit].tolist()), high - low, rarity)

    def _slice(self, suffix: int, size: int) -> bytes:
        begin = int(suffix) * _WIDTH
        return self._text[begin : begin + size]

    def save(self, path: Path) -> bytes:
        """Write the index to one file and give its digest (keccak-256 of its bytes)."""
        data = self._bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(data)
        fresh.replace(path)
        return keccak(data)

    @classmethod
    def load(cls, path: Path, digest: bytes | None = None) -> SpanIndex:
        """Read an index; with ``digest``, only if its bytes have that keccak-256.

        Raises:
            StorageError: the file is missing, damaged or another one.
        """
        try:
            if digest is not None and keccak(path.read_bytes()) != digest:
                raise StorageError(f"{path} is not the span index {to_hex(digest)}; fetch it again")
            tensors = load_file(path)
            tokens, suffixes, starts = (tensors[name] for name in ("tokens", "suffixes", "starts"))
        except (OSError, KeyError, SafetensorError) as error:
            raise StorageError(f"no readable span index in {path}: {error}") from error
        sound = (
            tokens.dtype == np.uint32
            and suffixes.dtype == starts.dtype == np.int64
            and tokens.ndim == suffixes.ndim == starts.ndim == 1
            and all(not len(part) or (part.min() >= 0 and part.max() < len(tokens)) for part in (suffixes, starts))
        )
        if not sound:
            raise StorageError(f"the span index in {path} is damaged; build it again")
        return cls(tokens, suffixes, starts)

    def digest(self) -> bytes:
        """keccak-256 of the bytes that :meth:`save` writes."""
        return keccak(self._bytes())

    def _bytes(self) -> bytes:
        return bytes(save({"tokens": self._tokens, "suffixes": self._suffixes, "starts": self._starts}))


def _shifted(tokens: Sequence[int]) -> list[int]:
    """Token ids plus one: zero is what stands between documents."""
    if tokens and not 0 <= min(tokens) <= max(tokens) <= _LARGEST_TOKEN:
        raise InputError(f"token ids must be between 0 and {_LARGEST_TOKEN}, got {min(tokens)} to {max(tokens)}")
    return [token + 1 for token in tokens]


def _common(left: bytes, right: bytes) -> int:
    """Length in tokens of the common prefix."""
    size = min(len(left), len(right)) // _WIDTH
    same = np.frombuffer(left, np.uint32, size) == np.frombuffer(right, np.uint32, size)
    return size if same.all() else int(np.argmin(same))
