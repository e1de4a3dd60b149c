"""Holders change the network by vote, on a real chain, and anyone can read what a vote will do."""

from __future__ import annotations

import pytest

from openledger.governance import (
    ProposalState,
    Support,
    Unit,
    carry_out,
    delegate,
    describe,
    execute,
    parameter,
    parameters,
    proposal,
    proposals,
    propose,
    propose_model_approval,
    propose_parameter,
    propose_parameters,
    queue,
    state,
    unwrap,
    vote,
    voters,
    voting_power,
    wrap,
)
from openledger.primitives import PPM, WEI_PER_OPEN, InputError, NotFoundError, RevertError

pytestmark = pytest.mark.chain

MILLION = 10**6 * WEI_PER_OPEN


def vote_for(town, *names: str, support: Support = Support.FOR):
    """What casts the votes of ``names`` in :func:`carry_out`."""
    number = proposals(town.chain)[0].number
    return lambda: [vote(town.chain, town.wallet(name), number, support) for name in names]


def test_a_passed_vote_changes_the_parameter_and_nothing_else(town) -> None:
    before = {entry.key: entry.value for entry in parameters(town.chain)}
    number = propose_parameter(
        town.chain, town.wallet("whale"), "fee.host", 100_000, "# Cheaper hosts\nBecause we can."
    )
    assert state(town.chain, number) is ProposalState.PENDING
    ended = carry_out(town.chain, town.wallet("shrimp"), number, town.wait, vote_for(town, "whale", "shrimp"))
    assert ended is ProposalState.EXECUTED
    assert {entry.key: entry.value for entry in parameters(town.chain)} == before | {"fee.host": 100_000}
    assert "fee.host" in proposal(town.chain, number).changes
    assert "12% → 10% (100000 ppm)" in proposal(town.chain, number).changes


def test_an_executed_proposal_still_says_what_it_replaced_after_a_later_one(town) -> None:
    numbers = []
    for value in (110_000, 100_000):
        numbers.append(propose_parameter(town.chain, town.wallet("whale"), "fee.host", value, f"Hosts at {value}"))
        votes = vote_for(town, "whale")
        carry_out(town.chain, town.wallet("whale"), numbers[-1], town.wait, votes)
    assert "12% → 11%" in proposal(town.chain, numbers[0]).changes
    assert "11% → 10%" in proposal(town.chain, numbers[1]).changes


def test_each_step_waits_for_its_time_and_its_votes(town) -> None:
    chain, whale = town.chain, town.wallet("whale")
    number = propose_parameter(chain, whale, "bond.record", WEI_PER_OPEN, "A higher bond")
    with pytest.raises(RevertError) as refused:
        vote(chain, whale, number, Support.FOR)
    assert refused.value.name == "GovernorUnexpectedProposalState"
    town.wait(31)
    assert proposal(chain, number).state is ProposalState.ACTIVE
    assert vote(chain, whale, number, Support.FOR, "more care") == 6 * MILLION
    with pytest.raises(RevertError) as refused:
        vote(chain, whale, number, Support.FOR)
    assert refused.value.name == "GovernorAlreadyCastVote"
    with pytest.raises(RevertError):
        queue(chain, whale, number)
    town.wait(400)
    eta = queue(chain, whale, number)
    assert proposal(chain, number).eta == eta
    with pytest.raises(RevertError) as refused:
        execute(chain, whale, number)
    assert refused.value.name == "TimelockUnexpectedOperationState"
    town.wait(61)
    execute(chain, town.wallet("shrimp"), number)
    assert parameter(chain, "bond.record").value == WEI_PER_OPEN


def test_a_proposal_without_the_quorum_is_defeated(town) -> None:
    number = propose_parameter(town.chain, town.wallet("shrimp"), "fee.host", 0, "No pay for hosts")
    ended = carry_out(town.chain, town.wallet("whale"), number, town.wait, vote_for(town, "shrimp"))
    assert ended is ProposalState.DEFEATED
    found = proposal(town.chain, number)
    assert (found.votes_for, found.quorum) == (2 * MILLION, 5 * MILLION)
    assert parameter(town.chain, "fee.host").value == 120_000


def test_a_proposal_that_most_votes_are_against_is_defeated(town) -> None:
    number = propose_parameter(town.chain, town.wallet("shrimp"), "fee.host", 0, "No pay for hosts")

    def votes() -> None:
        vote(town.chain, town.wallet("shrimp"), number, Support.FOR)
        vote(town.chain, town.wallet("whale"), number, Support.AGAINST)

    assert carry_out(town.chain, town.wallet("whale"), number, town.wait, votes) is ProposalState.DEFEATED
    assert proposal(town.chain, number).votes_against == 6 * MILLION


def test_a_proposal_says_in_words_what_it_changes(town) -> None:
    number = propose_parameters(
        town.chain,
        town.wallet("whale"),
        {"fee.data": 550_000, "fee.host": 170_000},
        "# Better hosts\n\nFaster answers.",
    )
    found = proposals(town.chain)[0]
    assert found.number == number
    assert found.title == "Better hosts"
    assert found.proposer == town.wallet("whale").address
    assert found.changes == (
        "set fee.data, part of every fee that goes to the people whose data shaped the answer: 60% → 55% (550000 ppm); "
        "set fee.host, part of every fee that goes to the host that answered: 12% → 17% (170000 ppm)"
    )
    assert (found.state, found.quorum, found.eta) == (ProposalState.PENDING, 0, 0)
    assert found.created < found.vote_start < found.vote_end


