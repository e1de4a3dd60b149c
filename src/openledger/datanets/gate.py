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
from openledger.datanets.wording import Match, Similarity, dates
from openledger.primitives import record_hash, to_hex

GATE_VERSION = 1
"""Raised with every change that can change a finding."""

Severity = Literal["fail", "warn"]


@dataclass(frozen=True)
class Finding:
    """One thing that the gate noticed about one record.

    Attributes:
        check: ``schema``, ``licence``, ``duplicate``, ``near-duplicate``, ``same-event`` or ``private``.
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
    similarity = Similarity([record.text for record in everything])
    matches = similarity.matches(len(known))
    first: dict[bytes, int] = {}
    for position, record in enumerate(everything):
        first.setdefault(record.hash, position)
    findings, closest = [], []
    for row, (record, match) in enumerate(zip(records, matches, strict=True), 1):
        position = len(known) + row - 1
        twin = first[record.hash] if first[record.hash] < position else None
        found = _own(row, record, licence, terms)
        found += _likeness(record, everything, len(known), twin, match, similarity, terms)
        findings.append(tuple(found))
        nearest = twin if twin is not None else match.position if match else None
        closest.append(everything[nearest] if nearest is not None else None)
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


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for member in value.values() for text in _strings(member)]
    if isinstance(value, list):
        return [text for member in value for text in _strings(member)]
    return [value] if isinstance(value, str) else []


def _likeness(
    record: Record,
    everything: Sequence[Record],
    known: int,
    twin: int | None,
    match: Match | None,
    similarity: Similarity,
    terms: Terms,
) -> list[Finding]:
    def place(position: int) -> str:
        where = f"row {position - known + 1} of this contribution" if position >= known else "an earlier contribution"
        return f"a record in {where}"

    if twin is not None:
        return [Finding("duplicate", "fail", f"the same bytes as {place(twin)}", record.hash)]
    if match is None:
        return []
    other = everything[match.position]
    if match.similarity_ppm >= terms.policy.near_duplicate_ppm:
        percent = match.similarity_ppm // 10_000
        return [Finding("near-duplicate", "warn", f"{percent}% like {place(match.position)}", other.hash)]
    day = set(dates(record.text)) & set(dates(other.text))
    names = similarity.shared_rare(record.text, other.text) if day else []
    if names:
        message = f"names the same day ({min(day)}) and {', '.join(names[:3])} as {place(match.position)}"
        return [Finding("same-event", "warn", message, other.hash)]
    return []
