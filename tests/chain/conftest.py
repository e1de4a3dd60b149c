"""One deployed development chain for all tests of this room, and actors with OPEN."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, DevChain, GovernanceSettings, Holders, deploy
from openledger.primitives import WEI_PER_OPEN
from openledger.tokenomics import load_allocation

_COUNTER = itertools.count(1)


@dataclass(frozen=True)
class Network:
    """A running development chain with everything deployed."""

    dev: DevChain
    chain: Chain

    @property
    def bank(self) -> LocalAccount:
        """The account with the free community OPEN."""
        return self.dev.keys.wallet("community")

    def actor(self, open_amount: int = 100) -> LocalAccount:
        """A new account with so many OPEN."""
        account: LocalAccount = Account.from_key(next(_COUNTER).to_bytes(32, "big"))
        self.chain.transfer(self.bank, account.address, open_amount * WEI_PER_OPEN)
        return account

    def staker(self, role: int, open_amount: int) -> LocalAccount:
        """A new account with a stake, and 100 OPEN beside it."""
        account = self.actor(open_amount + 100)
        stakes = self.chain.contract("StakeManager").functions
        self.chain.send(account, stakes.stake(role), open_amount * WEI_PER_OPEN)
        return account


def deployed(home: Path) -> Network:
    """A new chain in ``home``, started and deployed with votes of minutes."""
    dev = DevChain(home).start()
    chain = Chain(dev.rpc_url)
    keys = dev.keys
    deploy(
        chain,
        keys.wallet("genesis"),
        load_allocation(),
        governance=GovernanceSettings.development(),
        holders=Holders(
            free={"community": keys.wallet("community").address}, vesting={"team": keys.wallet("team").address}
        ),
        settler=keys.wallet("settler").address,
        guardian=keys.wallet("guardian").address,
    )
    chain.transfer(keys.wallet("community"), keys.wallet("settler").address, 100 * WEI_PER_OPEN)
    chain.transfer(keys.wallet("community"), keys.wallet("guardian").address, 100 * WEI_PER_OPEN)
    return Network(dev, chain)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """The shared chain. Tests use accounts of their own and never expect an empty chain."""
    running = deployed(tmp_path_factory.mktemp("network"))
    yield running
    running.dev.stop()


@pytest.fixture
def rpc(network: Network) -> Callable[..., dict[str, object]]:
    """Posts a JSON body to the front and returns the parsed answer."""
    import httpx

    def post(body: object, **options: object) -> dict[str, object]:
        answer: dict[str, object] = httpx.post(network.dev.rpc_url, json=body, **options).json()  # type: ignore[arg-type]
        return answer

    return post
