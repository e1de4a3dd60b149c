"""One inference from request to receipt: check the money, answer, attribute, take the voucher, sign, store.

A receipt is stored before the end of its answer is told, so an answer that a consumer saw complete is never lost. A request
that is refused, cancelled or fails before its end costs nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from openledger.models import control_tokens, encode_messages, encode_text
from openledger.openlora import Backend, Finished, Grammar, Piece, Sampling
from openledger.primitives import (
    Domain,
    InputError,
    NotFoundError,
    PaymentError,
    Receipt,
    Signer,
    format_open,
    from_hex,
    to_hex,
)
from openledger.settlement import (
    Escrow,
    PrivateBody,
    ReceiptBody,
    VoucherBook,
    VoucherSigner,
    inference_fee,
    shares_root,
    sign_receipt,
)
from openledger.studio.ensembles import read_ensemble
from openledger.studio.explanation import Explanation
from openledger.studio.keys import ApiKey
from openledger.studio.passages import MAX_LOOKED_UP, Passage

_KEY_MARGIN_SECONDS = 600
_RARE: dict[str, Any] = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Sampling that a private body names only where it is not this."""


@dataclass(frozen=True)
class AgentReference:
    """The agent that asks its model: its number on the chain, and the hash of the definition whose instructions hold."""

    number: int
    definition: bytes

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"number": self.number, "definition": to_hex(self.definition)}


