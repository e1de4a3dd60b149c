"""Recompute an attribution from public data and compare it with what was claimed.

Needs the base model, the index and the prompt and output as tokens; the adapter, when it is given, must be the one that
the index was built for. On the pinned CPU path the recomputation has the same bits, so the tolerance is zero; another
kind of processor may need ``OTHER_PROCESSOR_PPM``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from openledger.attribution.gradients import Query
from openledger.attribution.index import InfluenceIndex
from openledger.attribution.shares import Shares, shares
from openledger.primitives.amounts import PPM
from openledger.primitives.errors import InputError, VerificationError
from openledger.primitives.hashing import to_hex

OTHER_PROCESSOR_PPM = 1_500
"""Tolerance for a recomputation on another kind of processor. The gain is stated in steps of 1,000 ppm, so that an answer on
an edge may move by one; other instruction sets moved the shares of one answer in 40 by up to 528 ppm, the others' by up to
137 (``bench/attribution/drift.py``). It is not wider, so that nobody can hide more behind it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a recomputation.

    Attributes:
        recomputed: the shares as they come out now.
        differences: record hash to (claimed, recomputed) in ppm, for every record where the two differ by more than
            the tolerance.
        residual: (claimed, recomputed) residual in ppm.
        tolerance_ppm: the tolerance.
    """

    recomputed: Shares
    differences: dict[bytes, tuple[int, int]]
    residual: tuple[int, int]
    tolerance_ppm: int

    @property
    def valid(self) -> bool:
        """Whether the claim holds."""
        return not self.differences and abs(self.residual[0] - self.residual[1]) <= self.tolerance_ppm

    def report(self) -> str:
        """The verdict in words, one line for each difference."""
        if self.valid:
            return "the claimed shares are what the recomputation gives"
        lines = [
            f"record {to_hex(record)}: claimed {claimed} ppm, recomputed {found} ppm"
            for record, (claimed, found) in sorted(self.differences.items())
        ]
        if self.residual[0] != self.residual[1]:
            lines.append(f"residual: claimed {self.residual[0]} ppm, recomputed {self.residual[1]} ppm")
        return "\n".join(lines)

    def check(self) -> None:
        """Raise VerificationError with the report unless the claim holds."""
        if not self.valid:
            raise VerificationError(f"the claimed shares are wrong:\n{self.report()}")


def verify(
    base: PreTrainedModel,
    index: InfluenceIndex,
    query: Query,
    claimed: Sequence[tuple[bytes, int]],
    residual_ppm: int,
    *,
    adapter: Path | None = None,
    tolerance_ppm: int = 0,
) -> Verdict:
    """Recompute the shares of an output and compare them with a claim.

    Args:
        base: the base model.
        index: the model's influence index, loaded by the digest that the chain names.
        query: prompt and output as tokens.
        claimed: (record hash, ppm) pairs.
        residual_ppm: the claimed part of the base model.
        adapter: folder of the served adapter, checked against the index.
        tolerance_ppm: largest difference of one number that is let pass: 0 on the kind of processor that the claim was
            made on, ``OTHER_PROCESSOR_PPM`` on another.

    Raises:
        InputError: the claim names a record twice or does not sum to 1,000,000, or the query is malformed.
        ModelError: ``base`` is not the model that the index belongs to.
        VerificationError: ``adapter`` is not the one that the index belongs to.
    """
    claims = dict(claimed)
    if len(claims) != len(claimed):
        raise InputError("the claim names a record twice; a record has one share")
    total = sum(claims.values()) + residual_ppm
    if total != PPM or min([residual_ppm, *claims.values()]) < 0:
        raise InputError(f"claimed shares and residual must not be negative and sum to {PPM}; they sum to {total}")
    if adapter is not None:
        index.check_adapter(adapter)
    recomputed = shares(index.measure(base, [query])[0], index)
    found = dict(recomputed.by_hash(index))
    pairs = {record: (claims.get(record, 0), found.get(record, 0)) for record in sorted(claims.keys() | found.keys())}
    differences = {record: pair for record, pair in pairs.items() if abs(pair[0] - pair[1]) > tolerance_ppm}
    return Verdict(recomputed, differences, (residual_ppm, recomputed.residual_ppm), tolerance_ppm)
