"""Records from files, and contributions that anyone can check."""

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.datanets import (
    Manifest,
    Record,
    Terms,
    build_contribution,
    load_datanet,
    load_records,
    load_terms,
    read_records,
    record_leaf,
    records_root,
    verify_contribution,
)
from openledger.primitives import (
    Contribution,
    Domain,
    InputError,
    MerkleTree,
    SignatureError,
    VerificationError,
    keccak,
    record_hash,
    sign,
    verify_proof,
)

TERMS = load_terms()
RECORDS = load_records()
DOMAIN = Domain(161201, "0x" + "11" * 20)
ALICE = Account.from_key(keccak(b"alice"))
MALLORY = Account.from_key(keccak(b"mallory"))


def contribution(records=RECORDS[:5], **changed):
    arguments = {"datanet": 1, "nonce": 0, "licence": "CC-BY-4.0", "intended_use": "training", "time": 1_790_000_000}
    return build_contribution(TERMS, records, ALICE, DOMAIN, **(arguments | changed))


def row(**changed):
    return RECORDS[0].value | changed


def write(path, rows):
    path.write_text("".join(json.dumps(value) + "\n" for value in rows))
    return path


def flat(value):
    return {
        f"{name}.{inner}" if isinstance(member, dict) else name: text
        for name, member in value.items()
        for inner, text in (member.items() if isinstance(member, dict) else [("", member)])
    }


# Records


def test_a_record_is_known_by_the_hash_of_its_canonical_json():
    record = RECORDS[0]
    shuffled = Record.from_json(dict(reversed(record.value.items())))
    assert shuffled == record
    assert record.hash == shuffled.hash == record_hash(record.value)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.integers(-1000, 1000) | st.none(), max_size=5))
def test_any_json_object_survives_being_a_record(value):
    record = Record.from_json(value)
    assert record.value == value
    assert Record.from_json(record.value).hash == record.hash


def test_changing_the_value_of_a_record_does_not_change_the_record():
    value = RECORDS[0].value
    value["answer"] = "nothing happened"
    assert RECORDS[0].answer != "nothing happened"


# Reading


def test_the_same_records_are_read_from_json_lines_json_csv_and_parquet(tmp_path):
    records = RECORDS[:7]
    values = [record.value for record in records]
    (tmp_path / "list.json").write_text(json.dumps(values))
    (tmp_path / "object.json").write_text(json.dumps({"records": values}))
    table = [flat(value) for value in values]
    with (tmp_path / "flat.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), tmp_path / "nested.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "flat.parquet")
    write(tmp_path / "lines.jsonl", values)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    for path in files:
        assert read_records(path, TERMS) == records, path.name


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(), row(answer=7)], "row 2, answer: 7 is not of type 'string'"),
        ([row(answer="x")], "row 1, answer: 'x' is too short"),
        ([row(facts={"date": "28.4.2021", "protocol": "a", "cause": "b", "lost": "c"})], "facts.date: '28.4.2021'"),
        ([row(facts={})], "'date' is a required property"),
        ([row(author="me")], "'author' was unexpected"),
        ([{"question": "What?"}], "'answer' is a required property"),
        (["text"], "row 1: 'text' is not an object"),
        ([row(), row()], "row 2: the same record as row 1"),
        ([], "holds no record"),
    ],
)
def test_a_malformed_row_is_named_with_its_number_field_and_value(tmp_path, rows, said):
    with pytest.raises(InputError) as error:
        read_records(write(tmp_path / "bad.jsonl", rows), TERMS)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"a": NaN}\n', "line 1"),
        ("a.jsonl", b'{"a": 1, "a": 2}\n', "twice"),
        ("a.jsonl", b"\xff\xfe", "UTF-8"),
        ("a.json", b'{"rows": []}', '"records"'),
        ("a.json", b"[1, 2", "not JSON"),
        ("a.csv", b"question,answer\nonly one\n", "1 cells under 2 columns"),
        ("a.csv", b"question,question\na,b\n", "repeated column"),
        ("a.csv", b'question,answer\n"a,b\n', "line"),
        ("a.csv", b"facts,facts.date\nx,y\n", "needs an object"),
        ("a.parquet", b"PAR1 but not really", "not a readable Parquet file"),
        ("a.pickle", b"\x80\x04", ".parquet"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_in_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_records(path, TERMS)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match="no file"):
        read_records(Path("/nowhere/records.jsonl"), TERMS)


def test_more_rows_than_the_policy_allows_are_refused(tmp_path):
    rows = [row(question=f"What happened to number {number}?") for number in range(TERMS.policy.max_records + 1)]
    with pytest.raises(InputError, match="more than 1,000 rows"):
        read_records(write(tmp_path / "many.jsonl", rows), TERMS)


