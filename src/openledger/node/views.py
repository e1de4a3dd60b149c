"""What the pages and commands show: plain frozen data, read from the chain, the blobs and the database of one node.

Amounts are integers of wei (:data:`Wei`: decimal strings in JSON), shares integers of ppm, times Unix seconds, hashes and
addresses hex strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainSerializer

if TYPE_CHECKING:
    from openledger.datanets import GateReport

Wei = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]
"""An amount of wei; a decimal string in JSON, where numbers lose digits."""


@dataclass(frozen=True)
class Party:
    """An account with the name this node knows it by (its short address where it knows none)."""

    address: str
    label: str
    role: str = ""


@dataclass(frozen=True)
class BlockRow:
    """One recent block: its number, time, transactions, and gas used."""

    number: int
    time: int
    transactions: int
    gas_used: int


@dataclass(frozen=True)
class ReceiptRow:
    """One line of the list of receipts."""

    id: str
    sequence: int
    time: int
    model_name: str
    prompt: str
    output: str
    fee: Wei
    residual_ppm: int
    top_contributor: Party | None
    top_ppm: int
    status: str
    """``recorded`` (signed, not yet on chain), ``posted`` (in a batch on chain), ``paid`` (covered by an active payout root)."""


@dataclass(frozen=True)
class Overview:
    """The network at a glance."""

    chain_id: int
    block_number: int
    contracts: dict[str, str]
    datanets: int
    records_accepted: int
    contributors: int
    models: int
    receipts: int
    batches: int
    total_fees: Wei
    total_paid: Wei
    total_staked: Wei
    treasury: Wei
    receipts_recent: list[ReceiptRow]
    blocks_recent: list[BlockRow]
    fees_by_role: dict[str, Wei]
    """Paid so far to each role: contributor, builder, host, curator, validator, treasury."""


@dataclass(frozen=True)
class VersionRow:
    """One anchored version of a Datanet."""

    number: int
    root: str
    records: int
    time: int
    transaction: str


@dataclass(frozen=True)
class ContributionRow:
    """One contribution and what became of it."""

    id: int
    contributor: Party
    count: int
    accepted: int
    rejected: int
    state: str
    bond: Wei
    slashed: Wei
    reviewers: list[Party]


@dataclass(frozen=True)
class ChallengeRow:
    """One challenge of the decision on ``rows`` (from 1) of a contribution; ``bond`` is each side's, in wei."""

    contribution: int
    number: int
    rows: list[int]
    challenger: Party
    defender: Party | None
    bond: Wei
    settled: bool


@dataclass(frozen=True)
class TombstoneRow:
    """A record that versions of the Datanet from ``version`` on do not hold."""

    datanet: int
    contribution: int
    record: str
    version: int


@dataclass(frozen=True)
class AccessRow:
    """One request for access to a Datanet; ``purpose`` is empty where its text is not published here."""

    request: int
    datanet: int
    account: Party
    state: str
    fee: Wei
    purpose: str


@dataclass(frozen=True)
class GrantRow:
    """Whether an account may read a Datanet now, and until when by a grant (Unix seconds, 0 for none)."""

    datanet: int
    account: Party
    access: bool
    until: int
    paid: bool


@dataclass(frozen=True)
class IncomeRow:
    """What one contribution has earned by access to a Datanet's version and by licences of it, and not claimed."""

    datanet: int
    version: int
    contribution: int
    contributor: Party
    claimable: Wei


@dataclass(frozen=True)
class StakeRow:
    """One account's stake in one role: what counts, what is leaving, and from when that can be withdrawn (Unix seconds)."""

    account: Party
    role: str
    staked: Wei
    leaving: Wei
    release: int
    active: bool


@dataclass(frozen=True)
class GateFinding:
    """What the gate noticed about one row (from 1) of a contribution; ``severity`` is ``fail`` or ``warn``."""

    row: int
    check: str
    severity: str
    message: str


def gate_findings(report: GateReport) -> list[GateFinding]:
    """What the gate noticed, row by row."""
    return [
        GateFinding(row, finding.check, finding.severity, finding.message)
        for row, found in enumerate(report.findings, 1)
        for finding in found
    ]


@dataclass(frozen=True)
class Submission:
    """A contribution that was just submitted."""

    id: int
    count: int
    findings: list[GateFinding]


