"""The terms under which receipts are paid: what the chain and the public blobs say, as plain frozen data.

:meth:`openledger.settlement.context.PayoutContext.from_chain` reads them; :mod:`openledger.settlement.payouts` computes with
them. Addresses are checksummed, hashes 32 bytes, amounts wei, shares ppm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from openledger.primitives import PPM, InputError, mul_ppm

VersionId = tuple[int, int]
"""(Datanet id, version number); two Datanets may anchor the same root for other contributors' rows."""


@dataclass(frozen=True)
class FeeSplit:
    """How a fee is divided, in ppm of the fee; what is left belongs to the treasury.

    Raises:
        InputError: a part is negative, or the parts exceed 1,000,000 in all.
    """

    data: int
    builder: int
    host: int
    curators: int
    validators: int

    def __post_init__(self) -> None:
        parts = self.parts
        if min(parts) < 0 or sum(parts) > PPM:
            raise InputError(
                f"a fee split of {parts} ppm: no part may be negative and their sum may not exceed {PPM:,}"
            )

    @property
    def parts(self) -> tuple[int, int, int, int, int]:
        """(data, builder, host, curators, validators) in ppm."""
        return self.data, self.builder, self.host, self.curators, self.validators

    @property
    def treasury(self) -> int:
        """The treasury's part in ppm."""
        return PPM - sum(self.parts)

    def pools(self, fee: int) -> tuple[int, int, int, int, int, int]:
        """Wei for (data, builder, host, curators, validators, treasury); sums to ``fee`` exactly.

        All but the last are rounded down; the treasury gets the rest.
        """
        data, builder, host, curators, validators = (mul_ppm(fee, ppm) for ppm in self.parts)
        return data, builder, host, curators, validators, fee - data - builder - host - curators - validators


@dataclass(frozen=True)
class Attestation:
    """What one validator found. ``weight`` is its stake in wei when the batch was posted."""

    validator: str
    weight: int
    valid: bool


@dataclass(frozen=True)
class Batch:
    """One posted batch of receipts and the terms that held when it was posted.

    Attributes:
        number: the batch's number in the ledger, from 1.
        host: the account that posted it; its receipts are this host's.
        first_sequence: the host's sequence of the first receipt.
        count: receipts in the batch.
        root: the Merkle root over the receipts' digests.
        split: the fee split in force.
        influence_ppm: the part of the data pool that is paid by measured influence.
        position: (block number, log index) of the posting.
        attestations: what validators found, in the order of their transactions.
        challenged: sequences of receipts whose challenge is not decided.
        disabled: whether a jury found one of its receipts wrong; then none is paid.
    """

    number: int
    host: str
    first_sequence: int
    count: int
    root: bytes
    split: FeeSplit
    influence_ppm: int
    position: tuple[int, int]
    attestations: tuple[Attestation, ...] = ()
    challenged: frozenset[int] = frozenset()
    disabled: bool = False

    @property
    def sequences(self) -> range:
        """The host's sequences that the batch covers."""
        return range(self.first_sequence, self.first_sequence + self.count)

    @property
    def disputed(self) -> bool:
        """Whether the validators that call the batch invalid weigh as much as those that call it valid, or more."""
        against = sum(attestation.weight for attestation in self.attestations if not attestation.valid)
        return against > 0 and 2 * against >= sum(attestation.weight for attestation in self.attestations)


@dataclass(frozen=True)
class Accuracy:
    """What a model's published evaluation says of its attribution.

    Attributes:
        audited_ppm: lower end of the interval of its LDS at contributor level, in ppm; None if it was not audited.
        published: whether the evaluation whose hash is on chain can be read; receipts wait until it can.
    """

    audited_ppm: int | None = None
    published: bool = True

    @classmethod
    def of(cls, evaluation: Any) -> Accuracy:
        """From an evaluation document: ``attribution.contributors.interval``, two numbers from -1 to 1.

        A document in another form counts as not audited.
        """
        try:
            low, high = evaluation["attribution"]["contributors"]["interval"]
            if not -1 <= low <= high <= 1:
                return cls()
            return cls(max(0, math.floor(low * PPM)))
        except (KeyError, TypeError, ValueError):
            return cls()

    def influence_part(self, bound_ppm: int) -> int:
        """The part of the data share that measured influence decides, ppm: what the audit is sure of, up to the bound.

        Attribution that nobody audited decides half of the bound.

        Args:
            bound_ppm: the parameter ``attribution.influence``.
        """
        return bound_ppm // 2 if self.audited_ppm is None else min(bound_ppm, self.audited_ppm)