@dataclass(frozen=True)
class Prompt:
    """What is asked: a dialogue, or a text to continue.

    Attributes:
        messages: the dialogue.
        continued: the text.
        top_k: how many records may be looked up for the dialogue's last message; 0 for none.
        passages: the records that were looked up, the nearest first; they stand in the system message.
        agent: the agent whose instructions stand before the dialogue, if one asks.
        instructions: those of the agent, looked up by its definition's hash.
    """

    messages: tuple[Mapping[str, str], ...] | None
    continued: str | None
    top_k: int = 0
    passages: tuple[Passage, ...] = ()
    agent: AgentReference | None = None
    instructions: str = ""

    @classmethod
    def chat(cls, messages: Sequence[Mapping[str, str]], top_k: int = 0, agent: AgentReference | None = None) -> Prompt:
        """A dialogue of ``{"role", "content"}``.

        Raises:
            InputError: more or fewer records are to be looked up than can be.
        """
        if not 0 <= top_k <= MAX_LOOKED_UP:
            raise InputError(f"{top_k} records cannot be looked up; ask for 0 to {MAX_LOOKED_UP}")
        return cls(tuple(dict(message) for message in messages), None, top_k, agent=agent)

    @classmethod
    def text(cls, text: str) -> Prompt:
        """A text to continue."""
        return cls(None, text)

    @classmethod
    def from_json(cls, document: Any) -> tuple[Prompt, Sampling]:
        """The prompt and sampling of a receipt's private body; what was looked up has to be looked up again.

        Raises:
            InputError: it is of another form.
        """
        try:
            sampling = Sampling(
                max_tokens=document["max_tokens"],
                temperature=float(document["temperature"]),
                top_p=float(document["top_p"]),
                seed=int(document["seed"]),
                stop=tuple(document["stop"]),
                grammar=Grammar(str(document["grammar"])) if "grammar" in document else None,
                **{name: type(default)(document[name]) for name, default in _RARE.items() if name in document},
            )
            top_k = int(document["retrieval"]["top_k"]) if "retrieval" in document else 0
            agent = None
            if "agent" in document:
                named = document["agent"]
                agent = AgentReference(int(named["number"]), from_hex(named["definition"], 32))
            asks = "messages" in document
            prompt = cls.chat(document["messages"], top_k, agent) if asks else cls.text(document["text"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the private body's prompt is malformed: {error}") from error
        return prompt, sampling

    def to_json(self, sampling: Sampling) -> dict[str, Any]:
        """What the receipt's prompt hash commits to: the prompt with all that the answer depends on besides the model."""
        asked: dict[str, Any] = {"text": self.continued} if self.messages is None else {"messages": list(self.messages)}
        return asked | {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": str(sampling.seed),
            "stop": list(sampling.stop),
            **{name: getattr(sampling, name) for name, default in _RARE.items() if getattr(sampling, name) != default},
            **({} if sampling.grammar is None else {"grammar": sampling.grammar.source}),
            **({"retrieval": {"top_k": self.top_k}} if self.top_k else {}),
            **({} if self.agent is None else {"agent": self.agent.to_json()}),
        }

    def encode(self, tokenizer: Any) -> list[int]:
        """The prompt's token ids."""
        if self.messages is None:
            return list(encode_text(tokenizer, self.continued or "").token_ids)
        texts = [self.instructions] if self.instructions else []
        texts += [passage.text for passage in self.passages]
        if not texts:
            return list(encode_messages(tokenizer, self.messages).token_ids)
        first = self.messages[0]
        if first["role"] == "system":
            texts.insert(1 if self.instructions else 0, first["content"])
        rest = self.messages[first["role"] == "system" :]
        grounded = {"role": "system", "content": "\n".join(texts)}
        return list(encode_messages(tokenizer, [grounded, *rest]).token_ids)

    def ablated(self) -> list[Prompt]:
        """The prompt without each of its passages in turn."""
        passages = self.passages
        return [replace(self, passages=passages[:place] + passages[place + 1 :]) for place in range(len(self.passages))]

    def shown(self) -> str:
        """The prompt as one text for people: what the user asked last."""
        if self.messages is None:
            return self.continued or ""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class ServedModel:
    """A registered model that this host answers for; prices in wei per 1,000 tokens."""

    id: int
    name: str
    owner: str
    created: int
    input_price: int
    output_price: int
    adapter: str
    look_up: Callable[[Prompt, Sampling], Prompt]
    """The prompt with the passages that are looked up for it."""
    explain: Callable[[Prompt, Sequence[int]], Explanation]
    """(prompt, output ids) → who shaped the output."""
    search: Callable[[str, int], tuple[Passage, ...]]
    """(question, most) → the nearest records of its Datanet version."""
    contributor_of: Callable[[bytes], str]
    """Record hash → contributor's address."""
    servable: Callable[[], bool] = lambda: True
    """Whether the register lets it be served now: not deprecated, and approved where governance asks for that."""

    def fee(self, prompt_tokens: int, output_tokens: int) -> int:
        """Wei for one answer."""
        return inference_fee(prompt_tokens, output_tokens, self.input_price, self.output_price)


@dataclass(frozen=True)
class Answer:
    """A finished answer and its account."""

    finished: Finished
    receipt_id: str
    body: ReceiptBody
    contributors: dict[str, int]
    """Contributor's address → ppm; with the residual they sum to 1,000,000."""
    explanation: Explanation

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.finished.text

    @property
    def reason(self) -> str:
        """Why it ended: ``stop`` or ``length``."""
        return self.finished.reason

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self.body.receipt.prompt_tokens

    def account(self) -> dict[str, Any]:
        """What the API tells besides the answer: the receipt, the fee in wei, and who shaped it."""
        return {
            "receipt": self.receipt_id,
            "sequence": self.body.receipt.sequence,
            "fee_wei": str(self.body.receipt.fee),
            "contributors": self.contributors,
            "records": {to_hex(record): ppm for record, ppm in self.body.shares},
            "residual_ppm": self.body.residual_ppm,
            **({"retrieved": [one.told() for one in self.explanation.retrieved]} if self.explanation.retrieved else {}),
        }


@dataclass(frozen=True)
class Entry:
    """What the store keeps of one answer."""

    receipt_id: str
    body: ReceiptBody
    private: PrivateBody
    explanation: Explanation
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    publish: bool


class ReceiptStore(Protocol):
    """Where receipts are kept; ``add`` returns only once the receipt would survive a crash."""

    def next_sequence(self) -> int: ...

    def add(self, entry: Entry) -> None: ...


class InferenceService:
    """Answers for a host.

    Args:
        engine: the models in memory.
        host: signs receipts; vouchers are made out to it.
        book: takes the vouchers.
        escrow: deposits and session keys on the chain.
        store: keeps the receipts.
        voucher_domain: FeeEscrow's.
        receipt_domain: InferenceLedger's.
        clock: Unix seconds on the chain's time.
    """

    def __init__(
        self,
        *,
        engine: Backend,
        host: Signer,
        book: VoucherBook,
        escrow: Escrow,
        store: ReceiptStore,
        voucher_domain: Domain,
        receipt_domain: Domain,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._host = host
        self._book = book
        self._escrow = escrow
        self._store = store
        self._voucher_domain = voucher_domain
        self._receipt_domain = receipt_domain
        self._clock = clock
        self._models: dict[str, ServedModel] = {}
        self._reserved: Counter[str] = Counter()
        self._money = threading.Lock()
        self._signing = threading.Lock()

    def serve(self, model: ServedModel) -> None:
        """Answers for ``model`` from now on."""
        self._models[model.name] = model

    def key(self, token: str) -> ApiKey:
        """The API key that a request was sent with.

        Raises:
            SignatureError: it is malformed.
        """
        return ApiKey.parse(token)

    def models(self, key: ApiKey | None = None) -> list[ServedModel]:
        """Every model that the key may ask, by id: those that it is good for and that the register lets be served."""
        found = sorted(self._models.values(), key=lambda model: model.id)
        return [model for model in found if (key is None or key.may_ask(model.id)) and model.servable()]

    def model(self, name: str, key: ApiKey | None = None) -> ServedModel:
        """The served model of that name, which may also be written ``base:name``.

        Raises:
            NotFoundError: there is none that the key may ask.
            InputError: it is an ensemble, whose answers would have to be attributed to the records of several models.
        """
        if read_ensemble(name) is not None:
            raise InputError(
                f"{name!r} is an ensemble; a receipt names one model, whose records are credited, so ask one model here. "
                "`openledger serve` answers ensembles, without receipts"
            )
        base, colon, adapter = name.partition(":")
        if colon and base == self._engine.name:
            name = adapter
        model = self._models.get(name)
        if model is None or (key is not None and not key.may_ask(model.id)) or not model.servable():
            served = ", ".join(model.name for model in self.models(key)) or "none"
            raise NotFoundError(f"no model {name!r} is served to this key; served: {served}")
        return model

    def complete(self, name: str, prompt: Prompt, sampling: Sampling, key: ApiKey, *, publish: bool = False) -> Answer:
        """The whole answer at once; see :meth:`answer`."""
        for event in self.answer(name, prompt, sampling, key, publish=publish):
            if isinstance(event, Answer):
                return event
        raise NotFoundError("the generation ended without an answer")

    def answer(
        self,
        name: str,
        prompt: Prompt,
        sampling: Sampling,
        key: ApiKey,
        *,
        publish: bool = False,
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece | Answer]:
        """Yields pieces of text as they come, then the :class:`Answer` with its signed and stored receipt.

        Args:
            publish: whether the prompt and answer may be published with the receipt, so that anyone can recompute it.
            cancel: ends the request once it is set; it then costs nothing.

        Raises:
            NotFoundError: no such model.
            InputError: the prompt does not fit.
            PaymentError: key, cap or deposit do not cover the most that this answer can cost.
            OverloadedError: too many requests are waiting.
            UnavailableError: what answers died, or is being started again; from the iterator too.
        """
        model = self.model(name, key)
        prompt = model.look_up(prompt, sampling)
        prompt_ids = prompt.encode(self._engine.tokenizer)
        most = self._highest(model, prompt_ids, sampling)
        self._reserve(key, most)
        try:
            finished = None
            for event in self._engine.generate(model.adapter, prompt_ids, sampling, cancel=cancel):
                if isinstance(event, Finished):
                    finished = event
                else:
                    yield event
            if finished is None:
                raise InputError("the generation ended without a result")
            yield self._settle(model, prompt, prompt_ids, sampling, finished, key.consumer, key, publish)
        finally:
            with self._money:
                self._reserved[key.consumer] -= most

    def answer_paid(self, name: str, prompt: Prompt, sampling: Sampling, consumer: str, most: int) -> Answer:
        """The answer to somebody whose fee lies ready elsewhere, as with InferenceMarket: no voucher is taken; the prompt and
        answer are published.

        Args:
            consumer: the account that the fee is collected from.
            most: wei that lie ready.

        Raises:
            NotFoundError: no such model.
            PaymentError: the answer could cost more than that.
        """
        model = self.model(name)
        prompt = model.look_up(prompt, sampling)
        prompt_ids = prompt.encode(self._engine.tokenizer)
        highest = self._highest(model, prompt_ids, sampling)
        if highest > most:
            raise PaymentError(
                f"this answer can cost up to {format_open(highest)} OPEN and {format_open(most)} OPEN lie ready for it; "
                "pay in more, or ask for fewer tokens"
            )
        finished = self._engine.complete(model.adapter, prompt_ids, sampling)
        return self._settle(model, prompt, prompt_ids, sampling, finished, consumer, None, publish=True)

    def highest_fee(self, name: str, prompt: Prompt, sampling: Sampling) -> int:
        """Wei that an answer of this model can cost at most.

        Raises:
            NotFoundError: no such model.
        """
        model = self.model(name)
        return self._highest(model, model.look_up(prompt, sampling).encode(self._engine.tokenizer), sampling)

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt and its answer together."""
        return self._engine.context_length

    def tokens(self, name: str, prompt: Prompt, sampling: Sampling) -> int:
        """How many tokens a prompt has for this model, with what is looked up for it.

        Raises:
            NotFoundError: no such model.
            InputError: the prompt is malformed.
        """
        return len(self.model(name).look_up(prompt, sampling).encode(self._engine.tokenizer))

    def plain(self, text: str) -> str:
        """A text from outside without what the tokenizer would read as control tokens."""
        for token in control_tokens(self._engine.tokenizer):
            text = text.replace(token, "")
        return text

    def _highest(self, model: ServedModel, prompt_ids: Sequence[int], sampling: Sampling) -> int:
        return model.fee(len(prompt_ids), min(sampling.max_tokens, self._engine.context_length))

    def available(self, key: ApiKey) -> int:
        """Wei that the key can still spend with this host, what is being answered just now taken off."""
        with self._money:
            return self._available(key)

    def _available(self, key: ApiKey) -> int:
        due = self._book.owed(key.consumer) - self._escrow.redeemed(key.consumer, self._host.address)
        deposit = self._escrow.deposit_of(key.consumer)
        session = self._escrow.session_key(key.consumer, key.signer.address)
        if session.cap == 0:
            raise PaymentError(
                f"{key.signer.address} is no session key of {key.consumer}; make one with `openledger key create`"
            )
        if session.expiry < self._clock() + _KEY_MARGIN_SECONDS:
            raise PaymentError(
                f"the API key's session ends at {session.expiry} (Unix seconds), too soon to redeem what it signs; make a new key"
            )
        return min(deposit, session.cap - session.spent) - due - self._reserved[key.consumer]

    def _reserve(self, key: ApiKey, most: int) -> None:
        with self._money:
            available = self._available(key)
            if most > available:
                raise PaymentError(
                    f"this answer can cost up to {format_open(most)} OPEN and the key can spend {format_open(max(0, available))} "
                    "OPEN; ask for fewer tokens, raise the key's cap, or deposit more"
                )
            self._reserved[key.consumer] += most

    def _settle(
        self,
        model: ServedModel,
        prompt: Prompt,
        prompt_ids: list[int],
        sampling: Sampling,
        finished: Finished,
        consumer: str,
        key: ApiKey | None,
        publish: bool,
    ) -> Answer:
        """Signs and stores the receipt, and takes a voucher by the key if there is one."""
        explanation = model.explain(prompt, finished.token_ids)
        private = PrivateBody.seal(prompt.to_json(sampling), finished.text)
        fee = model.fee(len(prompt_ids), len(finished.token_ids))
        with self._signing:
            receipt = Receipt(
                sequence=self._store.next_sequence(),
                model=model.id,
                consumer=consumer,
                host=self._host.address,
                prompt_hash=private.prompt_hash,
                output_hash=private.output_hash,
                prompt_tokens=len(prompt_ids),
                output_tokens=len(finished.token_ids),
                fee=fee,
                shares_root=shares_root(explanation.shares, explanation.residual_ppm),
                seed=sampling.seed,
                time=int(self._clock()),
            )
            body = sign_receipt(
                receipt,
                self._receipt_domain,
                self._host,
                explanation.shares,
                explanation.residual_ppm,
                private.digest(),
            )
            if fee and key is not None:
                self._take_voucher(key, fee)
            receipt_id = to_hex(body.digest(self._receipt_domain))
            self._store.add(
                Entry(receipt_id, body, private, explanation, tuple(prompt_ids), finished.token_ids, publish)
            )
        contributors: Counter[str] = Counter()
        for record, ppm in explanation.shares:
            contributors[model.contributor_of(record)] += ppm
        return Answer(finished, receipt_id, body, dict(contributors), explanation)

    def _take_voucher(self, key: ApiKey, fee: int) -> None:
        owed = self._book.owed(key.consumer)
        signer = VoucherSigner(key.signer, key.consumer, self._host.address, self._voucher_domain, signed=owed)
        self._book.accept(signer.raise_by(fee), fee)
