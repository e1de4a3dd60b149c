"""What two texts have in common: features that survive rewording, weighted by how rare they are.

Records of one Datanet often share whole sentences, so plain word overlap calls every two of them near copies. Here a
feature counts the more the fewer texts hold it (inverse document frequency), so that names, days and amounts decide.
A text is compared with those that share one of its rarest features, and with those that MinHash and banding (Broder
1997) find alike as a whole, so that neither new words around a copy nor new wording of it hide it. The work per text
is bounded.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rensa import RMinHash, RMinHashLSH

from openledger.datanets.losses import amounts, without_amounts

_MONTHS = {name: number for number, name in enumerate(
    ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
     "december"), 1)}  # fmt: skip
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
_DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})\.?,? (\d{{4}})\b", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"\b({_MONTH})\.? (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b", re.IGNORECASE)
_ISO = re.compile(r"\b(\d{4})[-/.](\d{2})[-/.](\d{2})\b")
_WORD = re.compile(r"[^\W_]+")
_PERMUTATIONS = 64
_BANDS = 16
_SEED = 42
_LOOKED_UP = 8
_HOLDERS = 12
_ALIKE = 16


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
    rest = without_amounts(text) if money else text
    return frozenset(words(rest)) | frozenset(dates(text)) | money


@dataclass(frozen=True)
class Match:
    """The most similar earlier text: its position, and the similarity in ppm."""

    position: int
    similarity_ppm: int


class Similarity:
    """Finds for each of ``texts`` the most similar one before it.

    The measure is the weighted Jaccard index of the features; a feature held by ``d`` of ``n`` texts weighs
    ``round(1000 log2((n + 1) / d))``. Deterministic: integers throughout, ties go to the earlier text.

    Args:
        texts: in order.
        known: how many of them, from the first on, were there before; only the others get a match.
    """

    def __init__(self, texts: Sequence[str], known: int = 0) -> None:
        self._known = known
        self._features = [features(text) for text in texts]
        self._held = Counter(feature for found in self._features for feature in found)
        self._held_before = Counter(feature for found in self._features[:known] for feature in found)
        count = len(texts)
        self._weights = {
            feature: round(1000 * math.log2((count + 1) / number)) for feature, number in self._held.items()
        }
        self._totals = [self._weight(found) for found in self._features]
        self._few = max(3, count // 50)

    def matches(self) -> list[list[Match]]:
        """For each text after the known ones the earlier texts that it was compared with, most similar first."""
        alike = RMinHashLSH(threshold=0.7, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        holders: dict[str, list[int]] = {}
        results: list[list[Match]] = []
        for position, found in enumerate(self._features):
            sketch = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
            sketch.update(sorted(found) or [""])
            if position >= self._known:
                candidates = {holder for feature in self._rarest(found) for holder in holders.get(feature, ())}
                candidates |= set(sorted(alike.query(sketch))[:_ALIKE])
                found_like = [Match(other, self.similarity_ppm(position, other)) for other in candidates]
                results.append(sorted(found_like, key=lambda match: (-match.similarity_ppm, match.position)))
            alike.insert(position, sketch)
            for feature in found:
                first = holders.setdefault(feature, [])
                if len(first) < _HOLDERS:
                    first.append(position)
        return results

    def similarity_ppm(self, one: int, other: int) -> int:
        """How similar two of the texts are, 0 to 1,000,000."""
        shared = self._weight(self._features[one] & self._features[other])
        union = self._totals[one] + self._totals[other] - shared
        return 1_000_000 * shared // union if union else 1_000_000

    def same_event(self, one: int, other: int) -> list[str]:
        """The day that two of the texts both name, with the rare names and amounts that they share.

        Empty unless they share a day and one of these. Rare is what few texts, or few of the known ones, hold.
        """
        shared = self._features[one] & self._features[other]
        days = sorted(feature for feature in shared if _ISO.fullmatch(feature))
        names = sorted(feature for feature in shared if feature not in days and self._is_name(feature))
        return [*days, *names] if days and names else []

    def _is_name(self, feature: str) -> bool:
        rare = self._held[feature] <= self._few or 0 < self._held_before[feature] <= self._few
        return rare and not feature.isdecimal()

    def _rarest(self, found: frozenset[str]) -> list[str]:
        shared = [feature for feature in found if self._held[feature] > 1]
        return sorted(shared, key=lambda feature: (self._held[feature], feature))[:_LOOKED_UP]

    def _weight(self, found: frozenset[str]) -> int:
        return sum(self._weights[feature] for feature in found)
