"""The gate: free checks that give the same findings to everyone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.datanets import (
    DuplicateReviewer,
    Record,
    inspect,
    load_records,
    load_terms,
    make_bad_rows,
    review,
    review_items,
    reworded,
)
from openledger.datanets.privacy import find_private
from openledger.datanets.wording import Similarity, dates, features, words

TERMS = load_terms()
RECORDS = load_records()
INCIDENTS = [record for record in RECORDS if record.facts]


def changed(record, **members):
    return Record.from_json(record.value | members)


def checks(report):
    return [[finding.check for finding in found] for found in report.findings]


def test_the_shipped_records_pass_and_only_records_of_one_day_are_pointed_out():
    report = inspect(RECORDS, "Apache-2.0", TERMS)
    assert report.clean
    assert set(report.summary()) == {"same-event"}
    assert report.summary()["same-event"] <= 5


def test_the_same_contribution_gives_the_same_digest_and_another_gives_another():
    report = inspect(RECORDS[:20], "MIT", TERMS, RECORDS[20:40])
    assert report.digest == inspect(list(RECORDS[:20]), "MIT", TERMS, RECORDS[20:40]).digest
    assert report.digest != inspect(RECORDS[:20], "MIT", TERMS, RECORDS[10:40]).digest
    assert report.digest != inspect(RECORDS[:20], "GPL-3.0-only", TERMS, RECORDS[20:40]).digest


def test_an_exact_copy_is_found_wherever_the_original_is_and_named():
    report = inspect([RECORDS[3], RECORDS[5], RECORDS[5]], "MIT", TERMS, RECORDS[:4])
    first, second, third = report.findings
    assert [finding.check for finding in first] == ["duplicate"]
    assert "an earlier contribution" in first[0].message
    assert first[0].other == RECORDS[3].hash
    assert second == ()
    assert "row 2 of this contribution" in third[0].message
    assert report.closest == (RECORDS[3], report.closest[1], RECORDS[5])
    assert not report.clean


def test_a_copy_with_other_punctuation_and_case_is_found_as_near():
    original = INCIDENTS[14]
    copy = changed(original, answer=original.answer.lower().replace(";", ",").replace("out", "OUT!"))
    (found,) = inspect([copy], "MIT", TERMS, RECORDS).findings
    assert [finding.check for finding in found] == ["near-duplicate"]
    assert found[0].other == original.hash
    assert found[0].severity == "warn"


def test_every_paraphrase_is_found_to_be_of_the_same_event():
    copies = [Record.from_json(reworded(record)) for record in INCIDENTS[::10]]
    report = inspect(copies, "MIT", TERMS, RECORDS)
    for copy, original, found in zip(copies, INCIDENTS[::10], report.findings, strict=True):
        assert [finding.check for finding in found] == ["same-event"], copy
        assert found[0].other == original.hash


def test_pieces_of_one_record_are_found_by_their_question_and_rejected_but_not_another_incident_of_that_name():
    original = INCIDENTS[14]
    sentences = original.answer.split(". ")
    pieces = [changed(original, answer=sentence) for sentence in sentences]
    source = {**original.value["source"], "reference": INCIDENTS[15].reference}
    other = changed(original, answer="The bridge was drained by a forged proof.", source=source)
    report = inspect([*pieces, other], "MIT", TERMS, RECORDS[:3])
    found = [findings[0].check if findings else "" for findings in report.findings[1:]]
    assert set(found[:-1]) <= {"near-duplicate", "same-event", "same-question"}
    assert found[-1] == "same-question"
    assert report.clean
    verdicts = review(DuplicateReviewer(), review_items([*pieces, other], report))
    assert [verdict.accept for verdict in verdicts] == [True, *[False] * (len(pieces) - 1), True]
    assert "asks the same question as a record in row 1" in verdicts[1].reason


def test_records_that_only_share_sentences_are_not_called_copies():
    logic = [record for record in INCIDENTS if record.facts["cause"] == "business logic flaw"]
    assert len(logic) > 50
    report = inspect(logic, "MIT", TERMS, [record for record in RECORDS if record not in logic])
    assert "near-duplicate" not in report.summary()


def test_a_licence_off_the_list_and_a_malformed_record_fail():
    report = inspect([changed(RECORDS[0], answer=5)], "proprietary", TERMS)
    assert checks(report) == [["schema", "licence"]]


def test_a_secret_in_any_text_of_a_record_is_found_and_not_repeated():
    key = "sk-" + "a1b2" * 8
    report = inspect([changed(RECORDS[0], source={"name": "x", "reference": key})], "MIT", TERMS)
    assert checks(report) == [["private"]]
    assert key not in report.findings[0][0].message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN EC PRIVATE KEY-----", "private key"),
        ("private key: 0x" + "4c" * 32, "private key"),
        ("AKIAIOSFODNN7EXAMPLE", "access key"),
        ("ghp_" + "a" * 36, "access token"),
        ("password = hunter2hunter2", "password"),
        ("write to jane.doe@example.org today", "e-mail address"),
        ("call +44 20 7946 0958", "telephone number"),
        ("card 4111 1111 1111 1111", "bank card"),
        ("IBAN DE89 3704 0044 0532 0130 00", "bank account"),
        ("SSN 078-05-1120", "social security number"),
        ("legal winner thank year wave sausage worth useful legal winner thank yellow", "mnemonic"),
    ],
)
def test_secrets_and_personal_data_are_recognised(text, kind):
    assert [found for found, _ in find_private(text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "0x" + "4c" * 32,
        "transaction 0x" + "ab" * 32 + " by 0x" + "cd" * 20,
        "lost 4,507,034.03 vATH + 2,007,935.14 ATH on 2026-03-28",
        "4111 1111 1111 1112",
        "DE88 3704 0044 0532 0130 00",
        "legal winner thank year wave sausage worth useful legal winner thank thank",
        "the private key was leaked",
        "src/test/2021-04/Uranium_exp.sol",
        "gained +20 and +1000000 on 3 days",
    ],
)
def test_hashes_amounts_and_numbers_that_fail_their_checksum_are_no_secrets(text):
    assert find_private(text) == []


@settings(max_examples=80)
@given(st.text(max_size=120))
def test_looking_for_secrets_never_fails(text):
    assert isinstance(find_private(text), list)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        " " * 4000,
        "1 " * 2000,
        "~ $ ~" * 800,
        "1," * 2000,
        "a@" + "a." * 2000,
        "abandon " * 500,
        "A1 " * 1300,
        "+12 34 " * 500,
    ],
    ids=repr,
)
def test_no_text_makes_the_gate_slow(text):
    value = RECORDS[0].value | {"answer": text}
    assert checks(inspect([Record.from_json(value)], "MIT", TERMS, RECORDS[:20]))


# Similarity


def test_days_are_recognised_in_several_forms():
    text = "On 2021-04-28, on 28 April 2021, on April 28th, 2021 and on 2021/04/28"
    assert set(dates(text)) == {"2021-04-28"}
    assert words(text) == ["on", "on", "on", "and", "on"]


def test_the_same_amount_in_another_spelling_is_the_same_feature():
    assert features("lost $1.4 million") & features("1,400,000 USD were lost") >= {"1400000 $", "lost"}


@settings(max_examples=40)
@given(st.lists(st.sampled_from([record.text for record in RECORDS[:40]]), min_size=2, max_size=12))
def test_similarity_is_symmetric_bounded_and_whole_for_equal_texts(texts):
    similarity = Similarity(texts)
    for one in range(len(texts)):
        for other in range(one):
            value = similarity.similarity_ppm(one, other)
            assert value == similarity.similarity_ppm(other, one)
            assert 0 <= value <= 1_000_000
            assert (value == 1_000_000) == (features(texts[one]) == features(texts[other]))


def test_a_copy_is_found_among_thousands_of_rows_of_one_template():
    texts = [
        f"Ledger{number} lost {number},000 USDC on 2024-0{number % 9 + 1}-11 by reentrancy" for number in range(3000)
    ]
    matches = Similarity([*texts, texts[1234].replace("lost", "was robbed of")], known=3000).matches()
    assert matches[0][0].position == 1234
    assert len(matches[0]) < 400


def test_all_planted_copies_are_found_and_hardly_anything_in_what_is_new():
    new, old = INCIDENTS[:100], INCIDENTS[100:] + RECORDS[641:]
    copies = [row.record for row in make_bad_rows(old, 3, 70) if "copy" in row.trick or row.trick == "paraphrase"]
    report = inspect([*new, *copies], "MIT", TERMS, old)
    assert all(report.findings[100:])
    assert sum(bool(found) for found in report.findings[:100]) <= 3
