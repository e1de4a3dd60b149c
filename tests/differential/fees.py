"""Fees in plain Python, without a chain: deposits, session keys and vouchers on one side, payout roots and claims on the other.

Written from docs/contracts.md, with dictionaries where the contracts have proofs and packed words. Amounts are wei, times
seconds. A refused step raises :class:`Refused` with the name of the contract's error, before anything changes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.differential.steps import need

WITHDRAWAL = PAYOUT_DELAY = 3_600
NOBODY = "0x" + "00" * 20


@dataclass
class SessionKey:
    """What a key may sign for, and until when."""

    cap: int = 0
    spent: int = 0
    expiry: int = 0


@dataclass
class Root:
    """A payout root: what each account has earned since the beginning, and what the root promises in all."""

    earnings: dict[str, int]
    total: int
    last_batch: int
    ready: int
    attested: set[str] = field(default_factory=set)
    disabled: bool = False


@dataclass(frozen=True)
class Hold:
    """Keeps roots from activation that count in ``batch``."""

    first: int
    last: int
    batch: int


class Fees:
    """The whole state. ``earned`` counts wei paid out of the contracts, less wei paid in, by account.

    Args:
        validators: weight of each validator.
        settler, guardian, court: who may propose, disable, and hold.
    """

    def __init__(self, validators: dict[str, int], settler: str, guardian: str, court: str) -> None:
        self.validators = validators
        self.settler, self.guardian, self.court = settler, guardian, court
        self.now = 0
        self.earned: defaultdict[str, int] = defaultdict(int)
        self.deposits: defaultdict[str, int] = defaultdict(int)
        self.redeemed: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.withdrawals: dict[str, tuple[int, int]] = {}
        self.keys: dict[tuple[str, str], SessionKey] = {}
        self.collected = 0
        self.claimed: defaultdict[str, int] = defaultdict(int)
        self.roots: list[Root] = []
        self.active = self.newest = 0
        self.settled_total = self.settled_batch = 0
        self.holds: dict[int, Hold] = {}
        self.hold_count = 0
        self.successors: dict[str, str] = {}
        self.claimers: dict[str, str] = {}
        self.nonces: defaultdict[str, int] = defaultdict(int)

    # ---- escrow ----------------------------------------------------------------------------------------------

    def deposit(self, payer: str, consumer: str, amount: int) -> None:
        need(amount > 0, "AmountIsZero")
        self.deposits[consumer] += amount
        self.earned[payer] -= amount

    def set_session_key(self, who: str, key: str, cap: int, expiry: int) -> None:
        need(cap > 0, "AmountIsZero")
        need(expiry > self.now, "ExpiryInPast")
        known = self.keys.get((who, key), SessionKey())
        need(cap >= known.cap and expiry >= known.expiry, "SessionKeyCannotShrink")
        self.keys[who, key] = SessionKey(cap, known.spent, expiry)

    def revoke_session_key(self, who: str, key: str) -> None:
        need((who, key) in self.keys, "UnknownSessionKey")
        known = self.keys[who, key]
        known.expiry = min(known.expiry, self.now + WITHDRAWAL)

    def redeem(self, signer: str, who: str, host: str, cumulative: int) -> None:
        amount = cumulative - self.redeemed[who, host]
        need(amount > 0, "VoucherNotHigher")
        need(amount <= self.deposits[who], "InsufficientDeposit")
        key = self.keys.get((who, signer))
        if signer != who:
            need(key is not None, "VoucherSignerNotAuthorised")
            assert key is not None
            need(self.now <= key.expiry, "SessionKeyExpired")
            need(key.spent + amount <= key.cap, "SessionKeyCapExceeded")
            key.spent += amount
        self.deposits[who] -= amount
        self.redeemed[who, host] = cumulative
        self.collected += amount

    def request_withdrawal(self, who: str, amount: int) -> None:
        need(amount > 0, "AmountIsZero")
        need(amount <= self.deposits[who], "InsufficientDeposit")
        self.withdrawals[who] = (amount, self.now + WITHDRAWAL)

    def withdraw(self, who: str) -> None:
        amount, release = self.withdrawals.get(who, (0, 0))
        need(amount > 0, "NoWithdrawalRequested")
        need(self.now >= release, "WithdrawalNotReady")
        paid = min(amount, self.deposits[who])
        del self.withdrawals[who]
        self.deposits[who] -= paid
        self.earned[who] += paid

    # ---- payout roots ----------------------------------------------------------------------------------------

    def propose(self, sender: str, earnings: dict[str, int], total: int, last_batch: int) -> None:
        need(sender == self.settler, "AccessManagedUnauthorized")
        self._check_totals(total, last_batch)
        self.roots.append(Root(earnings, total, last_batch, self.now + PAYOUT_DELAY))

    def attest(self, who: str, number: int) -> None:
        root = self._enabled(number)
        need(who not in root.attested, "AlreadyAttested")
        need(who in self.validators, "ValidatorNotActive")
        root.attested.add(who)

    def activate(self, number: int) -> None:
        root = self._enabled(number)
        need(number > self.newest, "RootSuperseded")
        need(self._matured(root), "RootNotReady")
        need(not self.is_held(number), "RootIsHeld")
        self._check_totals(root.total, root.last_batch)
        self.active = self.newest = number
        self.settled_total, self.settled_batch = root.total, root.last_batch

    def disable(self, sender: str, number: int) -> None:
        need(sender == self.guardian, "AccessManagedUnauthorized")
        self._enabled(number).disabled = True
        if number == self.active:
            self.active, self.settled_total, self.settled_batch = 0, self.paid, 0

    def is_ready(self, number: int) -> bool:
        """Whether the root could be activated now."""
        root = self.roots[number - 1]
        fits = self._least <= root.total and self.settled_batch <= root.last_batch
        return not root.disabled and number > self.newest and self._matured(root) and fits and not self.is_held(number)

    def is_held(self, number: int) -> bool:
        """Whether a hold keeps the root."""
        batch = self.roots[number - 1].last_batch
        return any(hold.first <= number <= hold.last and batch >= hold.batch for hold in self.holds.values())

    def hold(self, sender: str, batch: int) -> None:
        need(sender == self.court, "AccessManagedUnauthorized")
        if self.newest < len(self.roots):
            self._hold(Hold(self.newest + 1, len(self.roots), batch))

    def hold_root(self, sender: str, number: int) -> None:
        need(sender == self.court, "AccessManagedUnauthorized")
        self._enabled(number)
        need(number > self.newest, "RootSuperseded")
        self._hold(Hold(number, number, 0))

    def release(self, sender: str, number: int) -> None:
        need(sender == self.court, "AccessManagedUnauthorized")
        self.holds.pop(number, None)

    def strike(self, sender: str, number: int) -> None:
        need(sender == self.court, "AccessManagedUnauthorized")
        hold = self.holds.pop(number)
        for root in self.roots[hold.first - 1 : hold.last]:
            root.disabled = root.disabled or root.last_batch >= hold.batch

    # ---- claims ----------------------------------------------------------------------------------------------

    def claim(self, sender: str, account: str, cumulative: int) -> None:
        claimer, holder = self.claimers.get(account, NOBODY), self.holder(account)
        need(claimer == NOBODY or sender in (claimer, holder), "NotClaimer")
        self._claim(account, holder, cumulative)

    def claim_to(self, sender: str, account: str, to: str, cumulative: int) -> None:
        need(sender in (self.holder(account), self.claimers.get(account, NOBODY)), "NotClaimer")
        self._claim(account, to, cumulative)

    def set_claimer(self, sender: str, account: str, claimer: str) -> None:
        need(sender == self.holder(account), "NotHolder")
        self.claimers[account] = claimer

    def rotate(self, successor: str, account: str, signer: str, nonce: int, deadline: int) -> None:
        need(self.now <= deadline, "LinkExpired")
        need(account not in self.successors, "AlreadyRotated")
        need(successor != account and successor not in self.successors, "InvalidSuccessor")
        need(signer == account and nonce == self.nonces[account], "InvalidLinkSignature")
        self.nonces[account] += 1
        self.successors[account] = successor
        self.claimers.pop(account, None)

    def cancel_links(self, who: str) -> None:
        self.nonces[who] += 1

    def holder(self, account: str) -> str:
        """The last of an account's successors, or itself."""
        while account in self.successors:
            account = self.successors[account]
        return account

    @property
    def paid(self) -> int:
        """Wei claimed by all."""
        return sum(self.claimed.values())

    @property
    def _least(self) -> int:
        return max(self.settled_total, self.paid)

    def _claim(self, account: str, to: str, cumulative: int) -> None:
        need(self.active > 0, "NoActiveRoot")
        root = self.roots[self.active - 1]
        need(root.earnings.get(account) == cumulative, "InvalidProof")
        amount = cumulative - self.claimed[account]
        need(amount > 0, "NothingToClaim")
        need(amount <= root.total - self.paid, "RootOverdrawn")
        self.claimed[account] = cumulative
        self.earned[to] += amount

    def _enabled(self, number: int) -> Root:
        need(1 <= number <= len(self.roots), "UnknownRoot")
        root = self.roots[number - 1]
        need(not root.disabled, "RootIsDisabled")
        return root

    def _matured(self, root: Root) -> bool:
        weight = sum(self.validators[who] for who in root.attested)
        return self.now >= root.ready or (weight > 0 and 3 * weight >= 2 * sum(self.validators.values()))

    def _check_totals(self, total: int, last_batch: int) -> None:
        need(self._least <= total <= self.collected, "TotalOutOfBounds")
        need(last_batch >= self.settled_batch, "LastBatchDecreases")

    def _hold(self, hold: Hold) -> None:
        self.hold_count += 1
        self.holds[self.hold_count] = hold
