"""Routes about the accounts whose keys a node holds: making them, sending OPEN, staking."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.params import Depends

from openledger.node import views
from openledger.node.service import Node
from openledger.primitives import parse_open


@dataclass(frozen=True)
class NewAccount:
    """An account to make, by the name that the key store shall know it by."""

    name: str


@dataclass(frozen=True)
class Transfer:
    """OPEN to an account's name or to any address."""

    to: str
    amount: str


@dataclass(frozen=True)
class Stake:
    """OPEN to stake in a role."""

    role: str
    amount: str


def router(node: Node, acts: list[Depends]) -> APIRouter:
    """The routes over one node; ``acts`` guard what uses its keys."""
    routes = APIRouter(prefix="/accounts")

    @routes.post("", dependencies=acts)
    def create(body: NewAccount) -> dict[str, str]:
        return {"name": body.name, "address": node.accounts.create(body.name)}

    @routes.post("/{account}/transfers", dependencies=acts)
    def send(account: str, body: Transfer) -> dict[str, str]:
        return {"to": body.to, "balance": str(node.accounts.send(account, body.to, parse_open(body.amount)))}

    @routes.get("/{account}/stakes/{role}")
    def stake_of(account: str, role: str) -> views.StakeRow:
        return node.accounts.stake_of(account, role)

    @routes.post("/{account}/stakes", dependencies=acts)
    def stake(account: str, body: Stake) -> views.StakeRow:
        return node.accounts.stake(account, body.role, parse_open(body.amount))

    @routes.post("/{account}/unstakes", dependencies=acts)
    def unstake(account: str, body: Stake) -> views.StakeRow:
        return node.accounts.unstake(account, body.role, parse_open(body.amount))

    @routes.post("/{account}/stakes/{role}/withdrawal", dependencies=acts)
    def withdraw(account: str, role: str) -> views.StakeRow:
        return node.accounts.withdraw(account, role)

    return routes
