"""FeeEscrow and RewardsDistributor, and a plain model of fees, take the same random steps and agree after each one.

``OPENLEDGER_DIFFERENTIAL`` is the number of runs: a few in ``make test``, many in ``make contracts-differential``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from openledger.chain import Role
from openledger.primitives import Domain, MerkleTree, Voucher, WalletLink, sign, standard_leaf
from tests.differential.evm import RICH, World, person
from tests.differential.fees import NOBODY, Fees
from tests.differential.steps import agree

RUNS = int(os.environ.get("OPENLEDGER_DIFFERENTIAL", "2"))
OPEN = 10**18
PEOPLE = [person(name) for name in ("alice", "bob", "carol")]
KEYS = [person(name) for name in ("first key", "second key")]
HOSTS = [person(name).address for name in ("first host", "second host")]
VALIDATORS = {person(f"validator {n}").address: n * 5_000 * OPEN for n in (1, 2, 3)}
SETTLER, GUARDIAN, COURT = (person(name).address for name in ("settler", "guardian", "court"))
EMPTY = bytes(32)

people = st.sampled_from(PEOPLE)
keys = st.sampled_from(KEYS)
signers = st.sampled_from([*PEOPLE, *KEYS])
hosts = st.sampled_from(HOSTS)
amounts = st.integers(0, 30).map(lambda tenths: tenths * OPEN // 10)
backwards = st.integers(-1, 3)  # from the newest root, or hold; -1 is one that there is not yet
batches = st.integers(0, 3)
weights = st.lists(st.integers(0, 5), min_size=3, max_size=3)


class Agreement(RuleBasedStateMachine):
    """Both worlds, and the steps that anybody may try in them at any time."""

    @initialize(cap=amounts, shares=weights)
    def begin(self, cap: int, shares: list[int]) -> None:
        """Every run begins with fees paid by a session key, a root over them that was attested, and one claim."""
        self.world = World()
        self.fees = Fees(VALIDATORS, SETTLER, GUARDIAN, COURT)
        self.accounts = [wallet.address for wallet in [*PEOPLE, *KEYS]]
        for account in [*self.accounts, *VALIDATORS]:
            self.world.evm.set_balance(account, RICH)
        for name, functions, account in (
            ("settler", ["proposeRoot"], SETTLER),
            ("guardian", ["disable"], GUARDIAN),
            ("court", ["hold", "holdRoot", "release", "strike"], COURT),
        ):
            self.world.allow("RewardsDistributor", functions, account, {"settler": 2, "guardian": 3, "court": 4}[name])
        for validator, stake in VALIDATORS.items():
            self.world.send(validator, "StakeManager", "stake", [int(Role.VALIDATOR)], stake)
        self.wait(2)
        self.deposit(PEOPLE[0], PEOPLE[0], 3 * OPEN)
        self.set_key(PEOPLE[0], KEYS[0], cap, 86_400)
        self.redeem(KEYS[0], PEOPLE[0], HOSTS[0], OPEN)
        self.redeem(PEOPLE[0], PEOPLE[0], HOSTS[1], OPEN)
        self.propose(False, shares, 10, 0, 1)
        self.wait(2)
        for validator in sorted(VALIDATORS, key=lambda who: -VALIDATORS[who])[:2]:
            self.attest(validator, 0)
        self.activate(0)
        self.claim(PEOPLE[0], PEOPLE[0], True)

    def both(self, step: Callable[[], object], sender: str, function: str, given: list[Any], value: int = 0) -> None:
        escrow = {"deposit", "setSessionKey", "revokeSessionKey", "redeem", "requestWithdrawal", "withdraw"}
        contract = "FeeEscrow" if function in escrow else "RewardsDistributor"
        agree(self.world, step, sender, contract, function, given, value)

    @rule(seconds=st.sampled_from([2, 1_800, 3_600, 86_400]))
    def wait(self, seconds: int) -> None:
        self.world.step(seconds)
        self.fees.now = self.world.time

    # ---- escrow ----------------------------------------------------------------------------------------------

    @rule(payer=people, who=people, amount=amounts)
    def deposit(self, payer: Any, who: Any, amount: int) -> None:
        self.both(lambda: self.fees.deposit(payer.address, who.address, amount), payer.address, "deposit",
                  [who.address], amount)  # fmt: skip

    @rule(who=people, key=keys, cap=amounts, seconds=st.sampled_from([-1, 0, 1, 3_600, 86_400]))
    def set_key(self, who: Any, key: Any, cap: int, seconds: int) -> None:
        expiry = self.fees.now + seconds
        self.both(lambda: self.fees.set_session_key(who.address, key.address, cap, expiry), who.address,
                  "setSessionKey", [key.address, cap, expiry])  # fmt: skip

    @rule(who=people, key=keys)
    def revoke_key(self, who: Any, key: Any) -> None:
        self.both(lambda: self.fees.revoke_session_key(who.address, key.address), who.address, "revokeSessionKey",
                  [key.address])  # fmt: skip

    @rule(signer=signers, who=people, host=hosts, cumulative=amounts)
    def redeem(self, signer: Any, who: Any, host: str, cumulative: int) -> None:
        voucher = Voucher(who.address, host, cumulative)
        signature = sign(voucher, self._domain("FeeEscrow"), signer)
        self.both(lambda: self.fees.redeem(signer.address, who.address, host, cumulative), host, "redeem",
                  [voucher.as_tuple(), signature])  # fmt: skip

    @rule(who=people, key=keys, host=hosts, more=amounts)
    def spend(self, who: Any, key: Any, host: str, more: int) -> None:
        """A key signs for more, as a host that meters answers lets it."""
        self.redeem(key, who, host, self.fees.redeemed[who.address, host] + more)

    @rule(who=people, key=keys, amount=amounts, seconds=st.sampled_from([1_800, 3_600, 86_400]))
    def end_key(self, who: Any, key: Any, amount: int, seconds: int) -> None:
        """A revoked key is good until the delay is over."""
        self.set_key(who, key, amount, 86_400)
        self.revoke_key(who, key)
        self.wait(seconds)
        self.spend(who, key, HOSTS[1], OPEN // 10)
        self.wait(1)
        self.spend(who, key, HOSTS[1], OPEN // 10)

    @rule(who=people, amount=amounts)
    def request_withdrawal(self, who: Any, amount: int) -> None:
        self.both(lambda: self.fees.request_withdrawal(who.address, amount), who.address, "requestWithdrawal",
                  [amount])  # fmt: skip

    @rule(who=people)
    def withdraw(self, who: Any) -> None:
        self.both(lambda: self.fees.withdraw(who.address), who.address, "withdraw", [])

    @rule(who=people, amount=amounts, seconds=st.sampled_from([2, 3_600]))
    def leave(self, who: Any, amount: int, seconds: int) -> None:
        """Asks for money back, and for more of it than is there by then if a host is quick."""
        self.deposit(who, who, amount + OPEN)
        self.request_withdrawal(who, amount)
        self.spend(who, who, HOSTS[0], OPEN)
        self.wait(seconds)
        self.withdraw(who)

    # ---- payout roots ----------------------------------------------------------------------------------------

    @rule(stranger=st.booleans(), shares=weights, tenths=st.integers(0, 11), lie=amounts, batch=batches)
    def propose(self, stranger: bool, shares: list[int], tenths: int, lie: int, batch: int) -> None:
        """A root over a part of what was collected; ``lie`` is what it promises everybody beyond its total."""
        total = self.fees.collected * tenths // 10
        whole = sum(shares) or 1
        earnings = {who.address: total * share // whole + lie for who, share in zip(PEOPLE, shares, strict=True)}
        sender = PEOPLE[2].address if stranger else SETTLER
        self.both(lambda: self.fees.propose(sender, earnings, total, batch), sender, "proposeRoot",
                  [_tree(earnings).root, total, batch, EMPTY])  # fmt: skip

    @rule(who=st.sampled_from([*VALIDATORS, HOSTS[0]]), back=backwards)
    def attest(self, who: str, back: int) -> None:
        number = self._root(back)
        if number <= len(self.fees.roots):
            self.wait(2)  # weights count as they stood when the block of the proposal was over
        self.both(lambda: self.fees.attest(who, number), who, "attestRoot", [number])

    @rule(back=backwards)
    def activate(self, back: int) -> None:
        number = self._root(back)
        self.both(lambda: self.fees.activate(number), HOSTS[0], "activate", [number])

    @rule(shares=weights, batch=batches, who=people)
    def settle(self, shares: list[int], batch: int, who: Any) -> None:
        """An honest root over everything, its delay, and a claim under it."""
        self.propose(False, shares, 10, 0, batch)
        self.wait(3_600)
        self.activate(0)
        self.claim(who, who, True)

    @rule(sender=st.sampled_from([GUARDIAN, SETTLER]), back=backwards)
    def disable(self, sender: str, back: int) -> None:
        number = self._root(back)
        self.both(lambda: self.fees.disable(sender, number), sender, "disable", [number])

    @rule(sender=st.sampled_from([COURT, COURT, GUARDIAN]), batch=batches)
    def hold(self, sender: str, batch: int) -> None:
        self.both(lambda: self.fees.hold(sender, batch), sender, "hold", [batch])

    @rule(back=backwards)
    def hold_root(self, back: int) -> None:
        number = self._root(back)
        self.both(lambda: self.fees.hold_root(COURT, number), COURT, "holdRoot", [number])

    @rule(back=backwards, strike=st.booleans())
    def end_hold(self, back: int, strike: bool) -> None:
        number = max(0, self.fees.hold_count - back)
        if strike and number in self.fees.holds:
            self.both(lambda: self.fees.strike(COURT, number), COURT, "strike", [number])
        else:
            self.both(lambda: self.fees.release(COURT, number), COURT, "release", [number])

    @rule(shares=weights, batch=batches, held=batches, single=st.booleans(), strike=st.booleans())
    def contest(self, shares: list[int], batch: int, held: int, single: bool, strike: bool) -> None:
        """A root that the court keeps while its delay runs out, and then lets go or strikes."""
        self.propose(False, shares, 10, 0, batch)
        self.activate(0)
        if single:
            self.hold_root(0)
        else:
            self.hold(COURT, held)
        self.wait(3_600)
        self.activate(0)
        self.end_hold(0, strike)
        self.activate(0)
        self.disable(GUARDIAN, 0)
        self.claim(PEOPLE[1], PEOPLE[1], True)

    # ---- claims ----------------------------------------------------------------------------------------------

    @rule(sender=signers, who=people, honest=st.sampled_from([True, True, True, False]))
    def claim(self, sender: Any, who: Any, honest: bool) -> None:
        cumulative, proof = self._proof(who.address, honest)
        self.both(lambda: self.fees.claim(sender.address, who.address, cumulative), sender.address, "claim",
                  [who.address, cumulative, proof])  # fmt: skip

    @rule(sender=signers, own=st.booleans(), who=people, to=signers)
    def claim_to(self, sender: Any, own: bool, who: Any, to: Any) -> None:
        cumulative, proof = self._proof(who.address, True)
        if own:
            sender = next(wallet for wallet in [*PEOPLE, *KEYS] if wallet.address == self.fees.holder(who.address))
        self.both(lambda: self.fees.claim_to(sender.address, who.address, to.address, cumulative), sender.address,
                  "claimTo", [who.address, to.address, cumulative, proof])  # fmt: skip

    @rule(sender=signers, who=people, claimer=st.sampled_from([NOBODY, KEYS[0].address, KEYS[1].address]))
    def set_claimer(self, sender: Any, who: Any, claimer: str) -> None:
        self.both(lambda: self.fees.set_claimer(sender.address, who.address, claimer), sender.address, "setClaimer",
                  [who.address, claimer])  # fmt: skip

    @rule(who=people, successor=signers, forged=st.booleans(), used=st.booleans(), seconds=st.sampled_from([-1, 0, 60]))
    def rotate(self, who: Any, successor: Any, forged: bool, used: bool, seconds: int) -> None:
        signer = successor if forged else who
        nonce, deadline = self.fees.nonces[who.address] + used, self.fees.now + seconds
        link = WalletLink(who.address, successor.address, nonce, deadline)
        signature = sign(link, self._domain("RewardsDistributor"), signer)
        self.both(
            lambda: self.fees.rotate(successor.address, who.address, signer.address, nonce, deadline),
            successor.address, "rotate", [who.address, deadline, signature],
        )  # fmt: skip

    @rule(who=people)
    def cancel_links(self, who: Any) -> None:
        self.both(lambda: self.fees.cancel_links(who.address), who.address, "cancelLinks", [])

    def _root(self, back: int) -> int:
        return max(0, len(self.fees.roots) - back)

    def _domain(self, contract: str) -> Domain:
        return Domain(self.world.chain_id, self.world.at[contract])

    def _proof(self, account: str, honest: bool) -> tuple[int, list[bytes]]:
        """What the active root says that an account has earned, or a wei more, with the proof of the former."""
        if not self.fees.active:
            return 1, []
        earnings = self.fees.roots[self.fees.active - 1].earnings
        return earnings[account] + (not honest), _tree(earnings).proof(list(earnings).index(account))

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        for account in self.accounts:
            assert self.world.balance(account) == RICH + self.fees.earned[account], account

    @invariant()
    def contracts_hold_what_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        world, fees = self.world, self.fees
        assert world.balance(world.at["FeeEscrow"]) == sum(fees.deposits.values())
        assert world.balance(world.at["RewardsDistributor"]) == fees.collected - fees.paid
        assert world.read("RewardsDistributor", "totalCollected") == fees.collected
        assert world.read("RewardsDistributor", "totalClaimed") == fees.paid
        for (who, key), known in fees.keys.items():
            assert world.read("FeeEscrow", "sessionKey", who, key) == (known.cap, known.spent, known.expiry)
            assert known.spent <= known.cap

    @invariant()
    def roots_and_wallets_stand_where_the_model_says(self) -> None:
        if not hasattr(self, "world"):
            return
        world, fees = self.world, self.fees
        assert world.read("RewardsDistributor", "activeRootId") == fees.active
        assert world.read("RewardsDistributor", "lastActivated") == fees.newest
        assert world.read("RewardsDistributor", "rootCount") == len(fees.roots)
        for number in range(1, len(fees.roots) + 1):
            assert world.read("RewardsDistributor", "isHeld", number) == fees.is_held(number)
            assert world.read("RewardsDistributor", "isReady", number) == fees.is_ready(number)
        for wallet in PEOPLE:
            holder = world.read("RewardsDistributor", "holderOf", wallet.address)
            assert holder.lower() == fees.holder(wallet.address).lower()


def _tree(earnings: dict[str, int]) -> MerkleTree:
    return MerkleTree([standard_leaf(["address", "uint256"], pair) for pair in earnings.items()])


Agreement.TestCase.settings = settings(max_examples=RUNS, stateful_step_count=40, deadline=None)
TestAgreement = Agreement.TestCase
