"""Records are looked up the same by everybody, stand in the system message, and are named in what the receipt commits to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from openledger.models import load_base
from openledger.openlora import Sampling
from openledger.primitives import InputError, canonical_bytes, keccak
from openledger.studio import Passage, Prompt, Retriever
from openledger.studio.api_types import ChatRequest

TEXTS = ("Uranium lost $50 million", "Orbit lost 9 ETH to reentrancy", "A vault was drained by reentrancy", "Nothing")
PASSAGES = tuple(Passage(keccak(text.encode()), text) for text in TEXTS)
WORDS = st.lists(st.sampled_from(["uranium", "orbit", "lost", "vault", "nothing", "else"]), max_size=8).map(" ".join)


def found(question: str, count: int = 3) -> list[str]:
    return [passage.text for passage in Retriever(PASSAGES).find(question, count)]


def test_the_nearest_by_words_come_first() -> None:
    assert found("What did Uranium lose?") == [TEXTS[0]]
    assert found("reentrancy at Orbit")[0] == TEXTS[1]
    assert found("reentrancy at Orbit", 1) == [TEXTS[1]]


@pytest.mark.parametrize("question", ["Zebra?", "", "?!", "the of a"])
def test_a_question_that_shares_no_word_finds_nothing(question: str) -> None:
    assert found(question) == []
    assert Retriever([]).find(question or "Uranium", 3) == ()


@given(WORDS, st.permutations(PASSAGES), st.integers(1, 4))
def test_the_order_of_the_records_changes_nothing(question: str, order: list[Passage], count: int) -> None:
    assert Retriever(order).find(question, count) == Retriever(PASSAGES).find(question, count)
    assert Retriever(PASSAGES).find(question, 4)[:count] == Retriever(PASSAGES).find(question, count)


def test_what_was_looked_up_stands_in_the_system_message_and_each_can_be_left_out() -> None:
    tokenizer = load_base(None).tokenizer
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What happened?"}]
    prompt = Prompt(tuple(asked), None, 2, PASSAGES[:2])
    text = tokenizer.decode(prompt.encode(tokenizer))
    assert text.index("Be brief.") < text.index(TEXTS[0]) < text.index(TEXTS[1]) < text.index("What happened?")
    assert [one.passages for one in prompt.ablated()] == [PASSAGES[1:2], PASSAGES[:1]]
    plain = Prompt.chat(asked)
    assert plain.encode(tokenizer) == Prompt(tuple(asked), None, 2).encode(tokenizer)
    assert plain.ablated() == []


def test_the_private_body_says_how_many_were_looked_up_and_they_are_looked_up_again() -> None:
    prompt = Prompt(({"role": "user", "content": "Uranium?"},), None, 2, PASSAGES[:1])
    document = json.loads(canonical_bytes(prompt.to_json(Sampling())))
    assert document["retrieval"] == {"top_k": 2}
    again, _ = Prompt.from_json(document)
    assert (again.top_k, again.passages) == (2, ())
    assert "retrieval" not in Prompt.chat([{"role": "user", "content": "Uranium?"}]).to_json(Sampling())
    with pytest.raises(InputError, match="malformed"):
        Prompt.from_json({**document, "retrieval": 3})


def test_how_many_may_be_looked_up_is_limited() -> None:
    message = {"role": "user", "content": "hi"}
    body = {"model": "m", "messages": [message]}
    assert ChatRequest(**body, retrieval={"top_k": 8}).asked().top_k == 8
    assert ChatRequest(**body, retrieval={}).asked().top_k == 3
    assert ChatRequest(**body).asked().top_k == 0
    for wrong in ({"top_k": 0}, {"top_k": 9}, {"datanet": 1}, 3):
        with pytest.raises(ValidationError):
            ChatRequest(**body, retrieval=wrong)
    with pytest.raises(InputError, match="9 records cannot be looked up; ask for 0 to 8"):
        Prompt.chat([message], 9)
