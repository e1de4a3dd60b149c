"""From receipts to what every account has earned, in integers only.

A fee is divided by the split of the receipt's batch. The data pool's influence part is as large as the model's audited
accuracy allows (``terms.Accuracy``) and follows the receipt's shares to the records' contributors, the residual to the
treasury, as publisher of the base model; its other part goes to the contributors by accepted rows. The builder's pool goes
up the model's line of ancestors by what each of them asks of its descendants. The curators' pool follows the credited
records to the reviewers who accepted them; the validators' pool goes by stake to those who attested the batch valid. What
rounding leaves over is dust: it stays in the distributor.

    fees = paid + dust,  always and exactly

Parts that do not depend on the single receipt (rows, validators, curators of an answer that credits no record) are pooled
over the settlement and divided once, so a receipt costs as much work as it has shares, however many contributors there are.

A receipt is paid once, whole, and only if its fee was collected: the sum paid for a consumer at a host never exceeds what
the host redeemed from that consumer. Receipts that cannot be paid yet are held, with the reason, and tried again.

Pure functions: nothing here reads the chain, a file or a clock.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from openledger.primitives import InputError, MerkleTree, mul_ppm, standard_leaf
from openledger.settlement.receipts import ReceiptBody
from openledger.settlement.terms import NO_VERSION, Batch, CuratorWeights, Model, Version, VersionId


class Role(StrEnum):
    """In what role an account is paid."""

    CONTRIBUTOR = "contributor"
    CURATOR = "curator"
    BUILDER = "builder"
    ANCESTOR = "ancestor"
    HOST = "host"
    VALIDATOR = "validator"
    BASE_MODEL = "base model"
    TREASURY = "treasury"


class Hold(StrEnum):
    """Why a receipt is not paid yet."""

    UNPUBLISHED = "its body is not published"
    NOT_THE_LEAF = "its published body is not what was posted on chain"
    DISPUTED = "validators dispute its batch"
    CHALLENGED = "it is challenged and not decided yet"
    DISABLED = "a jury found a receipt of its batch wrong"
    UNKNOWN_MODEL = "its model was not registered when the batch was posted"
    UNKNOWN_EVALUATION = "its model's evaluation is not published"
    UNKNOWN_VERSION = "the records of its model's Datanet version are not published"
    UNKNOWN_RECORD = "it credits a record that is not in the model's Datanet version"
    NOT_COLLECTED = "the host has not redeemed its fee from the consumer"


@dataclass(frozen=True)
class Terms:
    """Everything outside the receipts that payouts depend on, as of one block.

    Attributes:
        treasury: the treasury's account; also the publisher of the base model.
        batches: all batches, in ascending order of number.
        models: by id.
        versions: by (Datanet id, version number).
        redeemed: wei that (consumer, host) pairs have moved out of escrow.
    """

    treasury: str
    batches: tuple[Batch, ...]
    models: Mapping[int, Model]
    versions: Mapping[VersionId, Version]
    redeemed: Mapping[tuple[str, str], int]


@dataclass(frozen=True, order=True)
class Held:
    """A posted receipt that is not paid yet."""

    batch: int
    host: str
    sequence: int
    reason: Hold


@dataclass(frozen=True)
class Line:
    """Wei for one account in one role."""

    account: str
    role: Role
    wei: int


@dataclass(frozen=True)
class Payouts:
    """What every account has earned in all settlements so far.

    Attributes:
        last_batch: the highest batch number that was settled.
        lines: cumulative wei by (account, role); no line is zero.
        fees: wei of all fees paid out so far, dust included.
        settled: wei of fees settled by (consumer, host).
        held: posted receipts that wait, in order.
        receipts: how many receipts have been paid.
    """

    last_batch: int = 0
    lines: Mapping[tuple[str, Role], int] = field(default_factory=dict)
    fees: int = 0
    settled: Mapping[tuple[str, str], int] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    receipts: int = 0

    @cached_property
    def accounts(self) -> tuple[tuple[str, int], ...]:
        """(account, cumulative wei), ascending by account."""
        earned: Counter[str] = Counter()
        for (account, _), wei in self.lines.items():
            earned[account] += wei
        return tuple(sorted(earned.items(), key=lambda pair: int(pair[0], 16)))

    @cached_property
    def total(self) -> int:
        """Wei owed to all accounts together."""
        return sum(self.lines.values())

    @property
    def dust(self) -> int:
        """Wei that rounding left in the distributor."""
        return self.fees - self.total

    @cached_property
    def tree(self) -> MerkleTree:
        """The tree over (account, cumulative wei) that a claim is proven against."""
        return MerkleTree([payout_leaf(account, wei) for account, wei in self.accounts])

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self.tree.root

    def earned(self, account: str) -> int:
        """Cumulative wei of one account, 0 if it has earned nothing."""
        return next((wei for holder, wei in self.accounts if holder == account), 0)

    def by_role(self, account: str | None = None) -> dict[Role, int]:
        """Cumulative wei by role, of one account or of all."""
        sums: Counter[Role] = Counter()
        for (holder, role), wei in self.lines.items():
            if account in (None, holder):
                sums[role] += wei
        return dict(sums)

    def proof(self, account: str) -> list[bytes]:
        """The Merkle proof of the account's cumulative amount.

        Raises:
            InputError: the account has earned nothing.
        """
        for position, (holder, _) in enumerate(self.accounts):
            if holder == account:
                return self.tree.proof(position)
        raise InputError(f"{account} has earned nothing yet; there is nothing to prove or to claim")


def payout_leaf(account: str, cumulative: int) -> bytes:
    """The leaf of one account in the payout tree, 32 bytes."""
    return standard_leaf(["address", "uint256"], [account, cumulative])


def payouts(bodies: Iterable[ReceiptBody], terms: Terms, previous: Payouts | None = None) -> Payouts:
    """The payouts after settling every batch of ``terms`` that ``previous`` has not settled, and the held receipts that can
    be paid now.

    Args:
        bodies: the published bodies of the new batches' and of the held receipts; others are ignored. The caller has
            checked each against its leaf on chain (:func:`openledger.settlement.batches.admit`).
        terms: as of one block. Batches after the last settled one must be contiguous.
        previous: the settlement before; None for the first.

    Raises:
        InputError: a batch is missing between the last settled one and the newest, or two bodies claim one place.
    """
    previous = previous or Payouts()
    batches = {batch.number: batch for batch in terms.batches}
    newest = max(batches, default=0)
    new = range(previous.last_batch + 1, newest + 1)
    if absent := [number for number in new if number not in batches]:
        raise InputError(f"batches {absent[:8]} are missing from the terms; read every batch up to {newest}")
    places = [(held.batch, held.host, held.sequence) for held in previous.held]
    places += [(number, batches[number].host, sequence) for number in new for sequence in batches[number].sequences]
    by_place = _by_place(bodies)
    settlement = _Settlement(terms, previous)
    held = []
    for number, host, sequence in places:
        body = by_place.get((host, sequence))
        reason = Hold.UNPUBLISHED if body is None else settlement.add(batches[number], body)
        if reason is not None:
            held.append(Held(number, host, sequence, reason))
    settlement.divide_pools()
    return Payouts(
        last_batch=max(newest, previous.last_batch),
        lines={key: wei for key, wei in sorted(settlement.lines.items()) if wei},
        fees=settlement.fees,
        settled=dict(sorted(settlement.settled.items())),
        held=tuple(held),
        receipts=previous.receipts + len(places) - len(held),
    )


def explain(body: ReceiptBody, batch: Batch, terms: Terms) -> tuple[Line, ...]:
    """Into whose hands one receipt's fee goes, line by line, largest first.

    The parts that a settlement pools over many receipts are shown as if this receipt were settled alone, so a line can
    differ by a few wei from what the pooled division pays.

    Raises:
        InputError: the receipt cannot be paid under these terms, whatever was redeemed; the message says why.
    """
    alone = _Settlement(terms, Payouts(), collected=False)
    reason = alone.add(batch, body)
    if reason is not None:
        raise InputError(f"receipt {body.receipt.sequence} of {body.receipt.host} is not payable: {reason}")
    alone.divide_pools()
    lines = (Line(account, role, wei) for (account, role), wei in alone.lines.items() if wei)
    return tuple(sorted(lines, key=lambda line: (-line.wei, line.account, line.role)))


class _Settlement:
    """The running sums of one settlement."""

    def __init__(self, terms: Terms, previous: Payouts, *, collected: bool = True) -> None:
        self.lines: defaultdict[tuple[str, Role], int] = defaultdict(int, previous.lines)
        self.settled: defaultdict[tuple[str, str], int] = defaultdict(int, previous.settled)
        self.fees = previous.fees
        self._terms = terms
        self._collected = collected
        self._rows: Counter[Version] = Counter()
        self._curators: Counter[Version] = Counter()
        self._validators: Counter[int] = Counter()
        self._by_number = {batch.number: batch for batch in terms.batches}

    def add(self, batch: Batch, body: ReceiptBody) -> Hold | None:
        """Adds one receipt, or says why it must wait."""
        receipt, fee = body.receipt, body.receipt.fee
        if batch.disabled:
            return Hold.DISABLED
        if receipt.sequence in batch.challenged:
            return Hold.CHALLENGED
        if batch.disputed:
            return Hold.DISPUTED
        model = self._terms.models.get(receipt.model)
        if model is None or model.owner_at(batch.position) is None:
            return Hold.UNKNOWN_MODEL
        version = self._version(model.version)
        if version is None:
            return Hold.UNKNOWN_VERSION
        accuracy = model.accuracy_at(batch.position)
        if not accuracy.published:
            return Hold.UNKNOWN_EVALUATION
        if any(record not in version.records for record, _ in body.shares):
            return Hold.UNKNOWN_RECORD
        pair = (receipt.consumer, receipt.host)
        if self._collected and self.settled[pair] + fee > self._terms.redeemed.get(pair, 0):
            return Hold.NOT_COLLECTED
        self.settled[pair] += fee
        self.fees += fee
        data, for_builder, for_host, for_curators, for_validators, for_treasury = batch.split.pools(fee)
        self._by_lineage(for_builder, model, batch.position)
        self._pay(receipt.host, Role.HOST, for_host)
        self._pay(self._terms.treasury, Role.TREASURY, for_treasury)
        by_influence = mul_ppm(data, accuracy.influence_part(batch.influence_ppm))
        self._by_influence(by_influence, version, body)
        self._rows[version] += data - by_influence
        if body.shares:
            self._by_weight(for_curators, version.weigh_curators(body.shares))
        else:
            self._curators[version] += for_curators
        self._validators[batch.number] += for_validators
        return None

    def divide_pools(self) -> None:
        """Divides what was pooled over the receipts."""
        treasury = self._terms.treasury
        for version, pool in self._rows.items():
            rows = version.rows_by_contributor
            whole = sum(rows.values())
            for contributor, count in rows.items():
                self._pay(contributor, Role.CONTRIBUTOR, pool * count // whole)
            if not rows:
                self._pay(treasury, Role.TREASURY, pool)
        for version, pool in self._curators.items():
            self._by_weight(pool, version.curator_weights)
        for number, pool in self._validators.items():
            agreeing = [attestation for attestation in self._by_number[number].attestations if attestation.valid]
            weight = sum(attestation.weight for attestation in agreeing)
            for attestation in agreeing:
                self._pay(attestation.validator, Role.VALIDATOR, pool * attestation.weight // weight)
            if not agreeing:
                self._pay(treasury, Role.TREASURY, pool)

    def _version(self, version: VersionId) -> Version | None:
        return NO_VERSION if version == NO_VERSION.id else self._terms.versions.get(version)

    def _by_lineage(self, pool: int, model: Model, position: tuple[int, int]) -> None:
        """Each model keeps what its parent does not ask for, rounded up; nothing of the pool is lost on the way."""
        role = Role.BUILDER
        while owner := model.owner_at(position):
            parent = self._terms.models.get(model.parent)
            up = mul_ppm(pool, parent.lineage_ppm) if parent else 0
            self._pay(owner, role, pool - up)
            if parent is None or not up:
                return
            pool, model, role = up, parent, Role.ANCESTOR

    def _by_influence(self, pool: int, version: Version, body: ReceiptBody) -> None:
        credited: Counter[str] = Counter()
        for record, ppm in body.shares:
            credited[version.records[record].contributor] += ppm
        for contributor, ppm in credited.items():
            self._pay(contributor, Role.CONTRIBUTOR, mul_ppm(pool, ppm))
        self._pay(self._terms.treasury, Role.BASE_MODEL, mul_ppm(pool, body.residual_ppm))

    def _by_weight(self, pool: int, curators: CuratorWeights) -> None:
        if not curators.total:
            self._pay(self._terms.treasury, Role.TREASURY, pool)
            return
        for curator, weight in curators.weights.items():
            self._pay(curator, Role.CURATOR, pool * weight // curators.total)
        self._pay(self._terms.treasury, Role.TREASURY, pool * curators.uncurated // curators.total)

    def _pay(self, account: str, role: Role, wei: int) -> None:
        self.lines[account, role] += wei


def _by_place(bodies: Iterable[ReceiptBody]) -> dict[tuple[str, int], ReceiptBody]:
    places: dict[tuple[str, int], ReceiptBody] = {}
    for body in bodies:
        place = (body.receipt.host, body.receipt.sequence)
        if places.setdefault(place, body) != body:
            raise InputError(
                f"two bodies claim receipt {place[1]} of host {place[0]}; keep the one whose digest was posted"
            )
    return places
