"""From a question to money in wallets, on a real chain: every step, and everyone who could check it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.chain import Role as StakeRole
from openledger.primitives import (
    WEI_PER_OPEN,
    InputError,
    NotFoundError,
    PaymentError,
    RevertError,
    VerificationError,
    Voucher,
    record_hash,
    sign,
    to_hex,
)
from openledger.settlement import (
    Hold,
    PayoutDocument,
    Payouts,
    PlainSources,
    RootState,
    SignedVoucher,
    TermsReader,
    VerificationReport,
    VoucherSigner,
    activate,
    active_payouts,
    admit,
    check_root,
    claim,
    disable,
    earnings,
    leaves_of,
    load_document,
    newest_root,
    post_batch,
    prepare,
    proof_from_chain,
    propose_root,
    proposed_roots,
    recompute,
    redeem,
    request_withdrawal,
    root_state,
    set_session_key,
    settled_receipts,
    shares_root,
    sign_receipt,
    verify_receipt,
    version_root,
    withdraw,
)
from openledger.settlement import Role as Earner

pytestmark = pytest.mark.chain

ASKED = ({"ada0": 600_000, "ben1": 100_000}, {}, {"ben0": 1_000_000})


def verify(world, body, **changes) -> VerificationReport:
    domain = world.chain.domain("InferenceLedger")
    sources = PlainSources(
        world.chain, world.blobs,
        receipts=lambda _: body,
        privates=lambda digest: world.privates[digest],
        recomputer=world.honest,
    )  # fmt: skip
    return verify_receipt(body.digest(domain), replace(sources, **changes))


def test_deposit_voucher_receipts_batch_attestation_root_claim_and_verification(world) -> None:
    posted = world.answer(*ASKED)
    assert (posted.number, posted.first_sequence, posted.count) == (1, 0, 3)
    collected = world.chain.call(world.chain.contract("RewardsDistributor").functions.totalCollected())
    assert collected == sum(body.receipt.fee for body in world.bodies[1]) == 3 * WEI_PER_OPEN // 100

    for name in ("vera", "walt"):
        report = world.validator(name).attest(1)
        assert report.valid
        assert len(report.sampled) == 3
    root = world.settle()
    assert root_state(world.chain, root.number) is RootState.PENDING
    with pytest.raises(RevertError) as refused:
        activate(world.chain, world.wallet("bank"), root.number)
    assert refused.value.name == "RootNotReady"
    world.validator("vera").attest_root(root)
    world.validator("walt").attest_root(root)
    assert root_state(world.chain, root.number) is RootState.READY
    activate(world.chain, world.wallet("bank"), root.number)
    assert root_state(world.chain, root.number) is RootState.ACTIVE

    paid = active_payouts(world.chain, world.blobs)
    assert paid.fees == collected == paid.total + paid.dust
    assert (paid.receipts, paid.held) == (3, ())
    drawn = 0
    for account, wei in paid.accounts:
        before = world.chain.balance(account)
        assert claim(world.chain, world.wallet("bank"), account, paid) == wei
        assert world.chain.balance(account) - before == wei
        assert earnings(world.chain, account, paid).claimable == 0
        drawn += wei
    assert world.chain.balance(world.chain.address("RewardsDistributor")) == paid.dust == collected - drawn

    for body in world.bodies[1]:
        report = verify(world, body)
        assert report.ok, [check for check in report.checks if not check.ok]
        assert report.complete
        assert len(report.checks) == 11


def test_everyone_is_paid_by_the_rule_to_the_wei(world) -> None:
    world.answer(*ASKED)
    paid = world.pay()
    fee = world.bodies[1][0].receipt.fee
    data = fee * 6 // 10
    by_influence, by_rows = data // 2, data // 2
    ada, ben = (paid.by_role(world.address(name)) for name in ("ada", "ben"))
    assert ada == {Earner.CONTRIBUTOR: by_influence * 6 // 10 + 3 * by_rows * 2 // 4}
    assert ben == {Earner.CONTRIBUTOR: by_influence // 10 + by_influence + 3 * by_rows * 2 // 4}
    assert paid.by_role(world.address("builder")) == {Earner.BUILDER: 3 * (fee * 15 // 100)}
    assert paid.by_role(world.address("host")) == {Earner.HOST: 3 * (fee * 12 // 100)}
    assert {paid.by_role(world.address(name))[Earner.VALIDATOR] for name in ("vera", "walt")} == {
        3 * (fee * 5 // 100) // 2
    }
    curators = {name: paid.by_role(world.address(name))[Earner.CURATOR] for name in ("rosa", "saul", "tess")}
    assert curators["rosa"] == curators["saul"] > curators["tess"] > 0
    assert paid.by_role()[Earner.BASE_MODEL] == by_influence * 3 // 10 + by_influence
    assert paid.by_role()[Earner.TREASURY] == 3 * (fee * 3 // 100)


def test_a_stranger_recomputes_the_payouts_from_chain_and_blobs_alone(world) -> None:
    world.answer(*ASKED)
    world.pay()
    world.answer({"ada2": 500_000})
    paid = world.pay()
    stranger = type(world.chain)(world.dev.rpc_url, world.chain.deployment)
    root = newest_root(stranger)
    assert root is not None
    document = check_root(stranger, world.blobs, root)
    assert recompute(stranger, world.blobs, document) == document
    assert document.payouts == paid
    assert {number: len(bodies) for number, bodies in settled_receipts(stranger, world.blobs).items()} == {1: 3, 2: 1}
    assert [found.number for found in proposed_roots(stranger)] == [1, 2]


def test_later_settlements_add_to_what_was_earned(world) -> None:
    world.answer({"ada0": 1_000_000})
    first = world.pay()
    claim(world.chain, world.wallet("ada"), world.address("ada"), first)
    world.answer({"ada0": 1_000_000}, {"ben0": 1_000_000})
    second = world.pay()
    assert second.fees == 3 * first.fees
    standing = earnings(world.chain, world.address("ada"), second)
    assert standing.claimed == first.earned(world.address("ada"))
    assert claim(world.chain, world.wallet("ada"), world.address("ada"), second) == standing.claimable > 0
    with pytest.raises(NotFoundError, match="has claimed all"):
        claim(world.chain, world.wallet("ada"), world.address("ada"), second)


def test_a_claim_against_payouts_that_are_not_active_is_refused_by_the_contract(world) -> None:
    world.answer({"ada0": 1_000_000})
    paid = world.pay()
    invented = replace(paid, lines={**paid.lines, (world.address("ben"), Earner.CONTRIBUTOR): 10**18})
    with pytest.raises(RevertError) as refused:
        claim(world.chain, world.wallet("ben"), world.address("ben"), invented)
    assert refused.value.name == "InvalidProof"
    with pytest.raises(InputError, match="has earned nothing yet"):
        claim(world.chain, world.wallet("bank"), world.address("bank"), paid)


def test_a_tampered_share_is_found_by_the_validator_and_its_batch_waits(world) -> None:
    first = [world.ask({"ada0": 600_000}, 0), world.ask({"ben0": 900_000}, 1)]
    world.post(first)
    world.redeem()

    def recompute_truly(body, private):
        true = dict(body.shares)
        stolen = world.records()["ben0"]
        if stolen in true:
            true = {world.records()["ada0"]: true[stolen]}
        return replace(world.honest(body, private), shares=tuple(true.items()))

    report = world.validator("vera", recompute_truly).attest(1)
    assert not report.valid
    problems = [finding.problem for finding in report.findings]
    assert f"the share of {to_hex(world.records()['ben0'])} is 900,000 ppm too high" in problems
    assert f"the share of {to_hex(world.records()['ada0'])} is 900,000 ppm too low" in problems
    assert {finding.sequence for finding in report.findings} == {1}

    document = prepare(world.chain, world.blobs, world.published)
    assert [held.reason for held in document.payouts.held] == [Hold.DISPUTED] * 2
    assert document.payouts.total == 0
    found = verify(world, first[1], recomputer=recompute_truly).check("influence")
    assert found.ok is False
    assert "+900,000 ppm off" in found.difference


def test_shares_changed_after_posting_are_not_what_the_chain_holds(world) -> None:
    world.answer({"ada0": 600_000}, {"ben0": 600_000})
    forged = replace(world.bodies[1][0], shares=((world.records()["ben0"], 600_000),))
    report = verify(world, forged)
    assert not report.ok
    assert report.check("shares root").ok is False
    world.bodies[1] = [forged, world.bodies[1][1]]
    document = prepare(world.chain, world.blobs, world.published)
    assert [(held.sequence, held.reason) for held in document.payouts.held] == [(0, Hold.UNPUBLISHED)]
    leaves, _ = leaves_of(world.chain, 1)
    admitted, refused = admit(world.bodies[1], world.address("host"), 0, leaves, world.chain.domain("InferenceLedger"))
    assert [body.receipt.sequence for body in admitted] == [1]
    assert "the shares were changed after signing" in refused[0]


def test_another_receipt_signed_for_the_same_place_is_not_settled(world) -> None:
    world.answer({"ada0": 600_000})
    honest = world.bodies[1][0]
    shares = ((world.records()["ben0"], 900_000),)
    other = replace(honest.receipt, shares_root=shares_root(shares, 100_000))
    domain = world.chain.domain("InferenceLedger")
    second = sign_receipt(other, domain, world.wallet("host"), shares, 100_000, honest.private_hash)
    leaves, _ = leaves_of(world.chain, 1)
    assert admit([honest], world.address("host"), 0, leaves, domain) == ([honest], {})
    admitted, refused = admit([second], world.address("host"), 0, leaves, domain)
    assert admitted == []
    assert "the chain holds" in refused[0]
    for elsewhere in (
        admit([honest], world.address("ada"), 0, leaves, domain),
        admit([honest], world.address("host"), 1, leaves, domain),
    ):
        assert elsewhere[0] == []
        assert "not among the 1 receipts" in elsewhere[1][0]


def test_a_changed_answer_fee_or_signature_is_named_by_the_check_that_finds_it(world) -> None:
    world.answer({"ada0": 600_000})
    world.pay()
    body = world.bodies[1][0]
    private = world.privates[body.private_hash]
    assert (
        verify(world, body, privates=lambda _: replace(private, output="It was so.")).check("output hash").ok is False
    )
    asked = replace(private, prompt={"question": "What else?"})
    assert verify(world, body, privates=lambda _: asked).check("prompt hash").ok is False
    dearer = replace(body, receipt=replace(body.receipt, fee=body.receipt.fee + 1))
    checks = {check.name: check.ok for check in verify(world, dearer).checks}
    assert not any(checks[name] for name in ("signature", "inclusion on chain", "fee", "payout"))
    assert all(checks[name] for name in ("shares root", "shares sum", "prompt hash", "output hash", "influence"))


def test_what_cannot_be_seen_is_left_open_and_said(world) -> None:
    world.answer({"ada0": 600_000})
    report = verify(world, world.bodies[1][0], privates=None)
    assert report.ok
    assert not report.complete
    open_checks = {check.name: check.difference for check in report.checks if check.ok is None}
    assert set(open_checks) == {"prompt hash", "output hash", "answer", "influence", "payout"}
    assert "not in a payout root yet" in open_checks["payout"]
    assert "the consumer and to validators only" in open_checks["answer"]


def test_a_receipt_that_was_never_posted_is_not_on_chain(world) -> None:
    body = world.ask({"ada0": 1}, 0)
    report = verify(world, body)
    assert report.check("inclusion on chain").ok is None
    assert "post its batch first" in report.check("inclusion on chain").difference


def test_every_receipt_is_proven_from_calldata_alone(world) -> None:
    posted = world.answer(*[{}] * 7)
    domain = world.chain.domain("InferenceLedger")
    for sequence, body in enumerate(world.bodies[1]):
        proof = proof_from_chain(world.chain, world.address("host"), sequence)
        assert proof.holds()
        assert (proof.batch, proof.index, proof.root) == (1, sequence, posted.root)
        assert proof.leaf == body.digest(domain)[:24]
    with pytest.raises(NotFoundError, match="receipt 7 of host"):
        proof_from_chain(world.chain, world.address("host"), 7)
    with pytest.raises(NotFoundError, match="no batch 2"):
        leaves_of(world.chain, 2)


def test_receipts_are_posted_in_order_by_their_own_host(world) -> None:
    one, two = world.ask({}, 0), world.ask({}, 1)
    for wrong, message in (([], "no receipt"), ([two], "expects 0"), ([two, one], "expects 0")):
        with pytest.raises(InputError, match=message):
            post_batch(world.chain, world.wallet("host"), wrong)
    with pytest.raises(InputError, match="posts its own only"):
        post_batch(world.chain, world.wallet("vera"), [one])


def test_an_account_without_a_hosts_stake_cannot_post(world) -> None:
    world.send("host", "StakeManager", "requestUnstake", 3, 1_000 * WEI_PER_OPEN)
    with pytest.raises(RevertError) as refused:
        world.post([world.ask({}, 0)])
    assert refused.value.name == "HostNotActive"


def test_receipts_without_a_redeemed_voucher_wait_and_are_paid_after_redemption(world) -> None:
    world.post([world.ask({"ada0": 1_000_000}, 0)])
    waiting = prepare(world.chain, world.blobs, world.published)
    assert [held.reason for held in waiting.payouts.held] == [Hold.NOT_COLLECTED]
    propose_root(world.chain, world.wallet("settler"), waiting)
    world.redeem()
    paid = prepare(world.chain, world.blobs, world.published).payouts
    assert (paid.receipts, paid.held) == (1, ())


def test_a_receipt_whose_body_is_withheld_waits_alone(world) -> None:
    world.answer({"ada0": 1_000_000}, {"ben0": 1_000_000})
    shown, withheld = world.bodies[1]
    world.bodies[1] = [shown]
    first = prepare(world.chain, world.blobs, world.published)
    assert [(held.sequence, held.reason) for held in first.payouts.held] == [(1, Hold.UNPUBLISHED)]
    propose_root(world.chain, world.wallet("settler"), first)
    report = world.validator("vera").inspect(1)
    assert [finding.problem for finding in report.findings] == ["the host does not show its body"]
    world.bodies[1] = [shown, withheld]
    second = prepare(world.chain, world.blobs, world.published)
    assert (second.payouts.receipts, second.payouts.held) == (2, ())
    assert recompute(world.chain, world.blobs, second) == second


def test_a_validator_refuses_a_root_that_pays_the_wrong_person(world) -> None:
    world.answer({"ada0": 1_000_000})
    right = prepare(world.chain, world.blobs, world.published)
    ada, eve = (world.address("ada"), Earner.CONTRIBUTOR), (world.address("bank"), Earner.CONTRIBUTOR)
    lines = {**right.payouts.lines, eve: right.payouts.lines[ada]}
    del lines[ada]
    wrong = replace(right, payouts=replace(right.payouts, lines=lines))
    world.blobs.put_json(wrong.to_json())
    root = propose_root(world.chain, world.wallet("settler"), wrong)
    with pytest.raises(VerificationError, match=r"payout root 1 is wrong: .* too much"):
        world.validator("vera").attest_root(root)
    assert not world.chain.call(
        world.chain.contract("RewardsDistributor").functions.hasAttested(root.number, world.address("vera"))
    )
    disable(world.chain, world.wallet("guardian"), root.number)
    assert root_state(world.chain, root.number) is RootState.DISABLED
    again = world.settle()
    assert check_root(world.chain, world.blobs, again).payouts.lines == right.payouts.lines


def test_a_document_that_contradicts_its_root_or_its_place_is_refused(world) -> None:
    world.answer({"ada0": 1_000_000})
    right = prepare(world.chain, world.blobs, world.published)
    late = replace(right, as_of_block=right.as_of_block + 50)
    world.blobs.put_json(late.to_json())
    with pytest.raises(VerificationError, match="claims to know block"):
        check_root(world.chain, world.blobs, propose_root(world.chain, world.wallet("settler"), late))
    detached = replace(right, previous=None)
    world.blobs.put_json(detached.to_json())
    with pytest.raises(VerificationError, match="continues no document; the newest root before it"):
        check_root(world.chain, world.blobs, propose_root(world.chain, world.wallet("settler"), detached))
    elsewhere = replace(right, chain_id=1612)
    with pytest.raises(VerificationError, match="on chain 1612, not for"):
        recompute(world.chain, world.blobs, elsewhere)


def test_an_edited_payout_document_contradicts_itself(world) -> None:
    world.answer({"ada0": 1_000_000})
    document = prepare(world.chain, world.blobs, world.published)
    assert load_document(world.blobs, document.digest()) == document
    edited = document.to_json()
    edited["lines"][0][2] = str(int(edited["lines"][0][2]) + 1)
    with pytest.raises(VerificationError, match="do not trust this document"):
        PayoutDocument.from_json(edited)


def test_a_root_that_promises_more_than_was_collected_is_not_even_sent(world) -> None:
    world.answer({"ada0": 1_000_000})
    document = prepare(world.chain, world.blobs, world.published)
    greedy = replace(
        document, payouts=replace(document.payouts, lines={(world.address("bank"), Earner.HOST): 10**18}, fees=10**18)
    )
    with pytest.raises(PaymentError, match="redeem the vouchers first"):
        propose_root(world.chain, world.wallet("settler"), greedy)


def test_an_older_root_gives_way_to_a_newer_one(world) -> None:
    world.answer({"ada0": 1_000_000})
    older = world.settle()
    world.answer({"ada0": 1_000_000})
    newer = world.settle()
    for name in ("vera", "walt"):
        world.validator(name).attest_root(newer)
    activate(world.chain, world.wallet("bank"), newer.number)
    assert [root_state(world.chain, root.number) for root in (older, newer)] == [RootState.SUPERSEDED, RootState.ACTIVE]
    standing = earnings(world.chain, world.address("ada"), Payouts(), active_payouts(world.chain, world.blobs))
    assert (standing.earned, standing.pending) == (
        0,
        active_payouts(world.chain, world.blobs).earned(world.address("ada")),
    )


def test_only_the_settler_proposes(world) -> None:
    document = prepare(world.chain, world.blobs, world.published)
    with pytest.raises(RevertError) as refused:
        propose_root(world.chain, world.wallet("host"), document)
    assert refused.value.name == "AccessManagedUnauthorized"


def test_terms_as_of_a_block_do_not_change_with_what_comes_after(world) -> None:
    world.answer({"ada0": 1_000_000})
    block = world.chain.w3.eth.block_number
    reader = TermsReader(world.chain, world.blobs)
    before = reader.read(block)
    world.validator("vera").attest(1)
    world.answer({"ben0": 1_000_000})
    world.send("builder", "ModelRegistry", "transferFrom", world.address("builder"), world.address("bank"), 1)
    for same in (reader.read(block), TermsReader(world.chain, world.blobs).read(block)):
        assert (same.batches, same.models, same.redeemed) == (before.batches, before.models, before.redeemed)
    now = reader.read()
    assert len(now.batches) == 2
    assert now.batches[0].attestations[0].validator == world.address("vera")
    assert now.models[1].owner_at((10**9, 0)) == world.address("bank")


def test_a_missing_manifest_holds_the_models_receipts(world) -> None:
    world.answer({"ada0": 1_000_000})

    class Empty:
        def get_json(self, digest: bytes) -> object:
            raise NotFoundError(f"no blob {to_hex(digest)}")

    reader = TermsReader(world.chain, Empty())
    document = prepare(world.chain, world.blobs, world.published, reader=reader)
    assert [held.reason for held in document.payouts.held] == [Hold.UNKNOWN_VERSION]
    assert "no blob" in reader.problems[1, 1]


def test_curators_are_those_whose_revealed_verdict_accepts_the_record(world) -> None:
    version = TermsReader(world.chain, world.blobs).version(1, 1)
    names = {world.address(name): name for name in ("ada", "ben", "rosa", "saul", "tess")}
    origins = {
        label: (
            names[version.records[record].contributor],
            {names[curator] for curator in version.records[record].curators},
        )
        for label, record in world.records().items()
        if record in version.records
    }
    everyone = {"rosa", "saul", "tess"}
    assert origins == {
        "ada0": ("ada", everyone),
        "ada2": ("ada", {"rosa", "saul"}),
        "ben0": ("ben", everyone),
        "ben1": ("ben", everyone),
    }


def test_the_first_contributor_of_a_record_has_it_and_a_void_rounds_verdicts_earn_nothing(world) -> None:
    copied = {"question": "What does ada know about 0?", "answer": "0 squared is 0."}
    assert record_hash(copied) == world.records()["ada0"]
    world.submit("ben", [copied, {"question": "What is new?", "answer": "This."}], nonce=1)
    world.review(3, dict.fromkeys(("rosa", "saul", "tess"), 0b11), shown=["rosa"])
    world.send("rosa", "StakeManager", "requestUnstake", StakeRole.REVIEWER, 1_000 * WEI_PER_OPEN)
    world.chain.transfer(world.wallet("bank"), world.address("uma"), 2_000 * WEI_PER_OPEN)
    for name, amount in (("saul", 10), ("tess", 10), ("uma", 1_000)):
        world.send(name, "StakeManager", "stake", StakeRole.REVIEWER, value=amount * WEI_PER_OPEN)
    world.send("bank", "DatanetRegistry", "openReview", 3)
    world.review(3, dict.fromkeys(("saul", "tess", "uma"), 0b11), shown=("saul", "tess", "uma"))
    reader = TermsReader(world.chain, world.blobs)
    (reviewed,) = reader.contributions([3])
    assert {origin.curators for origin in reviewed.origins().values()} == {
        tuple(sorted(world.address(name) for name in ("saul", "tess", "uma")))
    }
    removing_ada1 = world.blobs.put_json({"removed": [to_hex(world.records()["ada1"])]})
    hashes = sorted({*reader.version(1, 1).records, *reviewed.origins()})
    assert len(hashes) == 5
    world.send("owner", "DatanetRegistry", "anchorVersion", 1, version_root(hashes), 5, [1, 2, 3], removing_ada1)
    version = TermsReader(world.chain, world.blobs).version(1, 2)
    assert version.records[world.records()["ada0"]].contributor == world.address("ada")
    assert version.rows_by_contributor == {world.address("ada"): 2, world.address("ben"): 3}


def test_a_session_key_pays_within_its_cap_and_the_host_redeems_it(world) -> None:
    consumer, key, host = world.wallet("consumer"), world.wallet("api-key"), world.wallet("host")
    cap = WEI_PER_OPEN // 10
    set_session_key(world.chain, consumer, key.address, cap, world.chain.time() + 10_000)
    signer = VoucherSigner(key, consumer.address, host.address, world.chain.domain("FeeEscrow"))
    signed = signer.raise_by(cap)
    world.book.accept(signed, cap)
    assert redeem(world.chain, host, signed) == cap
    over = signer.raise_by(1)
    with pytest.raises(PaymentError, match="raise its cap"):
        world.book.accept(over, 1)
    with pytest.raises(RevertError) as refused:
        redeem(world.chain, host, over)
    assert refused.value.name == "SessionKeyCapExceeded"


def test_the_book_and_the_escrow_agree_on_what_is_worthless(world) -> None:
    host, domain = world.wallet("host"), world.chain.domain("FeeEscrow")
    consumer, stranger = world.wallet("consumer"), world.wallet("stranger")
    deposited = 100 * WEI_PER_OPEN
    cases = [
        (VoucherSigner(stranger, consumer.address, host.address, domain).raise_by(5), "VoucherSignerNotAuthorised"),
        (
            VoucherSigner(consumer, consumer.address, host.address, domain).raise_by(deposited + 1),
            "InsufficientDeposit",
        ),
        (VoucherSigner(stranger, stranger.address, host.address, domain).raise_by(5), "InsufficientDeposit"),
    ]
    elsewhere = Voucher(consumer.address, host.address, 5)
    cases.append(
        (SignedVoucher(elsewhere, sign(elsewhere, replace(domain, chain_id=1), consumer)), "VoucherSignerNotAuthorised")
    )
    for signed, error in cases:
        with pytest.raises(PaymentError):
            world.book.accept(signed, 5)
        with pytest.raises(RevertError) as refused:
            redeem(world.chain, host, signed)
        assert refused.value.name == error
    assert world.book.unredeemed() == []


def test_a_deposit_that_is_asked_back_no_longer_covers_a_voucher(world) -> None:
    consumer = world.wallet("consumer")
    release = request_withdrawal(world.chain, consumer, 100 * WEI_PER_OPEN)
    with pytest.raises(PaymentError, match="has 0 OPEN in escrow"):
        world.ask({}, 0)
    with pytest.raises(RevertError) as refused:
        withdraw(world.chain, consumer)
    assert refused.value.name == "WithdrawalNotReady"
    world.dev.warp(release - world.chain.time() + 1)
    assert withdraw(world.chain, consumer) == 100 * WEI_PER_OPEN
