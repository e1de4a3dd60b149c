"""Challenges on a real chain: a wrong receipt is never paid, a right one is, and whoever was wrong pays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.primitives import WEI_PER_OPEN, InputError, NotFoundError, RevertError, VerificationError
from openledger.settlement import (
    DisputeState,
    Hold,
    Juror,
    RootState,
    activate,
    answer,
    challenge_receipt,
    challenge_root,
    check_root,
    claim,
    dispute,
    disputes,
    draw_jury,
    holder_of,
    prepare,
    propose_root,
    resolve,
    root_state,
    rotate,
    set_claimer,
    sign_link,
)
from tests.settlement.conftest import VALIDATORS

pytestmark = pytest.mark.chain

BOND = 100 * WEI_PER_OPEN


def truth(world):
    """What an honest recomputation finds: everything is the base model's."""

    def recompute(body, private):
        return replace(world.honest(body, private), shares=(), residual_ppm=1_000_000)

    return recompute


def challenge(world, body):
    return challenge_receipt(
        world.chain, world.blobs, world.wallet("ben"), body, "ada is credited for nothing", (), 1_000_000
    )


def judge(world, number, recompute):
    """The whole jury commits what it recomputes, reveals it, and somebody ends the round."""
    draw_jury(world.chain, world.wallet("bank"), number)
    found = dispute(world.chain, number)
    jurors = {
        name: Juror(world.chain, world.wallet(name), world.validator(name, recompute))
        for name in VALIDATORS
        if world.address(name) in found.jury
    }
    assert len(jurors) == len(found.jury) == 2
    verdicts = {name: bool(juror.problems(found)) for name, juror in jurors.items()}
    for name, juror in jurors.items():
        juror.commit(number, verdicts[name])
    for name, juror in jurors.items():
        juror.reveal(number, verdicts[name])
    return resolve(world.chain, world.wallet("bank"), number)


def test_a_wrong_receipt_is_challenged_judged_and_never_paid(world) -> None:
    world.answer({"ada0": 600_000})
    early = world.settle()
    body = world.bodies[1][0]
    opened = challenge(world, body)
    assert (opened.state, opened.accused, opened.bond) == (DisputeState.OPEN, world.address("host"), BOND)
    assert world.blobs.get_json(opened.evidence)["why"] == "ada is credited for nothing"

    document = prepare(world.chain, world.blobs, world.published)
    assert [held.reason for held in document.payouts.held] == [Hold.CHALLENGED]
    world.dev.warp(3_601)
    with pytest.raises(RevertError) as refused:
        activate(world.chain, world.wallet("bank"), early.number)
    assert refused.value.name == "RootIsHeld"


def test_the_jurys_verdict_disables_the_batch_and_the_root_that_counted_it(world) -> None:
    world.answer({"ada0": 600_000})
    early = world.settle()
    opened = challenge(world, world.bodies[1][0])
    answer(world.chain, world.wallet("host"), opened.number)
    before = world.chain.balance(world.address("ben"))
    ended = judge(world, opened.number, truth(world))
    assert ended.state is DisputeState.UPHELD
    # The bond back, and half of the counter-bond and of the 500 OPEN taken from the host's stake.
    assert world.chain.balance(world.address("ben")) - before == BOND + 300 * WEI_PER_OPEN
    assert root_state(world.chain, early.number) is RootState.DISABLED
    root = world.settle()
    document = check_root(world.chain, world.blobs, root)
    assert document.previous is None
    assert [held.reason for held in document.payouts.held] == [Hold.DISABLED]
    assert document.payouts.total == 0
    with pytest.raises(RevertError) as refused:
        challenge(world, world.bodies[1][0])
    assert refused.value.name == "BatchAlreadyDisabled"


def test_a_right_receipt_is_paid_after_the_challenge_and_the_challenger_pays(world) -> None:
    world.answer({"ada0": 600_000})
    opened = challenge(world, world.bodies[1][0])
    answer(world.chain, world.wallet("host"), opened.number)
    ended = judge(world, opened.number, world.honest)
    assert ended.state is DisputeState.REJECTED
    assert ended.rejects == 2
    paid = world.pay()
    assert paid.held == ()
    assert paid.earned(world.address("ada")) > 0
    assert [found.state for found in disputes(world.chain)] == [DisputeState.REJECTED]


