"""Access to Datanets on this node: asking for it, granting it, and the income that contributors claim."""

from __future__ import annotations

from collections.abc import Callable

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, KeyStore
from openledger.datanets import (
    AccessRequest,
    access_grant,
    access_requests,
    claim_income,
    claimable_income,
    datanet_owner,
    deny_request,
    grant_access,
    grant_request,
    has_access,
    request_access,
    revoke_access,
    withdraw_request,
)
from openledger.node import views
from openledger.node.people import SETTLER
from openledger.primitives import InputError, NotFoundError
from openledger.storage import BlobStore

_DAY = 86_400


class AccessDesk:
    """Requests, grants and income, with the accounts of one node. A grant lasts a number of days from now.

    Args:
        chain: with its deployment.
        keys: readers' and owners' accounts.
        blobs: the public blobs; receive what a reader wants the records for.
        party: names an account.
    """

    def __init__(self, chain: Chain, keys: KeyStore, blobs: BlobStore, party: Callable[[str], views.Party]) -> None:
        self._chain = chain
        self._keys = keys
        self._blobs = blobs
        self._party = party

    def requests(self, datanet: int) -> list[views.AccessRow]:
        """Every request for access to a Datanet."""
        return [self._row(found) for found in access_requests(self._chain, datanet)]

    def request(self, datanet: int, account: str, purpose: str) -> views.AccessRow:
        """Asks for access, publishes why, and pays the Datanet's fee.

        Raises:
            NotFoundError: the account's key is not here.
            RevertError: ``AccessIsOpen`` where everybody may read.
        """
        wallet = self._keys.find(account)
        hashed = self._blobs.put_json({"purpose": purpose})
        return self._numbered(datanet, request_access(self._chain, wallet, datanet, hashed))

    def grant(self, datanet: int, request: int, days: float) -> views.AccessRow:
        """Grants a request as the Datanet's owner; its fee is shared out.

        Raises:
            NotFoundError: the owner's key is not here, or the Datanet has no such request.
            RevertError: ``RequestNotOpen``.
        """
        self._numbered(datanet, request)
        grant_request(self._chain, self._owner(datanet), request, self._until(days))
        return self._numbered(datanet, request)

    def deny(self, datanet: int, request: int) -> views.AccessRow:
        """Denies a request as the Datanet's owner; its fee returns. Errors as :meth:`grant`."""
        self._numbered(datanet, request)
        deny_request(self._chain, self._owner(datanet), request)
        return self._numbered(datanet, request)

    def withdraw(self, datanet: int, request: int) -> views.AccessRow:
        """Takes an open request back as who made it; its fee returns. Errors as :meth:`grant`."""
        asked = self._numbered(datanet, request)
        withdraw_request(self._chain, self._keys.find(asked.account.address), request)
        return self._numbered(datanet, request)

    def standing(self, datanet: int, address: str) -> views.GrantRow:
        """Whether an account may read now."""
        until, paid = access_grant(self._chain, datanet, address)
        return views.GrantRow(datanet, self._party(address), has_access(self._chain, datanet, address), until, paid)

    def allow(self, datanet: int, address: str, days: float) -> views.GrantRow:
        """Grants access without a request, as the Datanet's owner."""
        grant_access(self._chain, self._owner(datanet), datanet, address, self._until(days))
        return self.standing(datanet, address)

    def revoke(self, datanet: int, address: str) -> views.GrantRow:
        """Takes back access that was not paid for, as the Datanet's owner.

        Raises:
            RevertError: ``GrantIsPaid``, ``NoAccess``.
        """
        revoke_access(self._chain, self._owner(datanet), datanet, address)
        return self.standing(datanet, address)

    def income(self, datanet: int) -> list[views.IncomeRow]:
        """What contributions have earned by access and licences and not claimed, version by version."""
        found = []
        for log in self._chain.events("DatanetRegistry", "VersionAnchored", datanet=datanet):
            for entry in self._chain.events("DatanetRegistry", "ContributionSubmitted", datanet=datanet):
                version, contribution = log["args"]["version"], entry["args"]["id"]
                wei = claimable_income(self._chain, datanet, version, contribution)
                if wei:
                    contributor = self._party(entry["args"]["contributor"])
                    found.append(views.IncomeRow(datanet, version, contribution, contributor, wei))
        return found

    def claim(self, datanet: int, version: int, contribution: int) -> int:
        """Pays a contribution's income to its contributor; returns wei.

        Raises:
            RevertError: ``NothingToClaim``.
        """
        return claim_income(self._chain, self._keys.wallet(SETTLER), datanet, version, contribution)

    def _owner(self, datanet: int) -> LocalAccount:
        return self._keys.find(datanet_owner(self._chain, datanet))

    def _until(self, days: float) -> int:
        if not 0 < days <= 36_500:
            raise InputError(f"a grant of {days} days; it must be more than 0 and at most 36,500")
        return self._chain.time() + int(days * _DAY)

    def _numbered(self, datanet: int, request: int) -> views.AccessRow:
        for row in self.requests(datanet):
            if row.request == request:
                return row
        raise NotFoundError(
            f"Datanet {datanet} has no request {request}; `openledger access list {datanet}` shows them"
        )

    def _row(self, found: AccessRequest) -> views.AccessRow:
        try:
            purpose = str(self._blobs.get_json(found.purpose)["purpose"])
        except (NotFoundError, InputError, KeyError, TypeError):
            purpose = ""
        return views.AccessRow(
            request=found.id,
            datanet=found.datanet,
            account=self._party(found.account),
            state=found.state.name.lower(),
            fee=found.fee,
            purpose=purpose,
        )
