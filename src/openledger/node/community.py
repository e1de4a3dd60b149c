"""The community's bootstrap on this node: its published list, claims, and the remainder."""

from __future__ import annotations

from collections.abc import Callable

from openledger.chain import Chain, KeyStore
from openledger.node import views
from openledger.node.people import SETTLER
from openledger.primitives import NotFoundError, VerificationError, from_hex, to_hex
from openledger.storage import BlobStore, Database
from openledger.tokenomics import Bootstrap, claim_grant, return_remainder

_STATE = "community.bootstrap"
_CONTRACT = "CommunityDistributor"


class Community:
    """The bootstrap that a network was deployed with; the node pays the gas of claims.

    Args:
        chain: with its deployment.
        keys: the accounts.
        blobs: the public blobs; hold the list.
        database: remembers which blob it is.
        party: names an account.
    """

    def __init__(
        self,
        chain: Chain,
        keys: KeyStore,
        blobs: BlobStore,
        database: Database,
        party: Callable[[str], views.Party],
    ) -> None:
        self._chain = chain
        self._keys = keys
        self._blobs = blobs
        self._database = database
        self._party = party

    def publish(self, bootstrap: Bootstrap) -> None:
        """Keeps the list among the public blobs, so that everybody can make a proof.

        Raises:
            NotFoundError: the network was deployed without a bootstrap.
            VerificationError: it was deployed with another list.
        """
        root = bytes(self._chain.call(self._chain.contract(_CONTRACT).functions.root()))
        if bootstrap.root != root:
            raise VerificationError(f"the list has the root {to_hex(bootstrap.root)}, the contract {to_hex(root)}")
        self._database.set_state(_STATE, to_hex(self._blobs.put_json(bootstrap.to_json())))

    def view(self) -> views.BootstrapView:
        """The list, and who has claimed.

        Raises:
            NotFoundError: this network has no bootstrap.
        """
        bootstrap, functions = self._list(), self._chain.contract(_CONTRACT).functions
        return views.BootstrapView(
            root=to_hex(bootstrap.root),
            deadline=int(self._chain.call(functions.deadline())),
            total=bootstrap.total,
            left=self._chain.balance(self._chain.address(_CONTRACT)),
            remainder_to=self._party(str(self._chain.call(functions.remainderTo()))),
            accounts=[
                views.GrantedRow(self._party(account), amount, bool(self._chain.call(functions.hasClaimed(account))))
                for account, amount in bootstrap.grants
            ],
        )

    def claim(self, address: str) -> int:
        """Pays an account what the list gives it; returns wei.

        Raises:
            NotFoundError: the account is not on the list, or this network has no bootstrap.
            RevertError: ``AlreadyClaimed``, ``DistributionOver``.
        """
        return claim_grant(self._chain, self._keys.wallet(SETTLER), self._list(), address)

    def return_remainder(self) -> int:
        """Pays back what nobody claimed in time; returns wei.

        Raises:
            RevertError: ``DistributionRunning``, ``NothingLeft``.
        """
        return return_remainder(self._chain, self._keys.wallet(SETTLER))

    def _list(self) -> Bootstrap:
        name = self._database.state(_STATE)
        if name is None:
            raise NotFoundError("this network was set up without a community bootstrap; see the setting `bootstrap`")
        return Bootstrap.from_json(self._blobs.get_json(from_hex(name, 32)))
