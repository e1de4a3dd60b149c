"""The deployment: the supply is where the allocation says, and nobody holds a right that he should not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from openledger.chain import Chain, Deployment, DevChain, GovernanceSettings, Holders, deploy, parameter_key
from openledger.chain.deployment import created_address
from openledger.primitives import TOTAL_SUPPLY, WEI_PER_OPEN, ConfigurationError, InputError, NotFoundError, RevertError
from openledger.tokenomics import load_allocation
from tests.chain.conftest import Network


def test_every_bucket_is_funded_as_the_allocation_says(tmp_path: Path) -> None:
    allocation = load_allocation()
    with DevChain(tmp_path) as dev:
        chain, keys = Chain(dev.rpc_url), dev.keys
        holders = Holders(
            free={bucket.name: keys.wallet(bucket.name).address for bucket in allocation.buckets},
            vesting={"team": keys.wallet("team").address},
        )
        deployment = deploy(chain, keys.wallet("genesis"), allocation, holders=holders)
        balances = dev.balances()
        assert sum(balances.values()) == TOTAL_SUPPLY
        largest = max(allocation.buckets, key=lambda bucket: bucket.free).name
        for bucket in allocation.buckets:
            if bucket.vesting:
                vesting = chain.contract(f"Vesting.{bucket.name}").functions
                assert chain.balance(deployment.address(f"Vesting.{bucket.name}")) == bucket.vesting
                assert vesting.bucket().call() == bucket.name
                assert vesting.start().call() == deployment.launch + bucket.cliff_months * allocation.month_seconds
                assert vesting.duration().call() == bucket.linear_months * allocation.month_seconds
                owner = (
                    keys.wallet("team").address if bucket.name == "team" else deployment.address("TimelockController")
                )
                assert vesting.owner().call() == owner
            if bucket.free and bucket.name != largest:
                assert chain.balance(keys.wallet(bucket.name).address) == bucket.free
        gas_paid = allocation.bucket(largest).free - chain.balance(keys.wallet(largest).address)
        assert 0 < gas_paid < WEI_PER_OPEN


def test_team_tokens_are_released_after_the_cliff_only(tmp_path: Path) -> None:
    allocation = load_allocation()
    with DevChain(tmp_path) as dev:
        chain, keys = Chain(dev.rpc_url), dev.keys
        community, team = keys.wallet("community"), keys.wallet("team")
        holders = Holders(free={"community": community.address}, vesting={"team": team.address})
        deploy(chain, keys.wallet("genesis"), allocation, holders=holders)
        vesting = chain.contract("Vesting.team")
        dev.warp(12 * allocation.month_seconds - 60)
        chain.send(community, vesting.functions["release()"]())
        assert chain.balance(team.address) == 0
        dev.warp(18 * allocation.month_seconds)
        chain.send(community, vesting.functions["release()"]())
        half = allocation.bucket("team").vesting // 2
        assert abs(chain.balance(team.address) - half) < half // 10_000


def test_the_deployer_keeps_nothing(network: Network) -> None:
    chain, genesis = network.chain, network.dev.keys.wallet("genesis")
    chain.transfer(network.bank, genesis.address, 10 * WEI_PER_OPEN)
    access, timelock = chain.contract("AccessManager"), chain.contract("TimelockController")
    roles = [timelock.functions[name]().call() for name in ("DEFAULT_ADMIN_ROLE", "PROPOSER_ROLE", "CANCELLER_ROLE")]
    assert not any(timelock.functions.hasRole(role, genesis.address).call() for role in roles)
    for role in range(5):
        assert not access.functions.hasRole(role, genesis.address).call()[0]
    parameters = chain.contract("RuntimeParameters").functions
    with pytest.raises(RevertError, match="AccessManagedUnauthorized"):
        chain.send(genesis, parameters.set(parameter_key("fee.data"), 0))
    with pytest.raises(RevertError, match="AccessManagerUnauthorizedAccount"):
        chain.send(genesis, access.functions.grantRole(0, genesis.address, 0))


def test_rights_lie_where_they_belong(network: Network) -> None:
    chain, keys = network.chain, network.dev.keys
    access = chain.contract("AccessManager").functions
    expected = {
        (0, chain.address("TimelockController")),
        (1, chain.address("DatanetRegistry")),
        (1, chain.address("Disputes")),
        (4, chain.address("Disputes")),
        (2, keys.wallet("settler").address),
        (3, keys.wallet("guardian").address),
    }
    granted = {
        (event["args"]["roleId"], event["args"]["account"]) for event in chain.events("AccessManager", "RoleGranted")
    }
    revoked = {
        (event["args"]["roleId"], event["args"]["account"]) for event in chain.events("AccessManager", "RoleRevoked")
    }
    assert granted - revoked == expected
    assert all(access.hasRole(role, account).call()[0] for role, account in expected)
    timelock = chain.contract("TimelockController").functions
    assert timelock.hasRole(timelock.PROPOSER_ROLE().call(), chain.address("OpenLedgerGovernor")).call()
    assert timelock.hasRole(timelock.EXECUTOR_ROLE().call(), "0x" + "00" * 20).call()


def test_first_values_of_parameters_are_taken_and_bad_ones_refused(tmp_path: Path) -> None:
    with DevChain(tmp_path) as dev:
        chain, genesis = Chain(dev.rpc_url), dev.keys.wallet("genesis")
        with pytest.raises(RevertError, match="FeeSharesExceedWhole"):
            deploy(chain, genesis, load_allocation(), {"fee.data": 900_000})
        with pytest.raises(RevertError, match="UnknownParameter"):
            deploy(chain, genesis, load_allocation(), {"fee.nobody": 1})
        settings = GovernanceSettings(voting_delay=7, voting_period=11, late_extension=5, timelock_delay=13)
        deploy(chain, genesis, load_allocation(), {"review.jury": 1}, governance=settings)
        parameters = chain.contract("RuntimeParameters").functions
        assert parameters.get(parameter_key("review.jury")).call() == 1
        governor = chain.contract("OpenLedgerGovernor").functions
        assert (governor.votingDelay().call(), governor.votingPeriod().call()) == (7, 11)
        assert chain.contract("TimelockController").functions.getMinDelay().call() == 13


def test_only_the_holder_of_the_supply_deploys(network: Network) -> None:
    with pytest.raises(ConfigurationError, match="not the supply"):
        deploy(network.chain, network.bank, load_allocation())


def test_an_allocation_that_is_not_the_supply_is_refused(network: Network) -> None:
    @dataclass(frozen=True)
    class Short:
        month_seconds = 1
        buckets = load_allocation().buckets[:-1]

    with pytest.raises(InputError, match="adds up to"):
        deploy(network.chain, network.bank, Short())
    with pytest.raises(InputError, match="unknown buckets: nobody"):
        deploy(network.chain, network.bank, load_allocation(), holders=Holders(free={"nobody": network.bank.address}))


def test_a_deployment_file_is_read_back_and_checked(network: Network, tmp_path: Path) -> None:
    deployment = network.chain.deployment
    assert deployment is not None
    path = tmp_path / "deployment.json"
    deployment.save(path)
    assert Deployment.load(path) == deployment
    content = json.loads(path.read_text())
    for change in (
        {"settler": "0x00"},
        {"block": -1},
        {"launch": "1"},
        {"genesis": "0x12"},
        {"format": 2},
        {"more": 1},
        {"addresses": {"FeeEscrow": deployment.address("FeeEscrow").lower()}},
        {"addresses": []},
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError):
            Deployment.load(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        Deployment.load(path)
    with pytest.raises(NotFoundError, match="deploy the contracts first"):
        Deployment.load(tmp_path / "none.json")
    assert replace(deployment, block=5) != deployment


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**40))
def test_created_addresses_are_never_the_same_for_two_nonces(seed: bytes, nonce: int) -> None:
    creator = Account.from_key(b"\x01" + seed[1:]).address
    assert created_address(creator, nonce) != created_address(creator, nonce + 1)


def test_the_created_address_is_the_chains(network: Network) -> None:
    actor = network.actor(10)
    for nonce in range(3):
        assert network.chain.create(actor, bytes.fromhex("6000805360015ff3")) == created_address(actor.address, nonce)
    # The classic example: the first and the 128th contract of this account.
    assert (
        created_address("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0", 0) == "0xcd234A471b72ba2F1Ccf0A70FCABA648a5eeCD8d"
    )


@pytest.mark.parametrize("name", ["", "x" * 33, "größe"])
def test_parameter_names_fit_their_key(name: str) -> None:
    with pytest.raises(InputError, match="parameter name"):
        parameter_key(name)