@dataclass(frozen=True)
class SessionKeyRow:
    """What the key that this node holds for an account may spend of its deposit, in wei; ``cap`` 0 where it was never allowed."""

    address: str
    cap: Wei
    spent: Wei
    owed: Wei
    """Promised to this node's host and not collected yet."""
    expiry: int

    @property
    def left(self) -> int:
        """Wei that it may still spend."""
        return max(0, self.cap - self.spent - self.owed)


@dataclass(frozen=True)
class FundsView:
    """What pays an account's questions: its deposit in wei, and what this node may spend of it."""

    deposit: Wei
    session: SessionKeyRow


@dataclass(frozen=True)
class AccountView:
    """What one account holds, is owed and has done. Receipts hold what it asked, so that this is for the account alone."""

    party: Party
    balance: Wei
    funds: FundsView
    gopen: Wei
    votes: Wei
    delegate: Party | None
    earned: Wei
    claimed: Wei
    stakes: list[StakeRow]
    contributions: list[tuple[int, ContributionRow]]
    """(Datanet, contribution), newest first."""
    reviews: list[tuple[int, VerdictRow]]
    """(contribution, verdict) of what it judged."""
    receipts: list[ReceiptRow]


@dataclass(frozen=True)
class ContributorRow:
    """One contributor's standing in a Datanet."""

    party: Party
    accepted: int
    rejected: int
    influenced: int
    """Receipts in which a record of theirs has a share."""
    earned: Wei


@dataclass(frozen=True)
class VerdictRow:
    """One reviewer's verdict on one record, with the reason given."""

    reviewer: Party
    accept: bool
    reason: str


@dataclass(frozen=True)
class RecordView:
    """One record and its life: accepted → trained → influenced → paid."""

    hash: str
    question: str
    answer: str
    facts: dict[str, Any]
    source: dict[str, Any]
    kind: str
    contributor: Party
    contribution: int
    status: str
    """``accepted``, ``rejected`` or ``under review``."""
    verdicts: list[VerdictRow]
    trained_in: list[str]
    """Names of the models trained on it."""
    influenced: int
    credited_ppm: int
    """Sum of its shares over all receipts."""


@dataclass(frozen=True)
class ContradictionRow:
    """A record that speaks against an accepted one: telling words of each that the other lacks. For a person to judge."""

    hash: str
    question: str
    status: str
    trusted: str
    """The accepted record's hash."""
    trusted_question: str
    says: list[str]
    instead_of: list[str]


@dataclass(frozen=True)
class DatanetRow:
    """One line of the list of Datanets."""

    id: int
    name: str
    description: str
    owner: Party
    licence: str
    versions: int
    records: int
    contributors: int


@dataclass(frozen=True)
class DatanetView:
    """One Datanet with its versions, contributions and people."""

    row: DatanetRow
    versions: list[VersionRow]
    contributions: list[ContributionRow]
    contributors: list[ContributorRow]
    rejections: list[RecordView]
    data_card: str


@dataclass(frozen=True)
class ModelView:
    """One registered model."""

    id: int
    name: str
    base: str
    owner: Party
    status: str
    datanet: int
    datanet_version: int
    hashes: dict[str, str]
    """``base``, ``adapter``, ``recipe``, ``index``, ``evaluation``, ``version_root``."""
    input_price: Wei
    output_price: Wei
    evaluation: dict[str, Any]
    """``loss_base``, ``loss_tuned``, ``accuracy_base``, ``accuracy_tuned`` (exact) and what the evaluation says besides."""
    recipe: dict[str, Any]
    loss_curve: list[tuple[int, float]]
    card: str
    attribution: dict[str, str]
    """What was measured of its attribution's accuracy, in words; empty if it was not audited."""
    receipts: int
    fees: Wei


@dataclass(frozen=True)
class RecordShare:
    """One record's part in one answer."""

    hash: str
    question: str
    answer: str
    contributor: Party
    ppm: int
    score: float


@dataclass(frozen=True)
class SpanView:
    """Words of the answer that stand verbatim in records: text and character range, and in which records."""

    text: str
    start: int
    end: int
    records: list[str]
    rarity: float


@dataclass(frozen=True)
class RetrievedView:
    """A record that was looked up for the answer: by how many nats the answer is likelier with it in the prompt, in all and
    by token."""

    hash: str
    question: str
    contributor: Party
    effect: float
    effects: list[float]


