"""The supply on a real chain is where the allocation says, and is released as the schedule says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from openledger.chain import Chain, Deployment, DevChain, Holders, deploy
from openledger.primitives import TOTAL_SUPPLY, NotFoundError
from openledger.tokenomics import FEE_VAULTS, circulation, demand, load_allocation, release, supply_at

pytestmark = pytest.mark.chain

ALLOCATION = load_allocation()


@dataclass
class Mint:
    dev: DevChain
    chain: Chain
    deployment: Deployment


@pytest.fixture
def mint(tmp_path: Path) -> Iterator[Mint]:
    """A chain on which the supply has just been distributed."""
    with DevChain(tmp_path) as dev:
        chain = Chain(dev.rpc_url)
        wallet = dev.keys.wallet
        holders = Holders(free={"community": wallet("bank").address}, vesting={"team": wallet("team").address})
        yield Mint(dev, chain, deploy(chain, wallet("genesis"), ALLOCATION, holders=holders))


def test_every_bucket_vests_what_the_allocation_says_to_whom_it_says(mint: Mint) -> None:
    now = circulation(mint.chain)
    vesting = {contract.bucket: contract for contract in now.vesting}
    assert set(vesting) == {"community", "ecosystem", "investors", "team"}
    for name, contract in vesting.items():
        bucket = ALLOCATION.bucket(name)
        assert contract.total == bucket.vesting
        assert contract.start == mint.deployment.launch + bucket.cliff_months * ALLOCATION.month_seconds
        assert contract.end - contract.start == bucket.linear_months * ALLOCATION.month_seconds
    assert vesting["team"].beneficiary == mint.dev.keys.wallet("team").address
    assert vesting["investors"].beneficiary == mint.chain.address("TimelockController")


def test_what_the_contracts_release_is_what_the_schedule_says_to_the_wei(mint: Mint) -> None:
    for months in (0, 6, 7, 30):
        mint.dev.warp(max(1, months * ALLOCATION.month_seconds))
        now = circulation(mint.chain)
        planned = {bucket.name: bucket for bucket in supply_at(ALLOCATION, mint.deployment.launch, now.time).buckets}
        for contract in now.vesting:
            assert contract.vested == planned[contract.bucket].released - ALLOCATION.bucket(contract.bucket).free
        assert now.locked == sum(bucket.locked for bucket in planned.values())
        assert now.circulating + now.locked == TOTAL_SUPPLY


def test_a_beneficiary_takes_what_has_vested_and_the_account_says_so(mint: Mint) -> None:
    bank, team = mint.dev.keys.wallet("bank"), mint.dev.keys.wallet("team").address
    assert release(mint.chain, bank, "team") == 0
    mint.dev.warp(24 * ALLOCATION.month_seconds)
    paid = release(mint.chain, bank, "team")
    state = next(contract for contract in circulation(mint.chain).vesting if contract.bucket == "team")
    assert mint.chain.balance(team) == paid == state.paid
    assert paid >= ALLOCATION.bucket("team").vesting // 3
    assert state.total == ALLOCATION.bucket("team").vesting
    with pytest.raises(NotFoundError, match=r"Vesting\.liquidity"):
        release(mint.chain, bank, "liquidity")


def test_not_a_wei_is_missing_after_the_distribution(mint: Mint) -> None:
    accounts = {mint.chain.address(name) for name in mint.deployment.addresses} | set(FEE_VAULTS)
    accounts |= {mint.dev.keys.wallet(name).address for name in ("genesis", "bank", "team")}
    assert sum(mint.chain.balance(account) for account in accounts) == TOTAL_SUPPLY
    use = demand(mint.chain)
    assert (use.fees_collected, use.fees_claimed, use.inferences, use.batches) == (0, 0, 0, 0)
    assert 0 < use.gas_paid < 10**18
