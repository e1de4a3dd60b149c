"""What one run of an agent leaves behind: its steps, the receipts of its answers, what it cost, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from openledger.openlora import Finished
from openledger.primitives import to_hex
from openledger.studio.agents import DeployedAgent
from openledger.studio.inference import Answer
from openledger.studio.keys import ApiKey


class RunState(StrEnum):
    """How a run stands; ``interrupted`` is one that its node did not survive."""

    RUNNING = "running"
    ANSWERED = "answered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class ModelStep:
    """One answer of the agent's model, an ordinary inference; ``call`` is the tool that it called, fees in wei."""

    receipt: str
    prompt_tokens: int
    output_tokens: int
    fee: int
    output: str
    call: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": "model", "receipt": self.receipt, "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens, "fee": str(self.fee), "output": self.output, "call": self.call,
        }  # fmt: skip


@dataclass(frozen=True)
class ToolStep:
    """One call of a tool and what came of it.

    Attributes:
        name: what the model calls it.
        arguments: what it was called with.
        result: what the model is told; of a failed tool, why.
        failed: whether it failed.
        receipts: of the answers that the tool asked for.
        fee: wei for those, other agents' prices included.
        run: the number of the run of another agent; 0 for none.
    """

    name: str
    arguments: dict[str, Any]
    result: str
    failed: bool = False
    receipts: tuple[str, ...] = ()
    fee: int = 0
    run: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": "tool", "name": self.name, "arguments": self.arguments, "result": self.result, "failed": self.failed,
            "receipts": list(self.receipts), "fee": str(self.fee), "run": self.run,
        }  # fmt: skip


Step = ModelStep | ToolStep


def step_receipts(step: Step) -> tuple[str, ...]:
    """The receipts of the answers that a step asked for."""
    return (step.receipt,) if isinstance(step, ModelStep) else step.receipts


@dataclass
class Run:
    """One run while it goes on; ``document()`` is its record once it has ended.

    Attributes:
        number: this node's number for it.
        agent: whose run it is.
        consumer: the account that pays.
        cause: ``asked``, ``agent`` (another one asked), ``market``, ``schedule`` or ``version``.
        messages: what it was asked.
        started: Unix seconds.
        token_ids: everything that its model wrote.
    """

    number: int
    agent: DeployedAgent
    consumer: str
    cause: str
    messages: Sequence[dict[str, str]]
    started: int
    steps: list[Step] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    state: RunState = RunState.RUNNING
    answer: str = ""
    error: str = ""
    ended: int = 0

    @property
    def receipts(self) -> list[str]:
        """Every receipt of the run, in order."""
        return [receipt for step in self.steps for receipt in step_receipts(step)]

    @property
    def fee(self) -> int:
        """Wei for all answers that the run asked for, its own price not included."""
        return sum(step.fee for step in self.steps)

    def document(self) -> dict[str, Any]:
        """The run's record, whose canonical hash names it."""
        return {
            "type": "openledger/agent-run/1",
            "agent": self.agent.number,
            "definition": to_hex(self.agent.definition.digest),
            "consumer": self.consumer,
            "cause": self.cause,
            "started": self.started,
            "ended": self.ended,
            "state": str(self.state),
            "error": self.error,
            "messages": [dict(message) for message in self.messages],
            "steps": [step.to_json() for step in self.steps],
            "receipts": self.receipts,
            "answer": self.answer,
            "fee": str(self.fee),
            "price": str(self.agent.price),
        }


@dataclass(frozen=True)
class AgentAnswer:
    """The answer at the end of a run.

    Attributes:
        run: the run.
        record: the hash of its record.
        last: the answer of its last step.
        payment: the transaction that paid the agent's price; empty if it has none.
        unpaid: why the price could not be paid, if it could not.
    """

    run: Run
    record: bytes
    last: Answer
    payment: str = ""
    unpaid: str = ""

    @property
    def finished(self) -> Finished:
        """The last answer, with the tokens of all that the model wrote in the run."""
        return replace(self.last.finished, token_ids=tuple(self.run.token_ids))

    @property
    def receipt_id(self) -> str:
        """The ids of all receipts of the run."""
        return ", ".join(self.run.receipts)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts of all its own model's answers."""
        return sum(step.prompt_tokens for step in self.run.steps if isinstance(step, ModelStep))

    def account(self) -> dict[str, Any]:
        """What the API tells besides the answer: the run, its receipts and what it cost in wei; contributors and records are
        those of the last answer."""
        return {
            **self.last.account(),
            "fee_wei": str(self.run.fee),
            "receipts": self.run.receipts,
            "agent": self.run.agent.number,
            "definition": to_hex(self.run.agent.definition.digest),
            "run": self.run.number,
            "record": to_hex(self.record),
            "price_wei": str(self.run.agent.price),
            "payment": self.payment,
            **({"unpaid": self.unpaid} if self.unpaid else {}),
            "steps": [step.call or "answer" if isinstance(step, ModelStep) else step.name for step in self.run.steps],
        }


class RunBook(Protocol):
    """Where runs are kept; each method returns once it would survive a crash."""

    def begin(self, agent: DeployedAgent, key: ApiKey, cause: str, started: int) -> int:
        """A new run's number."""
        ...

    def end(self, run: Run, *, publish: bool) -> bytes:
        """Keeps the record of a run that has ended; returns its hash."""
        ...

    def paid(self, number: int, transaction: str, why: str = "") -> None:
        """Keeps how the agent's price was paid, or why it was not."""
        ...


class Purse(Protocol):
    """Pays agents their price, beside the fees of their answers."""

    def holding(self, key: ApiKey, agent: DeployedAgent) -> AbstractContextManager[None]:
        """Keeps the agent's price ready while it runs.

        Raises:
            PaymentError: the price cannot be paid with this key.
        """
        ...

    def pay(self, key: ApiKey, agent: DeployedAgent) -> str:
        """Pays the price, once; returns the transaction."""
        ...
