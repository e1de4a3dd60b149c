"""``FeeEscrow`` on chain: deposits, session keys, redemption.

The rules of vouchers are in :mod:`openledger.settlement.vouchers`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD

from openledger.chain import Chain
from openledger.settlement.vouchers import SessionKey, SignedVoucher

ESCROW = "FeeEscrow"


class ChainEscrow:
    """An :class:`~openledger.settlement.vouchers.Escrow` read from the chain.

    Args:
        chain: with its deployment.
        keep: seconds for which an answer is used again. A host that keeps answers for a while takes the small risk that
            a deposit was drawn on by another host meanwhile.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, chain: Chain, *, keep: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._chain = chain
        self._functions = chain.contract(ESCROW).functions
        self._keep = keep
        self._clock = clock
        self._answers: dict[tuple[str, ...], tuple[float, tuple[int, ...]]] = {}

    def deposit_of(self, consumer: str) -> int:
        """Wei that the consumer has in escrow and has not asked back."""
        (amount,) = self._ask("deposit", consumer)
        return amount

    def redeemed(self, consumer: str, host: str) -> int:
        """Wei that the host has collected of the consumer so far."""
        (amount,) = self._ask("redeemed", consumer, host)
        return amount

    def session_key(self, consumer: str, key: str) -> SessionKey:
        """What ``key`` may spend for ``consumer``; a cap of 0 if it was never set."""
        return SessionKey(*self._ask("session", consumer, key))

    def forget(self) -> None:
        """Asks the chain anew from now on, after a redemption for example."""
        self._answers.clear()

    def _ask(self, *question: str) -> tuple[int, ...]:
        known = self._answers.get(question)
        if known is not None and self._clock() - known[0] < self._keep:
            return known[1]
        answer = self._read(*question)
        if self._keep:
            self._answers[question] = (self._clock(), answer)
        return answer

    def _read(self, kind: str, *accounts: str) -> tuple[int, ...]:
        call, functions = self._chain.call, self._functions
        if kind == "deposit":
            asked_back, _ = call(functions.pendingWithdrawal(*accounts))
            return (max(0, int(call(functions.depositOf(*accounts))) - int(asked_back)),)
        if kind == "redeemed":
            return (int(call(functions.redeemed(*accounts))),)
        return tuple(map(int, call(functions.sessionKey(*accounts))))


def deposit(chain: Chain, wallet: LocalAccount, amount: int, *, consumer: str | None = None) -> None:
    """Adds ``amount`` wei to the deposit of ``consumer`` (the wallet's own by default)."""
    chain.send(wallet, chain.contract(ESCROW).functions.deposit(consumer or wallet.address), value=amount)


def set_session_key(chain: Chain, wallet: LocalAccount, key: str, cap: int, expiry: int) -> None:
    """Lets ``key`` sign the wallet's vouchers up to ``cap`` wei over its life, through the Unix second ``expiry``.

    Raises:
        RevertError: ``SessionKeyCannotShrink``, ``ExpiryInPast``.
    """
    chain.send(wallet, chain.contract(ESCROW).functions.setSessionKey(key, cap, expiry))


def revoke_session_key(chain: Chain, wallet: LocalAccount, key: str) -> None:
    """Ends a session key after the withdrawal delay, so that hosts can redeem what they have served."""
    chain.send(wallet, chain.contract(ESCROW).functions.revokeSessionKey(key))


def request_withdrawal(chain: Chain, wallet: LocalAccount, amount: int) -> int:
    """Asks ``amount`` wei of the wallet's deposit back; returns the Unix second from which it can be withdrawn."""
    escrow = chain.contract(ESCROW)
    receipt = chain.send(wallet, escrow.functions.requestWithdrawal(amount))
    return int(escrow.events.WithdrawalRequested().process_receipt(receipt, errors=DISCARD)[0]["args"]["releaseTime"])


def withdraw(chain: Chain, wallet: LocalAccount) -> int:
    """Pays the requested withdrawal out; returns wei.

    Raises:
        RevertError: ``WithdrawalNotReady``, ``NoWithdrawalRequested``.
    """
    escrow = chain.contract(ESCROW)
    receipt = chain.send(wallet, escrow.functions.withdraw())
    return int(escrow.events.Withdrawn().process_receipt(receipt, errors=DISCARD)[0]["args"]["amount"])


def redeem(chain: Chain, wallet: LocalAccount, signed: SignedVoucher) -> int:
    """Moves what a voucher adds to the distributor; returns wei. Anyone may send it.

    Raises:
        RevertError: ``VoucherNotHigher``, ``InsufficientDeposit``, ``SessionKeyExpired``, ``SessionKeyCapExceeded``,
            ``VoucherSignerNotAuthorised``.
    """
    escrow = chain.contract(ESCROW)
    receipt = chain.send(wallet, escrow.functions.redeem(signed.voucher.as_tuple(), signed.signature))
    return int(escrow.events.VoucherRedeemed().process_receipt(receipt, errors=DISCARD)[0]["args"]["amount"])
