"""Records looked up for a question: the accepted records of a model's Datanet version that are nearest to it in words.

Looking up is deterministic (BM25 over the version's records, ties by their hashes), so that whoever recomputes a receipt
looks up the same. What a looked-up record did to an answer is measured apart from what training on records did to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import bm25s
import numpy as np

from openledger.studio.passages import Passage


class Retriever:
    """Finds passages by the words of a question (BM25; Robertson et al., 1994; Lucene's variant, b = 0.75, k1 = 1.5)."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._passages = sorted(passages, key=lambda passage: passage.record)
        self._ranker = bm25s.BM25()
        tokens = bm25s.tokenize([passage.text for passage in self._passages], return_ids=False, show_progress=False)
        self._known = {token for words in tokens for token in words}
        if self._known:
            self._ranker.index(tokens, show_progress=False)

    def find(self, question: str, count: int) -> tuple[Passage, ...]:
        """At most ``count`` passages that share words with the question, the nearest first."""
        asked = cast(list[list[str]], bm25s.tokenize(question, return_ids=False, show_progress=False))[0]
        words = [word for word in asked if word in self._known]
        if not words:
            return ()
        scores = self._ranker.get_scores(words)
        order = np.argsort(-scores, kind="stable")[:count]
        return tuple(self._passages[place] for place in order if scores[place] > 0)
