"""Runs agents: model call → tool call → model call, up to the limits of the agent's definition.

Every model call is an ordinary inference with its receipt, voucher and attribution, paid by whoever asks. A tool that fails is
told to the model. A run that is cancelled or fails costs what was answered until then, and never the agent's own price, which is
paid after the answer.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from openledger.openlora import CancelledError, Piece, Sampling, read_call
from openledger.primitives import (
    InputError,
    NotFoundError,
    OpenLedgerError,
    PaymentError,
    format_open,
    parse_open,
)
from openledger.studio.agent_runs import (
    AgentAnswer,
    ModelStep,
    Purse,
    Run,
    RunBook,
    RunState,
    Step,
    ToolStep,
    step_receipts,
)
from openledger.studio.agent_tools import (
    QUERY,
    QUESTION_ASKED,
    Outcome,
    Tool,
    grammar,
    offer,
    told_call,
    told_result,
)
from openledger.studio.agents import AgentDefinition, AskTool, DeployedAgent, McpTool, SearchTool, named_agent
from openledger.studio.inference import Answer, InferenceService, Prompt, ServedModel
from openledger.studio.keys import ApiKey

if TYPE_CHECKING:
    from openledger.studio.mcp_servers import McpServers

_LOG = logging.getLogger(__name__)
MOST_DEEP = 3
"""An agent that another one asks may ask one more, which may ask none."""
_CALL_TOKENS = 160
"""A call that a plan forces gets at least so many tokens, since a call that is cut off is none."""
_SHORTEST_RESULT = 40
_CUT_OFF = "the call was cut off before its end"


class Agents(Protocol):
    """The agents that can be run."""

    def all(self) -> list[DeployedAgent]: ...

    def find(self, name: str) -> DeployedAgent: ...


@dataclass(frozen=True)
class ListedAgent:
    """An agent as it is listed beside the models."""

    name: str
    created: int
    owner: str


class _Stop(threading.Event):
    """Set when the caller goes away, or when the time is over."""

    def __init__(self, seconds: float, caller: threading.Event | None) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds
        self._caller = caller

    @property
    def left(self) -> float:
        """Seconds until the time is over."""
        return max(0.0, self._end - time.monotonic())

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return not self.left

    @property
    def gone(self) -> bool:
        """Whether the caller went away."""
        return self._caller is not None and self._caller.is_set()

    def is_set(self) -> bool:
        """Whether to stop."""
        return super().is_set() or self.late or self.gone


class AgentService:
    """Answers for models and agents alike; a :class:`~openledger.studio.gateway.Service`.

    Args:
        inference: answers for the models.
        agents: the agents that there are.
        runs: keeps their runs.
        purse: pays their prices.
        servers: the MCP servers that the operator allows.
        clock: Unix seconds on the chain's time.
    """

    def __init__(
        self,
        inference: InferenceService,
        agents: Agents,
        runs: RunBook,
        purse: Purse,
        servers: McpServers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inference = inference
        self._agents = agents
        self._runs = runs
        self._purse = purse
        self._servers = servers
        self._clock = clock

    def key(self, token: str) -> ApiKey:
        """The API key that a request was sent with.

        Raises:
            SignatureError: it is malformed.
        """
        return self._inference.key(token)

    def models(self, key: ApiKey) -> list[ServedModel | ListedAgent]:
        """The models that the key may ask, and the agents whose model is among them."""
        served = self._inference.models(key)
        created = {model.id: model.created for model in served}
        agents = [agent for agent in self._agents.all() if agent.definition.model in created]
        return [*served, *(ListedAgent(one.id, created[one.definition.model], one.owner) for one in agents)]

    def model(self, name: str, key: ApiKey) -> ServedModel | ListedAgent:
        """One of them.

        Raises:
            NotFoundError: there is none of that name that the key may ask.
        """
        if named_agent(name) is None:
            return self._inference.model(name, key)
        agent = self._agents.find(name)
        return ListedAgent(name, self._model(agent.definition.model, key).created, agent.owner)

    def defaults(self, name: str) -> Sampling | None:
        """How an agent samples where a request does not say; None for a model."""
        return None if named_agent(name) is None else self._agents.find(name).definition.written()

    def answer(
        self,
        name: str,
        prompt: Prompt,
        sampling: Sampling,
        key: ApiKey,
        *,
        publish: bool = False,
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece | Answer | AgentAnswer]:
        """Yields pieces of text as they come, then the answer; see :meth:`run` for agents."""
        if named_agent(name) is None:
            yield from self._inference.answer(name, prompt, sampling, key, publish=publish, cancel=cancel)
            return
        if prompt.messages is None:
            raise InputError(f"{name!r} is an agent, which answers dialogues; ask it at /v1/chat/completions")
        if sampling.grammar is not None or sampling.logprobs is not None or prompt.top_k:
            raise InputError(
                f"{name!r} is an agent, whose tools, form and retrieval are its own; leave tools, response_format, logprobs "
                "and retrieval out"
            )
        agent = self._agents.find(name)
        for event in self.run(agent, prompt.messages, key, sampling=sampling, publish=publish, cancel=cancel):
            if not isinstance(event, ModelStep | ToolStep):
                yield event

    def run(
        self,
        agent: DeployedAgent,
        messages: Sequence[Any],
        key: ApiKey,
        *,
        sampling: Sampling | None = None,
        publish: bool = False,
        cancel: threading.Event | None = None,
        cause: str = "asked",
        spend: int | None = None,
        depth: int = 1,
    ) -> Iterator[Piece | Step | AgentAnswer]:
        """Runs an agent: yields its steps as they end and its answer's text as it comes, then the answer.

        Args:
            agent: which one.
            messages: the dialogue, of users and assistants; the agent's instructions are its own.
            key: pays.
            sampling: of the model's calls; the definition's if left out.
            publish: whether the run's record and its prompts and answers may be published.
            cancel: ends the run once it is set; what was answered by then is paid.
            cause: why it runs.
            spend: wei that it may spend at most, below the definition's limit.
            depth: 1 for a run that nobody else's run asked for.

        Raises:
            NotFoundError: its model is not served to the key.
            InputError: the dialogue is malformed.
            PaymentError: key, deposit, limits or account do not cover fees or price.
            CancelledError: ``cancel`` was set.
        """
        definition = agent.definition
        model = self._model(definition.model, key)
        dialogue = [{"role": str(one["role"]), "content": str(one["content"])} for one in messages]
        if any(message["role"] == "system" for message in dialogue):
            raise InputError("an agent has its own instructions; leave system messages out")
        if not dialogue or dialogue[-1]["role"] != "user":
            raise InputError("an agent answers a user; the last message must be the user's")
        limit = min(parse_open(definition.limits.spend), spend if spend is not None else 1 << 255)
        stop = _Stop(definition.limits.seconds, cancel)
        with self._purse.holding(key, agent):
            if self._inference.available(key) <= 0:  # before tools work for nothing
                raise PaymentError("the key has nothing left to spend; raise its cap, or deposit more")
            started = int(self._clock())
            run = Run(self._runs.begin(agent, key, cause, started), agent, key.consumer, cause, dialogue, started)
            last = None
            try:
                work = _Work(self, run, model, sampling or definition.written(), key, publish, stop, limit, depth)
                for event in work.steps():
                    if isinstance(event, Answer):
                        last = event
                    else:
                        yield event
                if last is None:
                    raise OpenLedgerError(f"run {run.number} of agent {agent.number} ended without an answer")
                run.state, run.answer = RunState.ANSWERED, last.text
            except (CancelledError, GeneratorExit) as end:
                run.state = RunState.CANCELLED
                if isinstance(end, CancelledError) and stop.late and not stop.gone:
                    run.state = RunState.FAILED
                    run.error = f"it took more than the {definition.limits.seconds} s that the definition gives a run"
                    raise OpenLedgerError(
                        f"run {run.number} of agent {agent.number} ended: {run.error}; {len(run.receipts)} answers were paid, "
                        "its price was not"
                    ) from None
                raise
            except Exception as error:
                run.state = RunState.FAILED
                run.error = str(error) if isinstance(error, OpenLedgerError) else type(error).__name__
                raise
            finally:
                run.ended = int(self._clock())
                record = self._runs.end(run, publish=publish)
            payment, unpaid = self._pay(run, key)
            yield AgentAnswer(run, record, last, payment, unpaid)

    def _pay(self, run: Run, key: ApiKey) -> tuple[str, str]:
        if not run.agent.price:
            return "", ""
        try:
            payment, why = self._purse.pay(key, run.agent), ""
        except OpenLedgerError as error:
            payment, why = "", str(error)
            _LOG.warning("the price of run %d of agent %d is not paid: %s", run.number, run.agent.number, error)
        self._runs.paid(run.number, payment, why)
        return payment, why

    def _model(self, number: int, key: ApiKey) -> ServedModel:
        found = next((model for model in self._inference.models(key) if model.id == number), None)
        if found is None:
            raise NotFoundError(f"model {number} is not served to this key")
        return found


class _Work:
    """The loop of one run."""

    def __init__(
        self, service: AgentService, run: Run, model: ServedModel, sampling: Sampling, key: ApiKey, publish: bool,
        stop: _Stop, limit: int, depth: int,
    ) -> None:  # fmt: skip
        self._service = service
        self._inference = service._inference
        self._run = run
        self._definition: AgentDefinition = run.agent.definition
        self._model = model
        self._sampling = sampling
        self._key = key
        self._publish = publish
        self._stop = stop
        self._limit = limit
        self._depth = depth
        self._exchanges: list[tuple[dict[str, str], dict[str, str]]] = []

    def steps(self) -> Iterator[Piece | Step | Answer]:
        """The steps, the last answer's text in pieces, and that answer."""
        tools = {tool.name: tool for part in self._definition.tools for tool in self._tools(part)}
        free = [tool for tool in tools.values() if not tool.missing]
        question = self._run.messages[-1]["content"]
        for call in self._definition.plan:
            tool, arguments = tools[call.tool], call.filled(question)
            if arguments is None and not tool.missing:
                answer = yield from self._ask([tool], forced=True)
                arguments = yield from self._called(answer, tool.name)
                if arguments is None:
                    continue
            yield self._use(tool, arguments or {})
        for left in range(self._definition.limits.steps - len(self._definition.plan), 0, -1):
            answer = yield from self._ask(free if left > 1 else [], forced=False)
            if left == 1 or not free or not answer.text.startswith("{"):
                yield answer
                return
            called = read_call(answer.text)
            if called is None:
                yield self._tell(ToolStep("call", {}, _CUT_OFF, failed=True))
            else:
                yield self._use(tools[called[0]], json.loads(called[1]))

    def _ask(self, tools: list[Tool], *, forced: bool) -> Generator[Piece | Step, None, Answer]:
        """One answer of the model (the generator's value); its text is told in pieces unless it begins a call."""
        if self._stop.is_set():
            raise CancelledError
        sampling = self._sampling
        if tools:
            most = max(sampling.max_tokens, _CALL_TOKENS) if forced else sampling.max_tokens
            sampling = replace(sampling, max_tokens=most, grammar=grammar(tools, forced=forced))
        prompt = self._fitted(tools, sampling)
        left = self._limit - self._run.fee
        highest = self._inference.highest_fee(self._model.name, prompt, sampling)
        if highest > left:
            raise PaymentError(
                f"the next answer of agent {self._run.agent.number} can cost up to {format_open(highest)} OPEN, and "
                f"{format_open(max(0, left))} OPEN are left of the {format_open(self._limit)} OPEN that the run may spend"
            )
        answer, held = None, ""
        for event in self._inference.answer(
            self._model.name, prompt, sampling, self._key, publish=self._publish, cancel=self._stop
        ):
            if isinstance(event, Answer):
                answer = event
            elif not tools:
                yield event
            else:
                held += event.text
                if held and not held.startswith("{"):
                    yield event
        if answer is None:
            raise OpenLedgerError("the generation ended without an answer")
        called = read_call(answer.text) if tools and answer.text.startswith("{") else None
        receipt = answer.body.receipt
        step = ModelStep(
            answer.receipt_id, receipt.prompt_tokens, receipt.output_tokens, receipt.fee, answer.text,
            "" if called is None else called[0],
        )  # fmt: skip
        self._run.steps.append(step)
        self._run.token_ids += answer.finished.token_ids
        yield step
        return answer

    def _called(self, answer: Answer, name: str) -> Generator[Step, None, dict[str, Any] | None]:
        """The arguments of a forced call (the generator's value); None where it was cut off, which the model is told."""
        called = read_call(answer.text)
        if called is not None:
            arguments: dict[str, Any] = json.loads(called[1])
            return arguments
        yield self._tell(ToolStep(name, {}, _CUT_OFF, failed=True))
        return None

    def _use(self, tool: Tool, arguments: dict[str, Any]) -> ToolStep:
        if self._stop.is_set():
            raise CancelledError
        try:
            done = tool.call(arguments)
            step = ToolStep(tool.name, arguments, done.text, done.failed, done.receipts, done.fee, done.run)
        except CancelledError:
            raise
        except OpenLedgerError as error:
            step = ToolStep(tool.name, arguments, f"failed: {error}", failed=True)
        return self._tell(step)

    def _tell(self, step: ToolStep) -> ToolStep:
        """Puts a step into the dialogue, cut to what the definition allows and without the model's control tokens."""
        most = self._definition.limits.result_characters
        told = " ".join(self._inference.plain(step.result).split())
        told = told if len(told) <= most else told[: most - 1] + "…"
        step = replace(step, result=told or "(nothing)")
        plain = json.loads(self._inference.plain(json.dumps(step.arguments, ensure_ascii=False)))
        self._exchanges.append((told_call(step.name, plain), told_result(step.name, step.result)))
        self._run.steps.append(step)
        return step

    def _fitted(self, tools: list[Tool], sampling: Sampling) -> Prompt:
        """The prompt; what does not fit the context beside the answer is left out: the oldest results, then the newest's end."""
        room = self._inference.context_length - sampling.max_tokens
        while True:
            messages = [*([offer(tools)] if tools else []), *self._run.messages]
            messages += [message for exchange in self._exchanges for message in exchange]
            top_k = 0 if self._exchanges else self._definition.retrieval
            prompt = self._definition.asked(self._run.agent.number, messages, top_k)
            if self._inference.tokens(self._model.name, prompt, sampling) <= room or not self._exchanges:
                return prompt
            if len(self._exchanges) > 1:
                del self._exchanges[0]
                continue
            call, result = self._exchanges[0]
            text = result["content"]
            if len(text) <= _SHORTEST_RESULT:
                return prompt
            cut = text[: max(_SHORTEST_RESULT, len(text) * 3 // 4)]
            self._exchanges[0] = call, {**result, "content": cut}

    # ---- tools -----------------------------------------------------------------------------------------------

    def _tools(self, part: SearchTool | AskTool | McpTool) -> list[Tool]:
        match part:
            case SearchTool():
                return [Tool("search", "Search the records of the Datanet.", QUERY, partial(self._search, part.top_k))]
            case AskTool(model=None):
                name = f"ask_agent_{part.agent}"
                return [
                    Tool(name, "Ask another agent.", QUESTION_ASKED, partial(self._ask_agent, int(part.agent or 0)))
                ]
            case AskTool():
                name = f"ask_model_{part.model}"
                return [
                    Tool(name, "Ask another model.", QUESTION_ASKED, partial(self._ask_model, int(part.model or 0)))
                ]
            case McpTool():
                return [self._mcp(part.server, name) for name in part.tools]

    def _search(self, top_k: int, arguments: dict[str, Any]) -> Outcome:
        found = self._model.search(arguments["query"], top_k)
        return Outcome("\n".join(passage.text for passage in found) or "no record has any of these words")

    def _ask_model(self, number: int, arguments: dict[str, Any]) -> Outcome:
        model = self._service._model(number, self._key)
        prompt = Prompt.chat([{"role": "user", "content": arguments["question"]}])
        sampling = Sampling()
        self._affordable(self._inference.highest_fee(model.name, prompt, sampling))
        events = self._inference.answer(
            model.name, prompt, sampling, self._key, publish=self._publish, cancel=self._stop
        )
        [answer] = [event for event in events if isinstance(event, Answer)]
        return Outcome(answer.text, answer.body.receipt.fee, (answer.receipt_id,))

    def _ask_agent(self, number: int, arguments: dict[str, Any]) -> Outcome:
        if self._depth >= MOST_DEEP:
            raise InputError(f"agents ask each other at most {MOST_DEEP} deep")
        agent = self._service._agents.find(f"agent/{number}")
        self._affordable(agent.price + 1)
        question = [{"role": "user", "content": arguments["question"]}]
        events = self._service.run(
            agent, question, self._key, publish=self._publish, cancel=self._stop, cause="agent",
            spend=self._limit - self._run.fee - agent.price, depth=self._depth + 1,
        )  # fmt: skip
        steps: list[Step] = []
        done = None
        try:
            for event in events:
                if isinstance(event, AgentAnswer):
                    done = event
                elif not isinstance(event, Piece):
                    steps.append(event)
        except CancelledError:
            raise
        except OpenLedgerError as error:
            receipts = tuple(receipt for step in steps for receipt in step_receipts(step))
            return Outcome(f"failed: {error}", sum(step.fee for step in steps), receipts, failed=True)
        if done is None:
            raise OpenLedgerError(f"agent {number} ended without an answer")
        paid = agent.price if done.payment else 0
        return Outcome(done.last.text, done.run.fee + paid, tuple(done.run.receipts), done.run.number)

    def _affordable(self, most: int) -> None:
        left = self._limit - self._run.fee
        if most > left:
            raise PaymentError(
                f"it can cost up to {format_open(most)} OPEN, and {format_open(max(0, left))} OPEN are left"
            )

    def _mcp(self, server: str, name: str) -> Tool:
        run = partial(self._call_server, server, name)
        try:
            description, schema = self._service._servers.tool(server, name)
        except OpenLedgerError as error:
            return Tool(f"{server}_{name}", "", {}, run, missing=str(error))
        return Tool(f"{server}_{name}", self._inference.plain(description), schema, run)

    def _call_server(self, server: str, name: str, arguments: dict[str, Any]) -> Outcome:
        return Outcome(self._service._servers.call(server, name, arguments, self._stop.left))
