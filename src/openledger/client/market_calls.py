"""Calls about the market, hosts, agents and the community's bootstrap; see :data:`openledger.client.clients.calls`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openledger.client.core import LONG, Call
from openledger.node import views


class MarketCalls:
    """Asking by the chain, and who answers there."""

    market = staticmethod(lambda: Call[list[views.MarketRow]]("GET", "/api/market", list[views.MarketRow]))
    hosts = staticmethod(lambda: Call[list[views.HostRow]]("GET", "/api/hosts", list[views.HostRow]))
    agents = staticmethod(lambda: Call[list[views.AgentRow]]("GET", "/api/agents", list[views.AgentRow]))
    community = staticmethod(lambda: Call[views.BootstrapView]("GET", "/api/community", views.BootstrapView))

    @staticmethod
    def market_request(number: int) -> Call[views.MarketRow]:
        return Call("GET", f"/api/market/{number}", views.MarketRow)

    @staticmethod
    def ask_market(account: str, model: int, question: str, **options: Any) -> Call[views.MarketRow]:
        body = {"account": account, "model": model, "question": question, **options}
        return Call("POST", "/api/market", views.MarketRow, body=body, timeout=LONG)

    @staticmethod
    def refund_market(number: int) -> Call[views.MarketRow]:
        return Call("POST", f"/api/market/{number}/refund", views.MarketRow)

    @staticmethod
    def register_host(uri: str, profile: str, account: str) -> Call[views.HostRow]:
        return Call("POST", "/api/hosts", views.HostRow, body={"uri": uri, "profile": profile, "account": account})

    @staticmethod
    def serve_models(models: Sequence[int], served: bool, account: str) -> Call[views.HostRow]:
        body = {"models": list(models), "served": served, "account": account}
        return Call("POST", "/api/hosts/models", views.HostRow, body=body)

    @staticmethod
    def retire_host(account: str) -> Call[views.HostRow]:
        return Call("POST", "/api/hosts/retirement", views.HostRow, body={"account": account})

    @staticmethod
    def agent(number: int) -> Call[views.AgentRow]:
        return Call("GET", f"/api/agents/{number}", views.AgentRow)

    @staticmethod
    def register_agent(account: str, name: str, **more: Any) -> Call[views.AgentRow]:
        return Call("POST", "/api/agents", views.AgentRow, body={"account": account, "name": name, **more})

    @staticmethod
    def deploy_agent(account: str, definition: dict[str, Any], price: str = "0") -> Call[views.AgentRow]:
        body = {"account": account, "definition": definition, "price": price}
        return Call("POST", "/api/agents/deployments", views.AgentRow, body=body)

    @staticmethod
    def agent_definition(number: int) -> Call[dict[str, Any]]:
        return Call("GET", f"/api/agents/{number}/definition", dict[str, Any])

    @staticmethod
    def agent_prompt(number: int, question: str) -> Call[views.MarketPrompt]:
        return Call("GET", f"/api/agents/{number}/prompt", views.MarketPrompt, params={"question": question})

    @staticmethod
    def agent_budget(number: int) -> Call[views.AgentBudget]:
        return Call("GET", f"/api/agents/{number}/budget", views.AgentBudget)

    @staticmethod
    def fund_agent(number: int, amount: str, days: float) -> Call[views.AgentBudget]:
        return Call("POST", f"/api/agents/{number}/budget", views.AgentBudget, body={"amount": amount, "days": days})

    @staticmethod
    def agent_runs(number: int) -> Call[list[views.AgentRunRow]]:
        return Call("GET", f"/api/agents/{number}/runs", list[views.AgentRunRow])

    @staticmethod
    def agent_run(number: int) -> Call[views.AgentRunView]:
        return Call("GET", f"/api/agent-runs/{number}", views.AgentRunView)

    @staticmethod
    def update_agent(number: int, definition: dict[str, Any]) -> Call[views.AgentRow]:
        return Call("POST", f"/api/agents/{number}/definition", views.AgentRow, body={"definition": definition})

    @staticmethod
    def set_agent_terms(number: int, model: int, price: str) -> Call[views.AgentRow]:
        return Call("POST", f"/api/agents/{number}/terms", views.AgentRow, body={"model": model, "price": price})

    @staticmethod
    def set_agent_wallet(number: int, account: str) -> Call[views.AgentRow]:
        return Call("POST", f"/api/agents/{number}/wallet", views.AgentRow, body={"account": account})

    @staticmethod
    def claim_grant(address: str) -> Call[dict[str, int]]:
        return Call("POST", f"/api/community/claims/{address}", dict[str, int])

    @staticmethod
    def return_remainder() -> Call[dict[str, int]]:
        return Call("POST", "/api/community/remainder", dict[str, int])
