"""Access to Datanets and the income from it: requests, grants, licences, claims; one function a step.

The rules are the DatanetAccess contract's; see docs/contracts.md. Access on chain opens nothing by itself: it is what
whoever keeps the records asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD

from openledger.chain import Chain
from openledger.datanets.registry import AccessRule, DatanetTerms
from openledger.primitives import ZERO_HASH

_ACCESS, _REGISTRY = "DatanetAccess", "DatanetRegistry"


class RequestState(IntEnum):
    """Where a request for access stands; the numbers are the contract's."""

    NONE = 0
    OPEN = 1
    GRANTED = 2
    DENIED = 3
    WITHDRAWN = 4


@dataclass(frozen=True)
class AccessRequest:
    """One request; ``fee`` in wei, ``purpose`` a hash of what the reader wants the records for."""

    id: int
    datanet: int
    account: str
    state: RequestState
    fee: int
    purpose: bytes


def datanet_terms(chain: Chain, datanet: int) -> DatanetTerms:
    """What a Datanet costs and whom it pays now.

    Raises:
        RevertError: ``UnknownDatanet``.
    """
    rule, owner_ppm, row_cap, access_fee, licence_fee = chain.call(
        chain.contract(_REGISTRY).functions.datanet(datanet)
    )[5]
    return DatanetTerms(AccessRule(rule), int(owner_ppm), int(row_cap), int(access_fee), int(licence_fee))


def request_access(chain: Chain, wallet: LocalAccount, datanet: int, purpose: bytes = ZERO_HASH) -> int:
    """Asks for access and pays the Datanet's fee; granted at once where access is for sale. Returns the request's id.

    Raises:
        RevertError: ``AccessIsOpen`` where everybody may read.
    """
    contract = chain.contract(_ACCESS)
    fee = datanet_terms(chain, datanet).access_fee
    receipt = chain.send(wallet, contract.functions.requestAccess(datanet, purpose), value=fee)
    return int(contract.events.AccessRequested().process_receipt(receipt, errors=DISCARD)[0]["args"]["request"])


def grant_request(chain: Chain, owner: LocalAccount, request: int, until: int) -> None:
    """Grants a request until a Unix second; its fee is shared out. Only the Datanet's owner may."""
    chain.send(owner, chain.contract(_ACCESS).functions.grantRequest(request, until))


def deny_request(chain: Chain, owner: LocalAccount, request: int) -> None:
    """Denies a request; its fee returns. Only the Datanet's owner may."""
    chain.send(owner, chain.contract(_ACCESS).functions.denyRequest(request))


def withdraw_request(chain: Chain, wallet: LocalAccount, request: int) -> None:
    """Takes an open request back; its fee returns."""
    chain.send(wallet, chain.contract(_ACCESS).functions.withdrawRequest(request))


def grant_access(chain: Chain, owner: LocalAccount, datanet: int, account: str, until: int) -> None:
    """Grants access without a fee until a Unix second. Only the Datanet's owner may."""
    chain.send(owner, chain.contract(_ACCESS).functions.grantAccess(datanet, account, until))


def revoke_access(chain: Chain, owner: LocalAccount, datanet: int, account: str) -> None:
    """Takes back access that was not paid for. Only the Datanet's owner may."""
    chain.send(owner, chain.contract(_ACCESS).functions.revokeAccess(datanet, account))


def has_access(chain: Chain, datanet: int, account: str) -> bool:
    """Whether an account may read the Datanet's records, and train on them, now."""
    return bool(chain.call(chain.contract(_ACCESS).functions.hasAccess(datanet, account)))


def access_grant(chain: Chain, datanet: int, account: str) -> tuple[int, bool]:
    """(until, paid) of an account's grant: the Unix second at which it ends, 0 if there is none, and whether it was paid for."""
    until, paid = chain.call(chain.contract(_ACCESS).functions.grantOf(datanet, account))
    return int(until), bool(paid)


def access_requests(chain: Chain, datanet: int) -> list[AccessRequest]:
    """Every request for access to a Datanet, in order, as it stands."""
    contract = chain.contract(_ACCESS)
    found = []
    for log in chain.events(_ACCESS, "AccessRequested", datanet=datanet):
        number = log["args"]["request"]
        of, account, state, fee, purpose = chain.call(contract.functions.requests(number))
        found.append(AccessRequest(number, int(of), str(account), RequestState(state), int(fee), bytes(purpose)))
    return found


def claimable_income(chain: Chain, datanet: int, version: int, contribution: int) -> int:
    """What a contribution has earned by access and licences of a version and not claimed, in wei."""
    return int(chain.call(chain.contract(_ACCESS).functions.claimable(datanet, version, contribution)))


def claim_income(chain: Chain, wallet: LocalAccount, datanet: int, version: int, contribution: int) -> int:
    """Pays it to the contributor; anyone may call it. Returns the wei paid.

    Raises:
        RevertError: ``NothingToClaim``.
    """
    contract = chain.contract(_ACCESS)
    receipt = chain.send(wallet, contract.functions.claimIncome(datanet, version, contribution))
    return int(contract.events.IncomeClaimed().process_receipt(receipt, errors=DISCARD)[0]["args"]["amount"])
