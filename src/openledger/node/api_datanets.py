"""Routes about Datanets beside reading and contributing: founding one, challenges and appeals, removals, access and income."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from fastapi.params import Depends

from openledger.datanets import AccessRule, DatanetTerms, Tombstone, tombstones
from openledger.node import views
from openledger.node.service import Node
from openledger.primitives import InputError, from_hex, parse_open, to_hex


@dataclass(frozen=True)
class NewDatanet:
    """A Datanet to register: its description (the shape of ``datanet.json``) and conditions; fees in OPEN."""

    account: str
    description: dict[str, Any]
    access: str = "open"
    owner_ppm: int = 0
    row_cap: int = 0
    access_fee: str = "0"
    licence_fee: str = "0"

    def conditions(self) -> DatanetTerms:
        """The conditions as the chain takes them.

        Raises:
            InputError: an unknown rule of access, or a fee that is no amount.
        """
        if self.access.upper() not in AccessRule.__members__:
            raise InputError(f"{self.access!r} is no rule of access; there are open, paid and granted")
        rule = AccessRule[self.access.upper()]
        fees = parse_open(self.access_fee), parse_open(self.licence_fee)
        return DatanetTerms(rule, self.owner_ppm, self.row_cap, *fees)


@dataclass(frozen=True)
class NewChallenge:
    """A challenge of the decision on rows (from 1) of a contribution by an account of this node."""

    account: str
    rows: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class ByAccount:
    """An act by an account of this node."""

    account: str


@dataclass(frozen=True)
class NewRequest:
    """A request for access by an account of this node; what the records are wanted for is published."""

    account: str
    purpose: str


@dataclass(frozen=True)
class Days:
    """For how long a grant lasts."""

    days: float = 365.0


def router(node: Node, acts: list[Depends]) -> APIRouter:
    """The routes over one node; ``acts`` guard what uses its keys."""
    routes = APIRouter()

    @routes.post("/datanets", dependencies=acts)
    def create(body: NewDatanet) -> views.DatanetRow:
        number = node.curation.create(node.keys.find(body.account), body.description, body.conditions())
        return node.datanet(number).row

    @routes.get("/contributions/{number}")
    def contribution(number: int) -> views.ContributionRow:
        return node.reader.contribution(number)

    @routes.get("/contributions/{number}/contradictions")
    def contradictions(number: int) -> list[views.ContradictionRow]:
        return node.reader.contradictions(number)

    @routes.post("/contributions/{number}/finalisation", dependencies=acts)
    def finalise(number: int) -> views.ContributionRow:
        node.curation.finalise(number)
        return node.reader.contribution(number)

    @routes.get("/contributions/{number}/challenges")
    def challenges(number: int) -> list[views.ChallengeRow]:
        return node.appeals.rows(number)

    @routes.post("/contributions/{number}/challenges", dependencies=acts)
    def challenge(number: int, body: NewChallenge) -> views.ChallengeRow:
        return node.appeals.challenge(number, body.account, body.rows)

    @routes.post("/contributions/{number}/challenges/{challenge}/defence", dependencies=acts)
    def defend(number: int, challenge: int, body: ByAccount) -> views.ChallengeRow:
        return node.appeals.defend(number, challenge, body.account)

    @routes.post("/contributions/{number}/appeal", dependencies=acts)
    def appeal(number: int, lapse: bool = False) -> list[views.ChallengeRow]:
        return node.appeals.lapse(number) if lapse else node.appeals.appeal(number)

    @routes.get("/datanets/{number}/tombstones")
    def removed(number: int) -> list[views.TombstoneRow]:
        return [_tombstone(stone) for stone in tombstones(node.chain, number)]

    @routes.post("/records/{digest}/tombstone", dependencies=acts)
    def remove(digest: str, body: ByAccount) -> views.TombstoneRow:
        return _tombstone(node.curation.remove(node.keys.find(body.account), from_hex(digest, 32)))

    @routes.get("/datanets/{number}/access")
    def access(number: int) -> list[views.AccessRow]:
        return node.access.requests(number)

    @routes.post("/datanets/{number}/access", dependencies=acts)
    def request(number: int, body: NewRequest) -> views.AccessRow:
        return node.access.request(number, body.account, body.purpose)

    @routes.post("/datanets/{number}/access/{request}/grant", dependencies=acts)
    def grant(number: int, request: int, body: Days) -> views.AccessRow:
        return node.access.grant(number, request, body.days)

    @routes.post("/datanets/{number}/access/{request}/denial", dependencies=acts)
    def deny(number: int, request: int) -> views.AccessRow:
        return node.access.deny(number, request)

    @routes.post("/datanets/{number}/access/{request}/withdrawal", dependencies=acts)
    def withdraw(number: int, request: int) -> views.AccessRow:
        return node.access.withdraw(number, request)

    @routes.get("/datanets/{number}/grants/{address}")
    def standing(number: int, address: str) -> views.GrantRow:
        return node.access.standing(number, address)

    @routes.put("/datanets/{number}/grants/{address}", dependencies=acts)
    def allow(number: int, address: str, body: Days) -> views.GrantRow:
        return node.access.allow(number, address, body.days)

    @routes.delete("/datanets/{number}/grants/{address}", dependencies=acts)
    def revoke(number: int, address: str) -> views.GrantRow:
        return node.access.revoke(number, address)

    @routes.get("/datanets/{number}/income")
    def income(number: int) -> list[views.IncomeRow]:
        return node.access.income(number)

    @routes.post("/datanets/{number}/versions/{version}/income/{contribution}", dependencies=acts)
    def claim(number: int, version: int, contribution: int) -> dict[str, str]:
        return {"wei": str(node.access.claim(number, version, contribution))}

    return routes


def _tombstone(stone: Tombstone) -> views.TombstoneRow:
    return views.TombstoneRow(stone.datanet, stone.contribution, to_hex(stone.record), stone.version)
