"""Hosts and agents on this node: listing its host, registering agents, and who else there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from openledger.chain import Chain, KeyStore, Role
from openledger.node import views
from openledger.node.people import HOST
from openledger.primitives import InputError, NotFoundError, OpenLedgerError, from_hex, to_hex
from openledger.settlement import (
    Agent,
    HostEntry,
    agent,
    agents,
    host_entries,
    host_entry,
    list_host,
    register_agent,
    registration_file,
    retire_host,
    serve_models,
    set_agent_terms,
    set_agent_uri,
    set_agent_wallet,
)
from openledger.storage import BlobStore
from openledger.studio import AgentDefinition


class Directory:
    """Reads both registries, and writes to them with this node's accounts (the node's host if none is named).

    Args:
        chain: with its deployment.
        keys: the accounts.
        blobs: the public blobs; receive hosts' profiles and agents' registration files.
        party: names an account.
    """

    def __init__(self, chain: Chain, keys: KeyStore, blobs: BlobStore, party: Callable[[str], views.Party]) -> None:
        self._chain = chain
        self._keys = keys
        self._blobs = blobs
        self._party = party

    def hosts(self) -> list[views.HostRow]:
        """Every account that was ever listed as a host."""
        return [self._host_row(found) for found in host_entries(self._chain)]

    def register_host(self, uri: str, profile: str = "", account: str = HOST) -> views.HostRow:
        """Lists an account as a host at ``uri``; ``profile`` is what it says of its hardware and terms, and is published.

        Raises:
            InputError: ``uri`` is no address on the web.
            RevertError: ``HostNotActive`` without a host's stake.
        """
        _check_address(uri, "a host")
        wallet = self._keys.find(account)
        hashed = self._blobs.put_json({"profile": profile}) if profile else bytes(32)
        list_host(self._chain, wallet, uri, hashed)
        return self._host_row(host_entry(self._chain, wallet.address))

    def serve(self, models: Sequence[int], served: bool = True, account: str = HOST) -> views.HostRow:
        """Says which models a listed account serves, or no longer does."""
        wallet = self._keys.find(account)
        serve_models(self._chain, wallet, models, served)
        return self._host_row(host_entry(self._chain, wallet.address))

    def retire(self, account: str = HOST) -> views.HostRow:
        """Takes an account off the list."""
        wallet = self._keys.find(account)
        retire_host(self._chain, wallet)
        return self._host_row(host_entry(self._chain, wallet.address))

    def agents(self) -> list[views.AgentRow]:
        """Every registered agent."""
        return [self._agent_row(found) for found in agents(self._chain)]

    def agent(self, number: int) -> views.AgentRow:
        """One agent.

        Raises:
            NotFoundError: there is none of that number.
        """
        return self._agent_row(agent(self._chain, number))

    def register_agent(
        self, account: str, name: str, description: str, endpoint: str = "", model: int = 0, price: int = 0
    ) -> views.AgentRow:
        """Publishes an agent's registration file, registers the agent, and sets its model and price in wei.

        Raises:
            InputError: it has no name, or an endpoint that is no address on the web.
            RevertError: ``UnknownModel``; the agent is registered by then and has no model.
        """
        if not name.strip():
            raise InputError("an agent needs a name that people find it by")
        if endpoint:
            _check_address(endpoint, "an agent")
        owner = self._keys.find(account)
        file = self._blobs.put_json(registration_file(name, description, endpoint))
        number = register_agent(self._chain, owner, blob_uri(file))
        if model or price:
            set_agent_terms(self._chain, owner, number, model, price)
        return self.agent(number)

    def deploy_agent(self, account: str, definition: AgentDefinition, price: int = 0) -> views.AgentRow:
        """Publishes an agent's definition, and registers the agent that it defines at a price in wei a call.

        Raises:
            NotFoundError: there is no such model.
        """
        self._check_model(definition.model)
        owner = self._keys.find(account)
        number = register_agent(self._chain, owner, self._publish(definition))
        set_agent_terms(self._chain, owner, number, definition.model, price)
        return self.agent(number)

    def update_agent(self, number: int, definition: AgentDefinition) -> views.AgentRow:
        """Gives an agent another definition, as its owner, whose key must be here; its price stays.

        Raises:
            NotFoundError: there is no such agent or model.
        """
        self._check_model(definition.model)
        found = agent(self._chain, number)
        owner = self._keys.find(found.owner)
        set_agent_uri(self._chain, owner, number, self._publish(definition))
        if found.model != definition.model:
            set_agent_terms(self._chain, owner, number, definition.model, found.price)
        return self.agent(number)

    def _publish(self, definition: AgentDefinition) -> str:
        """The URI of a registration file that names the definition; both are published."""
        digest = self._blobs.put_json(definition.document())
        file = registration_file(definition.name, definition.description, "", blob_uri(digest))
        return blob_uri(self._blobs.put_json(file))

    def _check_model(self, number: int) -> None:
        count = int(self._chain.call(self._chain.contract("ModelRegistry").functions.modelCount()))
        if number > count:
            raise NotFoundError(
                f"there is no model {number}, which the definition names; `openledger model list` shows them"
            )

    def set_terms(self, number: int, model: int, price: int) -> views.AgentRow:
        """Sets an agent's model and price as its owner, whose key must be here."""
        set_agent_terms(self._chain, self._keys.find(agent(self._chain, number).owner), number, model, price)
        return self.agent(number)

    def set_wallet(self, number: int, account: str) -> views.AgentRow:
        """Pays an agent at another account of this node from now on."""
        owner = self._keys.find(agent(self._chain, number).owner)
        set_agent_wallet(self._chain, owner, number, self._keys.find(account))
        return self.agent(number)

    def _host_row(self, found: HostEntry) -> views.HostRow:
        stakes = self._chain.contract("StakeManager").functions
        return views.HostRow(
            party=self._party(found.address),
            uri=found.uri,
            since=found.since,
            listed=found.listed,
            models=list(found.models),
            staked=int(self._chain.call(stakes.stakeOf(int(Role.HOST), found.address))),
        )

    def _agent_row(self, found: Agent) -> views.AgentRow:
        file = read_registration(self._blobs, found.uri)
        return views.AgentRow(
            number=found.number,
            owner=self._party(found.owner),
            name=str(file.get("name", "")),
            description=str(file.get("description", "")),
            uri=found.uri,
            wallet=None if found.wallet is None else self._party(found.wallet),
            model=found.model,
            price=found.price,
            active=found.active,
            definition=str(file.get("definition", "")).removeprefix("blob:"),
        )


def blob_uri(digest: bytes) -> str:
    """How a public blob is named in a registration."""
    return f"blob:{to_hex(digest)}"


def read_registration(blobs: BlobStore, uri: str) -> dict[str, Any]:
    """An agent's registration file; empty where it is not among the blobs, or is no JSON object."""
    try:
        file = blobs.get_json(from_hex(uri.removeprefix("blob:"), 32))
    except OpenLedgerError:
        return {}
    return file if isinstance(file, dict) else {}


def _check_address(uri: str, whose: str) -> None:
    """Raises InputError unless ``uri`` is what a browser can safely follow: http or https, and a host."""
    try:
        parts = urlsplit(uri)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and uri.isprintable() and " " not in uri
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"{uri!r} is no address of {whose}; give one such as https://host.example/v1")
