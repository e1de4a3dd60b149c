"""The host's work at InferenceMarket: it watches requests, takes on those that it can answer, answers and fulfils them.

A request is answered only if the whole of what it may cost is paid in, if its prompt is canonical JSON as receipts commit to it,
and there is time. A host that was stopped between answering and fulfilling sends the same receipt when it is started again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain
from openledger.node import views
from openledger.node.agent_runs import DatabaseRunBook
from openledger.node.agents import Roster
from openledger.openlora import Sampling
from openledger.primitives import (
    ChainError,
    InputError,
    NotFoundError,
    OpenLedgerError,
    canonical_bytes,
    format_open,
    parse_json,
    to_hex,
)
from openledger.settlement import (
    MarketAnswer,
    MarketRequest,
    MarketState,
    PrivateBody,
    ReceiptBody,
    accept_request,
    fulfil_request,
    market_answer,
    market_request,
    refund_request,
    request_count,
    request_inference,
)
from openledger.storage import Database
from openledger.studio import (
    Answer,
    DatabaseReceiptStore,
    DeployedAgent,
    InferenceService,
    ModelStep,
    Prompt,
    ServedModel,
)
from openledger.studio.agent_runs import Run, RunState

_LOG = logging.getLogger(__name__)
_SEEN = "market.seen"
_LEAST_SECONDS = 10
"""A request that ends sooner is left alone."""
_LARGEST_PROMPT = 64 * 1024


class MarketDesk:
    """Both sides of the market on one node: this host's, and that of accounts whose keys are here.

    Args:
        chain: with its deployment.
        database: remembers up to which request everything is done with.
        receipts: the host's receipts.
        inference: the service that answers; asked for when there is something to answer.
        agents: those that a request may name.
        runs: keeps what an agent answered.
        host: accepts and fulfils.
        party: names an account.
    """

    def __init__(
        self,
        chain: Chain,
        database: Database,
        receipts: DatabaseReceiptStore,
        inference: Callable[[], InferenceService],
        agents: Roster,
        runs: DatabaseRunBook,
        *,
        host: LocalAccount,
        party: Callable[[str], views.Party],
    ) -> None:
        self._chain = chain
        self._database = database
        self._receipts = receipts
        self._inference = inference
        self._agents = agents
        self._runs = runs
        self._host = host
        self._party = party
        self._seen = int(database.state(_SEEN, 0))
        self._waiting: set[int] = set()

    # ---- the host's side -------------------------------------------------------------------------------------

    def tend(self) -> list[MarketAnswer]:
        """Answers every open request that this host can answer now; returns what it fulfilled.

        Raises:
            ChainError: the chain does not answer.
        """
        newest = request_count(self._chain)
        self._waiting |= set(range(self._seen + 1, newest + 1))
        fulfilled = []
        for number in sorted(self._waiting):
            try:
                done = self._try(market_request(self._chain, number))
            except ChainError as error:
                _LOG.warning("request %d of the market failed: %s", number, error)
                continue
            except OpenLedgerError as error:
                _LOG.warning("request %d of the market is left unanswered: %s", number, error)
                self._waiting.discard(number)
                continue
            if done is not None:
                fulfilled.append(done)
        # Everything before the oldest request that still waits is done with, whatever comes.
        self._seen = newest
        self._database.set_state(_SEEN, min(self._waiting, default=newest + 1) - 1)
        return fulfilled

    def _try(self, asked: MarketRequest) -> MarketAnswer | None:
        """Answers a request, drops it, or leaves it waiting (another host has it for now)."""
        now = self._chain.time()
        if asked.state is not MarketState.OPEN or now > asked.deadline - _LEAST_SECONDS:
            self._waiting.discard(asked.number)
            return None
        mine = asked.host == self._host.address
        if asked.host is not None and not mine and now <= asked.accepted_until:
            return None
        model, prompt, sampling = self._understood(asked)
        signed = self._signed(asked) if mine else None
        if signed is None:
            agent = self._agent(prompt, sampling, asked.model)
            self._affordable(model, prompt, sampling, asked.max_fee)
            if not mine:
                accept_request(self._chain, self._host, asked.number)
            market = self._chain.address("InferenceMarket")
            started = int(self._chain.time())
            answer = self._inference().answer_paid(model.name, prompt, sampling, market, asked.max_fee)
            signed = answer.body, self._receipts.private_of(answer.body)
            if agent is not None:
                self._record(agent, prompt, answer, market, started)
        done = fulfil_request(self._chain, self._host, asked, *signed)
        self._waiting.discard(asked.number)
        return done

    def _understood(self, asked: MarketRequest) -> tuple[ServedModel, Prompt, Sampling]:
        """The model and prompt of a request.

        Raises:
            NotFoundError: this host does not serve the model.
            InputError: the prompt is not the canonical JSON of one.
        """
        model = next((model for model in self._inference().models() if model.id == asked.model), None)
        if model is None:
            raise NotFoundError(f"it asks model {asked.model}, which is not served here")
        if len(asked.prompt) > _LARGEST_PROMPT:
            raise InputError(f"its prompt has {len(asked.prompt)} bytes; at most {_LARGEST_PROMPT} are read")
        prompt, sampling = Prompt.from_json(parse_json(asked.prompt))
        if canonical_bytes(prompt.to_json(sampling)) != asked.prompt:
            raise InputError("its prompt is not canonical (RFC 8785), or names what is not known here")
        return model, prompt, sampling

    def _agent(self, prompt: Prompt, sampling: Sampling, model: int) -> DeployedAgent | None:
        """The agent that a request names; None if it names none.

        An agent is asked by its own definition, in one step: the receipt must be of the very prompt that lies on the chain.

        Raises:
            NotFoundError: there is no such agent.
            InputError: the prompt is not what the agent's definition makes of the question, or the agent has a price, which the
                market cannot pay.
        """
        if prompt.agent is None:
            return None
        agent = self._agents.find(f"agent/{prompt.agent.number}")
        definition = agent.definition
        messages = prompt.messages or ()
        wanted = definition.asked(agent.number, messages)
        if prompt != wanted or replace(sampling, seed=0) != definition.written() or definition.model != model:
            raise InputError(
                f"its prompt is not what agent {agent.number}'s definition {to_hex(definition.digest)} makes of a question: "
                "model, definition, retrieval and sampling must be the definition's"
            )
        if any(message["role"] == "system" for message in messages):
            raise InputError(f"it gives agent {agent.number} other instructions than its own")
        if agent.price:
            raise InputError(
                f"agent {agent.number} asks {format_open(agent.price)} OPEN a call, and the market pays an answer's fee alone"
            )
        return agent

    def _record(self, agent: DeployedAgent, prompt: Prompt, answer: Answer, consumer: str, started: int) -> None:
        number = self._runs.begin(agent, consumer, "market", started)
        receipt = answer.body.receipt
        run = Run(number, agent, consumer, "market", [dict(one) for one in prompt.messages or ()], started)
        run.steps.append(
            ModelStep(answer.receipt_id, receipt.prompt_tokens, receipt.output_tokens, receipt.fee, answer.text)
        )
        run.state, run.answer, run.ended = RunState.ANSWERED, answer.text, int(self._chain.time())
        self._runs.end(run, publish=True)

    def _affordable(self, model: ServedModel, prompt: Prompt, sampling: Sampling, most: int) -> None:
        highest = self._inference().highest_fee(model.name, prompt, sampling)
        if highest > most:
            raise InputError(f"it can cost up to {format_open(highest)} OPEN and {format_open(most)} OPEN are paid in")

    def _signed(self, asked: MarketRequest) -> tuple[ReceiptBody, PrivateBody] | None:
        """The receipt that this host signed for a request before it was stopped, if it did."""
        used = self._chain.contract("InferenceMarket").functions.receiptUsed
        market, domain = self._chain.address("InferenceMarket"), self._chain.domain("InferenceLedger")
        for body in self._receipts.of_consumer(market):
            private = self._receipts.private_of(body)
            same = body.receipt.model == asked.model and canonical_bytes(private.prompt) == asked.prompt
            if same and not self._chain.call(used(body.digest(domain))):
                return body, private
        return None

    # ---- the requester's side --------------------------------------------------------------------------------

    def ask(
        self, wallet: LocalAccount, model: int, prompt: Prompt, sampling: Sampling, *, most: int = 0, seconds: int = 600
    ) -> views.MarketRow:
        """Asks a model as an account; ``most`` is what it may cost in wei, 0 for exactly the highest that it can.

        Raises:
            NotFoundError: nobody here knows what the model's tokens are, so ``most`` must be named.
            RevertError: ``ModelNotServable``, ``DeadlineOutOfBounds``.
        """
        if not most:
            served = next((found for found in self._inference().models() if found.id == model), None)
            if served is None:
                raise NotFoundError(f"model {model} is not served here; say what the answer may cost")
            most = self._inference().highest_fee(served.name, prompt, sampling)
        document = prompt.to_json(sampling)
        return self.row(request_inference(self._chain, wallet, model, document, most, seconds=seconds))

    def ask_agent(
        self, wallet: LocalAccount, number: int, question: str, *, most: int = 0, seconds: int = 600
    ) -> views.MarketRow:
        """Asks an agent as an account; ``most`` as in :meth:`ask`.

        Raises:
            NotFoundError: there is no such agent.
            InputError: it has a price, which the market cannot pay.
        """
        model, prompt, sampling = self.agent_prompt(number, question)
        self._agent(prompt, sampling, model)
        return self.ask(wallet, model, prompt, sampling, most=most, seconds=seconds)

    def agent_prompt(self, number: int, question: str) -> tuple[int, Prompt, Sampling]:
        """(model, prompt, sampling) with which the market is to be asked for an agent's answer to a question.

        Raises:
            NotFoundError: there is no such agent.
        """
        definition = self._agents.find(f"agent/{number}").definition
        return definition.model, definition.asked(number, [{"role": "user", "content": question}]), definition.written()

    def refund(self, number: int) -> views.MarketRow:
        """Pays a request whose deadline is over back to who made it.

        Raises:
            RevertError: ``DeadlineRunning``, ``RequestClosed``.
        """
        refund_request(self._chain, self._host, number)
        return self.row(number)

    def row(self, number: int) -> views.MarketRow:
        """One request with its answer.

        Raises:
            NotFoundError: there is no such request.
        """
        asked, answer = market_request(self._chain, number), market_answer(self._chain, number)
        return views.MarketRow(
            number=number,
            state=asked.state.name.lower(),
            requester=self._party(asked.requester),
            model=asked.model,
            question=_question(asked.prompt),
            max_fee=asked.max_fee,
            deadline=asked.deadline,
            host=None if asked.host is None else self._party(asked.host),
            output="" if answer is None else answer.output,
            fee=0 if answer is None else answer.fee,
            receipt=asked.receipt,
            delivered=answer is not None and answer.delivered,
        )

    def rows(self, most: int = 100) -> Iterator[views.MarketRow]:
        """The newest requests, newest first."""
        newest = request_count(self._chain)
        return (self.row(number) for number in range(newest, max(0, newest - most), -1))


def _question(prompt: bytes) -> str:
    """What was asked, for people; the bytes in hex where they are no prompt."""
    try:
        asked: Any = parse_json(prompt)
        return Prompt.from_json(asked)[0].shown()
    except OpenLedgerError:
        return to_hex(prompt[:64])