def test_a_challenge_that_nobody_answers_is_upheld(world) -> None:
    world.answer({"ada0": 600_000})
    opened = challenge(world, world.bodies[1][0])
    with pytest.raises(RevertError) as refused:
        resolve(world.chain, world.wallet("bank"), opened.number)
    assert refused.value.name == "AnswerTimeRunning"
    world.dev.warp(3_601)
    assert resolve(world.chain, world.wallet("bank"), opened.number).state is DisputeState.UPHELD


def test_a_root_computed_before_a_challenge_and_proposed_after_it_is_wrong(world) -> None:
    world.answer({"ada0": 600_000})
    stale = prepare(world.chain, world.blobs, world.published)
    challenge(world, world.bodies[1][0])
    root = propose_root(world.chain, world.wallet("settler"), stale)
    with pytest.raises(VerificationError, match="was challenged in block"):
        check_root(world.chain, world.blobs, root)
    opened = challenge_root(world.chain, world.blobs, world.wallet("ada"), root.number, "it is stale")
    answer(world.chain, world.wallet("settler"), opened.number)
    assert judge(world, opened.number, world.honest).state is DisputeState.UPHELD
    assert root_state(world.chain, root.number) is RootState.DISABLED


def test_the_validators_of_a_batch_are_drawn_as_soon_as_it_is_posted(world) -> None:
    world.answer({"ada0": 600_000})
    assert world.validator("vera").is_drawn(1)
    assert world.validator("walt").is_drawn(1)
    assert not world.validator("ben").is_drawn(1)


def test_there_is_nothing_to_dispute_in_a_receipts_own_shares(world) -> None:
    world.answer({"ada0": 600_000})
    body = world.bodies[1][0]
    with pytest.raises(InputError, match="nothing to dispute"):
        challenge_receipt(world.chain, world.blobs, world.wallet("ben"), body, "wrong", body.shares, body.residual_ppm)
    with pytest.raises(InputError):
        challenge_receipt(world.chain, world.blobs, world.wallet("ben"), body, "wrong", (), 999_999)
    with pytest.raises(NotFoundError, match="no dispute 1"):
        dispute(world.chain, 1)


def test_a_contributor_moves_to_a_new_wallet_without_losing_credit(world) -> None:
    world.answer({"ada0": 1_000_000})
    payouts = world.pay()
    ada, new = world.wallet("ada"), world.wallet("ada-new")
    world.chain.transfer(world.wallet("bank"), new.address, WEI_PER_OPEN)
    link, signature = sign_link(world.chain, ada, new.address)
    with pytest.raises(InputError, match="made out to"):
        rotate(world.chain, world.wallet("ben"), link, signature)
    rotate(world.chain, new, link, signature)
    assert holder_of(world.chain, ada.address) == new.address
    before = world.chain.balance(new.address)
    earned = claim(world.chain, world.wallet("bank"), ada.address, payouts)
    assert world.chain.balance(new.address) - before == earned == payouts.earned(ada.address)
    with pytest.raises(RevertError) as refused:
        rotate(world.chain, new, link, signature)
    assert refused.value.name == "AlreadyRotated"
    with pytest.raises(InputError, match="cannot follow itself"):
        sign_link(world.chain, ada, ada.address)


def test_a_claimer_claims_to_the_wallet_that_it_likes(world) -> None:
    world.answer({"ada0": 1_000_000})
    payouts = world.pay()
    ada, cold = world.address("ada"), world.address("ada-cold")
    set_claimer(world.chain, world.wallet("ada"), ada, world.address("ben"))
    with pytest.raises(RevertError) as refused:
        claim(world.chain, world.wallet("bank"), ada, payouts)
    assert refused.value.name == "NotClaimer"
    claim(world.chain, world.wallet("ben"), ada, payouts, to=cold)
    assert world.chain.balance(cold) == payouts.earned(ada)
