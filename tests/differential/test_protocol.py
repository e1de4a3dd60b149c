"""The contracts and a plain model of the protocol take the same random steps and agree after each one.

``OPENLEDGER_DIFFERENTIAL`` is the number of runs: a few in ``make test``, many in ``make contracts-differential``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from eth_abi.abi import encode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openledger.chain import Role
from openledger.datanets.review import pack_bitmap
from openledger.primitives import Contribution as Message
from openledger.primitives import Domain, keccak, sign
from tests.differential.evm import RICH, World, person
from tests.differential.model import (
    APPEAL,
    BOND,
    CHALLENGE_BOND,
    OPEN,
    RECORDS,
    Protocol,
)
from tests.differential.steps import agree

RUNS = int(os.environ.get("OPENLEDGER_DIFFERENTIAL", "2"))
REVIEWERS = [person(f"reviewer {n}") for n in range(APPEAL + 5)]
PEOPLE = [person(name) for name in ("alice", "bob", "carol")]
OWNER = person("owner")
SALT = bytes(32)

numbers = st.integers(1, 3)
reviewers = st.sampled_from(REVIEWERS)
people = st.sampled_from([*PEOPLE, OWNER, REVIEWERS[0]])
sets = st.frozensets(st.integers(0, RECORDS - 1))
amounts = st.integers(0, 30).map(lambda tenths: tenths * 500 * OPEN // 10 * 2)


def bits(records: frozenset[int]) -> bytes:
    return pack_bitmap([position in records for position in range(RECORDS)])


class Agreement(RuleBasedStateMachine):
    """Both worlds, and the steps that anybody may try in them at any time."""

    @initialize(verdicts=st.lists(sets, min_size=1, max_size=3), records=sets, defended=st.booleans())
    def begin(self, verdicts: list[frozenset[int]], records: frozenset[int], defended: bool) -> None:
        """Every run begins with one contribution taken to its end by an appeal; two more wait."""
        self.world = World()
        self.protocol = Protocol(OWNER.address, self.world.chain_id, self.world.at["DatanetRegistry"])
        self.accounts = [wallet.address for wallet in [*REVIEWERS, *PEOPLE, OWNER]]
        for account in self.accounts:
            self.world.evm.set_balance(account, RICH)
        self._clock(0)
        terms = (0, 0, 0, 0, 0)
        self.world.send(OWNER.address, "DatanetRegistry", "createDatanet", ["n", bytes(32), bytes(32), "", terms])
        for wallet in REVIEWERS:
            self.both(
                lambda wallet=wallet: self.protocol.stake(wallet.address, 1_500 * OPEN),
                wallet.address, "StakeManager", "stake", [int(Role.REVIEWER)], 1_500 * OPEN,
            )  # fmt: skip
        self._clock(2)
        for wallet in PEOPLE:
            self.submit(wallet)
        self.appeal(1, verdicts, records, defended)

    def both(
        self, step: Callable[[], None], sender: str, contract: str, function: str, given: list[Any], value: int = 0
    ) -> None:
        agree(self.world, step, sender, contract, function, given, value)

    def _clock(self, seconds: int) -> None:
        self.world.step(seconds)
        self.protocol.block, self.protocol.now = self.world.number, self.world.time

    def submit(self, wallet: Any) -> None:
        nonce = self.world.read("DatanetRegistry", "nonces", wallet.address)
        message = Message(1, wallet.address, keccak(b"root"), RECORDS, "MIT", keccak(b"manifest"), nonce)
        signature = sign(message, Domain(self.world.chain_id, self.world.at["DatanetRegistry"]), wallet)
        self.both(
            lambda: self.protocol.submit(wallet.address, wallet.address),
            wallet.address, "DatanetRegistry", "submit", [message.as_tuple(), signature], RECORDS * BOND,
        )  # fmt: skip

    @rule(seconds=st.sampled_from([2, 60, 3_600, 86_400, 8 * 86_400]))
    def wait(self, seconds: int) -> None:
        self._clock(seconds)

    @rule(who=reviewers, amount=amounts)
    def stake(self, who: Any, amount: int) -> None:
        if amount:
            self.both(lambda: self.protocol.stake(who.address, amount), who.address, "StakeManager", "stake",
                      [int(Role.REVIEWER)], amount)  # fmt: skip

    @rule(who=reviewers, amount=amounts)
    def unstake(self, who: Any, amount: int) -> None:
        if amount:
            self.both(lambda: self.protocol.unstake(who.address, amount), who.address, "StakeManager",
                      "requestUnstake", [int(Role.REVIEWER), amount])  # fmt: skip

    @rule(who=reviewers)
    def withdraw_stake(self, who: Any) -> None:
        self.both(lambda: self.protocol.withdraw_stake(who.address), who.address, "StakeManager", "withdraw",
                  [int(Role.REVIEWER)])  # fmt: skip

    @rule(number=numbers)
    def open_review(self, number: int) -> None:
        self._clock(2)
        block = self.protocol.contributions[number - 1].draw_block
        block_hash = self.world.block_hash(block)
        self.both(lambda: self.protocol.open_review(number, block_hash), OWNER.address, "DatanetRegistry",
                  "openReview", [number])  # fmt: skip

    @rule(number=numbers, who=reviewers, verdict=sets)
    def commit(self, number: int, who: Any, verdict: frozenset[int]) -> None:
        self._commit(number, who.address, verdict)

    @rule(number=numbers, verdicts=st.lists(sets, min_size=1, max_size=3), shown=st.integers(0, 9))
    def vote(self, number: int, verdicts: list[frozenset[int]], shown: int) -> None:
        """All jurors of the round commit, most reveal, and the round ends."""
        entry = self.protocol.contributions[number - 1]
        if entry.state not in ("in review", "in appeal"):
            self.open_review(number)
        seats = list(entry.seats)
        for place, seat in enumerate(seats):
            self._commit(number, seat, verdicts[place % len(verdicts)])
        for place, seat in enumerate(seats):
            if place != shown:
                self._reveal(number, seat, verdicts[place % len(verdicts)])
        if shown < len(seats):
            self._clock(7_200)
        self.end_round(number)

    @rule(number=numbers, verdicts=st.lists(sets, min_size=1, max_size=3), records=sets, defended=st.booleans())
    def appeal(self, number: int, verdicts: list[frozenset[int]], records: frozenset[int], defended: bool) -> None:
        """A decision, a challenge of it, a larger jury, and what both sides get."""
        for _ in range(2):  # the second time for those who join where the first ones disagree
            if self.protocol.contributions[number - 1].state in ("submitted", "disagreed"):
                self.vote(number, verdicts, 9)
        self.challenge(number, PEOPLE[0], records)
        if defended:
            self.defend(number, 1, PEOPLE[1])
        self._clock(2 * 86_400)
        self.open_review(number)
        self.vote(number, verdicts[::-1], 9)
        self.finalise(number)
        self.settle_challenge(number, 1)

    @rule(number=numbers)
    def end_round(self, number: int) -> None:
        self.both(lambda: self.protocol.end_round(number), OWNER.address, "DatanetRegistry", "endRound", [number])

    @rule(number=numbers, who=people, records=sets)
    def challenge(self, number: int, who: Any, records: frozenset[int]) -> None:
        self.both(lambda: self.protocol.challenge(number, who.address, records), who.address, "ReviewAppeals",
                  "challenge", [number, bits(records)], len(records) * CHALLENGE_BOND)  # fmt: skip

    @rule(number=numbers, index=st.integers(1, 2), who=people)
    def defend(self, number: int, index: int, who: Any) -> None:
        disputes = self.protocol.contributions[number - 1].challenges
        bond = len(disputes[index - 1].records) * CHALLENGE_BOND if index <= len(disputes) else 0
        self.both(lambda: self.protocol.defend(number, index, who.address), who.address, "ReviewAppeals", "defend",
                  [number, index], bond)  # fmt: skip

    @rule(number=numbers)
    def finalise(self, number: int) -> None:
        self.both(lambda: self.protocol.finalise(number), OWNER.address, "DatanetRegistry", "finalise", [number])

    @rule(number=numbers, index=st.integers(1, 2))
    def settle_challenge(self, number: int, index: int) -> None:
        self.both(lambda: self.protocol.settle_challenge(number, index), OWNER.address, "ReviewAppeals",
                  "settleChallenge", [number, index])  # fmt: skip

    def _commit(self, number: int, who: str, verdict: frozenset[int]) -> None:
        sealed = keccak(encode(["uint256", "address", "bytes", "bytes32"], [number, who, bits(verdict), SALT]))
        self.both(lambda: self.protocol.commit(number, who, verdict), who, "DatanetRegistry", "commitVerdict",
                  [number, sealed])  # fmt: skip

    def _reveal(self, number: int, who: str, verdict: frozenset[int]) -> None:
        self.both(lambda: self.protocol.reveal(number, who, verdict), who, "DatanetRegistry", "revealVerdict",
                  [number, bits(verdict), SALT])  # fmt: skip

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        for account in self.accounts:
            assert self.world.balance(account) == RICH + self.protocol.earned[account], account
        assert self.world.balance(self.world.treasury) == self.protocol.earned["treasury"]

    @invariant()
    def contracts_hold_what_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        world, model = self.world, self.protocol
        staked = sum(model.staked.values()) + sum(amount for amount, _ in model.leaving.values())
        assert world.balance(world.at["StakeManager"]) == staked
        for wallet in REVIEWERS:
            stake = world.read("StakeManager", "stakeOf", int(Role.REVIEWER), wallet.address)
            assert stake == model.staked[wallet.address]

    @invariant()
    def reviews_stand_where_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        for number, entry in enumerate(self.protocol.contributions, start=1):
            jurors = self.world.read("DatanetRegistry", "jury", number)
            assert [juror.lower() for juror in jurors] == [juror.lower() for juror in entry.jurors]
            accepted = self.world.read("DatanetRegistry", "acceptedBitmap", number)
            assert accepted == (bits(entry.accepted) if entry.first_jury else b"")


Agreement.TestCase.settings = settings(max_examples=RUNS, stateful_step_count=20, deadline=None)
TestAgreement = Agreement.TestCase
