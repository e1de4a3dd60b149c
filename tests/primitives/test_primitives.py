"""Canonical JSON, hashing, amounts and Merkle trees hold what protocol and money need."""

import json
from fractions import Fraction

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from openledger.primitives import (
    PPM,
    Domain,
    InputError,
    MerkleTree,
    Receipt,
    SignatureError,
    Voucher,
    apportion,
    canonical_bytes,
    check_signature,
    format_open,
    from_hex,
    keccak,
    mul_ppm,
    parse_json,
    parse_open,
    record_hash,
    recover,
    sign,
    to_hex,
    verify_proof,
)

LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)
ALICE = Account.from_key("0x" + "11" * 32)
DOMAIN = Domain(161201, "0x" + "22" * 20)


@given(LEAVES, st.data())
def test_every_leaf_proves_its_place_and_a_foreign_leaf_does_not(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    position = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.proof(position)
    assert verify_proof(tree.root, leaves[position], proof)
    foreign = keccak(leaves[position])
    assert not verify_proof(tree.root, foreign, proof)


def test_the_tree_has_openzeppelins_layout() -> None:
    a, b, c = (keccak(bytes([i])) for i in range(3))
    inner = keccak(*sorted([b, a]))
    assert MerkleTree([a, b, c]).root == keccak(*sorted([c, inner]))
    assert MerkleTree([]).root == bytes(32)
    assert MerkleTree([a]).root == a


def test_a_leaf_of_the_wrong_length_is_refused_with_its_position() -> None:
    with pytest.raises(InputError, match="leaf 1 has 31 bytes"):
        MerkleTree([bytes(32), bytes(31)])


@given(st.lists(st.integers(0, 10**24), min_size=1, max_size=30), st.integers(0, 10**27))
def test_apportioning_sums_exactly_and_is_never_a_whole_unit_off(weights: list[int], total: int) -> None:
    if sum(weights) == 0:
        if total:
            with pytest.raises(InputError, match="every weight is zero"):
                apportion(weights, total)
        return
    parts = apportion(weights, total)
    assert sum(parts) == total
    for weight, part in zip(weights, parts, strict=True):
        assert abs(Fraction(weight * total, sum(weights)) - part) < 1


@given(st.integers(0, 10**28))
def test_an_amount_survives_being_shown_and_read(wei: int) -> None:
    assert parse_open(format_open(wei).replace(",", "")) == wei


@pytest.mark.parametrize("text", ["", "-1", "1.0000000000000000001", "1e18", "NaN", "0x10", "1,5", "١"])
def test_an_amount_that_is_no_decimal_of_open_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not an amount of OPEN"):
        parse_open(text)


@given(st.integers(0, 10**30), st.integers(0, PPM))
def test_a_share_in_ppm_is_rounded_down(amount: int, ppm: int) -> None:
    assert mul_ppm(amount, ppm) * PPM <= amount * ppm < (mul_ppm(amount, ppm) + 1) * PPM


def test_canonical_json_does_not_depend_on_key_order_or_spacing() -> None:
    one, other = json.loads('{"b": 1, "a": "é"}'), json.loads('{ "a":"\\u00e9","b":1.0 }')
    assert canonical_bytes(one) == canonical_bytes(other) == '{"a":"é","b":1}'.encode()
    assert record_hash(one) == keccak('{"a":"é","b":1}'.encode())


@pytest.mark.parametrize("value", [float("nan"), {"a": 10**20}, {1: "a"}, b"bytes", {"a": object()}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="not canonical JSON"):
        canonical_bytes(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":1,"a":2}', "'a' stands twice"),
        ('{"a":NaN}', "NaN is not JSON"),
        ('{"a":', "line 1 column"),
        (b"\xff", "not UTF-8"),
        ("[" * 100_000, "nested more than 100 levels"),
    ],
)
def test_json_that_two_readers_could_read_differently_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_json(text)


def test_brackets_inside_strings_do_not_count_as_nesting() -> None:
    assert parse_json(json.dumps({"a": "[" * 500 + '\\"{'})) == {"a": "[" * 500 + '\\"{'}


@given(st.binary(max_size=40))
def test_hex_goes_there_and_back(value: bytes) -> None:
    assert from_hex(to_hex(value), len(value)) == value


@pytest.mark.parametrize("text", ["0x1", "zz", "0x 11", "0x1 1"])
def test_bad_hex_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a hex string"):
        from_hex(text)


def test_a_typed_message_has_the_digest_that_every_wallet_computes() -> None:
    voucher = Voucher(ALICE.address, DOMAIN.verifying_contract, 5)
    members = (("consumer", "address"), ("host", "address"), ("cumulative", "uint128"))
    wallet_form = encode_typed_data(
        {"name": "OpenLedger", "version": "1", "chainId": 161201, "verifyingContract": DOMAIN.verifying_contract},
        {"Voucher": [{"name": name, "type": kind} for name, kind in members]},
        {"consumer": ALICE.address, "host": DOMAIN.verifying_contract, "cumulative": 5},
    )  # fmt: skip
    assert ALICE.sign_message(wallet_form).signature == sign(voucher, DOMAIN, ALICE)
    assert recover(voucher, DOMAIN, sign(voucher, DOMAIN, ALICE)) == ALICE.address


def test_a_signature_is_worth_nothing_on_another_chain_for_another_contract_or_another_amount() -> None:
    voucher = Voucher(ALICE.address, DOMAIN.verifying_contract, 5)
    signature = sign(voucher, DOMAIN, ALICE)
    for message, domain in [
        (voucher, Domain(1, DOMAIN.verifying_contract)),
        (voucher, Domain(161201, "0x" + "33" * 20)),
        (Voucher(ALICE.address, DOMAIN.verifying_contract, 6), DOMAIN),
    ]:
        with pytest.raises(SignatureError, match="was signed by"):
            check_signature(message, domain, signature, ALICE.address)


def test_a_malleable_or_cut_signature_is_refused() -> None:
    voucher = Voucher(ALICE.address, DOMAIN.verifying_contract, 5)
    signature = sign(voucher, DOMAIN, ALICE)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    upper = order - int.from_bytes(signature[32:64], "big")
    flipped = signature[:32] + upper.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(SignatureError, match="malleable"):
        recover(voucher, DOMAIN, flipped)
    with pytest.raises(SignatureError, match="65 bytes"):
        recover(voucher, DOMAIN, signature[:64])
    with pytest.raises(SignatureError, match="27 or 28"):
        recover(voucher, DOMAIN, signature[:64] + b"\x00")


@pytest.mark.parametrize(
    ("field", "value"),
    [("cumulative", -1), ("cumulative", 1 << 128), ("cumulative", True), ("consumer", "0x12"), ("consumer", None)],
)
def test_a_message_field_out_of_range_is_named_with_its_value(field: str, value: object) -> None:
    good: dict[str, object] = {"consumer": ALICE.address, "host": ALICE.address, "cumulative": 1}
    with pytest.raises(InputError, match=f"Voucher.{field}"):
        Voucher(**{**good, field: value})  # type: ignore[arg-type]


def test_the_receipt_type_is_the_protocols() -> None:
    assert Receipt.type_string() == (
        "Receipt(uint256 sequence,uint256 model,address consumer,address host,bytes32 promptHash,bytes32 outputHash,"
        "uint32 promptTokens,uint32 outputTokens,uint128 fee,bytes32 sharesRoot,uint256 seed,uint64 time)"
    )
