"""The one place where text becomes tokens: for training, serving and attribution alike.

A prompt is what the tokenizer's own chat template renders, with the generation prompt at its end; an answer
is the answer's own tokens and the end-of-sequence token. So the first ``prompt_length`` tokens of a training
example are the very tokens a served prompt has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openledger.primitives.errors import InputError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Tokens of a prompt and, after it, of an answer.

    Attributes:
        token_ids: prompt, then answer with its end-of-sequence token when there is one.
        prompt_length: how many of them are the prompt.
    """

    token_ids: tuple[int, ...]
    prompt_length: int

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The prompt's tokens."""
        return self.token_ids[: self.prompt_length]

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The answer's tokens, end-of-sequence included; empty for a prompt alone."""
        return self.token_ids[self.prompt_length :]


def encode_dialogue(tokenizer: PreTrainedTokenizerBase, question: str, answer: str | None = None) -> Dialogue:
    """Tokens of one question and, when given, its answer. White space around either is dropped.

    Raises:
        InputError: the question or the answer is empty, or holds one of the tokenizer's control tokens.
        ModelError: the tokenizer has no chat template or no end-of-sequence token.
    """
    prompt = encode_messages(tokenizer, [{"role": "user", "content": question}])
    if answer is None:
        return prompt
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise ModelError("the tokenizer has no end-of-sequence token: set eos_token in tokenizer_config.json")
    body = _tokens(tokenizer, _content(tokenizer, answer, "the answer"))
    return Dialogue((*prompt.token_ids, *body, end), prompt.prompt_length)


def encode_messages(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]]) -> Dialogue:
    """Tokens of a conversation that waits for the assistant's answer; all of them are the prompt.

    Args:
        tokenizer: one with a chat template.
        messages: each with a ``role`` (system, user or assistant) and a ``content``; the last is a user's.

    Raises:
        InputError: no message, an unknown role, an empty or non-text content, a control token in a content,
            a last message that is not a user's, or an order that the chat template refuses.
        ModelError: the tokenizer has no chat template.
    """
    if not messages:
        raise InputError("the conversation has no message: give at least one with the role user")
    plain = []
    for number, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise InputError(f"message {number} has the role {role!r}: use one of {', '.join(ROLES)}")
        plain.append({"role": role, "content": _content(tokenizer, message.get("content"), f"message {number}")})
    if plain[-1]["role"] != "user":
        raise InputError(f"the last message has the role {plain[-1]['role']!r}: it must be the user's")
    if not tokenizer.chat_template:
        raise ModelError("the tokenizer has no chat template: set chat_template in tokenizer_config.json")
    try:
        text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise InputError(f"the model's chat template refuses this conversation: {error}") from error
    tokens = _tokens(tokenizer, str(text))
    return Dialogue(tokens, len(tokens))


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> Dialogue:
    """Tokens of a plain text that is to be continued, after the tokenizer's beginning-of-sequence token if it has one.

    Raises:
        InputError: the text is empty, or holds a control token.
    """
    begin = tokenizer.bos_token_id
    head = (int(begin),) if isinstance(begin, int) else ()
    tokens = (*head, *_tokens(tokenizer, _content(tokenizer, text, "the text")))
    return Dialogue(tokens, len(tokens))


def decode_answer(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of an answer's tokens, without control tokens and without white space around it."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The strings that the tokenizer reads as control tokens, and that no text from outside may hold."""
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(sorted({*added, *map(str, tokenizer.all_special_tokens)}))


def _content(tokenizer: PreTrainedTokenizerBase, text: object, where: str) -> str:
    if not isinstance(text, str):
        raise InputError(f"{where} is {type(text).__name__}: its content must be text")
    if not (stripped := text.strip()):
        raise InputError(f"{where} is empty: write some text")
    for token in control_tokens(tokenizer):
        if token in stripped:
            raise InputError(f"{where} holds the control token {token}: remove it from the text")
    return stripped


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(int(token) for token in tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
