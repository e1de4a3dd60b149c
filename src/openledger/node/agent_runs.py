"""Runs of agents on this node: kept, paid and shown."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import func, select, update

from openledger.chain import Chain, KeyStore
from openledger.node import views
from openledger.node.reading import PRIVATE
from openledger.primitives import NotFoundError, OpenLedgerError, PaymentError, format_open, from_hex, to_hex
from openledger.storage import AgentRunRecord, BlobStore, Database
from openledger.studio import ApiKey, DeployedAgent
from openledger.studio.agent_runs import Run, RunState

_NUMBERS = 1 << 63
"""No database integer is larger."""
_GAS_RESERVE = 10**15
"""Wei that an account keeps for the transaction that pays a price."""


class DatabaseRunBook:
    """Runs in the node's database, their records among its blobs; a :class:`~openledger.studio.agent_runs.RunBook`.

    A run that the node did not survive is ``interrupted`` from the next start on.

    Args:
        database: holds what is known of each run.
        public: gets the records whose consumer agreed to publish them.
        private: gets every record.
        party: names an account.
    """

    def __init__(
        self, database: Database, public: BlobStore, private: BlobStore, party: Callable[[str], views.Party]
    ) -> None:
        self._database = database
        self._public = public
        self._private = private
        self._party = party
        with database.session() as session:
            lost = update(AgentRunRecord).where(AgentRunRecord.state == RunState.RUNNING)
            session.execute(lost.values(state=str(RunState.INTERRUPTED)))

    def begin(self, agent: DeployedAgent, key: ApiKey | str, cause: str, started: int) -> int:
        """A new run's number; of a run that no key pays, ``key`` is the account that does."""
        consumer, signer = (key, key) if isinstance(key, str) else (key.consumer, key.signer.address)
        row = AgentRunRecord(
            agent=agent.number, definition=to_hex(agent.definition.digest), consumer=consumer, signer=signer, cause=cause,
            state=str(RunState.RUNNING), started=started, ended=0, fee="0", price=str(agent.price), payment="", unpaid="",
            record="",
        )  # fmt: skip
        with self._database.session() as session:
            session.add(row)
            session.flush()
            return int(row.number)

    def end(self, run: Run, *, publish: bool) -> bytes:
        """Keeps the record of a run that has ended; returns its hash."""
        record = self._private.put_json(run.document())
        if publish:
            self._public.put_json(run.document())
        with self._database.session() as session:
            row = session.get_one(AgentRunRecord, run.number)
            row.state, row.ended, row.fee, row.record = str(run.state), run.ended, str(run.fee), to_hex(record)
        return record

    def paid(self, number: int, transaction: str, why: str = "") -> None:
        """Keeps the transaction that paid the agent's price, or why it was not paid."""
        with self._database.session() as session:
            row = session.get_one(AgentRunRecord, number)
            row.payment, row.unpaid = transaction, why

    def paid_with(self, signer: str) -> int:
        """Wei of prices paid so far with a session key."""
        with self._database.session() as session:
            query = select(AgentRunRecord.price).where(AgentRunRecord.signer == signer, AgentRunRecord.payment != "")
            return sum(map(int, session.scalars(query)))

    def started_last(self, agent: int, cause: str) -> int:
        """When a cause last set an agent off, Unix seconds; 0 for never."""
        with self._database.session() as session:
            query = select(func.max(AgentRunRecord.started))
            return int(session.scalar(query.where(AgentRunRecord.agent == agent, AgentRunRecord.cause == cause)) or 0)

    def rows(self, agent: int | None = None, most: int = 100) -> list[views.AgentRunRow]:
        """The newest runs, of one agent or of all, newest first."""
        query = select(AgentRunRecord).order_by(AgentRunRecord.number.desc()).limit(most)
        if agent is not None:
            query = query.where(AgentRunRecord.agent == (agent if 0 < agent < _NUMBERS else 0))
        with self._database.session() as session:
            found = list(session.scalars(query))
        return [self._row(row, self._document(row)) for row in found]

    def view(self, number: int) -> views.AgentRunView:
        """One run with its steps.

        Raises:
            NotFoundError: there is none of that number.
        """
        with self._database.session() as session:
            row = session.get(AgentRunRecord, number) if 0 < number < _NUMBERS else None
        if row is None:
            raise NotFoundError(f"this node knows no run {number}; `openledger agent runs` shows those that it knows")
        document = self._document(row)
        shown = self._shown(row)
        return views.AgentRunView(
            row=self._row(row, document),
            error=str(document.get("error", "")),
            steps=[step_row(step, shown=shown) for step in document.get("steps", [])],
            receipts=list(document.get("receipts", [])),
        )

    def _shown(self, row: AgentRunRecord) -> bool:
        return bool(row.record) and self._public.has(from_hex(row.record, 32))

    def _document(self, row: AgentRunRecord) -> dict[str, Any]:
        if not row.record:
            return {}
        try:
            found: dict[str, Any] = self._private.get_json(from_hex(row.record, 32))
        except OpenLedgerError:
            return {}
        return found

    def _row(self, row: AgentRunRecord, document: dict[str, Any]) -> views.AgentRunRow:
        shown = self._shown(row)
        messages = document.get("messages") or [{"content": ""}]
        return views.AgentRunRow(
            number=row.number, agent=row.agent, definition=row.definition, consumer=self._party(row.consumer),
            cause=row.cause, state=row.state, started=row.started, ended=row.ended, fee=int(row.fee), price=int(row.price),
            payment=row.payment, unpaid=row.unpaid, record=row.record,
            question=str(messages[-1]["content"]) if shown or not document else PRIVATE,
            answer=str(document.get("answer", "")) if shown or not document else PRIVATE,
        )  # fmt: skip


