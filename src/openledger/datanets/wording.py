"""What two texts have in common: features that survive rewording, weighted by how rare they are.

Records of one Datanet often share whole sentences, so plain word overlap calls every two of them near copies. Here a
feature counts the more the fewer texts hold it (inverse document frequency), so that names, dates and amounts decide.
Candidates come from MinHash and banding over the rare features (Broder 1997), the similarity is then computed exactly.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rensa import RMinHash, RMinHashLSH

from openledger.datanets.losses import amounts

_MONTHS = {name: number for number, name in enumerate(
    ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
     "december"), 1)}  # fmt: skip
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})\.?,? (\d{{4}})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"\b({_MONTH})\.? (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b", re.IGNORECASE)
_ISO = re.compile(r"\b(\d{4})[-/.](\d{2})[-/.](\d{2})\b")
_WORD = re.compile(r"[^\W_]+")
_PERMUTATIONS = 64
_BANDS = 32
_SEED = 42


def dates(text: str) -> list[str]:
    """The days named in a text, as ISO dates, in order of their form."""
    found = [f"{year}-{month}-{day}" for year, month, day in _ISO.findall(text)]
    named = [(year, month, day) for day, month, year in _DAY_FIRST.findall(text)]
    named += [(year, month, day) for month, day, year in _MONTH_FIRST.findall(text)]
    numbers = {name[:3]: number for name, number in _MONTHS.items()}
    return found + [f"{year}-{numbers[month[:3].lower()]:02d}-{int(day):02d}" for year, month, day in named]


def words(text: str) -> list[str]:
    """The words of a text in order: compatibility forms unified, accents and case dropped, dates left out."""
    for pattern in (_ISO, _DAY_FIRST, _MONTH_FIRST):
        text = pattern.sub(" ", text)
    plain = unicodedata.normalize("NFKD", text)
    return _WORD.findall("".join(sign for sign in plain if not unicodedata.combining(sign)).casefold())


def features(text: str) -> frozenset[str]:
    """Words, days and amounts of a text: what stays when it is put into other order or punctuation."""
    money = {f"{amount.value.normalize():f} {amount.currency}" for amount in amounts(text)}
    return frozenset(words(text)) | frozenset(dates(text)) | money


@dataclass(frozen=True)
class Match:
    """The most similar earlier text: its position, and the similarity in ppm."""

    position: int
    similarity_ppm: int


class Similarity:
    """Finds for each of ``texts`` the most similar one before it.

    The measure is the weighted Jaccard index of the features; a feature held by ``d`` of ``n`` texts weighs
    ``round(1000 log2((n + 1) / d))``. Deterministic: integers throughout, ties go to the earlier text.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._features = [features(text) for text in texts]
        held = Counter(feature for found in self._features for feature in found)
        count = len(texts)
        self._weights = {feature: round(1000 * math.log2((count + 1) / number)) for feature, number in held.items()}
        self._common = max(3, count // 50)
        self._held = held

    def matches(self, start: int = 0) -> list[Match | None]:
        """For each text from position ``start`` on, its closest predecessor; None where none is a candidate."""
        index = RMinHashLSH(threshold=0.5, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        results: list[Match | None] = []
        for position, found in enumerate(self._features):
            sketch = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
            sketch.update(sorted(self._rare(found)) or [""])
            if position >= start:
                results.append(self._closest(position, sorted(index.query(sketch))))
            index.insert(position, sketch)
        return results

    def similarity_ppm(self, one: int, other: int) -> int:
        """How similar two of the texts are, 0 to 1,000,000."""
        shared = self._weight(self._features[one] & self._features[other])
        union = self._weight(self._features[one] | self._features[other])
        return 1_000_000 * shared // union if union else 1_000_000

    def shared_rare(self, text: str, other: str) -> list[str]:
        """The rare words that two of the texts share, in the first text's order; days and amounts are not words."""
        shared = features(text) & features(other)
        return [word for word in dict.fromkeys(words(text)) if word in shared and self._held[word] <= self._common]

    def _rare(self, found: frozenset[str]) -> frozenset[str]:
        return frozenset(feature for feature in found if self._held[feature] <= self._common) or found

    def _weight(self, found: frozenset[str]) -> int:
        return sum(self._weights[feature] for feature in found)

    def _closest(self, position: int, candidates: Sequence[int]) -> Match | None:
        best: Match | None = None
        for candidate in candidates:
            similarity = self.similarity_ppm(position, candidate)
            if best is None or similarity > best.similarity_ppm:
                best = Match(candidate, similarity)
        return best
