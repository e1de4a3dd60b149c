"""The community's bootstrap distribution: a list of accounts and amounts under one Merkle root, claimed until a deadline.

The list is public and can be a CSV file with the columns ``address`` and ``amount``, or a JSON array of ``[address, amount]``;
amounts are decimal OPEN. ``CommunityDistributor`` pays each account once, and the remainder goes back afterwards.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, is_checksum_address, to_checksum_address
from web3.logs import DISCARD

from openledger.chain import Chain
from openledger.primitives import (
    InputError,
    MerkleTree,
    NotFoundError,
    format_open,
    parse_json,
    parse_open,
    standard_leaf,
)

DISTRIBUTOR = "CommunityDistributor"


@dataclass(frozen=True)
class Bootstrap:
    """The list: (checksummed address, wei), ascending by address; and the length of the time for claims in seconds."""

    grants: tuple[tuple[str, int], ...]
    seconds: int

    @cached_property
    def _tree(self) -> MerkleTree:
        return MerkleTree([standard_leaf(["address", "uint256"], grant) for grant in self.grants])

    @property
    def root(self) -> bytes:
        """32 bytes, the root that the contract holds."""
        return self._tree.root

    @property
    def total(self) -> int:
        """Wei of all grants together."""
        return sum(amount for _, amount in self.grants)

    def amount(self, account: str) -> int:
        """Wei that the list gives an account; 0 if it is not on it."""
        return next((amount for holder, amount in self.grants if holder.lower() == account.lower()), 0)

    def proof(self, account: str) -> list[bytes]:
        """The Merkle proof of an account's grant.

        Raises:
            NotFoundError: the account is not on the list.
        """
        for position, (holder, _) in enumerate(self.grants):
            if holder.lower() == account.lower():
                return self._tree.proof(position)
        raise NotFoundError(f"{account} is not on the list of the community's bootstrap; there is nothing to claim")

    def to_json(self) -> dict[str, Any]:
        """The list as it is published: ``[address, wei]`` pairs, amounts as decimal strings."""
        return {"grants": [[account, str(amount)] for account, amount in self.grants], "seconds": self.seconds}

    @classmethod
    def from_json(cls, document: Any) -> Bootstrap:
        """The list that :meth:`to_json` wrote.

        Raises:
            InputError: it is another document.
        """
        try:
            pairs = [(str(account), int(amount)) for account, amount in document["grants"]]
            return make_bootstrap(pairs, int(document["seconds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no list of a community bootstrap: {error}") from error


def make_bootstrap(grants: Iterable[tuple[str, int]], seconds: int) -> Bootstrap:
    """A checked list of (address, wei).

    Raises:
        InputError: it is empty, an address is malformed or stands twice, an amount is not positive, or no time is left.
    """
    amounts: dict[str, int] = {}
    for row, (account, amount) in enumerate(grants, 1):
        mixed = account != account.lower() and account[2:] != account[2:].upper()
        if not is_address(account) or (mixed and not is_checksum_address(account)):
            raise InputError(f"row {row} of the list: {account!r} is no address, or its checksum is wrong")
        holder = to_checksum_address(account)
        if holder in amounts:
            raise InputError(
                f"row {row} of the list: {holder} stands twice; it would be paid once, so add the amounts up"
            )
        if amount <= 0:
            raise InputError(
                f"row {row} of the list: {holder} gets {format_open(amount)} OPEN; it must be more than nothing"
            )
        amounts[holder] = amount
    if not amounts:
        raise InputError("the list is empty; nobody could claim anything")
    if seconds <= 0:
        raise InputError(f"claims for {seconds} seconds; give them time")
    return Bootstrap(tuple(sorted(amounts.items(), key=lambda grant: int(grant[0], 16))), seconds)


def read_bootstrap(path: Path, seconds: int) -> Bootstrap:
    """The list in a CSV or JSON file.

    Raises:
        InputError: it cannot be read, or a row is wrong; the message says which.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    rows = parse_json(text.encode()) if path.suffix.lower() == ".json" else _csv_rows(text, path)
    if not isinstance(rows, list):
        raise InputError(f"{path} must hold a JSON array of [address, amount]")
    grants = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not all(isinstance(value, str) for value in row):
            raise InputError(f"{path}: {row!r} is not [address, amount in OPEN], both as text")
        grants.append((row[0].strip(), parse_open(row[1].strip())))
    return make_bootstrap(grants, seconds)


def claim_grant(chain: Chain, wallet: LocalAccount, bootstrap: Bootstrap, account: str) -> int:
    """Pays an account what the list gives it; ``wallet`` pays the gas, anyone may. Returns wei.

    Raises:
        NotFoundError: the account is not on the list, or this chain has no bootstrap.
        RevertError: ``AlreadyClaimed``, ``DistributionOver``.
    """
    proof, contract = bootstrap.proof(account), chain.contract(DISTRIBUTOR)
    call = contract.functions.claim(to_checksum_address(account), bootstrap.amount(account), proof)
    receipt = chain.send(wallet, call)
    return int(contract.events.Claimed().process_receipt(receipt, errors=DISCARD)[0]["args"]["amount"])


def return_remainder(chain: Chain, wallet: LocalAccount) -> int:
    """Pays what nobody claimed back to where it came from, once the deadline is over; anyone may. Returns wei.

    Raises:
        NotFoundError: this chain has no bootstrap.
        RevertError: ``DistributionRunning``, ``NothingLeft``.
    """
    contract = chain.contract(DISTRIBUTOR)
    receipt = chain.send(wallet, contract.functions.returnRemainder())
    return int(contract.events.RemainderReturned().process_receipt(receipt, errors=DISCARD)[0]["args"]["amount"])


def _csv_rows(text: str, path: Path) -> list[list[str]]:
    reader = csv.DictReader(io.StringIO(text))
    if not {"address", "amount"} <= set(reader.fieldnames or ()):
        raise InputError(
            f"{path} needs the columns address and amount; it has {', '.join(reader.fieldnames or ()) or 'none'}"
        )
    return [[row["address"] or "", row["amount"] or ""] for row in reader]
