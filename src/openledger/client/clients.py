"""The sync and the async client of a node."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import httpx

from openledger.client.core import LONG, Call, raise_for_error, read, unreachable
from openledger.client.datanet_calls import AccountCalls, DatanetCalls
from openledger.client.market_calls import MarketCalls
from openledger.node import views
from openledger.primitives import OpenLedgerError, SignatureError

T = TypeVar("T")


@dataclass(frozen=True)
class ReceiptPage:
    """Receipts, newest first, and how many there are in all."""

    total: int
    rows: list[views.ReceiptRow]


@dataclass(frozen=True)
class RecordPage:
    """Records of a Datanet, and how many match in all."""

    total: int
    rows: list[views.RecordView]


@dataclass(frozen=True)
class Answer:
    """One answer with the account that the gateway gives of it; ``fee`` in wei, shares in ppm by contributor address; ``run`` is
    the number of an agent's run, 0 where a model was asked."""

    text: str
    receipt: str
    fee: int
    contributors: dict[str, int]
    residual_ppm: int
    run: int = 0


class _Calls(DatanetCalls, AccountCalls, MarketCalls):
    """Every call by name; the clients below only send them."""

    overview = staticmethod(lambda: Call[views.Overview]("GET", "/api/overview", views.Overview))
    network = staticmethod(lambda: Call[dict[str, Any]]("GET", "/api/network", dict[str, Any]))
    datanets = staticmethod(lambda: Call[list[views.DatanetRow]]("GET", "/api/datanets", list[views.DatanetRow]))
    models = staticmethod(lambda: Call[list[views.ModelView]]("GET", "/api/models", list[views.ModelView]))
    payouts = staticmethod(lambda: Call[views.PayoutsView]("GET", "/api/payouts", views.PayoutsView))
    supply = staticmethod(lambda: Call[views.SupplyView]("GET", "/api/supply", views.SupplyView))
    governance = staticmethod(lambda: Call[views.GovernanceView]("GET", "/api/governance", views.GovernanceView))
    training = staticmethod(lambda: Call[views.TrainingProgress]("GET", "/api/training", views.TrainingProgress))

    @staticmethod
    def datanet(number: int) -> Call[views.DatanetView]:
        return Call("GET", f"/api/datanets/{number}", views.DatanetView)

    @staticmethod
    def records(number: int, **filters: Any) -> Call[RecordPage]:
        return Call("GET", f"/api/datanets/{number}/records", RecordPage, params=filters)

    @staticmethod
    def record(digest: str) -> Call[views.RecordView]:
        return Call("GET", f"/api/records/{digest}", views.RecordView)

    @staticmethod
    def model(number: int) -> Call[views.ModelView]:
        return Call("GET", f"/api/models/{number}", views.ModelView)

    @staticmethod
    def receipts(offset: int = 0, limit: int = 50) -> Call[ReceiptPage]:
        return Call("GET", "/api/receipts", ReceiptPage, params={"offset": offset, "limit": limit})

    @staticmethod
    def receipt(name: str) -> Call[views.ReceiptView]:
        return Call("GET", f"/api/receipts/{name}", views.ReceiptView)

    @staticmethod
    def receipt_body(name: str) -> Call[dict[str, Any]]:
        return Call("GET", f"/api/receipts/{name}/body", dict[str, Any])

    @staticmethod
    def contribute(datanet: int, account: str, licence: str, records: list[dict[str, Any]]) -> Call[views.Submission]:
        body = {"account": account, "licence": licence, "records": records}
        return Call("POST", f"/api/datanets/{datanet}/contributions", views.Submission, body=body, timeout=LONG)

    @staticmethod
    def review(contribution: int, *, challengeable: bool = False) -> Call[views.ContributionRow]:
        path, asked = f"/api/contributions/{contribution}/review", {"challengeable": challengeable}
        return Call("POST", path, views.ContributionRow, params=asked, timeout=LONG)

    @staticmethod
    def anchor(datanet: int) -> Call[views.VersionRow]:
        return Call("POST", f"/api/datanets/{datanet}/versions", views.VersionRow, timeout=LONG)

    @staticmethod
    def create_key(cap: str, days: float = 30.0, models: Sequence[str] = ()) -> Call[dict[str, Any]]:
        body = {"cap": cap, "days": days, "models": list(models)}
        return Call("POST", "/api/keys", dict[str, Any], body=body)

    @staticmethod
    def settle() -> Call[dict[str, Any]]:
        return Call("POST", "/api/settle", dict[str, Any], timeout=LONG)

    @staticmethod
    def claim(account: str) -> Call[dict[str, int]]:
        return Call("POST", f"/api/claims/{account}", dict[str, int])

    disputes = staticmethod(lambda: Call[list[views.DisputeRow]]("GET", "/api/disputes", list[views.DisputeRow]))

    @staticmethod
    def open_dispute(
        account: str, receipt: str, why: str, shares: list[tuple[str, int]] | None = None
    ) -> Call[views.DisputeRow]:
        body = {"account": account, "receipt": receipt, "why": why, "shares": shares}
        return Call("POST", "/api/disputes", views.DisputeRow, body=body, timeout=LONG)

    @staticmethod
    def open_root_dispute(account: str, root: int, why: str) -> Call[views.DisputeRow]:
        body = {"account": account, "root": root, "why": why}
        return Call("POST", "/api/disputes/roots", views.DisputeRow, body=body)

    @staticmethod
    def answer_dispute(number: int, account: str = "") -> Call[views.DisputeRow]:
        return Call("POST", f"/api/disputes/{number}/answer", views.DisputeRow, body={"account": account})

    @staticmethod
    def advance_dispute(number: int) -> Call[views.DisputeRow]:
        return Call("POST", f"/api/disputes/{number}/advance", views.DisputeRow, timeout=LONG)

    @staticmethod
    def rotate_wallet(account: str, successor: str) -> Call[dict[str, str]]:
        return Call("POST", f"/api/accounts/{account}/successor", dict[str, str], body={"address": successor})

    @staticmethod
    def delegate_claims(account: str, claimer: str) -> Call[dict[str, str]]:
        return Call("POST", f"/api/accounts/{account}/claimer", dict[str, str], body={"address": claimer})

    @staticmethod
    def train(datanet: int, version: int, name: str, recipe: dict[str, Any]) -> Call[dict[str, str]]:
        body = {"datanet": datanet, "version": version, "name": name, "recipe": recipe}
        return Call("POST", "/api/training", dict[str, str], body=body)

    @staticmethod
    def propose(key: str, value: int, description: str) -> Call[dict[str, str]]:
        body = {"key": key, "value": str(value), "description": description}
        return Call("POST", "/api/proposals", dict[str, str], body=body)

    @staticmethod
    def propose_evaluation(model: int, evaluation: dict[str, Any], description: str) -> Call[dict[str, str]]:
        body = {"evaluation": evaluation, "description": description}
        return Call("POST", f"/api/models/{model}/evaluation", dict[str, str], body=body)

    @staticmethod
    def vote(proposal: str, voter: str, support: str) -> Call[dict[str, str]]:
        body = {"voter": voter, "support": support}
        return Call("POST", f"/api/proposals/{proposal}/votes", dict[str, str], body=body)

    @staticmethod
    def execute(proposal: str) -> Call[dict[str, str]]:
        return Call("POST", f"/api/proposals/{proposal}/execution", dict[str, str])


