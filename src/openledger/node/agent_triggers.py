"""Agents that run by themselves: on a schedule, or when a Datanet has a new version, paid from what their owner set aside.

What is set aside is a session key of the owner's with that cap, and as much in FeeEscrow. An agent whose budget is spent stands
still until its owner adds to it. Requests of the market are answered by :mod:`openledger.node.market`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from openledger.chain import Chain, KeyStore
from openledger.node import views
from openledger.node.agent_runs import DatabaseRunBook
from openledger.node.agents import Roster
from openledger.node.events import EventLog
from openledger.primitives import InputError, NotFoundError, OpenLedgerError, PaymentError, keccak
from openledger.settlement import ChainEscrow, deposit, set_session_key
from openledger.storage import Database
from openledger.studio import AgentAnswer, AgentService, ApiKey, DeployedAgent
from openledger.studio.agents import Schedule, Trigger

_LOG = logging.getLogger(__name__)
_BUDGET = b"OpenLedger agent budget 1"
READY, SPENT, FAILING = "ready", "spent", "failing"


class Autonomy:
    """Sets agents off whose owners' keys are on this node.

    Args:
        chain: with its deployment.
        keys: the accounts whose keys are here.
        database: remembers what an agent has seen, and whether it stands still.
        events: the chain's events.
        agents: the agents that there are.
        runs: when each ran last.
        escrow: what is set aside.
        studio: runs them; asked for when there is something to run.
        clock: Unix seconds on the chain's time.
    """

    def __init__(
        self,
        chain: Chain,
        keys: KeyStore,
        database: Database,
        events: EventLog,
        agents: Roster,
        runs: DatabaseRunBook,
        escrow: ChainEscrow,
        studio: Callable[[], AgentService],
        clock: Callable[[], float],
    ) -> None:
        self._chain = chain
        self._keys = keys
        self._database = database
        self._events = events
        self._agents = agents
        self._runs = runs
        self._escrow = escrow
        self._studio = studio
        self._clock = clock

    def fund(self, number: int, amount: int, days: float) -> views.AgentBudget:
        """Sets ``amount`` wei more aside for an agent's own runs, as its owner, whose key must be here.

        Raises:
            InputError: the amount or the time is not positive, or the agent has no triggers.
            NotFoundError: there is no such agent, or its owner's key is not here.
            ChainError: the owner's account cannot pay.
        """
        if amount <= 0 or not 0 < days <= 3650:
            raise InputError(f"{amount} wei for {days} days set nothing aside; both must be positive")
        agent = self._agents.find(f"agent/{number}")
        if not agent.definition.triggers:
            raise InputError(f"agent {number} has no triggers, so it never runs by itself; give its definition some")
        owner, key = self._keys.find(agent.owner), self._key(agent)
        known = self._escrow.session_key(key.consumer, key.signer.address)
        expiry = max(known.expiry, int(self._clock() + days * 86_400))
        deposit(self._chain, owner, amount)
        set_session_key(self._chain, owner, key.signer.address, known.cap + amount, expiry)
        self._escrow.forget()
        self._mark(number, READY)
        for datanet in {trigger.datanet for trigger in agent.definition.triggers if not isinstance(trigger, Schedule)}:
            if not self._database.state(_seen(number, datanet)):
                self._database.set_state(_seen(number, datanet), self._newest(datanet))
        return self.budget(number)

    def budget(self, number: int) -> views.AgentBudget:
        """What is set aside for an agent's own runs, and how it stands.

        Raises:
            NotFoundError: there is no such agent, or its owner's key is not here.
        """
        agent = self._agents.find(f"agent/{number}")
        key = self._key(agent)
        known = self._escrow.session_key(key.consumer, key.signer.address)
        state = self._database.state(_state(number), {"state": READY, "why": ""})
        if not known.cap:
            state = {"state": "not funded", "why": "nothing is set aside for it"}
        return views.AgentBudget(number, known.cap, known.spent, known.expiry, state["state"], state["why"])

    def tend(self) -> list[views.AgentRunRow]:
        """Runs every agent that is due, one after another, each once; returns the runs that answered."""
        return [self._runs.view(done.run.number).row for agent in self._agents.all() for done in self._tend(agent)]

    def _tend(self, agent: DeployedAgent) -> Iterator[AgentAnswer]:
        if not agent.definition.triggers:
            return
        try:
            budget = self.budget(agent.number)
        except NotFoundError:
            return
        if budget.state not in (READY, FAILING):
            return
        for place, trigger in enumerate(agent.definition.triggers):
            cause = f"{trigger.kind}:{place}"
            if not self._due(agent, trigger, cause):
                continue
            try:
                yield self._run(agent, trigger, cause)
            except PaymentError as error:
                self._mark(agent.number, SPENT, str(error))
                return
            except OpenLedgerError as error:
                self._mark(agent.number, FAILING, str(error))
                continue
            self._mark(agent.number, READY)

    def _run(self, agent: DeployedAgent, trigger: Trigger, cause: str) -> AgentAnswer:
        # Whoever owns it pays no price to it.
        events = self._studio().run(
            replace(agent, price=0), [{"role": "user", "content": trigger.question}], self._key(agent), cause=cause,
            publish=True,
        )  # fmt: skip
        *_, done = events
        if not isinstance(done, AgentAnswer):
            raise OpenLedgerError(f"agent {agent.number} ended without an answer")
        return done

    def _due(self, agent: DeployedAgent, trigger: Trigger, cause: str) -> bool:
        if isinstance(trigger, Schedule):
            return self._clock() >= self._runs.started_last(agent.number, cause) + trigger.seconds
        newest, name = self._newest(trigger.datanet), _seen(agent.number, trigger.datanet)
        if newest <= int(self._database.state(name, 0)):
            return False
        self._database.set_state(name, newest)
        return True

    def _newest(self, datanet: int) -> int:
        logs = self._events.all("DatanetRegistry", "VersionAnchored")
        return max((int(log.args["version"]) for log in logs if log.args["datanet"] == datanet), default=0)

    def _key(self, agent: DeployedAgent) -> ApiKey:
        """The session key of an agent's budget, made from a key of its owner's own, so that nothing secret is stored."""
        owner = self._keys.find(agent.owner)
        return ApiKey(agent.owner, keccak(_BUDGET + bytes(owner.key) + agent.number.to_bytes(8, "big")))

    def _mark(self, number: int, state: str, why: str = "") -> None:
        known = self._database.state(_state(number), {})
        if (known.get("state"), known.get("why")) != (state, why):
            self._database.set_state(_state(number), {"state": state, "why": why})
            if state != READY:
                _LOG.warning("agent %d is %s: %s", number, state, why)


def _state(number: int) -> str:
    return f"agent.{number}.budget"


def _seen(number: int, datanet: int) -> str:
    return f"agent.{number}.seen.{datanet}"
