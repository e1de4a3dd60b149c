"""An API key is a session key, and requests that cannot be served as asked are refused by name."""

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from openledger.primitives import InputError, SignatureError
from openledger.studio.api_types import DEFAULT_MAX_TOKENS, ChatRequest
from openledger.studio.keys import ApiKey

CONSUMER = Account.from_key("0x" + "11" * 32).address


@given(st.binary(min_size=32, max_size=32).filter(lambda key: 0 < int.from_bytes(key, "big") < 1 << 255))
def test_a_key_survives_being_shown_and_read(secret: bytes) -> None:
    key = ApiKey(CONSUMER, Account.from_key(secret))
    read = ApiKey.parse(key.reveal())
    assert (read.consumer, bytes(read.signer.key)) == (CONSUMER, secret)


def test_a_key_is_not_shown_by_printing_it() -> None:
    key = ApiKey.create(CONSUMER)
    assert bytes(key.signer.key).hex() not in f"{key!r} {key}"


@pytest.mark.parametrize("text", ["", "sk-abc", "olk-12-34", "olk-" + "1" * 40 + "-" + "0" * 64])
def test_a_malformed_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SignatureError) as caught:
        ApiKey.parse(text)
    assert "openledger key create" in str(caught.value)
    assert not text or text not in str(caught.value)


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
        ({"n": 2}, "n is 2"),
        ({"presence_penalty": 1}, "presence_penalty is 1"),
    ],
)
def test_a_sampling_value_out_of_range_is_named_with_its_value(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        request(**fields).sampling()


@pytest.mark.parametrize("fields", [{"tools": []}, {"logprobs": True}, {"messages": []}, {"messages": "hi"}])
def test_what_is_not_served_is_refused_and_not_ignored(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        request(**fields)


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert request(messages=[{"role": "user", "content": parts}]).dialogue() == [{"role": "user", "content": "ab"}]
