"""Setting up a network for the first time: chain, people and stakes, a reviewed Datanet, a trained model, a funded consumer.

Everything is a real transaction by the account that it concerns. If it ends early, the next attempt begins anew: the folder
counts as a network only once the last step is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from openledger import governance
from openledger.chain import Chain, DevChain, GovernanceSettings, Holders, Role, deploy
from openledger.datanets import (
    BadRow,
    DatanetTerms,
    Version,
    create_datanet,
    load_datanet,
    load_records,
    load_terms,
    make_bad_rows,
    partition,
)
from openledger.node.home import Home
from openledger.node.people import (
    ADVERSARY,
    COMMUNITY,
    CONSUMER,
    CONTRIBUTORS,
    GENESIS,
    GUARDIAN,
    HOLDERS,
    HOST,
    OWNER,
    PEOPLE,
    REVIEWERS,
    SETTLER,
    VALIDATORS,
)
from openledger.node.progress import Reporter
from openledger.node.service import Node
from openledger.node.settings import Settings
from openledger.primitives import WEI_PER_OPEN, to_hex
from openledger.settlement import deposit
from openledger.tokenomics import load_allocation, read_bootstrap

LICENCE = "Apache-2.0"
_PLANTED_ROWS = 35
_PLANTED_SEED = 20
_STAKES = {Role.REVIEWER: 2_000, Role.VALIDATOR: 10_000, Role.HOST: 2_000}
_WRAPPED = 20_000_000
_PARAMETERS = {"review.challenge": 60}
"""A minute to challenge a decision: on a chain of one's own the time is waited for by moving its clock."""
_CONDITIONS = DatanetTerms(owner_ppm=100_000, licence_fee=5 * WEI_PER_OPEN)
"""Everybody may read; each fine-tuning job pays 5 OPEN, of which the contributors get nine tenths."""
_DEPOSIT = 2_000
_BOOTSTRAP_SECONDS = 90 * 86_400


@dataclass
class Founded:
    """What founding did, for the demo's account of itself."""

    datanet: int = 0
    version: Version | None = None
    submitted: int = 0
    planted: list[BadRow] = field(default_factory=list)
    model: int = 0
    model_name: str = ""


@contextmanager
def founding(settings: Settings, reporter: Reporter, model_name: str = "exploits") -> Iterator[tuple[Node, Founded]]:
    """Sets up a new network in the settings' home folder and gives the open node; the block runs with it.

    An unfinished network in the folder is discarded. When founding itself or the block raises, the node is closed; the folder
    is a network from the moment that founding is done.

    Raises:
        InputError: the folder holds something else, or the list of the community's bootstrap is wrong.
        ConfigurationError: a node runs on it, or a program that the chain needs is missing.
    """
    bootstrap = None if settings.bootstrap is None else read_bootstrap(settings.bootstrap, _BOOTSTRAP_SECONDS)
    home = Home(settings.home)
    home.acquire()
    node: Node | None = None
    devchain: DevChain | None = None
    try:
        home.clear()
        with reporter.stage("Starting the L2 and deploying the contracts", 3) as advance:
            devchain = DevChain(home.path).start()
            advance(1)
            chain = Chain(devchain.rpc_url)
            keys = devchain.keys
            deployment = deploy(
                chain,
                keys.wallet(GENESIS),
                load_allocation(),
                _PARAMETERS,
                governance=GovernanceSettings.development(),
                holders=Holders(free={COMMUNITY: keys.wallet(COMMUNITY).address}),
                settler=keys.wallet(SETTLER).address,
                guardian=keys.wallet(GUARDIAN).address,
                bootstrap=bootstrap,
            )
            deployment.save(home.path / "deployment.json")
            advance(2)
            node = Node(settings, home, devchain, chain)
            if bootstrap is not None:
                node.community.publish(bootstrap)
            advance(3)
        founded = Founded(model_name=model_name)
        _people(node, reporter)
        _datanet(node, founded, reporter)
        _model(node, founded, reporter)
        _consumer(node)
        home.mark_founded({"chain_id": chain.chain_id, "genesis": chain.genesis, "time": int(time.time())})
        yield node, founded
    finally:
        if node is not None:
            node.close()
        else:
            if devchain is not None:
                devchain.stop()
            home.release()


def _people(node: Node, reporter: Reporter) -> None:
    chain, keys = node.chain, node.keys
    fund = keys.wallet(COMMUNITY)
    stakers = [(name, Role.REVIEWER) for name in REVIEWERS] + [(name, Role.VALIDATOR) for name in VALIDATORS]
    stakers.append((HOST, Role.HOST))
    with reporter.stage(
        "Funding accounts, staking, taking up votes", len(PEOPLE) + len(stakers) + len(HOLDERS)
    ) as advance:
        done = 0
        for person in PEOPLE:
            wallet = keys.wallet(person.name)
            node.name_party(wallet.address, person.label, person.role)
            if person.funds:
                chain.transfer(fund, wallet.address, person.funds * WEI_PER_OPEN)
            done += 1
            advance(done)
        node.name_party(chain.address("TimelockController"), "Treasury", "treasury")
        for name, role in stakers:
            stake = chain.contract("StakeManager").functions.stake(int(role))
            chain.send(keys.wallet(name), stake, value=_STAKES[role] * WEI_PER_OPEN)
            done += 1
            advance(done)
        for name in HOLDERS:
            governance.wrap(chain, keys.wallet(name), _WRAPPED * WEI_PER_OPEN)
            governance.delegate(chain, keys.wallet(name))
            done += 1
            advance(done)


def _datanet(node: Node, founded: Founded, reporter: Reporter) -> None:
    chain, owner = node.chain, node.keys.wallet(OWNER)
    description = load_datanet()
    terms = load_terms()
    uri = f"blob:{to_hex(node.blobs.put_json(description))}"
    founded.datanet = create_datanet(chain, owner, terms, uri, _CONDITIONS)
    records = load_records()
    shares = dict(partition(records, CONTRIBUTORS))
    founded.planted = make_bad_rows(records, _PLANTED_SEED, _PLANTED_ROWS)
    shares[ADVERSARY] = [row.record for row in founded.planted]
    with reporter.stage("Reviewing contributions by commit and reveal", len(shares)) as advance:
        for done, (name, rows) in enumerate(shares.items(), 1):
            submitted = node.curation.contribute(founded.datanet, name, rows, LICENCE)
            node.curation.review(submitted.id)
            founded.submitted += len(rows)
            advance(done)
    founded.version = node.curation.anchor(founded.datanet)


def _model(node: Node, founded: Founded, reporter: Reporter) -> None:
    founded.model = node.trainer.run(founded.datanet, 1, {}, founded.model_name, reporter)


def _consumer(node: Node) -> None:
    deposit(node.chain, node.keys.wallet(CONSUMER), _DEPOSIT * WEI_PER_OPEN)
