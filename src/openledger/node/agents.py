"""The agents of this network that its nodes can run, as the chain and the public blobs tell them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from openledger.node.directory import read_registration
from openledger.node.events import EventLog
from openledger.primitives import InputError, NotFoundError, OpenLedgerError, from_hex
from openledger.settlement import AGENTS
from openledger.storage import BlobStore
from openledger.studio import AgentDefinition, DeployedAgent, read_definition
from openledger.studio.agents import named_agent

_LOG = logging.getLogger(__name__)


@dataclass
class _Registered:
    """One agent as its events leave it."""

    owner: str
    uri: str
    wallet: str | None = None
    model: int = 0
    price: int = 0


class Roster:
    """Registered agents with a definition.

    Args:
        events: the chain's events.
        blobs: the public blobs, which hold registration files and definitions.
    """

    def __init__(self, events: EventLog, blobs: BlobStore) -> None:
        self._events = events
        self._blobs = blobs
        self._read: dict[str, AgentDefinition] = {}
        self._lock = threading.Lock()

    def all(self) -> list[DeployedAgent]:
        """Every agent that could be run, by number; those whose definition is missing or malformed are left out."""
        found: list[DeployedAgent] = []
        names: set[str] = set()
        for number, entry in sorted(self._registered().items()):
            try:
                definition = self._definition(number, entry)
            except OpenLedgerError as error:
                _LOG.debug("agent %d is left out: %s", number, error)
                continue
            named = definition.name not in names
            names.add(definition.name)
            found.append(DeployedAgent(number, definition, entry.owner, entry.wallet, entry.price, named))
        return found

    def definition(self, number: int) -> AgentDefinition:
        """An agent's definition.

        Raises:
            NotFoundError: there is no such agent, or it has no definition that is published here.
            InputError: the definition is malformed, or names another model than the agent's terms.
        """
        entry = self._registered().get(number)
        if entry is None:
            raise NotFoundError(f"there is no agent {number}; `openledger agent list` shows them")
        return self._definition(number, entry)

    def find(self, name: str) -> DeployedAgent:
        """The agent that ``agent:NAME`` or ``agent/NUMBER`` means; a name means the first agent that has it.

        Raises:
            NotFoundError: there is none that can be run; the message says why.
            InputError: its definition is malformed, or names another model than its terms.
        """
        wanted = named_agent(name)
        for agent in self.all():
            if wanted == agent.number or (agent.named and wanted == agent.definition.name):
                return agent
        if isinstance(wanted, int):
            self.definition(wanted)
        raise NotFoundError(f"no agent {name!r} is deployed here; `openledger agent list` shows them")

    def _definition(self, number: int, entry: _Registered) -> AgentDefinition:
        if entry.uri not in self._read:
            named = str(read_registration(self._blobs, entry.uri).get("definition", ""))
            if not named.startswith("blob:"):
                raise NotFoundError(
                    f"agent {number} has no definition that is published here; give it one with `openledger agent update`"
                )
            self._read[entry.uri] = read_definition(self._blobs, from_hex(named.removeprefix("blob:"), 32))
        definition = self._read[entry.uri]
        if definition.model != entry.model:
            raise InputError(
                f"agent {number}'s definition names model {definition.model} and its terms model {entry.model}; "
                "its owner has to set one of them"
            )
        return definition

    def _registered(self) -> dict[int, _Registered]:
        with self._lock:
            found = {
                int(log.args["agentId"]): _Registered(str(log.args["owner"]), str(log.args["agentURI"]))
                for log in self._events.all(AGENTS, "Registered")
            }
            for log in self._events.all(AGENTS, "URIUpdated"):
                found[int(log.args["agentId"])].uri = str(log.args["newURI"])
            for log in self._events.all(AGENTS, "TermsSet"):
                entry = found[int(log.args["agentId"])]
                entry.model, entry.price = int(log.args["model"]), int(log.args["price"])
            for log in self._events.all(AGENTS, "AgentWalletSet"):
                wallet = str(log.args["wallet"])
                found[int(log.args["agentId"])].wallet = wallet if int(wallet, 16) else None
            for log in self._events.all(AGENTS, "Transfer"):
                found[int(log.args["tokenId"])].owner = str(log.args["to"])
            return found