def top_words(tokens: Sequence[str], values: Sequence[float], most: int = 5) -> list[tuple[str, float]]:
    """The words of an answer that something moved most: (word, its part of all that was moved up), largest first.

    Args:
        tokens: the answer's tokens as text; one that begins with white space begins a word.
        values: how far each was moved.
        most: how many words at most.
    """
    whole = sum(value for value in values if value > 0)
    words: list[tuple[str, float]] = []
    for token, value in zip(tokens, values, strict=True):
        if words and not token[:1].isspace():
            words[-1] = (words[-1][0] + token, words[-1][1] + value)
        else:
            words.append((token, value))
    best = sorted(words, key=lambda word: -word[1])[:most]
    return [(word.strip(), value / whole) for word, value in best if whole > 0 and value > 0]


@dataclass(frozen=True)
class ReceiptView:
    """One answer with everything that explains who shaped it."""

    row: ReceiptRow
    consumer: Party
    host: Party
    prompt_tokens: int
    output_tokens: int
    shares_root: str
    records: list[RecordShare]
    contributors: list[tuple[Party, int]]
    tokens: list[str]
    """The answer's tokens as text, in order; joined they are the answer."""
    influence: list[list[float]]
    """[top records, tokens]: each top record's influence on each token, in the order of ``records``; one row each."""
    spans: list[SpanView]
    retrieved: list[RetrievedView]
    batch: int | None
    batch_root: str | None
    transaction: str | None
    gas_per_inference: float | None
    payouts: list[tuple[Party, str, Wei]]
    """(account, role, wei) that this receipt's fee is split into; empty while it is not in a batch."""
    signature: str


@dataclass(frozen=True)
class Check:
    """One named check of a verification."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class BatchRow:
    """One batch of receipts on chain."""

    id: int
    root: str
    first_sequence: int
    count: int
    fees: Wei
    gas_per_inference: float
    transaction: str
    attested_by: list[Party]
    split_ppm: dict[str, int]


@dataclass(frozen=True)
class EarningsRow:
    """What one account has earned in one or more roles, and what it has claimed."""

    party: Party
    by_role: dict[str, Wei]
    earned: Wei
    claimed: Wei
    balance: Wei


@dataclass(frozen=True)
class PayoutsView:
    """The state of the payouts."""

    batches: list[BatchRow]
    earnings: list[EarningsRow]
    total_fees: Wei
    total_paid: Wei
    dust: Wei
    root: str
    root_state: str


@dataclass(frozen=True)
class BucketRow:
    """One bucket of the allocation of OPEN, in wei; ``released`` on chain today."""

    name: str
    total: Wei
    at_genesis: Wei
    released: Wei
    releasable: Wei
    locked: Wei
    cliff_months: int
    linear_months: int
    beneficiary: Party | None


@dataclass(frozen=True)
class SupplyView:
    """OPEN: what exists, what circulates, and what use demands."""

    total: Wei
    circulating: Wei
    locked: Wei
    staked: Wei
    wrapped: Wei
    fees_paid: Wei
    gas_paid: Wei
    buckets: list[BucketRow]
    schedule: list[tuple[int, dict[str, Wei]]]
    """(month after genesis, bucket → wei released by then)."""


@dataclass(frozen=True)
class ParameterRow:
    """One runtime parameter of the chain."""

    key: str
    value: Wei
    unit: str
    description: str
    minimum: Wei
    maximum: Wei


@dataclass(frozen=True)
class ProposalRow:
    """One proposal with what it changes and how the vote stands (votes in wei of gOPEN)."""

    id: str
    title: str
    changes: str
    state: str
    proposer: Party
    votes_for: Wei
    votes_against: Wei
    votes_abstain: Wei
    quorum: Wei
    created: int


@dataclass(frozen=True)
class DisputeRow:
    """One dispute: what it is about, who is in it, where it stands, and why. ``bond`` is each side's, in wei.

    ``subject`` is the batch of receipt ``sequence``, or the payout root; ``upholds`` and ``rejects`` count revealed verdicts.
    """

    number: int
    kind: str
    state: str
    subject: int
    sequence: int
    challenger: Party
    accused: Party
    defender: Party | None
    bond: Wei
    answer_end: int
    reveal_end: int
    upholds: int
    rejects: int
    jury: Sequence[Party]
    why: str


@dataclass(frozen=True)
class MarketRow:
    """One request at InferenceMarket and its answer; ``state`` is open, fulfilled or refunded, ``deadline`` Unix seconds.

    ``delivered`` says whether the callback of a contract that asked took the answer.
    """

    number: int
    state: str
    requester: Party
    model: int
    question: str
    max_fee: Wei
    deadline: int
    host: Party | None
    output: str
    fee: Wei
    receipt: str
    delivered: bool


@dataclass(frozen=True)
class HostRow:
    """One host of HostRegistry: where it says it answers and what it says it serves."""

    party: Party
    uri: str
    since: int
    listed: bool
    models: list[int]
    staked: Wei


@dataclass(frozen=True)
class AgentRow:
    """One agent of AgentRegistry; ``price`` in wei a call, ``model`` 0 for none, ``active`` if stake stands behind it,
    ``definition`` the hash of what this network's nodes run, empty if it answers elsewhere."""

    number: int
    owner: Party
    name: str
    description: str
    uri: str
    wallet: Party | None
    model: int
    price: Wei
    active: bool
    definition: str = ""