calls = _Calls()
"""The calls that :meth:`OpenLedger.send` and :meth:`AsyncOpenLedger.send` take."""


class OpenLedger:
    """A node's client.

    Args:
        url: the node, such as ``http://127.0.0.1:8600``.
        api_key: a capped session key for asking (``openledger key create``).
        operator_token: for acts with the keys that the node holds.
    """

    def __init__(self, url: str, *, api_key: str = "", operator_token: str = "") -> None:
        self.url = url.rstrip("/")
        self._api_key = api_key
        self._http = httpx.Client(base_url=self.url, headers=_bearer(operator_token))

    def __enter__(self) -> OpenLedger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Sends one of :data:`calls` and returns its typed answer.

        Raises:
            OpenLedgerError: what the node refused, in its words; or that no node answers.
        """
        try:
            response = self._http.request(
                call.method, call.path, params=dict(call.params), json=call.body, timeout=call.timeout
            )
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        return read(call, response)

    def ask(
        self,
        model: str,
        messages: str | list[dict[str, str]],
        *,
        on_text: Callable[[str], None] | None = None,
        publish: bool = False,
        **options: Any,
    ) -> Answer:
        """Asks a model; ``on_text`` receives the pieces as they come. ``options`` are those of the chat API.

        Args:
            model: the model's name.
            messages: one question, or a dialogue of ``{"role", "content"}``.
            publish: whether the prompt and answer may be published, so that anyone can recompute the influence.

        Raises:
            OpenLedgerError: the request was refused; it cost nothing.
        """
        dialogue = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        body = {"model": model, "messages": dialogue, "stream": True, "store": publish, **options}
        text, account = "", None
        try:
            with self._http.stream(
                "POST", "/v1/chat/completions", json=body, headers=self._asking(), timeout=LONG
            ) as response:
                if not response.is_success:
                    response.read()
                    raise_for_error(response)
                for chunk in _events(response.iter_lines()):
                    for choice in chunk.get("choices", []):
                        piece = choice["delta"].get("content") or ""
                        text += piece
                        if piece and on_text is not None:
                            on_text(piece)
                    account = chunk.get("openledger", account)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        if account is None:
            raise OpenLedgerError("the answer ended without a receipt; ask again (nothing was charged)")
        return Answer(
            text, account["receipt"], int(account["fee_wei"]), account["contributors"], account["residual_ppm"],
            int(account.get("run", 0)),
        )  # fmt: skip

    def network_facts(self) -> dict[str, Any]:
        """Chain id, RPC URL, and the deployment: what one needs to check this network."""
        return self.send(calls.network())

    def public_body(self, name: str) -> dict[str, Any]:
        """The public body of a receipt, as it was signed."""
        return self.send(calls.receipt_body(name))

    def blob(self, digest: str) -> bytes:
        """A public blob's bytes by hash; the caller checks the hash."""
        try:
            response = self._http.get(f"/api/blobs/{digest}", timeout=LONG)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        raise_for_error(response)
        return response.content

    def _asking(self) -> dict[str, str]:
        if not self._api_key:
            raise SignatureError("asking needs an API key; make one with `openledger key create`")
        return _bearer(self._api_key)


class AsyncOpenLedger:
    """The same client for asyncio; see :class:`OpenLedger`."""

    def __init__(self, url: str, *, operator_token: str = "") -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=self.url, headers=_bearer(operator_token))

    async def __aenter__(self) -> AsyncOpenLedger:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Sends one of :data:`calls` and returns its typed answer; errors as in :meth:`OpenLedger.send`."""
        try:
            response = await self._http.request(
                call.method, call.path, params=dict(call.params), json=call.body, timeout=call.timeout
            )
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from error
        return read(call, response)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise OpenLedgerError(str(chunk["error"]["message"]))
        yield chunk
