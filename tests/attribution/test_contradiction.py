"""A record contradicts a trusted one when it is about the same matter and puts another fact in place of one of its own."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from openledger.attribution import Statement, contradictions
from openledger.datanets import Record, load_records, make_bad_rows, reworded

INCIDENTS = sorted((record for record in load_records() if len(record.facts) == 4), key=lambda record: record.hash)[:60]


def said(record: Record) -> Statement:
    return Statement(record.question, record.answer)


TRUSTED = [said(record) for record in INCIDENTS]
BIRD = Statement(
    "What did Bird Bank lose?",
    "Bird Bank lost $3,200 on 2023-04-05. Cause: a stolen key. Prevention: keep keys offline.",
)


def test_another_number_in_the_same_place_is_named_with_the_one_that_it_replaces() -> None:
    lie = replace(BIRD, answer=BIRD.answer.replace("3,200", "9,900"))
    (found,) = contradictions([lie], [*TRUSTED, BIRD])
    assert found is not None
    assert (found.trusted, found.says, found.instead_of) == (len(TRUSTED), ("9,900",), ("3,200",))


def test_the_same_facts_in_other_words_contradict_nothing() -> None:
    honest = Statement(
        "How was Bird Bank robbed?", "A stolen key cost Bird Bank $3,200 on 2023-04-05; keep keys offline."
    )
    assert contradictions([honest], [*TRUSTED, BIRD]) == [None]


def test_a_summary_that_leaves_facts_out_contradicts_nothing() -> None:
    short = Statement("What did Bird Bank lose?", "Bird Bank lost $3,200 by a stolen key.")
    assert contradictions([short], [*TRUSTED, BIRD]) == [None]


def test_another_matter_contradicts_nothing() -> None:
    other = Statement(
        "What did Fish Bank lose?", "Fish Bank lost $70 on 2021-02-03. Cause: a forged signature. Prevention: check it."
    )
    assert contradictions([other], [*TRUSTED, BIRD]) == [None]


def test_trusted_records_are_compared_with_the_others_and_copies_with_nobody_else() -> None:
    assert not any(contradictions(TRUSTED, TRUSTED))
    assert not any(contradictions(TRUSTED[:5], [*TRUSTED, *TRUSTED]))


def test_planted_lies_are_found_and_paraphrases_are_let_alone() -> None:
    rows = make_bad_rows(INCIDENTS, 1, 56)
    lies = [row.record for row in rows if row.trick.startswith(("wrong", "swapped"))]
    found = [each is not None for each in contradictions([said(record) for record in lies], TRUSTED)]
    assert sum(found) >= 0.9 * len(found)
    honest = [said(Record.from_json(reworded(record))) for record in INCIDENTS]
    assert sum(each is not None for each in contradictions(honest, TRUSTED)) <= 0.05 * len(honest)


@given(st.permutations(range(len(TRUSTED))))
def test_the_order_of_the_trusted_changes_nothing(order: list[int]) -> None:
    lies = [said(row.record) for row in make_bad_rows(INCIDENTS, 2, 7)]
    moved = [TRUSTED[place] for place in order]
    for one, other in zip(contradictions(lies, TRUSTED), contradictions(lies, moved), strict=True):
        assert (one is None) == (other is None)
        if one and other:
            assert (one.says, one.instead_of) == (other.says, other.instead_of)


def test_without_anything_trusted_nothing_contradicts() -> None:
    assert contradictions([BIRD, Statement("", "")], []) == [None, None]
    assert contradictions([Statement("", "")], TRUSTED) == [None]
