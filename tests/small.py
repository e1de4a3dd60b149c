"""A small network for tests of a node's acts: real chain, contracts, people, stakes and one reviewed contribution; no model.

It is built once for all the processes of a test run; each user copies the folder, which the chain replays in a moment.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openledger.chain import Chain, DevChain, GovernanceSettings, Holders, Role, deploy
from openledger.datanets import DatanetTerms, load_datanet, load_records
from openledger.node.home import Home
from openledger.node.people import (
    BUILDER,
    COMMUNITY,
    CONSUMER,
    GENESIS,
    GUARDIAN,
    HOST,
    OWNER,
    REVIEWERS,
    SETTLER,
    VALIDATORS,
)
from openledger.node.server import Server
from openledger.node.service import Node
from openledger.node.settings import Settings
from openledger.primitives import WEI_PER_OPEN
from openledger.settlement import deposit
from openledger.tokenomics import load_allocation, make_bootstrap

LARGE_JURY = [*REVIEWERS, *(f"reviewer{number}" for number in range(8))]
"""Enough reviewers for five jurors who disagree and an appeal's seven others."""
STAKES = {
    **dict.fromkeys(LARGE_JURY, (Role.REVIEWER, 2_000)),
    **dict.fromkeys(VALIDATORS, (Role.VALIDATOR, 10_000)),
    HOST: (Role.HOST, 2_000),
}
BOOTSTRAP = make_bootstrap([(f"0x{number:040x}", number * WEI_PER_OPEN) for number in (0xA1, 0xB2, 0xC3)], 86_400)


def once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` fills; whichever process of a test run comes first lets it, and the others wait."""
    base = folders.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    place, unfinished = base / name, base / f"{name}-unfinished"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(place)
    return place


def small(folders: pytest.TempPathFactory) -> Path:
    """The network's home; nothing runs on it."""
    return once(folders, "small", _build)


def _build(home: Path) -> None:
    place = Home(home)
    place.acquire()
    dev = DevChain(home).start()
    chain, keys = Chain(dev.rpc_url), dev.keys
    deployment = deploy(
        chain,
        keys.wallet(GENESIS),
        load_allocation(),
        {"review.challenge": 60},
        governance=GovernanceSettings.development(),
        holders=Holders(free={COMMUNITY: keys.wallet(COMMUNITY).address}),
        settler=keys.wallet(SETTLER).address,
        guardian=keys.wallet(GUARDIAN).address,
        bootstrap=BOOTSTRAP,
    )
    deployment.save(home / "deployment.json")
    fund = keys.wallet(COMMUNITY)
    for name in [*STAKES, SETTLER, GUARDIAN, OWNER, BUILDER, CONSUMER, "ada", "boris"]:
        chain.transfer(fund, keys.wallet(name).address, 15_000 * WEI_PER_OPEN)
    for name, (role, amount) in STAKES.items():
        stake = chain.contract("StakeManager").functions.stake(int(role))
        chain.send(keys.wallet(name), stake, value=amount * WEI_PER_OPEN)
    deposit(chain, keys.wallet(CONSUMER), 100 * WEI_PER_OPEN)
    node = Node(Settings(home=home), place, dev, chain)
    node.community.publish(BOOTSTRAP)
    datanet = node.curation.create(keys.wallet(OWNER), load_datanet(), DatanetTerms())
    submitted = node.curation.contribute(datanet, "ada", load_records()[:3], "Apache-2.0")
    node.curation.review(submitted.id)
    node.curation.anchor(datanet)
    place.mark_founded({})
    node.close()


@contextmanager
def serving(built: Path, folder: Path, **settings: Any) -> Iterator[Server]:
    """A copy of the network with its API on a free port, and these settings beside."""
    home = folder / "home"
    shutil.copytree(built, home)
    server = Server(Settings(home=home, port=0, **settings))
    server.start()
    try:
        yield server
    finally:
        server.stop()
