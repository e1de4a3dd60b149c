"""Calls about Datanets, access to them, and accounts; see :data:`openledger.client.clients.calls`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openledger.client.core import LONG, Call
from openledger.node import views


class DatanetCalls:
    """Founding Datanets, challenges, removals, access and income."""

    @staticmethod
    def create_datanet(account: str, description: dict[str, Any], **conditions: Any) -> Call[views.DatanetRow]:
        body = {"account": account, "description": description, **conditions}
        return Call("POST", "/api/datanets", views.DatanetRow, body=body)

    @staticmethod
    def contribution(number: int) -> Call[views.ContributionRow]:
        return Call("GET", f"/api/contributions/{number}", views.ContributionRow)

    @staticmethod
    def contradictions(contribution: int) -> Call[list[views.ContradictionRow]]:
        path = f"/api/contributions/{contribution}/contradictions"
        return Call("GET", path, list[views.ContradictionRow], timeout=LONG)

    @staticmethod
    def finalise(contribution: int) -> Call[views.ContributionRow]:
        path = f"/api/contributions/{contribution}/finalisation"
        return Call("POST", path, views.ContributionRow, timeout=LONG)

    @staticmethod
    def challenges(contribution: int) -> Call[list[views.ChallengeRow]]:
        return Call("GET", f"/api/contributions/{contribution}/challenges", list[views.ChallengeRow])

    @staticmethod
    def challenge(contribution: int, account: str, rows: Sequence[int]) -> Call[views.ChallengeRow]:
        body = {"account": account, "rows": list(rows)}
        return Call("POST", f"/api/contributions/{contribution}/challenges", views.ChallengeRow, body=body)

    @staticmethod
    def defend(contribution: int, number: int, account: str) -> Call[views.ChallengeRow]:
        path = f"/api/contributions/{contribution}/challenges/{number}/defence"
        return Call("POST", path, views.ChallengeRow, body={"account": account})

    @staticmethod
    def appeal(contribution: int, *, lapse: bool = False) -> Call[list[views.ChallengeRow]]:
        path = f"/api/contributions/{contribution}/appeal"
        return Call("POST", path, list[views.ChallengeRow], params={"lapse": lapse}, timeout=LONG)

    @staticmethod
    def tombstones(datanet: int) -> Call[list[views.TombstoneRow]]:
        return Call("GET", f"/api/datanets/{datanet}/tombstones", list[views.TombstoneRow])

    @staticmethod
    def remove_record(digest: str, account: str) -> Call[views.TombstoneRow]:
        return Call("POST", f"/api/records/{digest}/tombstone", views.TombstoneRow, body={"account": account})

    @staticmethod
    def access_requests(datanet: int) -> Call[list[views.AccessRow]]:
        return Call("GET", f"/api/datanets/{datanet}/access", list[views.AccessRow])

    @staticmethod
    def request_access(datanet: int, account: str, purpose: str) -> Call[views.AccessRow]:
        body = {"account": account, "purpose": purpose}
        return Call("POST", f"/api/datanets/{datanet}/access", views.AccessRow, body=body)

    @staticmethod
    def grant_request(datanet: int, request: int, days: float) -> Call[views.AccessRow]:
        path = f"/api/datanets/{datanet}/access/{request}/grant"
        return Call("POST", path, views.AccessRow, body={"days": days})

    @staticmethod
    def deny_request(datanet: int, request: int) -> Call[views.AccessRow]:
        return Call("POST", f"/api/datanets/{datanet}/access/{request}/denial", views.AccessRow)

    @staticmethod
    def withdraw_request(datanet: int, request: int) -> Call[views.AccessRow]:
        return Call("POST", f"/api/datanets/{datanet}/access/{request}/withdrawal", views.AccessRow)

    @staticmethod
    def grant(datanet: int, address: str) -> Call[views.GrantRow]:
        return Call("GET", f"/api/datanets/{datanet}/grants/{address}", views.GrantRow)

    @staticmethod
    def grant_access(datanet: int, address: str, days: float) -> Call[views.GrantRow]:
        return Call("PUT", f"/api/datanets/{datanet}/grants/{address}", views.GrantRow, body={"days": days})

    @staticmethod
    def revoke_access(datanet: int, address: str) -> Call[views.GrantRow]:
        return Call("DELETE", f"/api/datanets/{datanet}/grants/{address}", views.GrantRow)

    @staticmethod
    def income(datanet: int) -> Call[list[views.IncomeRow]]:
        return Call("GET", f"/api/datanets/{datanet}/income", list[views.IncomeRow])

    @staticmethod
    def claim_income(datanet: int, version: int, contribution: int) -> Call[dict[str, int]]:
        return Call("POST", f"/api/datanets/{datanet}/versions/{version}/income/{contribution}", dict[str, int])


class AccountCalls:
    """The accounts whose keys the node holds."""

    @staticmethod
    def create_account(name: str) -> Call[dict[str, str]]:
        return Call("POST", "/api/accounts", dict[str, str], body={"name": name})

    @staticmethod
    def send_open(account: str, to: str, amount: str) -> Call[dict[str, str]]:
        body = {"to": to, "amount": amount}
        return Call("POST", f"/api/accounts/{account}/transfers", dict[str, str], body=body)

    @staticmethod
    def stake_of(account: str, role: str) -> Call[views.StakeRow]:
        return Call("GET", f"/api/accounts/{account}/stakes/{role}", views.StakeRow)

    @staticmethod
    def stake(account: str, role: str, amount: str) -> Call[views.StakeRow]:
        return Call("POST", f"/api/accounts/{account}/stakes", views.StakeRow, body={"role": role, "amount": amount})

    @staticmethod
    def unstake(account: str, role: str, amount: str) -> Call[views.StakeRow]:
        return Call("POST", f"/api/accounts/{account}/unstakes", views.StakeRow, body={"role": role, "amount": amount})

    @staticmethod
    def withdraw_stake(account: str, role: str) -> Call[views.StakeRow]:
        return Call("POST", f"/api/accounts/{account}/stakes/{role}/withdrawal", views.StakeRow)