@dataclass(frozen=True)
class Model:
    """A registered model: the Datanet version it learnt from and its owners over time.

    Attributes:
        number: the model's id.
        version: (Datanet, version number) that it learnt from; (0, 0) if from none.
        owners: ((block number, log index), owner) of each transfer, the registration first.
        parent: id of the model that it builds on, 0 for none; always a lower one.
        lineage_ppm: the part that it asks of the builder's share of each model that builds on it.
        accuracy: how right its attribution is surely, from the evaluation that its builder registered.
        accepted: the same from an evaluation that governance accepted later, with the (block number, log index) since
            which it holds.
    """

    number: int
    version: VersionId
    owners: tuple[tuple[tuple[int, int], str], ...]
    parent: int = 0
    lineage_ppm: int = 0
    accuracy: Accuracy = Accuracy()
    accepted: tuple[tuple[tuple[int, int], Accuracy], ...] = ()

    def accuracy_at(self, position: tuple[int, int]) -> Accuracy:
        """What held when ``position`` was logged: the evaluation accepted last before it, or else the builder's."""
        return next((accuracy for since, accuracy in reversed(self.accepted) if since < position), self.accuracy)

    def owner_at(self, position: tuple[int, int]) -> str | None:
        """Who owned the model when ``position`` was logged; None before its registration."""
        return next((owner for since, owner in reversed(self.owners) if since < position), None)


@dataclass(frozen=True)
class Origin:
    """Where an accepted record comes from: its contributor, and the reviewers who revealed a verdict that accepts it."""

    contributor: str
    curators: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Version:
    """An anchored Datanet version: every accepted record by its hash. Compared by identity, for it can be large."""

    datanet: int
    number: int
    root: bytes
    records: Mapping[bytes, Origin]

    @property
    def id(self) -> VersionId:
        """(Datanet id, version number)."""
        return self.datanet, self.number

    @cached_property
    def rows_by_contributor(self) -> Mapping[str, int]:
        """Accepted rows of each contributor."""
        return Counter(origin.contributor for origin in self.records.values())

    @cached_property
    def curator_weights(self) -> CuratorWeights:
        """The curators' weights if every row counts the same."""
        return self.weigh_curators((record, 1) for record in self.records)

    def weigh_curators(self, weighted_records: Iterable[tuple[bytes, int]]) -> CuratorWeights:
        """Curators by the weight of the records they accepted; a record's weight is divided evenly among its curators.

        Raises:
            KeyError: a record is not in this version.
        """
        credited = [(self.records[record].curators, weight) for record, weight in weighted_records]
        scale = math.lcm(*(len(curators) for curators, _ in credited if curators))
        weights: Counter[str] = Counter()
        uncurated = 0
        for curators, weight in credited:
            if not curators:
                uncurated += weight * scale
            for curator in curators:
                weights[curator] += weight * scale // len(curators)
        return CuratorWeights(weights, uncurated)


@dataclass(frozen=True)
class CuratorWeights:
    """Integer weights of curators in one pool. ``uncurated`` is the weight of records that nobody's verdict accepted."""

    weights: Mapping[str, int]
    uncurated: int

    @cached_property
    def total(self) -> int:
        """The sum of all weights."""
        return sum(self.weights.values()) + self.uncurated


NO_VERSION = Version(0, 0, bytes(32), {})
"""What a model without a Datanet learnt from."""
