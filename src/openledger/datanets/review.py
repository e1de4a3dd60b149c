"""The reviewer's side: what a reviewer sees, several ways to judge it, and the ballots that go on the chain.

A reviewer sees the record, the facts of its source and what the gate noticed: nothing on who sent it. The procedures
differ on purpose, in what they check and how carefully, so that verdicts differ and a jury is worth more than one
of its members. A procedure judges with what any reviewer may read; it does not know which rows were planted.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from eth_abi.abi import encode

from openledger.datanets.exploits import Source, load_sources, load_weaknesses
from openledger.datanets.gate import Finding, GateReport
from openledger.datanets.losses import NOT_REPORTED, Amount, amounts
from openledger.datanets.records import Record
from openledger.datanets.wording import dates, words
from openledger.primitives import InputError, keccak, to_hex

_TOLERANCE_PPM = 20_000
_LESSON = "weakness/"


@dataclass(frozen=True)
class ReviewItem:
    """One record to judge, with its source's facts (None where no source is found) and the gate's findings."""

    record: Record
    source: Source | None
    findings: tuple[Finding, ...]
    closest: Record | None


@dataclass(frozen=True)
class Verdict:
    """Accept or reject, and why, in words that the contributor can act on."""

    accept: bool
    reason: str


class Reviewer(Protocol):
    """A way to judge a record."""

    @property
    def name(self) -> str:
        """What the procedure is called."""

    def judge(self, item: ReviewItem) -> Verdict:
        """The verdict on one record; the same item gives the same verdict."""


def review_items(records: Sequence[Record], report: GateReport) -> list[ReviewItem]:
    """What a reviewer gets to see of a contribution."""
    if len(records) != len(report.findings):
        raise InputError(f"the gate's report is on {len(report.findings)} records, the contribution has {len(records)}")
    return [
        ReviewItem(record, find_source(record), findings, closest)
        for record, findings, closest in zip(records, report.findings, report.closest, strict=True)
    ]


@cache
def _sources() -> Mapping[str, Source]:
    return {source.reference: source for source in load_sources()}


def find_source(record: Record) -> Source | None:
    """The incident that a record names as its source; None where it names none that is listed."""
    return _sources().get(record.reference)


@dataclass(frozen=True)
class FactReviewer:
    """Compares protocol, day, amount and cause, stated and in the text, with the source. Sees only plain copies."""

    name: str = "facts"

    def judge(self, item: ReviewItem) -> Verdict:
        """Rejects at the first fact that the source does not give."""
        wrong = _broken(item) or _wrong_facts(item) or _near_copy(item)
        return Verdict(False, wrong) if wrong else Verdict(True, "every fact stands in the source")


@dataclass(frozen=True)
class DuplicateReviewer:
    """Looks for copies and paraphrases of earlier records. Takes the facts on trust."""

    name: str = "duplicates"

    def judge(self, item: ReviewItem) -> Verdict:
        """Rejects copies, near copies, and what tells of the same event as an earlier record."""
        copied = _broken(item) or _near_copy(item) or _retold(item)
        return Verdict(False, copied) if copied else Verdict(True, "no earlier record says the same")


@dataclass(frozen=True)
class SourceReviewer:
    """Looks the source up: does it exist, was it used before, are protocol, day and amount its own? Skips the cause."""

    name: str = "source"

    def judge(self, item: ReviewItem) -> Verdict:
        """Rejects a second record on one source, and facts other than the source's."""
        objection = _broken(item) or _used_source(item)
        if objection is None and item.source is not None:
            checks = (_wrong_protocol, _wrong_day, _wrong_amount)
            objection = next((wrong for check in checks if (wrong := check(item.record, item.source))), None)
        return Verdict(False, objection) if objection else Verdict(True, "the source exists, is new and says so")


@dataclass(frozen=True)
class CarefulReviewer:
    """Checks the facts, looks for copies, and reads whether the explanation fits the cause."""

    name: str = "careful"

    def judge(self, item: ReviewItem) -> Verdict:
        """Rejects at the first objection."""
        objection = _broken(item) or _wrong_facts(item) or _near_copy(item) or _retold(item)
        objection = objection or _unfit_explanation(item)
        return Verdict(False, objection) if objection else Verdict(True, "facts, originality and explanation hold")


@dataclass(frozen=True)
class HastyReviewer:
    """Reads only some rows, and of those only day and amount. Which rows depends on ``seed`` alone.

    Attributes:
        read_ppm: part of the rows that it reads, in ppm.
        seed: makes two hasty reviewers skip different rows.
    """

    read_ppm: int = 500_000
    seed: int = 0
    name: str = "hasty"

    def judge(self, item: ReviewItem) -> Verdict:
        """Accepts what it does not read."""
        broken = _broken(item)
        if broken:
            return Verdict(False, broken)
        drawn = int.from_bytes(keccak(item.record.hash, self.seed.to_bytes(32, "big"))[:8], "big") % 1_000_000
        if drawn >= self.read_ppm:
            return Verdict(True, "looks plausible at first sight; not compared with the source")
        if item.source is None:
            return Verdict(True, "names a source that was not looked up")
        wrong = _wrong_day(item.record, item.source) or _wrong_amount(item.record, item.source) or _near_copy(item)
        return Verdict(False, wrong) if wrong else Verdict(True, "day and amount stand in the source")


