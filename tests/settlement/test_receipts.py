"""A receipt says who signed it and whose data shaped the answer, and any change to either is found."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.primitives import (
    PPM,
    ZERO_HASH,
    Domain,
    InputError,
    MerkleTree,
    Receipt,
    SignatureError,
    VerificationError,
    apportion,
    canonical_bytes,
    keccak,
    parse_json,
    standard_leaf,
    verify_proof,
)
from openledger.settlement import (
    PrivateBody,
    ReceiptBody,
    check,
    check_shares,
    hash_output,
    hash_prompt,
    inference_fee,
    shares_root,
    shares_tree,
    sign_receipt,
    sort_shares,
)

HOST = Account.from_key(keccak(b"host"))
CONSUMER = Account.from_key(keccak(b"consumer"))
DOMAIN = Domain(161201, Account.from_key(keccak(b"ledger")).address)
RECORDS = sorted(keccak(bytes([position])) for position in range(4))
PRIVATE = PrivateBody({"messages": [{"role": "user", "content": "Why?"}]}, b"\1" * 32, "Because.", b"\2" * 32)


def receipt_of(shares: tuple[tuple[bytes, int], ...], residual: int) -> Receipt:
    return Receipt(
        sequence=7, model=3, consumer=CONSUMER.address, host=HOST.address, prompt_hash=PRIVATE.prompt_hash,
        output_hash=PRIVATE.output_hash, prompt_tokens=12, output_tokens=34, fee=2**127,
        shares_root=shares_root(shares, residual), seed=2**255, time=1_790_000_000,
    )  # fmt: skip


SHARES = ((RECORDS[0], 250_000), (RECORDS[2], 350_000))


@pytest.fixture(scope="module")
def body() -> ReceiptBody:
    return sign_receipt(receipt_of(SHARES, 400_000), DOMAIN, HOST, SHARES, 400_000, PRIVATE.digest())


def test_a_signed_receipt_passes_its_check(body: ReceiptBody) -> None:
    check(body, DOMAIN)


def test_a_receipt_survives_json_byte_for_byte(body: ReceiptBody) -> None:
    text = canonical_bytes(body.to_json())
    again = ReceiptBody.from_json(parse_json(text))
    assert again == body
    assert canonical_bytes(again.to_json()) == text
    assert again.digest(DOMAIN) == body.digest(DOMAIN)


def test_a_tampered_share_is_found(body: ReceiptBody) -> None:
    moved = replace(body, shares=((RECORDS[0], 250_001), (RECORDS[2], 349_999)))
    with pytest.raises(VerificationError, match="the shares were changed after signing"):
        check(moved, DOMAIN)


def test_a_share_moved_to_the_residual_is_found(body: ReceiptBody) -> None:
    with pytest.raises(VerificationError, match="receipt 7: its shares lead to the root"):
        check(replace(body, shares=SHARES[:1], residual_ppm=750_000), DOMAIN)


@pytest.mark.parametrize("field", ["sequence", "model", "prompt_tokens", "output_tokens", "fee", "seed", "time"])
def test_any_changed_number_breaks_the_signature(body: ReceiptBody, field: str) -> None:
    changed = replace(body, receipt=replace(body.receipt, **{field: getattr(body.receipt, field) + 1}))
    with pytest.raises(SignatureError, match="was signed by"):
        check(changed, DOMAIN)


def test_a_receipt_is_worth_nothing_on_another_chain_or_ledger(body: ReceiptBody) -> None:
    for other in (replace(DOMAIN, chain_id=1612), replace(DOMAIN, verifying_contract=HOST.address)):
        with pytest.raises(SignatureError):
            check(body, other)


def test_nobody_but_the_named_host_can_sign() -> None:
    with pytest.raises(SignatureError, match="not by"):
        sign_receipt(receipt_of(SHARES, 400_000), DOMAIN, CONSUMER, SHARES, 400_000, ZERO_HASH)


@pytest.mark.parametrize(
    ("shares", "residual", "message"),
    [
        (((RECORDS[1], 1), (RECORDS[0], 1)), PPM - 2, "out of order"),
        (((RECORDS[1], 1), (RECORDS[1], 1)), PPM - 2, "out of order or double"),
        (((ZERO_HASH, 1),), PPM - 1, "out of order"),
        (((RECORDS[1], 0),), PPM, "leave out what has no share"),
        (((RECORDS[1], -1),), PPM + 1, "leave out what has no share"),
        (((RECORDS[1], 1),), PPM, "sum to 1,000,001 ppm"),
        ((), PPM - 1, "sum to 999,999 ppm"),
        (((RECORDS[1], PPM + 1),), -1, "cannot be negative"),
        (((b"short", 1),), PPM - 1, "5 bytes"),
    ],
)
def test_malformed_shares_are_refused(shares: tuple[tuple[bytes, int], ...], residual: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_shares(shares, residual)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40))
def test_every_share_can_be_proven_under_the_signed_root(weights: list[int]) -> None:
    weights[0] += 1
    residual, *parts = apportion(weights, PPM)
    shares = sort_shares((keccak(position.to_bytes(2, "big")), ppm) for position, ppm in enumerate(parts))
    tree = shares_tree(shares, residual)
    assert tree.root == shares_root(shares, residual)
    for position, pair in enumerate([(ZERO_HASH, residual), *shares]):
        assert verify_proof(tree.root, standard_leaf(["bytes32", "uint32"], pair), tree.proof(position))


def test_the_residual_alone_is_a_tree_of_one_leaf() -> None:
    assert shares_root((), PPM) == MerkleTree([standard_leaf(["bytes32", "uint32"], [ZERO_HASH, PPM])]).root


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    nested = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, inner in nested for found in _paths(inner, (*path, key))]


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_malformed_json_is_read_as_a_receipt(body: ReceiptBody, data: st.DataObject) -> None:
    document = copy.deepcopy(body.to_json())
    path = data.draw(st.sampled_from(_paths(document)))
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    original = place[path[-1]]
    junk = st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.integers(max_value=-1),
        st.text(max_size=8),
        st.just({}),
        st.just(["0x"]),
    )
    place[path[-1]] = data.draw(junk.filter(lambda value: value != original))
    with pytest.raises(InputError):
        ReceiptBody.from_json(document)


@given(data=st.data())
def test_a_missing_or_unknown_key_is_refused_by_name(body: ReceiptBody, data: st.DataObject) -> None:
    document = copy.deepcopy(body.to_json())
    place = data.draw(st.sampled_from([document, document["receipt"]]))
    key = data.draw(st.sampled_from(sorted(place)))
    if data.draw(st.booleans()):
        del place[key]
        expected = f"lacks {key}"
    else:
        place["extra"] = 1
        expected = "unknown keys: extra"
    with pytest.raises(InputError, match=expected):
        ReceiptBody.from_json(document)


@pytest.mark.parametrize("fee", ["01", "1e3", "-1", "", str(2**128), "٣", " 1"])
def test_an_amount_has_one_way_to_be_written(body: ReceiptBody, fee: str) -> None:
    document = body.to_json()
    document["receipt"]["fee"] = fee
    with pytest.raises(InputError, match=r"receipt\.fee"):
        ReceiptBody.from_json(document)


def test_an_address_must_carry_its_checksum(body: ReceiptBody) -> None:
    with pytest.raises(InputError, match="checksum"):
        replace(body, receipt=replace(body.receipt, host=body.receipt.host.lower()))


def test_prompt_and_output_hashes_are_keccak_of_salt_and_content() -> None:
    assert hash_prompt(b"\1" * 32, {"b": 1, "a": "é"}) == keccak(b"\1" * 32 + '{"a":"é","b":1}'.encode())
    assert hash_output(b"\2" * 32, "é") == keccak(b"\2" * 32 + "é".encode())


def test_the_same_answer_sealed_twice_has_different_hashes() -> None:
    one, two = PrivateBody.seal("q", "a"), PrivateBody.seal("q", "a")
    assert len({one.prompt_hash, two.prompt_hash, one.output_hash, two.output_hash}) == 4


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(InputError, match="a salt has 32 bytes, got 31"):
        hash_output(bytes(31), "answer")


def test_a_private_body_survives_json() -> None:
    again = PrivateBody.from_json(parse_json(canonical_bytes(PRIVATE.to_json())))
    assert (again, again.digest()) == (PRIVATE, PRIVATE.digest())
    with pytest.raises(InputError, match="lacks output_salt"):
        PrivateBody.from_json({key: value for key, value in PRIVATE.to_json().items() if key != "output_salt"})
    with pytest.raises(InputError, match="output must be a string"):
        PrivateBody.from_json(PRIVATE.to_json() | {"output": 4})


@given(*[st.integers(0, 10**6)] * 2, *[st.integers(0, 10**20)] * 2)
def test_a_fee_is_the_price_per_thousand_tokens_rounded_up_to_a_wei(
    read: int, written: int, cost_in: int, cost_out: int
) -> None:
    fee = inference_fee(read, written, cost_in, cost_out)
    exact = read * cost_in + written * cost_out
    assert 0 <= fee * 1000 - exact < 1000
