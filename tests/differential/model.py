"""The protocol in plain Python, without a chain: stakes, draws, reviews, challenges.

It is written from docs/contracts.md, not from the contracts, with lists and sums where they have trees and counters, so that
both can be compared step by step. Amounts are wei, times seconds. A refused step raises :class:`Refused` with the name of the
contract's error, before anything changes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from eth_abi.abi import encode

from openledger.primitives import keccak
from tests.differential.steps import need

OPEN = 10**18
MINIMUM, CAP = 1_000 * OPEN, 10_000 * OPEN
BOND, CHALLENGE_BOND, PENALTY = OPEN // 20, OPEN // 10, OPEN
JURY, EXTRA, APPEAL = 3, 2, 7
COMMIT = REVEAL = 3_600
WINDOW, LAPSE = 86_400, 7 * 86_400
UNBONDING = 7 * 86_400
RECORDS = 4


@dataclass
class Challenge:
    """Both sides of a challenge; ``records`` are positions."""

    challenger: str
    records: frozenset[int]
    defender: str = ""
    settled: bool = False


@dataclass
class Contribution:
    """One contribution of :data:`RECORDS` records on its way."""

    contributor: str
    draw_block: int
    state: str = "submitted"
    round: int = 0
    jurors: list[str] = field(default_factory=list)
    seats: list[str] = field(default_factory=list)
    commitments: dict[str, frozenset[int]] = field(default_factory=dict)
    verdicts: dict[str, frozenset[int]] = field(default_factory=dict)
    commit_end: int = 0
    reveal_end: int = 0
    first_jury: list[str] = field(default_factory=list)
    first_verdicts: dict[str, frozenset[int]] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset()
    before: frozenset[int] = frozenset()
    challenge_end: int = 0
    defend_end: int = 0
    lapse_end: int = 0
    lapsed: bool = False
    challenges: list[Challenge] = field(default_factory=list)

    @property
    def present(self) -> list[str]:
        """Jurors of the round that revealed, in the order drawn."""
        return [juror for juror in self.jurors if juror in self.verdicts]

    @property
    def disputed(self) -> frozenset[int]:
        """Positions that somebody challenged."""
        return frozenset().union(*(challenge.records for challenge in self.challenges))


class Protocol:
    """The whole state. ``earned`` counts wei paid out of the contracts, less wei paid in, by account."""

    def __init__(self, owner: str, chain_id: int, registry: str) -> None:
        self.owner, self.chain_id, self.registry = owner, chain_id, registry
        self.block, self.now = 0, 0
        self.earned: defaultdict[str, int] = defaultdict(int)
        self.staked: dict[str, int] = {}
        self.leaving: dict[str, tuple[int, int]] = {}
        self.weights: list[tuple[int, dict[str, int]]] = [(0, {})]
        self.contributions: list[Contribution] = []

    # ---- stakes ----------------------------------------------------------------------------------------------

    def stake(self, who: str, amount: int) -> None:
        need(self.staked.get(who, 0) + amount >= MINIMUM, "StakeBelowMinimum")
        self.staked[who] = self.staked.get(who, 0) + amount
        self.earned[who] -= amount
        self._weigh()

    def unstake(self, who: str, amount: int) -> None:
        need(amount <= self.staked.get(who, 0), "InsufficientStake")
        left = self.staked[who] - amount
        need(left == 0 or left >= MINIMUM, "StakeBelowMinimum")
        self.staked[who] = left
        self.leaving[who] = (self.leaving.get(who, (0, 0))[0] + amount, self.now + UNBONDING)
        self._weigh()

    def withdraw_stake(self, who: str) -> None:
        amount, release = self.leaving.get(who, (0, 0))
        need(amount > 0, "NothingToWithdraw")
        need(self.now >= release, "StillUnbonding")
        self.leaving[who] = (0, release)
        self.earned[who] += amount

    def _slash(self, who: str) -> None:
        staked, (leaving, release) = self.staked[who], self.leaving.get(who, (0, 0))
        taken = min(PENALTY, (staked + leaving) // 2)
        self.staked[who] = staked - min(taken, staked)
        self.leaving[who] = (leaving - (taken - min(taken, staked)), release)
        self.earned["treasury"] += taken
        self._weigh()

    def _weigh(self) -> None:
        """Weights as they stand at the end of the present block; accounts keep the order in which they first came."""
        weights = {who: min(stake, CAP) if stake >= MINIMUM else 0 for who, stake in self.staked.items()}
        self.weights.append((self.block, weights))

    def draw(self, number: int, block: int, block_hash: bytes, count: int, excluded: list[str]) -> list[str]:
        """Draws in proportion to weight among those left, one after another."""
        weights = next(weights for since, weights in reversed(self.weights) if since <= block)
        left = {who: weight for who, weight in weights.items() if weight and who not in excluded}
        kinds = ["uint256", "address", "uint256", "bytes32"]
        seed = keccak(encode(kinds, [self.chain_id, self.registry, number, block_hash]))
        drawn: list[str] = []
        while len(drawn) < count and left:
            point = int.from_bytes(keccak(encode(["bytes32", "uint256"], [seed, len(drawn)])), "big")
            point %= sum(left.values())
            for who, weight in left.items():
                if point < weight:
                    drawn.append(who)
                    del left[who]
                    break
                point -= weight
        return drawn

    # ---- reviews ---------------------------------------------------------------------------------------------

    def submit(self, contributor: str, payer: str) -> None:
        self.earned[payer] -= RECORDS * BOND
        self.contributions.append(Contribution(contributor, self.block))

    def open_review(self, number: int, block_hash: bytes) -> None:
        entry = self.contributions[number - 1]
        if entry.state == "decided":
            need(bool(entry.challenges), "NothingChallenged")
            need(self.now >= entry.defend_end, "DefenceWindowOpen")
        else:
            need(entry.state in ("submitted", "disagreed"), "WrongState")
        need(self.block > entry.draw_block, "DrawNotReady")
        count = {"submitted": JURY, "disagreed": EXTRA, "decided": APPEAL}[entry.state]
        earlier = {"submitted": [], "disagreed": entry.jurors, "decided": entry.first_jury}[entry.state]
        known = entry.draw_block > 0 and self.block - entry.draw_block <= 256
        excluded = [*earlier, entry.contributor, self.owner]
        drawn = self.draw(number, entry.draw_block, block_hash, count, excluded) if known else []
        if not known or (len(drawn) < count and entry.state != "disagreed"):
            entry.draw_block = self.block
        elif not drawn:
            self._decide(entry)
        else:
            self._seat(entry, drawn)

    def commit(self, number: int, who: str, verdict: frozenset[int]) -> None:
        entry = self._sitting(number)
        need(self.now < entry.commit_end, "CommitWindowOver")
        need(who in entry.seats, "NotJuror")
        need(who not in entry.commitments, "AlreadyCommitted")
        entry.commitments[who] = verdict
        if all(seat in entry.commitments for seat in entry.seats):
            entry.reveal_end = self.now + entry.reveal_end - entry.commit_end
            entry.commit_end = self.now

    def reveal(self, number: int, who: str, verdict: frozenset[int]) -> None:
        entry = self._sitting(number)
        need(self.now >= entry.commit_end, "CommitWindowOpen")
        need(self.now < entry.reveal_end, "RevealWindowOver")
        need(who not in entry.verdicts, "AlreadyRevealed")
        need(entry.commitments.get(who) == verdict, "CommitmentMismatch")
        entry.verdicts[who] = verdict

    def end_round(self, number: int) -> None:
        entry = self._sitting(number)
        revealed = [seat for seat in entry.seats if seat in entry.verdicts]
        committed = [seat for seat in entry.seats if seat in entry.commitments]
        over = self.now >= entry.reveal_end or (self.now >= entry.commit_end and len(revealed) == len(committed))
        need(over, "ReviewNotOver")
        absent = [seat for seat in entry.seats if seat not in entry.verdicts]
        first = entry.seats == entry.jurors
        appeal = entry.state == "in appeal"
        if first and 2 * len(revealed) <= len(entry.jurors):
            entry.state, entry.draw_block = ("decided" if appeal else "submitted"), self.block
        elif appeal:
            entry.before = entry.accepted
            judged = self._majority(entry)
            entry.accepted = (entry.accepted - entry.disputed) | (judged & entry.disputed)
            self._settle(entry, entry.present)
        elif first and any(0 < sum(i in v for v in entry.verdicts.values()) < len(revealed) for i in range(RECORDS)):
            entry.state, entry.draw_block = "disagreed", self.block
        else:
            self._decide(entry)
        for juror in absent:
            self._slash(juror)

    def challenge(self, number: int, who: str, records: frozenset[int]) -> None:
        entry = self.contributions[number - 1]
        need(entry.state == "decided", "NotInState")
        need(self.now < entry.challenge_end, "ChallengeWindowOver")
        need(bool(records), "EmptyChallenge")
        self._party(entry, who)
        need(not records & entry.disputed, "AlreadyChallenged")
        entry.challenges.append(Challenge(who, records))
        self.earned[who] -= len(records) * CHALLENGE_BOND

    def defend(self, number: int, index: int, who: str) -> None:
        entry = self.contributions[number - 1]
        need(entry.state == "decided", "NotInState")
        need(self.now < entry.defend_end, "DefenceWindowOver")
        need(index <= len(entry.challenges), "UnknownChallenge")
        dispute = entry.challenges[index - 1]
        need(not dispute.defender, "AlreadyDefended")
        need(dispute.challenger != who, "ChallengerCannotDefend")
        self._party(entry, who)
        dispute.defender = who
        self.earned[who] -= len(dispute.records) * CHALLENGE_BOND

    def finalise(self, number: int) -> None:
        entry = self.contributions[number - 1]
        need(entry.state == "decided", "WrongState")
        if entry.challenges:
            need(self.now >= entry.lapse_end, "AppealPending")
            entry.lapsed = True
        else:
            need(self.now >= entry.challenge_end, "ChallengeWindowOpen")
        entry.before = entry.accepted
        self._settle(entry, [juror for juror in entry.first_jury if juror in entry.first_verdicts])

    def settle_challenge(self, number: int, index: int) -> None:
        entry = self.contributions[number - 1]
        need(entry.state == "finalised", "NotInState")
        need(index <= len(entry.challenges), "UnknownChallenge")
        dispute = entry.challenges[index - 1]
        need(not dispute.settled, "AlreadySettled")
        dispute.settled = True
        whole = len(dispute.records) * CHALLENGE_BOND
        if entry.lapsed:
            self.earned[dispute.challenger] += whole
            if dispute.defender:
                self.earned[dispute.defender] += whole
            return
        turned = dispute.records & (entry.accepted ^ entry.before)
        won = len(turned) * CHALLENGE_BOND
        lost = whole - won
        pot, rest = lost // 2, lost - lost // 2
        self.earned[dispute.challenger] += won + len(turned - entry.accepted) * (BOND // 2)
        if dispute.defender:
            self.earned[dispute.challenger] += won - won // 2
            self.earned[dispute.defender] += lost + rest
            pot, rest = pot + won // 2, 0
        self._share(entry.present, pot, pot + rest)

    def _seat(self, entry: Contribution, drawn: list[str]) -> None:
        if entry.state == "disagreed":
            entry.jurors, entry.state = entry.jurors + drawn, "in review"
        else:
            entry.state = "in appeal" if entry.state == "decided" else "in review"
            entry.jurors, entry.commitments, entry.verdicts = list(drawn), {}, {}
            entry.round += 1
        entry.seats = drawn
        entry.commit_end, entry.reveal_end = self.now + COMMIT, self.now + COMMIT + REVEAL

    def _sitting(self, number: int) -> Contribution:
        entry = self.contributions[number - 1]
        need(entry.state in ("in review", "in appeal"), "WrongState")
        return entry

    def _majority(self, entry: Contribution) -> frozenset[int]:
        verdicts = list(entry.verdicts.values())
        return frozenset(i for i in range(RECORDS) if 2 * sum(i in verdict for verdict in verdicts) > len(verdicts))

    def _decide(self, entry: Contribution) -> None:
        entry.state, entry.accepted, entry.draw_block = "decided", self._majority(entry), 0
        entry.first_jury, entry.first_verdicts = entry.jurors, dict(entry.verdicts)
        entry.challenge_end, entry.defend_end = self.now + WINDOW, self.now + 2 * WINDOW
        entry.lapse_end = entry.defend_end + LAPSE

    def _settle(self, entry: Contribution, present: list[str]) -> None:
        entry.state = "finalised"
        slashed = (RECORDS - len(entry.accepted)) * BOND
        won = len(entry.before - entry.accepted) * (BOND // 2)
        if slashed:
            self._share(present, slashed // 2, slashed - won)
        self.earned[entry.contributor] += RECORDS * BOND - slashed

    def _share(self, jurors: list[str], pot: int, total: int) -> None:
        each = pot // len(jurors)
        for juror in jurors:
            self.earned[juror] += each
        self.earned["treasury"] += total - each * len(jurors)

    def _party(self, entry: Contribution, who: str) -> None:
        allowed = who in (entry.contributor, self.owner) or not self.staked.get(who, 0)
        need(allowed, "PartyIsReviewer")
