"""A real chain with everything deployed, and holders with votes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, Deployment, DevChain, GovernanceSettings, Holders, deploy
from openledger.governance import delegate, wrap
from openledger.primitives import WEI_PER_OPEN
from openledger.tokenomics import load_allocation

VOTES = {"whale": 6_000_000, "shrimp": 2_000_000}


@dataclass
class Town:
    """The chain as a test sees it."""

    dev: DevChain
    chain: Chain

    def wallet(self, name: str) -> LocalAccount:
        return self.dev.keys.wallet(name)

    def wait(self, seconds: int) -> None:
        self.dev.warp(seconds)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a chain on which two holders have wrapped and delegated."""
    home = tmp_path_factory.mktemp("town") / "home"
    with DevChain(home) as dev:
        chain = Chain(dev.rpc_url)
        bank = dev.keys.wallet("bank")
        deploy(
            chain, dev.keys.wallet("genesis"), load_allocation(), governance=GovernanceSettings.development(),
            holders=Holders(free={"community": bank.address}, vesting={"team": dev.keys.wallet("team").address}),
        ).save(home / "deployment.json")  # fmt: skip
        for name, votes in VOTES.items():
            chain.transfer(bank, dev.keys.wallet(name).address, (votes + 10) * WEI_PER_OPEN)
            wrap(chain, dev.keys.wallet(name), votes * WEI_PER_OPEN)
            delegate(chain, dev.keys.wallet(name))
        dev.warp(2)
    return home


@pytest.fixture
def town(built: Path, tmp_path: Path) -> Iterator[Town]:
    """A copy of that chain, running."""
    home = tmp_path / "home"
    shutil.copytree(built, home)
    with DevChain(home) as dev:
        yield Town(dev, Chain(dev.rpc_url, Deployment.load(home / "deployment.json")))
