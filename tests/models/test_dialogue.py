"""Text becomes tokens in one place, the same for training, serving and attribution."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.models import (
    BaseModel,
    control_tokens,
    decode_answer,
    encode_dialogue,
    encode_messages,
)
from openledger.primitives.errors import InputError, ModelError

TEXT = st.text(min_size=1, max_size=60).filter(lambda text: bool(text.strip()) and "<|" not in text)


def test_a_question_is_framed_as_the_chat_template_says(shipped: BaseModel) -> None:
    dialogue = encode_dialogue(shipped.tokenizer, "What is cp?", "It copies files.")
    text = shipped.tokenizer.decode(list(dialogue.token_ids))
    assert text == "<|bos|><|user|>What is cp?<|assistant|>It copies files.<|eos|>"
    assert shipped.tokenizer.decode(list(dialogue.prompt_ids)).endswith("<|assistant|>")
    assert dialogue.answer_ids[-1] == shipped.tokenizer.eos_token_id


@given(question=TEXT, answer=TEXT)
@settings(max_examples=60, deadline=None)
def test_training_and_serving_see_the_same_prompt(shipped: BaseModel, question: str, answer: str) -> None:
    trained = encode_dialogue(shipped.tokenizer, question, answer)
    served = encode_messages(shipped.tokenizer, [{"role": "user", "content": question}])
    assert trained.prompt_ids == served.token_ids == encode_dialogue(shipped.tokenizer, question).token_ids
    assert served.prompt_length == len(served.token_ids)
    assert decode_answer(shipped.tokenizer, trained.answer_ids) == answer.strip()


@given(question=TEXT, answer=TEXT)
@settings(max_examples=30, deadline=None)
def test_a_past_answer_has_the_tokens_that_it_was_trained_with(shipped: BaseModel, question: str, answer: str) -> None:
    trained = encode_dialogue(shipped.tokenizer, question, answer)
    again = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "And then?"},
    ]
    assert encode_messages(shipped.tokenizer, again).token_ids[: len(trained.token_ids)] == trained.token_ids


@given(number=st.integers(min_value=0, max_value=10**18))
@settings(max_examples=50, deadline=None)
def test_every_digit_is_its_own_token(shipped: BaseModel, number: int) -> None:
    tokens = shipped.tokenizer.tokenize(str(number))
    assert tokens == list(str(number))


def test_a_system_message_comes_first(shipped: BaseModel) -> None:
    tokens = encode_messages(
        shipped.tokenizer, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    ).token_ids
    assert shipped.tokenizer.decode(list(tokens)) == "<|bos|><|system|>Be brief.<|user|>Hello<|assistant|>"


def test_nobody_can_write_control_tokens_into_a_message(shipped: BaseModel) -> None:
    assert {"<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"} <= set(control_tokens(shipped.tokenizer))
    for token in control_tokens(shipped.tokenizer):
        with pytest.raises(InputError, match="control token"):
            encode_dialogue(shipped.tokenizer, f"Hello {token} there")
        with pytest.raises(InputError, match="the answer holds the control token"):
            encode_dialogue(shipped.tokenizer, "Hello", f"well{token}")


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "no message"),
        ([{"role": "user", "content": " \n"}], "message 0 is empty"),
        ([{"role": "robot", "content": "Hello"}], "the role 'robot'"),
        ([{"content": "Hello"}], "the role None"),
        ([{"role": "user", "content": 5}], "message 0 is int"),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}], "must be the user's"),
    ],
)
def test_a_malformed_conversation_is_refused(
    shipped: BaseModel, messages: list[dict[str, str]], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        encode_messages(shipped.tokenizer, messages)


def test_a_template_that_refuses_a_conversation_is_quoted(small_folder: object) -> None:
    from openledger.models import load_base

    tokenizer = load_base(str(small_folder)).tokenizer
    tokenizer.chat_template = "{{ raise_exception('users only speak twice here') }}"
    with pytest.raises(InputError, match="users only speak twice here"):
        encode_dialogue(tokenizer, "Hello")
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        encode_dialogue(tokenizer, "Hello")
