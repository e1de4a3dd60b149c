"""An API key is a session key, and requests that cannot be served as asked are refused by name."""

import json

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from openledger.primitives import InputError, SignatureError, canonical_bytes
from openledger.studio import Prompt
from openledger.studio.api_types import DEFAULT_MAX_TOKENS, ChatRequest
from openledger.studio.keys import ApiKey

CONSUMER = Account.from_key("0x" + "11" * 32).address


MODELS = st.none() | st.frozensets(st.integers(1, 10**12), min_size=1, max_size=4)


@given(st.binary(min_size=32, max_size=32), MODELS)
def test_a_key_survives_being_shown_and_read(secret: bytes, models: frozenset[int] | None) -> None:
    key = ApiKey(CONSUMER, secret, models)
    read = ApiKey.parse(key.reveal())
    assert read == key
    assert read.signer.address == key.signer.address


@given(st.binary(min_size=32, max_size=32), MODELS, MODELS)
def test_a_key_for_some_models_is_another_session_key_than_one_for_others(
    secret: bytes, models: frozenset[int] | None, others: frozenset[int] | None
) -> None:
    one, other = ApiKey(CONSUMER, secret, models), ApiKey(CONSUMER, secret, others)
    assert (one.signer.address == other.signer.address) == (models == others)
    # Whoever takes the session key itself for a secret has another session key.
    assert ApiKey(CONSUMER, bytes(one.signer.key)).signer.address != one.signer.address


def test_a_key_is_good_for_its_models_only() -> None:
    assert ApiKey.create(CONSUMER).may_ask(7)
    some = ApiKey.create(CONSUMER, [3, 5])
    assert [some.may_ask(number) for number in (3, 4, 5)] == [True, False, True]
    with pytest.raises(InputError, match="no model at all"):
        ApiKey.create(CONSUMER, [])


def test_a_key_is_not_shown_by_printing_it() -> None:
    key = ApiKey.create(CONSUMER)
    assert key.secret.hex() not in f"{key!r} {key}"
    assert bytes(key.signer.key).hex() not in f"{key!r} {key}"


LONG_ENOUGH = f"olk-{'1' * 40}-{'2' * 64}"


@pytest.mark.parametrize(
    "text", ["", "sk-abc", "olk-12-34", *(LONG_ENOUGH + end for end in ("0", "-", "-0", "-1.", "-1,2"))]
)
def test_a_malformed_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SignatureError) as caught:
        ApiKey.parse(text)
    assert "openledger key create" in str(caught.value)
    assert not text or text not in str(caught.value)


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def request(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def test_sampling_has_openais_names_and_greedy_defaults() -> None:
    assert request().sampling().max_tokens == DEFAULT_MAX_TOKENS
    assert request().sampling().temperature == 0
    sampling = request(max_completion_tokens=7, temperature=0.5, top_p=0.9, seed=3, stop="\n").sampling()
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.stop) == (
        7,
        0.5,
        0.9,
        3,
        ("\n",),
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 3}, "temperature is 3"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"stop": ["a"] * 5}, "at most 4"),
        ({"stop": ""}, "non-empty"),
        ({"presence_penalty": 3}, "presence_penalty is 3"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 2}, "min_p is 2"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"logprobs": True, "top_logprobs": 21}, "asks for 21"),
        ({"top_logprobs": 2}, "without logprobs"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "none of the tools"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "leave one out"),
        ({"response_format": {"type": "json_schema"}}, "no json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 5}}}}, "schema"),
    ],
)
def test_a_sampling_value_out_of_range_is_named_with_its_value(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        request(**fields).sampling()


@pytest.mark.parametrize(
    "fields",
    [
        {"modalities": ["audio"]},
        {"logit_bias": {"5": 1}},
        {"tools": [{"type": "web_search"}]},
        {"messages": []},
        {"messages": "hi"},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
)
def test_what_is_not_served_is_refused_and_not_ignored(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert request(messages=[{"role": "user", "content": parts}]).dialogue() == [{"role": "user", "content": "ab"}]


def test_tools_are_told_before_the_dialogue_and_their_use_is_told_in_it() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    dialogue = request(messages=messages, tools=[TOOL]).dialogue()
    assert [message["role"] for message in dialogue] == ["system", "user", "assistant", "user"]
    assert '"look"' in dialogue[0]["content"]
    assert dialogue[2]["content"] == '{"name": "look", "arguments": {"at": 1}}'
    assert dialogue[3]["content"].endswith("42")


def test_all_that_an_answer_depends_on_survives_in_the_private_body() -> None:
    asked = request(
        tools=[TOOL], tool_choice="required", top_k=5, min_p=0.1, repetition_penalty=1.2, frequency_penalty=0.3, seed=9
    )
    prompt = Prompt.chat(asked.dialogue())
    document = json.loads(canonical_bytes(prompt.to_json(asked.sampling())))
    assert Prompt.from_json(document) == (prompt, asked.sampling())
    plain = request()
    assert set(Prompt.chat(plain.dialogue()).to_json(plain.sampling())) == {
        "messages",
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
    }
