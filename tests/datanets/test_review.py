"""Reviewers: honest procedures that differ, ballots, and the tally."""

import json

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from openledger.datanets import (
    TRICKS,
    CarefulReviewer,
    DuplicateReviewer,
    FactReviewer,
    HastyReviewer,
    Record,
    SourceReviewer,
    Verdict,
    fill_ballot,
    find_source,
    inspect,
    load_records,
    load_terms,
    make_bad_rows,
    pack_bitmap,
    review,
    review_items,
    reworded,
    tally,
    unpack_bitmap,
)
from openledger.datanets.measure import main
from openledger.primitives import InputError, keccak

TERMS = load_terms()
RECORDS = load_records()
INCIDENTS = [record for record in RECORDS if record.facts]
PANEL = [FactReviewer(), DuplicateReviewer(), SourceReviewer(), CarefulReviewer(), HastyReviewer()]
REVIEWER = "0x" + "12" * 20


@pytest.fixture(scope="module")
def planted():
    rows = make_bad_rows(RECORDS, seed=11, count=140)
    records = [row.record for row in rows]
    return rows, review_items(records, inspect(records, "MIT", TERMS, RECORDS))


@pytest.fixture(scope="module")
def honest():
    return review_items(RECORDS, inspect(RECORDS, "MIT", TERMS))


def item(record, known=()):
    (made,) = review_items([record], inspect([record], "MIT", TERMS, known))
    return made


def altered(record, **changed):
    value = record.value
    for name, fact in changed.items():
        value["facts"][name] = fact
        value["answer"] = value["answer"].replace(record.facts[name], fact)
        value["question"] = value["question"].replace(record.facts[name], fact)
    return Record.from_json(value)


URANIUM = next(record for record in RECORDS if record.facts.get("protocol") == "Uranium")


# What a reviewer sees


def test_an_item_holds_the_record_its_source_and_the_findings_and_no_word_on_who_sent_it():
    made = item(URANIUM)
    assert made.source is not None
    assert made.source.date == "2021-04-28"
    assert set(vars(made)) == {"record", "source", "findings", "closest"}


def test_items_need_the_report_of_the_same_contribution():
    with pytest.raises(InputError, match="report is on 2 records"):
        review_items(RECORDS[:3], inspect(RECORDS[:2], "MIT", TERMS))


def test_every_incident_finds_its_source():
    assert all(find_source(record) is not None for record in INCIDENTS)
    assert len({find_source(record) for record in INCIDENTS}) == len(INCIDENTS)


# Verdicts


@pytest.mark.parametrize("reviewer", PANEL, ids=lambda reviewer: reviewer.name)
def test_no_reviewer_rejects_a_true_record(reviewer, honest):
    rejected = [(verdict.reason, made.record) for verdict, made in zip(review(reviewer, honest), honest, strict=True)
                if not verdict.accept]  # fmt: skip
    assert rejected == []


@pytest.mark.parametrize("reviewer", PANEL, ids=lambda reviewer: reviewer.name)
def test_a_true_record_in_somebodys_own_words_is_accepted_while_it_is_new(reviewer):
    records = [Record.from_json(reworded(record)) for record in INCIDENTS[::4]]
    verdicts = review(reviewer, review_items(records, inspect(records, "MIT", TERMS)))
    assert [verdict.reason for verdict in verdicts if not verdict.accept] == []


def test_the_fact_reviewer_says_which_fact_is_wrong_and_what_the_source_says():
    wrong = {
        "$80,000,000": altered(URANIUM, lost="$80 million"),
        "2021-05-28": altered(URANIUM, date="2021-05-28"),
        "does not name": altered(URANIUM, protocol="Plutonium"),
        "reentrancy": altered(URANIUM, cause="reentrancy"),
    }
    for said, record in wrong.items():
        verdict = FactReviewer().judge(item(record))
        assert not verdict.accept
        assert said in verdict.reason
    assert "$50 million" in FactReviewer().judge(item(wrong["$80,000,000"])).reason


def test_a_wrong_fact_in_the_answer_is_found_though_the_stated_fact_is_right():
    value = URANIUM.value
    value["answer"] = value["answer"].replace("$50 million", "$5 million")
    assert not FactReviewer().judge(item(Record.from_json(value))).accept


def test_rounding_an_amount_is_no_error_but_another_currency_is():
    source = next(record for record in INCIDENTS if record.facts["lost"] == "about 187.75 WETH")
    assert FactReviewer().judge(item(altered(source, lost="about 188 WETH"))).accept
    assert not FactReviewer().judge(item(altered(source, lost="about 187.75 WBTC"))).accept


def test_an_unknown_source_cannot_be_checked_and_is_rejected_by_those_who_look_it_up():
    value = URANIUM.value | {"source": {"name": "somewhere", "reference": "page 7"}}
    made = item(Record.from_json(value))
    assert not FactReviewer().judge(made).accept
    assert not SourceReviewer().judge(made).accept
    assert HastyReviewer(read_ppm=1_000_000).judge(made).accept


def test_a_lesson_that_explains_another_weakness_is_rejected():
    lessons = {record.reference: record for record in RECORDS if not record.facts}
    value = lessons["weakness/reentrancy"].value
    assert FactReviewer().judge(item(Record.from_json(value))).accept
    value["answer"] = lessons["weakness/signature-replay"].answer
    verdict = FactReviewer().judge(item(Record.from_json(value)))
    assert not verdict.accept
    assert "signature replay" in verdict.reason