def test_several_parameters_change_in_one_vote_if_each_step_keeps_the_rules(town) -> None:
    values = {"fee.data": 550_000, "fee.host": 170_000}
    number = propose_parameters(town.chain, town.wallet("whale"), values, "Better hosts")
    carry_out(town.chain, town.wallet("whale"), number, town.wait, vote_for(town, "whale"))
    assert {key: parameter(town.chain, key).value for key in values} == values


def test_fee_shares_can_never_be_more_than_the_fee(town) -> None:
    number = propose_parameter(town.chain, town.wallet("whale"), "fee.data", PPM, "All to the data")
    with pytest.raises(RevertError) as refused:
        carry_out(town.chain, town.wallet("whale"), number, town.wait, vote_for(town, "whale"))
    assert refused.value.name == "FeeSharesExceedWhole"
    assert parameter(town.chain, "fee.data").value == 600_000
    assert state(town.chain, number) is ProposalState.QUEUED


def test_a_value_out_of_bounds_or_an_unknown_name_is_refused_before_anything_is_sent(town) -> None:
    with pytest.raises(InputError, match=r"review\.jury cannot be 16; it may be 1 to 9"):
        propose_parameter(town.chain, town.wallet("whale"), "review.jury", 16, "A crowd")
    with pytest.raises(InputError, match=r"no parameter 'fee\.dta'; there are fee\.data, "):
        propose_parameter(town.chain, town.wallet("whale"), "fee.dta", 1, "A slip")
    with pytest.raises(InputError, match="a description"):
        propose_parameter(town.chain, town.wallet("whale"), "review.jury", 5, " ")
    assert proposals(town.chain) == []


def test_who_holds_too_few_votes_cannot_propose(town) -> None:
    with pytest.raises(RevertError) as refused:
        propose_parameter(town.chain, town.wallet("bank"), "review.jury", 5, "More jurors")
    assert refused.value.name == "GovernorInsufficientProposerVotes"


def test_nobody_sets_a_parameter_without_a_vote(town) -> None:
    with pytest.raises(RevertError) as refused:
        town.chain.send(
            town.wallet("whale"),
            town.chain.contract("RuntimeParameters").functions.set(b"fee.data".ljust(32, b"\0"), 0),
        )
    assert refused.value.name == "AccessManagedUnauthorized"


def test_votes_follow_the_delegation_and_gopen_is_open_again_at_any_time(town) -> None:
    chain, whale, shrimp = town.chain, town.wallet("whale"), town.wallet("shrimp")
    assert [(power.account, power.votes) for power in voters(chain)] == [
        (whale.address, 6 * MILLION),
        (shrimp.address, 2 * MILLION),
    ]
    delegate(chain, shrimp, whale.address)
    assert [power.votes for power in voters(chain)] == [8 * MILLION]
    assert voting_power(chain, shrimp.address).delegate == whale.address
    before = chain.balance(shrimp.address)
    unwrap(chain, shrimp, 2 * MILLION)
    assert chain.balance(shrimp.address) > before + 2 * MILLION - WEI_PER_OPEN
    assert [power.votes for power in voters(chain)] == [6 * MILLION]
    assert chain.balance(chain.address("GOPEN")) == 6 * MILLION


def test_wrapping_gives_no_vote_before_it_is_delegated(town) -> None:
    wrap(town.chain, town.wallet("bank"), MILLION)
    power = voting_power(town.chain, town.wallet("bank").address)
    assert (power.balance, power.votes) == (MILLION, 0)


def test_the_treasury_pays_what_a_vote_decides(town) -> None:
    chain, receiver = town.chain, town.wallet("grantee").address
    assert describe(chain, receiver, 7 * WEI_PER_OPEN, b"") == f"send 7 OPEN to {receiver}"
    number = propose(chain, town.wallet("whale"), [(receiver, 7 * WEI_PER_OPEN, b"")], "A grant")
    carry_out(chain, town.wallet("whale"), number, town.wait, vote_for(town, "whale"))
    assert chain.balance(receiver) == 7 * WEI_PER_OPEN


def test_calls_of_other_contracts_are_described_by_their_names(town) -> None:
    builder, registry = town.wallet("whale"), town.chain.contract("ModelRegistry").functions
    some = bytes(31) + b"\1"
    town.chain.send(builder, registry.register((some, some, bytes(32), some, some, some, 0, 0, 1, 2, "", 0, 0, 0)))
    number = propose_model_approval(town.chain, builder, 1, "Approve model 1")
    assert proposal(town.chain, number).changes == (
        f"call ModelRegistry.evaluate(id=1, evaluationHash=0x{some.hex()}); call ModelRegistry.approve(id=1)"
    )
    with pytest.raises(RevertError, match="UnknownModel"):
        propose_model_approval(town.chain, builder, 3, "Approve model 3")
    stranger = town.wallet("stranger").address
    assert describe(town.chain, stranger, 0, b"\x12\x34\x56\x78") == f"call {stranger} with data 0x12345678"
    assert describe(town.chain, town.chain.address("GOPEN"), 0, b"\x12\x34") == (
        "call GOPEN with data that it does not understand, 0x1234 (this will fail)"
    )


def test_an_unknown_proposal_is_said_to_be_unknown(town) -> None:
    with pytest.raises(NotFoundError, match="no proposal 5"):
        proposal(town.chain, 5)


def test_every_parameter_on_chain_has_a_unit_and_a_meaning_here(town) -> None:
    known = parameters(town.chain)
    assert len(known) == len({entry.key for entry in known}) >= 27
    assert not any("does not describe" in entry.description for entry in known)
    assert all(entry.minimum <= entry.value <= entry.maximum for entry in known)
    assert {entry.unit for entry in known} == set(Unit)
