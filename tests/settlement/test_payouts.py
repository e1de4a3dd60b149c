"""Payouts: every wei of every fee is paid once or is counted as dust, whatever the receipts say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.primitives import PPM, WEI_PER_OPEN, ZERO_HASH, InputError, Receipt, apportion, keccak, verify_proof
from openledger.settlement import (
    Accuracy,
    Attestation,
    Batch,
    FeeSplit,
    Held,
    Hold,
    Model,
    Origin,
    PayoutDocument,
    Payouts,
    ReceiptBody,
    Role,
    Terms,
    Version,
    explain,
    payout_leaf,
    payouts,
    shares_root,
    sort_shares,
)


def account(name: str) -> str:
    return to_checksum_address(keccak(name.encode())[-20:])


def record(position: int) -> bytes:
    return keccak(b"record", bytes([position]))


TREASURY, BUILDER, HOST, CONSUMER = account("treasury"), account("builder"), account("host"), account("consumer")
SPLIT = FeeSplit(data=600_000, builder=150_000, host=120_000, curators=50_000, validators=50_000)
ROOT = keccak(b"version")


def version_of(*contributors: str, curators: tuple[str, ...] = ("rosa",)) -> Version:
    people = tuple(account(name) for name in curators)
    return Version(
        1, 1, ROOT, {record(position): Origin(account(name), people) for position, name in enumerate(contributors)}
    )


def body_of(
    sequence: int,
    fee: int,
    shares: dict[bytes, int] | None = None,
    *,
    model: int = 1,
    host: str = HOST,
    consumer: str = CONSUMER,
) -> ReceiptBody:
    pairs = sort_shares(shares or {})
    residual = PPM - sum(ppm for _, ppm in pairs)
    receipt = Receipt(
        sequence=sequence, model=model, consumer=consumer, host=host, prompt_hash=keccak(b"p"), output_hash=keccak(b"o"),
        prompt_tokens=1, output_tokens=1, fee=fee, shares_root=shares_root(pairs, residual), seed=0, time=1,
    )  # fmt: skip
    return ReceiptBody(receipt, bytes(65), pairs, residual, ZERO_HASH)


def batch_of(number: int, count: int, *, first: int = 0, split: FeeSplit = SPLIT, influence: int = 500_000) -> Batch:
    return Batch(number, HOST, first, count, keccak(b"root"), split, influence, (100 + number, 0))


def attested(*validators: str, valid: bool = True, weight: int = 5) -> tuple[Attestation, ...]:
    return tuple(Attestation(account(name), weight, valid) for name in sorted(validators))


def terms_of(*batches: Batch, version: Version | None = None, redeemed: int = 10**30, owner: str = BUILDER) -> Terms:
    version = version or version_of("ada", "ben", "ben")
    return Terms(
        TREASURY, batches, {1: Model(1, (1, 1), (((1, 0), owner),), accuracy=Accuracy(PPM))}, {(1, 1): version},
        {(CONSUMER, HOST): redeemed},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("evaluation", "part"),
    [
        ({"attribution": {"contributors": {"interval": [0.7, 0.9]}}}, 500_000),
        ({"attribution": {"contributors": {"interval": [0.31, 0.9]}}}, 310_000),
        ({"attribution": {"contributors": {"interval": [-0.2, 0.4]}}}, 0),
        ({"attribution": {"contributors": None}}, 250_000),
        ({"attribution": {"contributors": {"interval": [0.7, 1.9]}}}, 250_000),
        ({"exact": 3}, 250_000),
        (["no", "object"], 250_000),
    ],
)
def test_influence_pays_what_the_audit_is_sure_of_up_to_the_bound(evaluation: Any, part: int) -> None:
    accuracy = Accuracy.of(evaluation)
    assert accuracy.influence_part(500_000) == part
    terms = terms_of(batch_of(1, 1))
    terms = replace(terms, models={1: replace(terms.models[1], accuracy=accuracy)})
    paid = payouts([body_of(0, WEI_PER_OPEN, {record(0): PPM})], terms)
    fee_for_data = WEI_PER_OPEN * 6 // 10
    by_influence = fee_for_data * part // PPM
    assert paid.by_role(account("ada"))[Role.CONTRIBUTOR] == by_influence + (fee_for_data - by_influence) // 3


def test_an_evaluation_that_is_accepted_later_holds_for_batches_posted_after_it() -> None:
    accuracy = Accuracy(250_000)
    terms = terms_of(batch_of(1, 1))
    posted = terms.batches[0].position

    def model(since: tuple[int, int]) -> Model:
        return replace(terms.models[1], accuracy=Accuracy(0), accepted=((since, accuracy),))

    assert model((posted[0] - 1, 0)).accuracy_at(posted) == accuracy
    assert model(posted).accuracy_at(posted) == Accuracy(0)
    body = body_of(0, WEI_PER_OPEN, {record(0): PPM})
    before, after = (
        payouts([body], replace(terms, models={1: model(since)})).by_role(account("ada"))[Role.CONTRIBUTOR]
        for since in ((posted[0] + 1, 0), (posted[0] - 1, 0))
    )
    fee_for_data = WEI_PER_OPEN * 6 // 10
    assert before == fee_for_data // 3
    assert after == fee_for_data // 4 + (fee_for_data - fee_for_data // 4) // 3


def test_receipts_of_a_model_whose_evaluation_is_not_published_wait() -> None:
    terms = terms_of(batch_of(1, 1))
    hidden = replace(terms, models={1: replace(terms.models[1], accuracy=Accuracy(published=False))})
    body = body_of(0, WEI_PER_OPEN, {record(0): PPM})
    waiting = payouts([body], hidden)
    assert [held.reason for held in waiting.held] == [Hold.UNKNOWN_EVALUATION]
    assert payouts([body], terms, waiting).receipts == 1


def test_a_fee_is_divided_by_the_batchs_split() -> None:
    fee = WEI_PER_OPEN
    batch = replace(batch_of(1, 1), attestations=attested("vera"))
    paid = payouts([body_of(0, fee, {record(0): 750_000})], terms_of(batch))
    assert paid.by_role() == {
        Role.CONTRIBUTOR: fee * 6 // 10 // 2 * 3 // 4 + fee * 6 // 10 // 2,
        Role.BASE_MODEL: fee * 6 // 10 // 2 // 4,
        Role.BUILDER: fee * 15 // 100,
        Role.HOST: fee * 12 // 100,
        Role.CURATOR: fee * 5 // 100,
        Role.VALIDATOR: fee * 5 // 100,
        Role.TREASURY: fee * 3 // 100,
    }
    assert (paid.fees, paid.dust) == (fee, 0)


def test_the_influence_part_follows_the_shares_and_the_rest_the_accepted_rows() -> None:
    fee = 1_000_000
    paid = payouts(
        [body_of(0, fee, {record(0): 200_000, record(1): 300_000, record(2): 500_000})], terms_of(batch_of(1, 1))
    )
    assert paid.earned(account("ada")) == 300_000 * 2 // 10 + 300_000 * 1 // 3
    assert paid.earned(account("ben")) == 300_000 * 8 // 10 + 300_000 * 2 // 3


def test_the_residual_is_the_base_models_and_its_publisher_is_the_treasury() -> None:
    paid = payouts([body_of(0, 1_000_000)], terms_of(batch_of(1, 1)))
    assert paid.by_role(TREASURY)[Role.BASE_MODEL] == 300_000


def test_splitting_ones_records_among_wallets_earns_no_more_by_influence() -> None:
    fee = 10**12 + 7
    shares = {record(0): 300_001, record(1): 199_999, record(2): 123_457}
    one = payouts(
        [body_of(0, fee, shares)], terms_of(batch_of(1, 1, influence=PPM), version=version_of("eve", "eve", "ben"))
    )
    two = payouts(
        [body_of(0, fee, shares)], terms_of(batch_of(1, 1, influence=PPM), version=version_of("eve", "eva", "ben"))
    )
    assert two.earned(account("eve")) + two.earned(account("eva")) <= one.earned(account("eve"))


def test_curators_of_the_credited_records_share_the_curators_pool_evenly_per_record() -> None:
    version = Version(
        1,
        1,
        ROOT,
        {
            record(0): Origin(account("ada"), (account("rosa"),)),
            record(1): Origin(account("ben"), (account("rosa"), account("saul"), account("tess"))),
        },
    )
    paid = payouts(
        [body_of(0, 6_000_000, {record(0): 100_000, record(1): 300_000})], terms_of(batch_of(1, 1), version=version)
    )
    curated = {name: paid.by_role(account(name)).get(Role.CURATOR, 0) for name in ("rosa", "saul", "tess")}
    assert curated == {"rosa": 150_000, "saul": 75_000, "tess": 75_000}


def test_an_answer_that_credits_no_record_pays_the_curators_by_all_rows() -> None:
    version = Version(
        1,
        1,
        ROOT,
        {
            record(0): Origin(account("ada"), (account("rosa"),)),
            record(1): Origin(account("ben"), (account("rosa"), account("saul"))),
            record(2): Origin(account("ben"), ()),
        },
    )
    paid = payouts([body_of(0, 6_000_000)], terms_of(batch_of(1, 1), version=version))
    assert paid.by_role(account("rosa"))[Role.CURATOR] == 150_000
    assert paid.by_role(account("saul"))[Role.CURATOR] == 50_000
    assert paid.by_role(TREASURY)[Role.TREASURY] == 6_000_000 * 80_000 // PPM + 100_000


def test_the_validators_pool_is_divided_among_those_who_attested_the_batch_valid() -> None:
    batch = replace(batch_of(1, 1), attestations=attested("vera", "walt", "xena") + attested("yan", valid=False))
    paid = payouts([body_of(0, 1_000_000)], terms_of(batch))
    assert [paid.earned(account(name)) for name in ("vera", "walt", "xena", "yan")] == [16_666, 16_666, 16_666, 0]
    assert paid.dust == 2


def test_splitting_ones_stake_among_validators_earns_no_more() -> None:
    one = replace(batch_of(1, 1), attestations=attested("vera", weight=30) + attested("walt", weight=30))
    two = replace(
        batch_of(1, 1),
        attestations=attested("vera", weight=30) + attested("walt", weight=17) + attested("wu", weight=13),
    )
    whole, parts = (payouts([body_of(0, 1_000_001)], terms_of(batch)) for batch in (one, two))
    assert parts.earned(account("walt")) + parts.earned(account("wu")) <= whole.earned(account("walt"))


def test_a_batch_is_paid_while_the_validators_against_it_weigh_less() -> None:
    outvoted = replace(
        batch_of(1, 1), attestations=attested("vera", weight=31) + attested("yan", valid=False, weight=30)
    )
    even = replace(batch_of(1, 1), attestations=attested("vera", weight=30) + attested("yan", valid=False, weight=30))
    assert payouts([body_of(0, 9)], terms_of(outvoted)).receipts == 1
    assert payouts([body_of(0, 9)], terms_of(even)).held == (Held(1, HOST, 0, Hold.DISPUTED),)


def test_without_an_attestation_the_validators_pool_is_the_treasurys() -> None:
    paid = payouts([body_of(0, 1_000_000)], terms_of(batch_of(1, 1)))
    assert paid.by_role()[Role.TREASURY] == 80_000
    assert Role.VALIDATOR not in paid.by_role()


def test_a_model_without_a_datanet_pays_its_rows_and_curators_to_the_treasury() -> None:
    terms = replace(
        terms_of(batch_of(1, 1)), models={1: Model(1, (0, 0), (((1, 0), BUILDER),), accuracy=Accuracy(PPM))}
    )
    paid = payouts([body_of(0, 1_000_000)], terms)
    assert paid.by_role() == {
        Role.BASE_MODEL: 300_000,
        Role.TREASURY: 430_000,
        Role.BUILDER: 150_000,
        Role.HOST: 120_000,
    }


def test_the_builder_is_whoever_owned_the_model_when_the_batch_was_posted() -> None:
    sold = Model(1, (1, 1), (((1, 0), BUILDER), ((102, 5), account("buyer"))), accuracy=Accuracy(PPM))
    batches = (batch_of(1, 1), batch_of(2, 1, first=1), batch_of(3, 1, first=2))
    paid = payouts([body_of(n, 1_000_000) for n in range(3)], replace(terms_of(*batches), models={1: sold}))
    assert (paid.earned(BUILDER), paid.earned(account("buyer"))) == (300_000, 150_000)


def test_each_batch_keeps_the_split_of_its_time() -> None:
    later = replace(SPLIT, data=500_000, host=220_000)
    paid = payouts(
        [body_of(0, 1_000_000), body_of(1, 1_000_000)],
        terms_of(batch_of(1, 1), batch_of(2, 1, first=1, split=later)),
    )
    assert paid.earned(HOST) == 120_000 + 220_000


@pytest.mark.parametrize(
    ("body", "terms", "reason"),
    [
        (None, terms_of(batch_of(1, 1)), Hold.UNPUBLISHED),
        (body_of(0, 9, host=account("other")), terms_of(batch_of(1, 1)), Hold.UNPUBLISHED),
        (body_of(0, 9, model=2), terms_of(batch_of(1, 1)), Hold.UNKNOWN_MODEL),
        (body_of(0, 9), replace(terms_of(batch_of(1, 1)), versions={}), Hold.UNKNOWN_VERSION),
        (body_of(0, 9, {record(9): 1}), terms_of(batch_of(1, 1)), Hold.UNKNOWN_RECORD),
        (body_of(0, 9), terms_of(batch_of(1, 1), redeemed=8), Hold.NOT_COLLECTED),
        (body_of(0, 9), terms_of(replace(batch_of(1, 1), attestations=attested("yan", valid=False))), Hold.DISPUTED),
        (body_of(0, 9), terms_of(replace(batch_of(1, 1), position=(1, 0))), Hold.UNKNOWN_MODEL),
    ],
)
def test_what_cannot_be_paid_is_held_with_the_reason(body: ReceiptBody | None, terms: Terms, reason: Hold) -> None:
    paid = payouts([body] if body else [], terms)
    assert paid.held == (Held(1, HOST, 0, reason),)
    assert (paid.lines, paid.fees, paid.receipts) == ({}, 0, 0)


def test_a_host_cannot_draw_on_what_other_consumers_paid() -> None:
    invented = [body_of(n, 1_000_000, consumer=account("sock puppet")) for n in range(3)]
    paid = payouts([*invented, body_of(3, 1_000_000)], terms_of(batch_of(1, 4)))
    assert paid.fees == 1_000_000
    assert [held.reason for held in paid.held] == [Hold.NOT_COLLECTED] * 3


def test_a_held_receipt_is_paid_once_its_fee_is_collected() -> None:
    bodies = [body_of(0, 600), body_of(1, 600)]
    first = payouts(bodies, terms_of(batch_of(1, 2), redeemed=700))
    assert [held.sequence for held in first.held] == [1]
    second = payouts(bodies, terms_of(batch_of(1, 2), redeemed=1200), first)
    assert (second.fees, second.receipts, second.held) == (1200, 2, ())
    third = payouts(bodies, terms_of(batch_of(1, 2), redeemed=9999), second)
    assert third == second


def test_a_missing_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"batches \[2\] are missing"):
        payouts([], terms_of(batch_of(1, 1), batch_of(3, 1, first=2)))


def test_two_bodies_for_one_place_are_refused() -> None:
    with pytest.raises(InputError, match="two bodies claim receipt 0"):
        payouts([body_of(0, 1), body_of(0, 2)], terms_of(batch_of(1, 1)))


def test_no_receipt_at_all_is_the_empty_tree() -> None:
    paid = payouts([], terms_of())
    assert (paid.root, paid.total, paid.accounts) == (ZERO_HASH, 0, ())
    with pytest.raises(InputError, match="has earned nothing yet"):
        paid.proof(HOST)


splits = (
    st.lists(st.integers(0, PPM), min_size=6, max_size=6)
    .filter(any)
    .map(lambda weights: FeeSplit(*apportion(weights, PPM)[:5]))
)
names = st.sampled_from(["ada", "ben", "cleo", "dan", "eve", "treasury"])
versions = st.lists(st.tuples(names, st.sets(names, max_size=4)), max_size=12).map(
    lambda rows: Version(
        1,
        1,
        ROOT,
        {
            record(position): Origin(account(contributor), tuple(sorted(map(account, curators))))
            for position, (contributor, curators) in enumerate(rows)
        },
    )
)


@st.composite
def worlds(draw: Callable[..., object]) -> tuple[list[ReceiptBody], Terms]:
    """Receipts of one host in a few batches under random terms, some of which cannot be paid."""
    version: Version = draw(versions)
    bodies: list[ReceiptBody] = []
    batches: list[Batch] = []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        count = draw(st.integers(1, 4))
        batch = batch_of(number, count, first=len(bodies), split=draw(splits), influence=draw(st.integers(0, PPM)))
        for_it = attested(*draw(st.sets(names, max_size=3)), weight=draw(st.integers(1, 10**24)))
        against = attested(*draw(st.sets(st.sampled_from(["yan", "zoe"]), max_size=1)), valid=False)
        batches.append(replace(batch, attestations=for_it + against))
        for _ in range(count):
            chosen = draw(st.lists(st.sampled_from(range(13)), unique=True, max_size=5))
            weights = draw(st.lists(st.integers(0, 1000), min_size=len(chosen) + 1, max_size=len(chosen) + 1))
            weights[-1] += 1
            shares = dict(zip(map(record, chosen), apportion(weights, PPM), strict=False))
            bodies.append(
                body_of(len(bodies), draw(st.integers(0, 10**24)), shares, model=draw(st.sampled_from([1, 1, 1, 2])))
            )
    redeemed = draw(st.integers(0, 10**25))
    return bodies, terms_of(*batches, version=version, redeemed=redeemed)


@given(splits, st.integers(0, 10**30))
def test_a_split_divides_a_fee_without_a_wei_left_over(split: FeeSplit, fee: int) -> None:
    *parts, treasury = split.pools(fee)
    assert sum(parts) + treasury == fee
    assert parts == [fee * ppm // PPM for ppm in split.parts]
    assert fee * split.treasury // PPM <= treasury < fee * split.treasury // PPM + 6


def test_a_split_of_more_than_the_whole_is_refused() -> None:
    for parts in ((PPM, 1, 0, 0, 0), (-1, 0, 0, 0, 0)):
        with pytest.raises(InputError, match="a fee split of"):
            FeeSplit(*parts)


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_fees_are_paid_or_dust_exactly(world: tuple[list[ReceiptBody], Terms]) -> None:
    bodies, terms = world
    paid = payouts(bodies, terms)
    waiting = {held.sequence for held in paid.held}
    settled = [body.receipt.fee for body in bodies if body.receipt.sequence not in waiting]
    assert paid.fees == sum(settled) <= terms.redeemed[CONSUMER, HOST]
    assert paid.total + paid.dust == paid.fees
    assert sum(wei for _, wei in paid.accounts) == paid.total == sum(paid.by_role().values())
    assert all(wei > 0 for wei in paid.lines.values())
    assert paid.receipts + len(waiting) == len(bodies)
    floors = 8 + len(terms.versions[1, 1].records)
    assert 0 <= paid.dust <= (paid.receipts + len(terms.batches) + 2) * floors


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_settling_batch_by_batch_never_lowers_an_account_and_pays_the_same_receipts(
    world: tuple[list[ReceiptBody], Terms],
) -> None:
    bodies, terms = world
    at_once = payouts(bodies, terms)
    step = Payouts()
    for number in range(1, len(terms.batches) + 1):
        before = Counter(dict(step.accounts))
        step = payouts(bodies, replace(terms, batches=terms.batches[:number]), step)
        assert Counter(dict(step.accounts)) >= before
    assert (step.fees, step.receipts, step.settled) == (at_once.fees, at_once.receipts, at_once.settled)
    assert {held.sequence for held in step.held} == {held.sequence for held in at_once.held}
    pooled = abs(step.total - at_once.total)
    assert pooled <= (len(terms.batches) + 1) * (len(terms.versions[1, 1].records) + 8)


@given(worlds())
@settings(max_examples=60, deadline=None)
def test_a_payout_document_says_the_same_after_its_way_through_json(world: tuple[list[ReceiptBody], Terms]) -> None:
    bodies, terms = world
    document = PayoutDocument(161201, HOST, 500, None, ((1, ROOT),), payouts(bodies, terms))
    again = PayoutDocument.from_json(document.to_json())
    assert again == document
    assert again.digest() == document.digest()
    assert again.payouts.root == document.payouts.root


@given(worlds())
@settings(max_examples=40, deadline=None)
def test_every_account_proves_its_amount_and_no_other(world: tuple[list[ReceiptBody], Terms]) -> None:
    bodies, terms = world
    paid = payouts(bodies, terms)
    for holder, wei in paid.accounts:
        assert verify_proof(paid.root, payout_leaf(holder, wei), paid.proof(holder))
        assert not verify_proof(paid.root, payout_leaf(holder, wei + 1), paid.proof(holder))
    assert [int(holder, 16) for holder, _ in paid.accounts] == sorted(int(holder, 16) for holder, _ in paid.accounts)


@given(worlds())
@settings(max_examples=40, deadline=None)
def test_the_order_in_which_bodies_are_given_changes_nothing(world: tuple[list[ReceiptBody], Terms]) -> None:
    bodies, terms = world
    assert payouts(list(reversed(bodies)), terms) == payouts(bodies, terms)


@given(worlds())
@settings(max_examples=40, deadline=None)
def test_an_explained_receipt_adds_up_to_its_fee_but_for_dust(world: tuple[list[ReceiptBody], Terms]) -> None:
    bodies, terms = world
    unlimited = replace(terms, redeemed={(CONSUMER, HOST): 10**40})
    for body in bodies:
        batch = next(batch for batch in terms.batches if body.receipt.sequence in batch.sequences)
        if any(held.sequence == body.receipt.sequence for held in payouts(bodies, unlimited).held):
            with pytest.raises(InputError, match="not payable"):
                explain(body, batch, terms)
            continue
        lines = explain(body, batch, terms)
        assert 0 <= body.receipt.fee - sum(line.wei for line in lines) <= 8 + 2 * len(terms.versions[1, 1].records)
        assert [line.wei for line in lines] == sorted((line.wei for line in lines), reverse=True)


def test_a_builders_share_goes_up_the_line_of_ancestors() -> None:
    names = ("child", "parent", "elder")
    models = {
        number: Model(
            number, (1, 1), (((1, 0), account(name)),), parent=number - 1, lineage_ppm=200_000, accuracy=Accuracy(PPM)
        )
        for number, name in enumerate(reversed(names), start=1)
    }
    paid = payouts([body_of(0, 1_000_000, model=3)], replace(terms_of(batch_of(1, 1)), models=models))
    of = {name: paid.by_role(account(name)) for name in names}
    assert of == {"child": {Role.BUILDER: 120_000}, "parent": {Role.ANCESTOR: 24_000}, "elder": {Role.ANCESTOR: 6_000}}


@given(fee=st.integers(1, 10**30), asks=st.lists(st.integers(0, 500_000), min_size=1, max_size=9))
def test_ancestors_share_exactly_the_builders_part_and_each_keeps_at_least_half(fee: int, asks: list[int]) -> None:
    models = {
        number: Model(
            number,
            (1, 1),
            (((1, 0), account(f"m{number}")),),
            parent=number - 1,
            lineage_ppm=ask,
            accuracy=Accuracy(PPM),
        )
        for number, ask in enumerate(asks, start=1)
    }
    body = body_of(0, fee, model=len(asks))
    alone = payouts([body_of(0, fee)], terms_of(batch_of(1, 1)))
    paid = payouts([body], replace(terms_of(batch_of(1, 1)), models=models))
    roles = paid.by_role()
    assert roles.get(Role.BUILDER, 0) + roles.get(Role.ANCESTOR, 0) == alone.by_role().get(Role.BUILDER, 0)
    assert paid.total == alone.total
    assert roles.get(Role.BUILDER, 0) >= roles.get(Role.ANCESTOR, 0)