def test_a_record_beyond_the_size_limit_is_refused(tmp_path):
    description = load_datanet()
    description["policy"]["max_record_bytes"] = 300
    with pytest.raises(InputError, match="a record has at most 300"):
        read_records(write(tmp_path / "big.jsonl", [row()]), Terms.from_json(description))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".jsonl", ".json", ".csv", ".parquet"]))
def test_no_bytes_whatever_cause_anything_but_an_input_error(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_records(path, TERMS)


# Contributions


def test_a_contribution_is_verified_from_its_parts_alone():
    signed = contribution()
    manifest = verify_contribution(signed.message, signed.manifest.canonical, signed.signature, DOMAIN, TERMS)
    assert manifest.records == tuple(RECORDS[:5])
    assert manifest.contributor == ALICE.address == signed.message.contributor
    assert signed.message.count == 5


def test_the_root_keeps_the_contributors_order_and_proves_each_record():
    records = RECORDS[:6]
    tree = MerkleTree([keccak(record.hash) for record in records])
    assert records_root(records) == tree.root != records_root(records[::-1])
    for position, record in enumerate(records):
        assert verify_proof(tree.root, record_leaf(record.hash), tree.proof(position))


@pytest.mark.parametrize("member", ["datanet", "contributor", "records_root", "count", "licence"])
def test_a_message_that_says_other_than_its_manifest_is_found_out_even_when_signed(member):
    signed = contribution()
    other = {
        "datanet": 2,
        "contributor": MALLORY.address,
        "records_root": bytes(32),
        "count": 6,
        "licence": "MIT",
    }
    values = dict(vars(signed.message)) | {member: other[member]}
    message = Contribution(**values)
    signature = sign(message, DOMAIN, ALICE)
    with pytest.raises(VerificationError, match=f"message's {member}"):
        verify_contribution(message, signed.manifest.canonical, signature, DOMAIN, TERMS)


def test_a_manifest_with_one_changed_byte_is_found_out():
    signed = contribution()
    changed = signed.manifest.canonical.replace(b"2017-07-19", b"2017-07-18", 1)
    with pytest.raises(VerificationError, match="the message names"):
        verify_contribution(signed.message, changed, signed.signature, DOMAIN, TERMS)


def test_a_contribution_signed_by_another_or_for_another_chain_is_refused():
    signed = contribution()
    forged = sign(signed.message, DOMAIN, MALLORY)
    with pytest.raises(SignatureError, match=MALLORY.address):
        verify_contribution(signed.message, signed.manifest.canonical, forged, DOMAIN, TERMS)
    elsewhere = Domain(1, DOMAIN.verifying_contract)
    with pytest.raises(SignatureError):
        verify_contribution(signed.message, signed.manifest.canonical, signed.signature, elsewhere, TERMS)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"licence": "GPL-3.0-only"}, "'GPL-3.0-only' is not allowed"),
        ({"records": []}, "0 records"),
        ({"records": [RECORDS[0], RECORDS[0]]}, "row 2 is the same record as row 1"),
        ({"records": [Record.from_json({"a": 1})]}, "row 1"),
        ({"intended_use": "x" * 501}, "501 characters"),
    ],
)
def test_a_contribution_that_breaks_the_terms_is_neither_built_nor_accepted(changed, said):
    with pytest.raises(InputError, match=said):
        contribution(**changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value | {"time": "now"},
        lambda value: value | {"records": 5},
        lambda value: value | {"records": [5]},
        lambda value: value | {"more": 1},
        lambda value: value | {"contributor": ALICE.address.lower()},
        lambda value: {name: member for name, member in value.items() if name != "licence"},
        lambda value: [value],
    ],
)
def test_a_manifest_of_another_shape_is_refused(change):
    value = json.loads(contribution().manifest.canonical)
    with pytest.raises(InputError):
        Manifest.from_bytes(json.dumps(change(value)).encode())


def test_a_manifest_with_the_same_content_in_other_bytes_is_refused():
    value = json.loads(contribution().manifest.canonical)
    with pytest.raises(InputError, match="canonical"):
        Manifest.from_bytes(json.dumps(value, indent=1).encode())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("policy", "licences"), [], "no licence"),
        (("policy", "max_records"), 5000, "1 to 4096"),
        (("policy", "near_duplicate_ppm"), 0, "near_duplicate_ppm"),
        (("schema", "type"), 5, "no JSON Schema"),
        (("policy", "max_record_bytes"), "many", "malformed"),
    ],
)
def test_terms_that_make_no_sense_are_refused(path, value, said):
    description = load_datanet()
    description[path[0]][path[1]] = value
    with pytest.raises(InputError, match=said):
        Terms.from_json(description)


def test_terms_without_a_part_name_it():
    description = load_datanet()
    del description["policy"]
    with pytest.raises(InputError, match="'policy'"):
        Terms.from_json(description)