def review(reviewer: Reviewer, items: Iterable[ReviewItem]) -> list[Verdict]:
    """One reviewer's verdicts on all items, in order."""
    return [reviewer.judge(item) for item in items]


@dataclass(frozen=True)
class Ballot:
    """One reviewer's verdicts on one contribution, packed, with the salt that hides them until the reveal.

    Attributes:
        contribution: its id on the chain.
        reviewer: checksummed address.
        bitmap: bit ``i`` of byte ``i // 8`` (lowest first) is 1 where record ``i`` is accepted; unused bits are 0.
        salt: 32 secret bytes.
    """

    contribution: int
    reviewer: str
    bitmap: bytes
    salt: bytes

    @property
    def commitment(self) -> bytes:
        """``keccak256(abi.encode(contribution, reviewer, bitmap, salt))``, 32 bytes."""
        return keccak(
            encode(
                ["uint256", "address", "bytes", "bytes32"],
                [self.contribution, self.reviewer, self.bitmap, self.salt],
            )
        )


def fill_ballot(contribution: int, reviewer: str, verdicts: Sequence[Verdict], salt: bytes | None = None) -> Ballot:
    """The ballot of a reviewer's verdicts; a fresh random salt unless one is given."""
    salt = secrets.token_bytes(32) if salt is None else salt
    if len(salt) != 32:
        raise InputError(f"a ballot's salt has 32 bytes, got {len(salt)}")
    return Ballot(contribution, reviewer, pack_bitmap([verdict.accept for verdict in verdicts]), salt)


