"""A vote changes the fee split, the next batch pays by it, and not a wei of the supply is lost."""

from __future__ import annotations

import pytest

from openledger.governance import ProposalState, Support, carry_out, delegate, propose_parameters, vote, wrap
from openledger.primitives import TOTAL_SUPPLY, WEI_PER_OPEN
from openledger.settlement import Role, TermsReader, claim, prepare
from openledger.tokenomics import FEE_VAULTS, circulation, demand

pytestmark = pytest.mark.chain


def test_a_passed_vote_changes_the_split_of_the_next_batch_and_not_of_the_last(world) -> None:
    world.answer({"ada0": 1_000_000})
    bank = world.wallet("bank")
    wrap(world.chain, bank, 6_000_000 * WEI_PER_OPEN)
    delegate(world.chain, bank)
    world.dev.warp(2)
    number = propose_parameters(world.chain, bank, {"fee.data": 550_000, "fee.host": 170_000}, "Better hosts")
    ended = carry_out(world.chain, bank, number, world.dev.warp, lambda: vote(world.chain, bank, number, Support.FOR))
    assert ended is ProposalState.EXECUTED
    before = prepare(world.chain, world.blobs, world.published).payouts
    world.answer({"ada0": 1_000_000})

    first, second = TermsReader(world.chain, world.blobs).read().batches
    assert (first.split.data, first.split.host) == (600_000, 120_000)
    assert (second.split.data, second.split.host) == (550_000, 170_000)
    after = prepare(world.chain, world.blobs, world.published).payouts
    fee = world.bodies[2][0].receipt.fee
    host = world.address("host")
    assert before.by_role(host)[Role.HOST] == fee * 12 // 100
    assert after.by_role(host)[Role.HOST] - before.by_role(host)[Role.HOST] == fee * 17 // 100


def test_the_whole_supply_is_accounted_for_after_fees_and_claims(world) -> None:
    world.answer({"ada0": 700_000, "ben1": 200_000}, {})
    paid = world.pay()
    claim(world.chain, world.wallet("ada"), world.address("ada"), paid)
    where = circulation(world.chain)
    used = demand(world.chain)
    contracts = {world.chain.address(name) for name in world.chain.deployment.addresses}
    names = ["bank", "host", "ada", "ben", "owner", "builder", "consumer", "settler", "guardian"]
    names += ["rosa", "saul", "tess", "vera", "walt", "genesis"]
    people = {world.address(name) for name in names}
    held = sum(world.chain.balance(account) for account in contracts | people | set(FEE_VAULTS))
    assert held == where.total == TOTAL_SUPPLY
    assert used.fees_collected == paid.fees == used.fees_claimed + where.undistributed
    assert used.fees_claimed == paid.earned(world.address("ada"))
    assert (used.inferences, used.batches) == (2, 1)
    assert used.gas_paid > 0
    assert where.staked == 14_000 * WEI_PER_OPEN
    assert where.escrowed == 100 * WEI_PER_OPEN - paid.fees
