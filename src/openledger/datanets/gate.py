"""The gate: free, deterministic, versioned checks of a contribution before people look at it.

The same records, terms and earlier records give the same report and digest on every machine. A report is advice: the
reviewers vote, and may overrule a finding. What the gate does not do: judge whether a fact is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from openledger.datanets.privacy import find_private
from openledger.datanets.reading import check_row
from openledger.datanets.records import Record
from openledger.datanets.terms import Terms
from openledger.datanets.wording import Match, Similarity
from openledger.primitives import record_hash, to_hex

GATE_VERSION = 2
"""Raised with every change that can change a finding."""

Severity = Literal["fail", "warn"]


@dataclass(frozen=True)
class Finding:
    """One thing that the gate noticed about one record.

    Attributes:
        check: ``schema``, ``licence``, ``duplicate``, ``near-duplicate``, ``same-question``, ``same-event`` or ``private``.
        severity: ``fail`` where a rule is broken, ``warn`` where a person should look.
        message: what and where, in words.
        other: hash of the earlier record that the finding points to, where it points to one.
    """

    check: str
    severity: Severity
    message: str
    other: bytes | None = None

    def to_json(self) -> dict[str, Any]:
        """The finding as canonical JSON members."""
        other = to_hex(self.other) if self.other else None
        return {"check": self.check, "severity": self.severity, "message": self.message, "other": other}


@dataclass(frozen=True)
class GateReport:
    """The findings on each record, in the contribution's order, with the closest earlier record of each.

    Attributes:
        findings: per record.
        closest: per record the most similar earlier one, in the contribution or among those known; None without any.
        policy_hash: of the policy that was applied.
    """

    findings: tuple[tuple[Finding, ...], ...]
    closest: tuple[Record | None, ...]
    policy_hash: bytes

    @property
    def digest(self) -> bytes:
        """keccak-256 over version, policy and findings, 32 bytes."""
        return record_hash(
            {
                "gate": GATE_VERSION,
                "policy": to_hex(self.policy_hash),
                "findings": [[finding.to_json() for finding in found] for found in self.findings],
            }
        )

    @property
    def clean(self) -> bool:
        """Whether no record has a finding of severity ``fail``."""
        return not any(finding.severity == "fail" for found in self.findings for finding in found)

    def summary(self) -> dict[str, int]:
        """Number of records by check that found something in them."""
        counts: dict[str, int] = {}
        for found in self.findings:
            for check in sorted({finding.check for finding in found}):
                counts[check] = counts.get(check, 0) + 1
        return counts


def inspect(records: Sequence[Record], licence: str, terms: Terms, known: Sequence[Record] = ()) -> GateReport:
    """Checks ``records`` against the Datanet's terms and against the records ``known`` before them.

    Args:
        records: the contribution, in order.
        licence: its SPDX identifier.
        terms: the Datanet's schema and policy.
        known: records accepted or submitted earlier, whoever sent them.
    """
    everything = [*known, *records]
    similarity = Similarity([record.text for record in everything], len(known))
    matches = similarity.matches()
    first: dict[bytes, int] = {}
    for position, record in enumerate(everything):
        first.setdefault(record.hash, position)
    asked: dict[str, int] = {}
    for position, record in enumerate(everything):
        if question := _asked(record):
            asked.setdefault(question, position)
    findings: list[tuple[Finding, ...]] = []
    closest: list[Record | None] = []
    for row, (record, alike) in enumerate(zip(records, matches, strict=True), 1):
        position = len(known) + row - 1
        twin = first[record.hash] if first[record.hash] < position else None
        same = asked.get(_asked(record), position)
        likeness = _likeness(position, twin, same if same < position else None, alike, similarity, terms)
        own = _own(row, record, licence, terms)
        if likeness is None:
            findings.append(tuple(own))
            closest.append(everything[alike[0].position] if alike else None)
            continue
        check, severity, other, message = likeness
        here = f"row {other - len(known) + 1} of this contribution"
        where = here if other >= len(known) else "an earlier contribution"
        found = Finding(check, severity, f"{message} a record in {where}", everything[other].hash)
        findings.append((*own, found))
        closest.append(everything[other])
    return GateReport(tuple(findings), tuple(closest), terms.policy_hash)


def _own(row: int, record: Record, licence: str, terms: Terms) -> list[Finding]:
    found = [
        Finding("schema", "fail", f"{problem.field + ': ' if problem.field else ''}{problem.message}")
        for problem in check_row(row, record.value, terms)
    ]
    if licence not in terms.policy.licences:
        allowed = ", ".join(terms.policy.licences)
        found.append(Finding("licence", "fail", f"the licence {licence!r} is not allowed; allowed are {allowed}"))
    for kind, masked in find_private("\n".join(_strings(record.value))):
        found.append(Finding("private", "fail", f"holds what looks like a {kind}: {masked}"))
    return found


def _asked(record: Record) -> str:
    """The question without what case, spaces and its last mark make different."""
    return " ".join(record.question.casefold().split()).rstrip("?!. ")


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for member in value.values() for text in _strings(member)]
    if isinstance(value, list):
        return [text for member in value for text in _strings(member)]
    return [value] if isinstance(value, str) else []


def _likeness(
    position: int, twin: int | None, asked: int | None, alike: Sequence[Match], similarity: Similarity, terms: Terms
) -> tuple[str, Severity, int, str] | None:
    """What a record is too much like: check, severity, the other's position and words that lead to it."""
    if twin is not None:
        return "duplicate", "fail", twin, "the same bytes as"
    if alike and alike[0].similarity_ppm >= terms.policy.near_duplicate_ppm:
        return "near-duplicate", "warn", alike[0].position, f"{alike[0].similarity_ppm // 10_000}% like"
    for match in alike:
        shared = similarity.same_event(position, match.position)
        if shared:
            return "same-event", "warn", match.position, f"names {', '.join(shared[:4])} as does"
    return None if asked is None else ("same-question", "warn", asked, "asks the same question as")