def pack_bitmap(accepted: Sequence[bool]) -> bytes:
    """Bit ``i`` of byte ``i // 8``, lowest bit first; unused bits are 0."""
    bitmap = bytearray((len(accepted) + 7) // 8)
    for position, accept in enumerate(accepted):
        bitmap[position // 8] |= accept << position % 8
    return bytes(bitmap)


def unpack_bitmap(bitmap: bytes, count: int) -> list[bool]:
    """The bits of ``count`` records.

    Raises:
        InputError: the bitmap has another length, or a bit is set beyond the last record.
    """
    if len(bitmap) != (count + 7) // 8:
        raise InputError(f"a bitmap of {count} records has {(count + 7) // 8} bytes, this one {len(bitmap)}")
    if count % 8 and bitmap[-1] >> count % 8:
        raise InputError(f"the bitmap {to_hex(bitmap)} has a bit set beyond record {count - 1}; unused bits are 0")
    return [bool(bitmap[position // 8] >> position % 8 & 1) for position in range(count)]


def tally(bitmaps: Sequence[bytes], count: int) -> list[bool]:
    """The outcome per record, as the registry computes it: accepted by more than half of the revealed verdicts.

    Raises:
        InputError: no bitmap, or a malformed one.
    """
    if not bitmaps:
        raise InputError("no verdict was revealed; the round is void and a new jury is drawn")
    opinions = [unpack_bitmap(bitmap, count) for bitmap in bitmaps]
    return [2 * sum(votes) > len(opinions) for votes in zip(*opinions, strict=True)]


def _broken(item: ReviewItem) -> str | None:
    """What the gate found beyond doubt; every procedure heeds it."""
    failed = next((finding for finding in item.findings if finding.severity == "fail"), None)
    return failed.message if failed else None


def _wrong_facts(item: ReviewItem) -> str | None:
    if item.record.reference.startswith(_LESSON):
        return _wrong_lesson(item.record)
    if item.source is None:
        return f"the source {item.record.reference!r} is not listed, so nothing can be checked; name a listed one"
    checks = (_wrong_protocol, _wrong_day, _wrong_amount, _wrong_cause)
    return next((wrong for check in checks if (wrong := check(item.record, item.source))), None)


def _wrong_protocol(record: Record, source: Source) -> str | None:
    name = words(source.protocol)
    for where, text in (("question", record.question), ("answer", record.answer)):
        if not _contains(words(text), name):
            return f"the source is on {source.protocol}, which the {where} does not name"
    stated = record.facts.get("protocol")
    if stated is not None and words(stated) != name:
        return f"the protocol is stated as {stated!r}; the source says {source.protocol!r}"
    return None


def _wrong_day(record: Record, source: Source) -> str | None:
    named = dates(f"{record.text} {record.facts.get('date', '')}")
    wrong = [day for day in named if day != source.date]
    if wrong:
        return f"the day is given as {wrong[0]}; the source says {source.date}"
    if source.date not in dates(record.answer):
        return f"the answer does not name the day, {source.date}"
    return None


def _wrong_amount(record: Record, source: Source) -> str | None:
    reported = amounts(source.lost or "") + amounts(source.spoken_loss)
    said = amounts(record.answer) + amounts(record.facts.get("lost", ""))
    for amount in said:
        if not any(_same(amount, other) for other in reported):
            known = source.spoken_loss
            return f"the amount {amount} is not in the source, which says: {known}"
    if amounts(source.spoken_loss) and not said:
        return f"the answer does not give the amount, {source.spoken_loss}"
    stated = record.facts.get("lost")
    if not reported and stated is not None and stated not in (source.spoken_loss, NOT_REPORTED):
        return f"the loss is stated as {stated!r}; the source says {source.spoken_loss!r}"
    return None


def _wrong_cause(record: Record, source: Source) -> str | None:
    stated = record.facts.get("cause", "")
    if stated and not _contains(words(record.answer), words(stated)):
        return f"the answer does not give the stated cause, {stated!r}"
    expected = f"{source.cause} {source.label}"
    if not set(_content(expected)) & set(_content(stated or record.answer)):
        return f"the cause is given as {stated!r}; the source says {source.label!r}"
    return None


def _wrong_lesson(record: Record) -> str | None:
    """Whether an explanation of a weakness is that of another one."""
    weaknesses = load_weaknesses()
    named = weaknesses.get(record.reference.removeprefix(_LESSON))
    if named is None:
        return f"{record.reference!r} is no known class of weakness"
    if not set(_content(named.name)) & set(_content(record.question)):
        return f"the question does not ask about {named.name}"
    other = _explains_other(record.answer, named.key)
    return f"the answer explains {other}, not {named.name}" if other else None


def _near_copy(item: ReviewItem) -> str | None:
    found = next((finding for finding in item.findings if finding.check == "near-duplicate"), None)
    return f"a near copy: {found.message}" if found else None


def _retold(item: ReviewItem) -> str | None:
    again = next((finding for finding in item.findings if finding.check == "same-question"), None)
    if again is not None and item.closest is not None and item.closest.reference == item.record.reference:
        return f"{again.message}, from the same source; put all that answers it into one record"
    found = next((finding for finding in item.findings if finding.check == "same-event"), None)
    if found is None or item.closest is None or not _same_story(item.record, item.closest):
        return None
    return f"tells again what is known: {found.message}"


def _used_source(item: ReviewItem) -> str | None:
    if item.source is None and not item.record.reference.startswith(_LESSON):
        return f"the source {item.record.reference!r} is not listed; name a listed one"
    if item.closest is not None and item.closest.reference == item.record.reference:
        return f"the source {item.record.reference!r} is used up by an earlier record"
    return None


def _same_story(record: Record, other: Record) -> bool:
    """Whether both tell of one event: the same source, or the same protocol where both state one."""
    if record.reference == other.reference:
        return True
    stated = record.facts.get("protocol")
    return stated is not None and words(stated) == words(other.facts.get("protocol", ""))


def _unfit_explanation(item: ReviewItem) -> str | None:
    """Whether the text explains another class of weakness than the one that its cause belongs to."""
    if item.source is None:
        return None
    other = _explains_other(item.record.answer, item.source.weakness)
    return f"the explanation is one of {other}; the cause is {item.source.label!r}" if other else None


def _explains_other(answer: str, weakness: str) -> str | None:
    """The name of the class of weakness that an answer explains instead of ``weakness``; None where it may be that one."""
    said = frozenset(_content(answer))
    covered = {key: max(_covered(sentence, said) for sentence in sentences) for key, sentences in _lessons().items()}
    own = covered.pop(weakness)
    best = max(covered, key=lambda key: covered[key])
    return load_weaknesses()[best].name if covered[best] >= 800_000 and own < 400_000 else None


@cache
def _lessons() -> Mapping[str, tuple[frozenset[str], ...]]:
    """The content words of each sentence on each class of weakness."""
    return {
        weakness.key: tuple(
            frozenset(_content(sentence)) for sentence in (*weakness.why, *weakness.prevention, *weakness.advice)
        )
        for weakness in load_weaknesses().values()
    }


def _covered(sentence: frozenset[str], said: frozenset[str]) -> int:
    return 1_000_000 * len(sentence & said) // len(sentence)


def _same(one: Amount, other: Amount) -> bool:
    if one.currency and other.currency and one.currency != other.currency:
        return False
    return abs(one.value - other.value) * 1_000_000 <= _TOLERANCE_PPM * max(one.value, other.value)


def _contains(text: Sequence[str], part: Sequence[str]) -> bool:
    return any(list(text[start : start + len(part)]) == list(part) for start in range(len(text) - len(part) + 1))


_FILLERS = frozenset(
    words(
        "a an and attack at be by can cause caused exploit exploited flaw flawed for from in incorrect is it lack "
        "missing no not of on or that the this through to was with wrong"
    )
)


def _content(text: str) -> list[str]:
    return [word for word in words(text) if word not in _FILLERS]