def test_the_careful_reviewer_rejects_an_explanation_of_another_weakness():
    other = next(record for record in INCIDENTS if record.facts["cause"] == "signature replay")
    value = URANIUM.value
    value["answer"] = URANIUM.answer.partition("Prevention")[0] + "Prevention" + other.answer.partition("Prevention")[2]
    made = item(Record.from_json(value))
    assert FactReviewer().judge(made).accept
    assert "signature replay" in CarefulReviewer().judge(made).reason


def test_two_hasty_reviewers_skip_different_rows_and_each_is_consistent(honest):
    one, other = HastyReviewer(seed=1), HastyReviewer(seed=2)
    assert [verdict.reason for verdict in review(one, honest)] == [verdict.reason for verdict in review(one, honest)]
    assert [verdict.reason for verdict in review(one, honest)] != [verdict.reason for verdict in review(other, honest)]


# Planted rows


def test_every_trick_is_played_and_every_row_differs_from_its_origin_but_for_plain_copies(planted):
    rows, _ = planted
    assert {row.trick for row in rows} == set(TRICKS)
    for row in rows:
        assert (row.record == row.origin) == (row.trick == "exact copy"), row
        facts = row.record.facts
        assert all(fact in row.record.answer for name, fact in facts.items() if name != "lost" or "not" not in fact), (
            row
        )


def test_the_same_seed_plants_the_same_rows_and_too_few_records_are_refused():
    assert make_bad_rows(RECORDS, 5, 30) == make_bad_rows(RECORDS, 5, 30)
    assert make_bad_rows(RECORDS, 5, 30) != make_bad_rows(RECORDS, 6, 30)
    with pytest.raises(InputError, match="30 bad rows"):
        make_bad_rows(RECORDS[:10], 5, 30)


def test_the_careful_reviewer_rejects_every_planted_row(planted):
    rows, items = planted
    missed = [row.trick for row, verdict in zip(rows, review(CarefulReviewer(), items), strict=True) if verdict.accept]
    assert missed == []


def test_procedures_differ_in_what_they_miss(planted):
    rows, items = planted
    missed = {
        reviewer.name: {row.trick for row, verdict in zip(rows, review(reviewer, items), strict=True) if verdict.accept}
        for reviewer in PANEL
    }
    assert missed["facts"] == {"near copy", "paraphrase"}
    assert missed["duplicates"] <= {"swapped cause", "wrong date"}
    assert missed["source"] <= {"swapped cause"}
    assert len(missed["hasty"]) >= 4


def test_juries_of_three_reject_most_of_what_was_planted_and_no_true_record(capsys):
    assert main(["--seed", "3", "--count", "70", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    known = figures["planted, originals known"]
    assert set(known["tricks"]) == set(TRICKS)
    assert known["juries"] >= 900_000
    assert known["worst_jury"] >= 750_000
    assert figures["planted, originals unknown"]["reviewers"]["careful"] == 1_000_000
    assert figures["true records"]["worst_jury"] == 0
    assert figures["true records in other words"]["worst_jury"] == 0


@pytest.mark.slow
def test_the_figures_are_printed_for_people_too(capsys):
    assert main(["--count", "14"]) == 0
    assert "planted, originals known: 14 rows" in capsys.readouterr().out


# Ballots


@given(st.lists(st.booleans(), max_size=70))
def test_a_bitmap_unpacks_to_what_was_packed(accepted):
    bitmap = pack_bitmap(accepted)
    assert len(bitmap) == (len(accepted) + 7) // 8
    assert unpack_bitmap(bitmap, len(accepted)) == accepted


def test_record_zero_is_the_lowest_bit_of_the_first_byte():
    assert pack_bitmap([True] + [False] * 8) == b"\x01\x00"
    assert pack_bitmap([False] * 8 + [True]) == b"\x00\x01"


@pytest.mark.parametrize(("bitmap", "count"), [(b"\x08", 3), (b"", 1), (b"\x01\x00", 8)])
def test_a_bitmap_with_stray_bits_or_of_another_length_is_refused(bitmap, count):
    with pytest.raises(InputError):
        unpack_bitmap(bitmap, count)


@given(
    st.integers(1, 40).flatmap(
        lambda count: st.lists(st.lists(st.booleans(), min_size=count, max_size=count), min_size=1, max_size=7)
    )
)
def test_a_record_is_accepted_by_more_than_half_and_a_tie_rejects(opinions):
    outcome = tally([pack_bitmap(opinion) for opinion in opinions], len(opinions[0]))
    for position, accepted in enumerate(outcome):
        votes = sum(opinion[position] for opinion in opinions)
        assert accepted == (votes > len(opinions) - votes)


def test_a_tally_without_verdicts_is_refused():
    with pytest.raises(InputError, match="void"):
        tally([], 3)


def test_a_commitment_hides_the_verdict_and_binds_reviewer_contribution_verdict_and_salt():
    verdicts = [Verdict(True, ""), Verdict(False, "")]
    ballot = fill_ballot(7, REVIEWER, verdicts, salt=bytes(32))
    types = ["uint256", "address", "bytes", "bytes32"]
    assert ballot.commitment == keccak(encode(types, [7, REVIEWER, b"\x01", bytes(32)]))
    others = [
        fill_ballot(8, REVIEWER, verdicts, salt=bytes(32)),
        fill_ballot(7, "0x" + "13" * 20, verdicts, salt=bytes(32)),
        fill_ballot(7, REVIEWER, verdicts[::-1], salt=bytes(32)),
        fill_ballot(7, REVIEWER, verdicts),
    ]
    assert len({ballot.commitment, *(other.commitment for other in others)}) == 5


def test_a_salt_is_fresh_and_of_32_bytes():
    assert fill_ballot(1, REVIEWER, []).salt != fill_ballot(1, REVIEWER, []).salt
    with pytest.raises(InputError, match="32 bytes"):
        fill_ballot(1, REVIEWER, [], salt=b"short")
