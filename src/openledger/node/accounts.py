"""The accounts whose keys this node holds: making them, sending OPEN, and staking in a role."""

from __future__ import annotations

from collections.abc import Callable

from eth_utils.address import is_address, to_checksum_address

from openledger.chain import Chain, KeyStore, Role
from openledger.node import views
from openledger.primitives import InputError

_STAKES = "StakeManager"


class Accounts:
    """Acts with this node's accounts, each named by its name in the key store or by its address.

    Args:
        chain: with its deployment.
        keys: the accounts.
        party: names an account.
    """

    def __init__(self, chain: Chain, keys: KeyStore, party: Callable[[str], views.Party]) -> None:
        self._chain = chain
        self._keys = keys
        self._party = party

    def create(self, name: str) -> str:
        """The address of the account of that name, made if there is none."""
        return self._keys.wallet(name).address

    def send(self, account: str, to: str, amount: int) -> int:
        """Sends ``amount`` wei to an account's name or to any address; returns the receiver's balance in wei.

        Raises:
            InputError: the amount is not positive, or the receiver is no address.
            ChainError: the account cannot pay.
        """
        if amount <= 0:
            raise InputError(f"{amount} wei cannot be sent; the amount must be positive")
        receiver = to_checksum_address(to) if is_address(to) else self._keys.address(to)
        self._chain.transfer(self._keys.find(account), receiver, amount)
        return self._chain.balance(receiver)

    def stake(self, account: str, role: str, amount: int) -> views.StakeRow:
        """Adds ``amount`` wei to an account's stake in a role.

        Raises:
            InputError: there is no such role.
            RevertError: ``StakeBelowMinimum``.
        """
        call = self._chain.contract(_STAKES).functions.stake(int(read_role(role)))
        self._chain.send(self._keys.find(account), call, value=amount)
        return self.stake_of(account, role)

    def unstake(self, account: str, role: str, amount: int) -> views.StakeRow:
        """Asks ``amount`` wei of a stake back; it can be withdrawn after the unbonding time and be slashed until then."""
        call = self._chain.contract(_STAKES).functions.requestUnstake(int(read_role(role)), amount)
        self._chain.send(self._keys.find(account), call)
        return self.stake_of(account, role)

    def withdraw(self, account: str, role: str) -> views.StakeRow:
        """Pays out what was asked back.

        Raises:
            RevertError: ``StillUnbonding``, ``NothingToWithdraw``.
        """
        call = self._chain.contract(_STAKES).functions.withdraw(int(read_role(role)))
        self._chain.send(self._keys.find(account), call)
        return self.stake_of(account, role)

    def stake_of(self, account: str, role: str) -> views.StakeRow:
        """What an account has staked in a role."""
        functions, number = self._chain.contract(_STAKES).functions, int(read_role(role))
        address = to_checksum_address(account) if is_address(account) else self._keys.address(account)
        leaving, release = self._chain.call(functions.unbondingOf(number, address))
        return views.StakeRow(
            account=self._party(address),
            role=role,
            staked=int(self._chain.call(functions.stakeOf(number, address))),
            leaving=int(leaving),
            release=int(release),
            active=bool(self._chain.call(functions.isActive(number, address))),
        )


def read_role(name: str) -> Role:
    """A role by its name in small letters.

    Raises:
        InputError: there is no such role.
    """
    try:
        return Role[name.upper()]
    except KeyError:
        known = ", ".join(role.name.lower() for role in Role)
        raise InputError(f"{name!r} is no role; there are {known}") from None