def step_row(step: dict[str, Any], *, shown: bool) -> views.AgentStepRow:
    """A step of a run's record as it is shown; what it says only where that may be seen."""
    model = step["kind"] == "model"
    receipts = [step["receipt"]] if model else list(step["receipts"])
    arguments = "" if model else ", ".join(f"{name}: {value}" for name, value in step["arguments"].items())
    return views.AgentStepRow(
        kind=step["kind"], name=step["call"] if model else step["name"],
        arguments=arguments if shown else PRIVATE, result=str(step["output" if model else "result"]) if shown else PRIVATE,
        failed=bool(step.get("failed", False)), fee=int(step["fee"]), receipts=receipts, run=int(step.get("run", 0)),
    )  # fmt: skip


class AccountPurse:
    """Pays agents by plain transfers of the consumer's account, whose key this node must hold.

    A price counts against the API key's cap like a fee. It is paid after the answer, never for a run that failed.

    Args:
        chain: with its deployment.
        keys: the accounts whose keys are here.
        runs: knows what was paid before.
        available: wei that a key can still spend on fees.
    """

    def __init__(self, chain: Chain, keys: KeyStore, runs: DatabaseRunBook, available: Callable[[ApiKey], int]) -> None:
        self._chain = chain
        self._keys = keys
        self._runs = runs
        self._available = available
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def holding(self, key: ApiKey, agent: DeployedAgent) -> Iterator[None]:
        """Keeps the agent's price ready while it runs.

        Raises:
            PaymentError: the agent has no wallet, this node does not hold the consumer's key, or key or account do not cover it.
        """
        if not agent.price:
            yield
            return
        with self._lock:
            self._check(key, agent)
            self._held[key.consumer] += agent.price
        try:
            yield
        finally:
            with self._lock:
                self._held[key.consumer] -= agent.price

    def pay(self, key: ApiKey, agent: DeployedAgent) -> str:
        """Pays the price, once; returns the transaction.

        Raises:
            ChainError: the chain refused it.
        """
        if agent.wallet is None:
            raise PaymentError(f"agent {agent.number} has no wallet that could be paid")
        paid = self._chain.transfer(self._keys.find(key.consumer), agent.wallet, agent.price)
        return to_hex(bytes(paid["transactionHash"]))

    def _check(self, key: ApiKey, agent: DeployedAgent) -> None:
        price = f"agent {agent.number} asks {format_open(agent.price)} OPEN a call"
        if agent.wallet is None:
            raise PaymentError(f"{price} and has no wallet that could be paid; its owner has to set one")
        try:
            self._keys.find(key.consumer)
        except NotFoundError:
            raise PaymentError(
                f"{price}, which is paid from the consumer's account {key.consumer}, whose key this node does not hold; ask it "
                "at a node that does"
            ) from None
        left = self._available(key) - self._runs.paid_with(key.signer.address) - self._held[key.consumer]
        if agent.price > left:
            raise PaymentError(f"{price} and the key can spend {format_open(max(0, left))} OPEN; raise its cap")
        balance = self._chain.balance(key.consumer) - self._held[key.consumer] - _GAS_RESERVE
        if agent.price > balance:
            raise PaymentError(
                f"{price} and {format_open(max(0, balance))} OPEN lie in the account {key.consumer} for it; send it some"
            )
