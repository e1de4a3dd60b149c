"""Routes about the market of inferences, hosts, agents, and the community's bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.params import Depends

from openledger.node import views
from openledger.node.people import HOST
from openledger.node.service import Node
from openledger.openlora import Sampling
from openledger.primitives import canonical_bytes, parse_open
from openledger.studio import AgentDefinition, Prompt


@dataclass(frozen=True)
class NewRequest:
    """A question to a model by an account of this node, or to an agent, whose model and length of answer are its own; ``most``
    is what it may cost in OPEN, empty for what it can."""

    account: str
    model: int
    question: str
    max_tokens: int = 96
    most: str = ""
    seconds: int = 600
    agent: int = 0


@dataclass(frozen=True)
class NewHost:
    """A host's listing: where it answers, and what it says of itself."""

    uri: str
    profile: str = ""
    account: str = HOST


@dataclass(frozen=True)
class ServedModels:
    """Models that a host serves from now on, or no longer."""

    models: list[int]
    served: bool = True
    account: str = HOST


@dataclass(frozen=True)
class HostAccount:
    """A host by its account."""

    account: str = HOST


@dataclass(frozen=True)
class NewAgent:
    """An agent to register; ``price`` in OPEN a call, ``model`` 0 for none."""

    account: str
    name: str
    description: str = ""
    endpoint: str = ""
    model: int = 0
    price: str = "0"


@dataclass(frozen=True)
class AgentTerms:
    """An agent's model and its price in OPEN a call."""

    model: int
    price: str


@dataclass(frozen=True)
class NewDeployment:
    """An agent to deploy by its definition; ``price`` in OPEN a call."""

    account: str
    definition: dict[str, Any]
    price: str = "0"


@dataclass(frozen=True)
class NewDefinition:
    """Another definition of an agent."""

    definition: dict[str, Any]


@dataclass(frozen=True)
class NewBudget:
    """OPEN to set aside for an agent's own runs."""

    amount: str
    days: float = 30.0


def router(node: Node, acts: list[Depends]) -> APIRouter:
    """The routes over one node; ``acts`` guard what uses its keys."""
    routes = APIRouter()

    @routes.get("/market")
    def requests() -> list[views.MarketRow]:
        return list(node.market.rows())

    @routes.get("/market/{number}")
    def request(number: int) -> views.MarketRow:
        return node.market.row(number)

    @routes.post("/market", dependencies=acts)
    def ask(body: NewRequest) -> views.MarketRow:
        most = parse_open(body.most) if body.most else 0
        if body.agent:
            wallet = node.keys.find(body.account)
            return node.market.ask_agent(wallet, body.agent, body.question, most=most, seconds=body.seconds)
        prompt = Prompt.chat([{"role": "user", "content": body.question}])
        return node.market.ask(
            node.keys.find(body.account), body.model, prompt, Sampling(max_tokens=body.max_tokens), most=most,
            seconds=body.seconds,
        )  # fmt: skip

    @routes.post("/market/{number}/refund", dependencies=acts)
    def refund(number: int) -> views.MarketRow:
        return node.market.refund(number)

    @routes.get("/hosts")
    def hosts() -> list[views.HostRow]:
        return node.directory.hosts()

    @routes.post("/hosts", dependencies=acts)
    def register_host(body: NewHost) -> views.HostRow:
        return node.directory.register_host(body.uri, body.profile, body.account)

    @routes.post("/hosts/models", dependencies=acts)
    def serve(body: ServedModels) -> views.HostRow:
        return node.directory.serve(body.models, body.served, body.account)

    @routes.post("/hosts/retirement", dependencies=acts)
    def retire(body: HostAccount) -> views.HostRow:
        return node.directory.retire(body.account)

    @routes.get("/agents")
    def agents() -> list[views.AgentRow]:
        return node.directory.agents()

    @routes.get("/agents/{number}")
    def agent(number: int) -> views.AgentRow:
        return node.directory.agent(number)

    @routes.post("/agents", dependencies=acts)
    def register_agent(body: NewAgent) -> views.AgentRow:
        return node.directory.register_agent(
            body.account, body.name, body.description, body.endpoint, body.model, parse_open(body.price)
        )

    @routes.post("/agents/deployments", dependencies=acts)
    def deploy_agent(body: NewDeployment) -> views.AgentRow:
        definition = AgentDefinition.read(body.definition)
        return node.directory.deploy_agent(body.account, definition, parse_open(body.price))

    @routes.get("/agents/{number}/definition")
    def definition(number: int) -> dict[str, Any]:
        return node.agents.definition(number).document()

    @routes.get("/agents/{number}/prompt")
    def agent_prompt(number: int, question: str) -> views.MarketPrompt:
        model, prompt, sampling = node.market.agent_prompt(number, question)
        return views.MarketPrompt(model, canonical_bytes(prompt.to_json(sampling)).decode())

    @routes.get("/agents/{number}/budget")
    def budget(number: int) -> views.AgentBudget:
        return node.autonomy.budget(number)

    @routes.post("/agents/{number}/budget", dependencies=acts)
    def fund(number: int, body: NewBudget) -> views.AgentBudget:
        return node.autonomy.fund(number, parse_open(body.amount), body.days)

    @routes.get("/agents/{number}/runs")
    def runs(number: int) -> list[views.AgentRunRow]:
        return node.runs.rows(number)

    @routes.get("/agent-runs/{number}")
    def run(number: int) -> views.AgentRunView:
        return node.runs.view(number)

    @routes.post("/agents/{number}/definition", dependencies=acts)
    def update_agent(number: int, body: NewDefinition) -> views.AgentRow:
        return node.directory.update_agent(number, AgentDefinition.read(body.definition))

    @routes.post("/agents/{number}/terms", dependencies=acts)
    def set_terms(number: int, body: AgentTerms) -> views.AgentRow:
        return node.directory.set_terms(number, body.model, parse_open(body.price))

    @routes.post("/agents/{number}/wallet", dependencies=acts)
    def set_wallet(number: int, body: HostAccount) -> views.AgentRow:
        return node.directory.set_wallet(number, body.account)

    @routes.get("/community")
    def community() -> views.BootstrapView:
        return node.community.view()

    @routes.post("/community/claims/{address}", dependencies=acts)
    def claim(address: str) -> dict[str, str]:
        return {"wei": str(node.community.claim(address))}

    @routes.post("/community/remainder", dependencies=acts)
    def remainder() -> dict[str, str]:
        return {"wei": str(node.community.return_remainder())}

    return routes
