"""Records that contradict a trusted one: the same matter, other facts.

A false fact told once in the usual form leaves a gradient like any other, so this looks at words alone. It takes a
record to be about the same matter as a trusted one if it says most of what that one's answer says, every word
counted by its rarity (idf; Sparck Jones, 1972), or shares two of its own hard facts: numbers, days and names that
hardly another trusted record holds. Such a record contradicts if each of the two says a hard fact, or at least two other
telling words, that the other lacks: the one in place of the other. Telling is what at most six trusted records, or one
in twelve, say. A paraphrase keeps the facts, so it lacks none; a summary lacks some and puts none in their place.

What it does not find: a lie about something of which no trusted record speaks, and one in plain words that no trusted
record uses. What it finds is for a reviewer to look at: two incidents of one name may both be true.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[^\W_]+(?:[.,:/-]\d+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;]\s+)$")
_SAYS_MOST = 0.8
_FEW = 3
_TELLING = 6
_PART = 12
_PHRASE = 2
_COMPARED = 20


@dataclass(frozen=True, slots=True)
class Statement:
    """A record as people read it."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What a record says against a trusted one.

    Attributes:
        trusted: place of that one.
        says: telling words of the record that the trusted one lacks.
        instead_of: telling words of the trusted one's answer that the record lacks.
    """

    trusted: int
    says: tuple[str, ...]
    instead_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Words:
    """Words of a whole statement and of its answer, and its hard facts, all in lower case."""

    all: frozenset[str]
    answer: frozenset[str]
    hard: frozenset[str]

    @classmethod
    def of(cls, statement: Statement) -> _Words:
        question, answer = (_words(text) for text in (statement.question, statement.answer))
        return cls(frozenset(question | answer), frozenset(answer), _hard(statement.question) | _hard(statement.answer))


def contradictions(records: Sequence[Statement], trusted: Sequence[Statement]) -> list[Contradiction | None]:
    """What each record says against the trusted one that it is nearest to, if anything [records].

    Args:
        records: what is looked at; one that is trusted itself is compared with the others.
        trusted: what is taken to be true.
    """
    known = [_Words.of(statement) for statement in trusted]
    held = Counter(word for words in known for word in words.all)
    holders: dict[str, list[int]] = {}
    for place, words in enumerate(known):
        for word in sorted(words.answer):
            holders.setdefault(word, []).append(place)
    places: dict[Statement, list[int]] = {}
    for place, statement in enumerate(trusted):
        places.setdefault(statement, []).append(place)
    found: list[Contradiction | None] = []
    for record in records:
        own = places.get(record, [])
        others = held - Counter(word for place in own for word in known[place].all) if own else held
        found.append(_contradiction(_Words.of(record), known, holders, others, frozenset(own)))
    return found


def _contradiction(
    words: _Words,
    known: Sequence[_Words],
    holders: Mapping[str, Sequence[int]],
    held: Mapping[str, int],
    own: frozenset[int],
) -> Contradiction | None:
    count = len(known) - len(own)

    def weight(word: str) -> float:
        return math.log2((count + 1) / held[word])

    shared: dict[int, float] = {}
    for word in sorted(words.all & held.keys()):
        for place in holders.get(word, ()):
            if place not in own:
                shared[place] = shared.get(place, 0.0) + weight(word)
    best: tuple[bool, float, int] | None = None
    for place in sorted(shared, key=lambda place: (-shared[place], place))[:_COMPARED]:
        facts = sum(held[word] <= _FEW for word in words.hard & known[place].hard)
        part = shared[place] / max(sum(map(weight, sorted(known[place].answer))), 1e-9)
        if (facts > 1 or part >= _SAYS_MOST) and (best is None or (facts > 1, part) > best[:2]):
            best = facts > 1, part, place
    if best is None:
        return None
    other = known[best[2]]
    rare = max(_TELLING, count // _PART)
    missing = {word for word in other.answer - words.all if held.get(word, 0) <= rare}
    added = {
        word for word in words.answer - other.all if held.get(word, 0) <= rare and (word in held or word in words.hard)
    }
    facts_differ = missing & other.hard and added & words.hard
    if facts_differ or min(len(missing - other.hard), len(added - words.hard)) >= _PHRASE:
        return Contradiction(best[2], tuple(sorted(added)), tuple(sorted(missing)))
    return None


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _hard(text: str) -> frozenset[str]:
    """Words with a digit, and those with a capital letter that no sentence's beginning explains."""
    found = set()
    for match in _WORD.finditer(text):
        word = match[0]
        explained = _SENTENCE_START.search(text[: match.start()]) is not None
        named = any(sign.isupper() for sign in (word[1:] if explained else word))
        if named or any(sign.isdigit() for sign in word):
            found.add(word.casefold())
    return frozenset(found)
