"""Versions: what was accepted, under one root, rebuilt by anyone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.datanets import (
    Outcome,
    Version,
    build_version,
    data_card,
    is_member,
    load_records,
    load_sources,
    load_terms,
    load_weaknesses,
    owners,
    partition,
    verify_version,
    weakness_of,
)
from openledger.primitives import InputError, MerkleTree, NotFoundError, VerificationError, keccak

RECORDS = load_records()
ALICE, BOB = "0x" + "A1" * 20, "0x" + "B0" * 20


def outcome(number, records, accepted=None, contributor=ALICE):
    accepted = (True,) * len(records) if accepted is None else tuple(accepted)
    return Outcome(number, contributor, keccak(bytes([number])), tuple(records), accepted)


FIRST = outcome(1, RECORDS[:6], [True, True, False, True, True, True])
SECOND = outcome(2, RECORDS[4:9], contributor=BOB)


def test_a_version_holds_each_accepted_record_once_in_ascending_order():
    version = build_version(3, 1, [SECOND, FIRST])
    expected = sorted({record.hash for record in [*RECORDS[:2], *RECORDS[3:9]]})
    assert list(version.record_hashes) == expected
    assert version.root == MerkleTree([keccak(record_hash) for record_hash in expected]).root
    assert [part.contribution for part in version.parts] == [1, 2]


def test_a_record_in_two_contributions_belongs_to_the_earlier_and_a_rejected_one_to_the_later():
    found = owners([SECOND, FIRST])
    assert found[RECORDS[4].hash].contribution == 1
    again = owners([outcome(1, RECORDS[:1], [False]), outcome(2, RECORDS[:1])])
    assert again[RECORDS[0].hash].contribution == 2


@settings(max_examples=25)
@given(st.sets(st.integers(0, len(RECORDS) - 1), min_size=1, max_size=40))
def test_membership_of_every_record_is_proved_and_of_no_other(chosen):
    version = build_version(1, 1, [outcome(1, [RECORDS[position] for position in sorted(chosen)])])
    for record_hash in version.record_hashes:
        assert is_member(version.root, record_hash, version.proof(record_hash))
        assert not is_member(version.root, keccak(record_hash), version.proof(record_hash))
    stranger = next(record for position, record in enumerate(RECORDS) if position not in chosen)
    with pytest.raises(NotFoundError):
        version.proof(stranger.hash)


def test_a_removed_record_stays_removed_in_later_versions():
    first = build_version(1, 1, [FIRST])
    second = build_version(1, 2, [FIRST], removed=[RECORDS[0].hash], previous=first)
    third = build_version(1, 3, [FIRST, SECOND], previous=second)
    assert RECORDS[0].hash in first.record_hashes
    assert RECORDS[0].hash not in second.record_hashes
    assert RECORDS[0].hash not in third.record_hashes
    assert third.removed == (RECORDS[0].hash,)
    with pytest.raises(NotFoundError, match="it was removed"):
        third.proof(RECORDS[0].hash)


def test_a_version_is_the_same_after_its_blob_was_read():
    version = build_version(1, 1, [FIRST, SECOND], removed=[RECORDS[5].hash])
    again = Version.from_bytes(version.canonical)
    assert again == version
    assert again.root == version.root
    assert again.manifest == keccak(version.canonical)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: build_version(1, 2, [FIRST]), "cannot follow nothing"),
        (lambda: build_version(1, 1, [FIRST, FIRST]), "comes twice"),
        (lambda: build_version(1, 1, [outcome(1, RECORDS[:2], [False, False])]), "no record"),
        (lambda: build_version(1, 1, [FIRST], removed=[bytes(32)]), "cannot remove"),
        (lambda: outcome(1, RECORDS[:2], [True]), "2 records and 1 outcomes"),
        (lambda: Version.from_bytes(b"{}"), "malformed"),
        (lambda: Version.from_bytes(b"[]"), "malformed"),
        (lambda: Version.from_bytes(build_version(1, 1, [FIRST]).canonical + b" "), "canonical"),
    ],
)
def test_a_version_that_makes_no_sense_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_a_version_is_verified_from_the_chains_outcomes():
    version = build_version(1, 1, [FIRST, SECOND])
    verify_version(version, [FIRST, SECOND], version.root)
    hidden = outcome(1, RECORDS[:6], [True, True, True, True, True, True])
    with pytest.raises(VerificationError, match="other contributions or outcomes"):
        verify_version(version, [hidden, SECOND], version.root)
    with pytest.raises(VerificationError, match="the chain holds"):
        verify_version(version, [FIRST, SECOND], bytes(32))
    fewer = Version(1, 1, version.record_hashes[1:], version.parts, ())
    with pytest.raises(VerificationError, match="leaves out"):
        verify_version(fewer, [FIRST, SECOND], fewer.root)
    more = Version(1, 1, tuple(sorted([*version.record_hashes, bytes(32)])), version.parts, ())
    with pytest.raises(VerificationError, match="adds"):
        verify_version(more, [FIRST, SECOND], more.root)


def test_the_data_card_says_what_is_in_the_version_and_escapes_what_others_wrote():
    version = build_version(1, 1, [FIRST, SECOND])
    card = data_card(version, RECORDS, load_terms())
    assert "Smart-contract exploits, version 1" in card
    assert "8 incident" in card
    assert "2017-07-19" in card
    assert f"`{BOB}` | 5" in card
    assert "0x" + version.root.hex() in card
    hostile = build_version(1, 1, [outcome(1, RECORDS[:1], contributor="<script>|`x`")])
    assert "<script>" not in data_card(hostile, RECORDS, load_terms())
    with pytest.raises(InputError, match="8 records, 2 of them"):
        data_card(version, RECORDS[:2], load_terms())


# Sharing out


@pytest.mark.parametrize("count", [1, 2, 6, 9])
def test_every_record_goes_to_exactly_one_contributor(count):
    shared = partition(RECORDS, [f"person {number}" for number in range(count)])
    assert len(shared) == count
    assert all(shared.values())
    hashes = [record.hash for records in shared.values() for record in records]
    assert sorted(hashes) == sorted(record.hash for record in RECORDS)


def test_six_contributors_have_areas_of_their_own_and_of_uneven_size():
    shared = partition(RECORDS, list("abcdef"))
    areas = [{load_weaknesses()[weakness_of(record)].area for record in records} for records in shared.values()]
    assert all(len(area) == 1 for area in areas)
    sizes = sorted(map(len, shared.values()))
    assert sizes[-1] >= 1.5 * sizes[0] >= 75


def test_every_weakness_of_an_incident_is_known():
    assert {source.weakness for source in load_sources()} <= set(load_weaknesses())


def test_sharing_out_among_nobody_or_among_too_many_is_refused():
    for people in ([], ["a", "a"], [str(number) for number in range(len(RECORDS) + 1)]):
        with pytest.raises(InputError):
            partition(RECORDS, people)