@dataclass(frozen=True)
class MarketPrompt:
    """What InferenceMarket is to be asked for an agent's answer: the model, and the prompt's canonical JSON."""

    model: int
    prompt: str


@dataclass(frozen=True)
class AgentRunRow:
    """One run of an agent on this node.

    Attributes:
        cause: ``asked``, ``agent`` (another one asked), ``market``, ``schedule`` or ``version``.
        state: ``running``, ``answered``, ``failed``, ``cancelled`` or ``interrupted`` (the node stopped meanwhile).
        fee: of all answers that it asked for; the agent's ``price`` is apart.
        payment: the transaction that paid the price; ``unpaid`` is why it was not.
        record: the hash of what it left behind.
    """

    number: int
    agent: int
    definition: str
    consumer: Party
    cause: str
    state: str
    started: int
    ended: int
    fee: Wei
    price: Wei
    payment: str
    unpaid: str
    record: str
    question: str
    answer: str


@dataclass(frozen=True)
class AgentStepRow:
    """One step of a run: an answer of the agent's model (``name`` is what it called), or a tool's call and result."""

    kind: str
    name: str
    arguments: str
    result: str
    failed: bool
    fee: Wei
    receipts: list[str]
    run: int


@dataclass(frozen=True)
class AgentRunView:
    """One run with its steps and receipts."""

    row: AgentRunRow
    error: str
    steps: list[AgentStepRow]
    receipts: list[str]


@dataclass(frozen=True)
class AgentBudget:
    """What an agent's owner has set aside for its own runs.

    Attributes:
        cap: wei in all; ``spent`` of it is redeemed, by the time of the last settlement.
        expiry: Unix seconds until which it may be spent.
        state: ``not funded``, ``ready``, ``spent`` (it stands still until more is added) or ``failing``; ``why`` says more.
    """

    agent: int
    cap: Wei
    spent: Wei
    expiry: int
    state: str
    why: str


@dataclass(frozen=True)
class AgentView:
    """One agent as its page shows it.

    Attributes:
        id: what it is asked by over the API; empty where it cannot be asked here.
        model_name: its model's name.
        definition: its definition; empty where there is none, or none that can be run: ``problem`` says why.
        runs: its newest runs on this node.
        budget: of its own runs, if it has triggers and its owner's key is here.
    """

    row: AgentRow
    id: str
    model_name: str
    definition: dict[str, Any]
    problem: str
    runs: list[AgentRunRow]
    budget: AgentBudget | None = None


@dataclass(frozen=True)
class GrantedRow:
    """What the community's bootstrap holds for one account."""

    account: Party
    amount: Wei
    claimed: bool


@dataclass(frozen=True)
class BootstrapView:
    """The community's bootstrap: what it gives to whom until when (Unix seconds); ``left`` is in the contract."""

    root: str
    deadline: int
    total: Wei
    left: Wei
    remainder_to: Party
    accounts: list[GrantedRow]


@dataclass(frozen=True)
class GovernanceView:
    """Parameters, proposals and voting power."""

    parameters: list[ParameterRow]
    proposals: list[ProposalRow]
    voters: list[tuple[Party, Wei]]
    """(account, votes in wei)."""


@dataclass(frozen=True)
class TrainingProgress:
    """A fine-tuning job under way, for live charts."""

    job: str
    model_name: str
    stage: str
    step: int
    steps: int
    losses: Sequence[tuple[int, float]] = field(default_factory=list)
    """(step, nats per answer token), thinned."""
    error: str = ""
