"""The node's own HTTP API under ``/api``: every view as JSON, public blobs by hash, and the operator's acts.

Reading is open. Acts that use keys which this node holds need the operator's token (``operator.token`` in the home folder,
readable by its owner alone) as ``Authorization: Bearer …``.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from openledger.datanets import Record
from openledger.node import api_accounts, api_datanets, api_market, views
from openledger.node.service import Node
from openledger.primitives import NotFoundError, SignatureError, from_hex, parse_open

Limit = Annotated[int, Query(ge=1, le=500)]
Offset = Annotated[int, Query(ge=0)]


@dataclass(frozen=True)
class Page:
    """One page of rows and how many there are in all."""

    total: int
    rows: list[Any]


@dataclass(frozen=True)
class ReceiptPage(Page):
    """Receipts, newest first."""

    rows: list[views.ReceiptRow]


@dataclass(frozen=True)
class RecordPage(Page):
    """Records of a Datanet."""

    rows: list[views.RecordView]


@dataclass(frozen=True)
class Amount:
    """An amount of wei."""

    wei: views.Wei


@dataclass(frozen=True)
class NewKey:
    """A request for an API key of the node's own consumer account: cap in OPEN, lifetime in days, names of models or none
    for all."""

    cap: str
    days: float = 30.0
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyCreated:
    """The API key, shown once."""

    key: str
    consumer: str
    cap: views.Wei
    expires: int


@dataclass(frozen=True)
class NewContribution:
    """Rows that an account of this node contributes; ``licence`` is an SPDX identifier."""

    account: str
    licence: str
    records: list[dict[str, Any]]


@dataclass(frozen=True)
class TrainingRequest:
    """A fine-tuning job: what the ModelFactory page sends."""

    datanet: int
    version: int
    name: str
    recipe: dict[str, Any]


@dataclass(frozen=True)
class EvaluationRequest:
    """An evaluation of a model, as ``openledger attribution audit`` writes it, that the network should accept."""

    evaluation: dict[str, Any]
    description: str


@dataclass(frozen=True)
class ProposalRequest:
    """A proposal to set one runtime parameter."""

    key: str
    value: str
    description: str


@dataclass(frozen=True)
class VoteRequest:
    """A vote by an account whose key this node holds; ``support`` is ``for``, ``against`` or ``abstain``."""

    voter: str
    support: str


@dataclass(frozen=True)
class NewDispute:
    """A challenge of a receipt by an account of this node; ``shares`` are [record hash, ppm] pairs, None to recompute."""

    account: str
    receipt: str
    why: str = ""
    shares: list[tuple[str, int]] | None = None


@dataclass(frozen=True)
class NewRootDispute:
    """A challenge of a payout root by an account of this node."""

    account: str
    root: int
    why: str


@dataclass(frozen=True)
class AccountOrNone:
    """An account whose key this node holds; empty for the node's own choice."""

    account: str = ""


@dataclass(frozen=True)
class OtherAccount:
    """The address of another account."""

    address: str


def router(node: Node) -> APIRouter:
    """The routes over one node."""
    routes = APIRouter(prefix="/api", tags=["node"])

    def operator(request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), node.operator_token.encode()):
            raise SignatureError("this act needs the operator's token; it stands in operator.token in the home folder")

    acts = [Depends(operator)]
    for part in (api_accounts, api_datanets, api_market):
        routes.include_router(part.router(node, acts))

    @routes.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "pid": os.getpid(), "block": node.chain.w3.eth.block_number}

    @routes.get("/overview")
    def overview() -> views.Overview:
        return node.overview()

    @routes.get("/network")
    def network() -> dict[str, Any]:
        return node.network()

    @routes.get("/datanets")
    def datanets() -> list[views.DatanetRow]:
        return node.datanets()

    @routes.get("/datanets/{number}")
    def datanet(number: int) -> views.DatanetView:
        return node.datanet(number)

    @routes.get("/datanets/{number}/records")
    def records(
        number: int, text: str = "", status: str = "", contributor: str = "", offset: Offset = 0, limit: Limit = 50
    ) -> RecordPage:
        rows, total = node.records(number, text, status, contributor, offset, limit)
        return RecordPage(total, rows)

    @routes.get("/records/{digest}")
    def record(digest: str) -> views.RecordView:
        return node.record(digest)

    @routes.get("/models")
    def models() -> list[views.ModelView]:
        return node.models()

    @routes.get("/models/{number}")
    def model(number: int) -> views.ModelView:
        return node.model(number)

    @routes.get("/receipts")
    def receipts(offset: Offset = 0, limit: Limit = 50) -> ReceiptPage:
        rows, total = node.receipts(offset, limit)
        return ReceiptPage(total, rows)

    @routes.get("/receipts/{name}")
    def receipt(name: str) -> views.ReceiptView:
        return node.receipt(name)

    @routes.get("/receipts/{name}/body")
    def receipt_body(name: str) -> dict[str, Any]:
        return node.receipt_body(name)

    @routes.get("/payouts")
    def payouts() -> views.PayoutsView:
        return node.payouts()

    @routes.get("/supply")
    def supply() -> views.SupplyView:
        return node.supply()

    @routes.get("/governance")
    def governance() -> views.GovernanceView:
        return node.governance()

    @routes.get("/blobs/{digest}", response_class=Response)
    def blob(digest: str) -> Response:
        return Response(node.blobs.get(from_hex(digest, 32)), media_type="application/octet-stream")

    @routes.post("/datanets/{number}/contributions", dependencies=acts)
    def contribute(number: int, body: NewContribution) -> views.Submission:
        records = [Record.from_json(record) for record in body.records]
        return node.contribute(number, body.account, records, body.licence)

    @routes.post("/contributions/{number}/review", dependencies=acts)
    def review(number: int, challengeable: bool = False) -> views.ContributionRow:
        return node.review(number, challengeable=challengeable)

    @routes.post("/datanets/{number}/versions", dependencies=acts)
    def anchor(number: int) -> views.VersionRow:
        return node.anchor(number)

    @routes.post("/keys", dependencies=acts)
    def create_key(body: NewKey) -> KeyCreated:
        key, cap, expires = node.create_key(parse_open(body.cap), body.days, body.models)
        return KeyCreated(key.reveal(), key.consumer, cap, expires)

    @routes.post("/settle", dependencies=acts)
    def settle() -> dict[str, Any]:
        return {"posted": node.settle()}

    @routes.post("/claims/{account}", dependencies=acts)
    def claim(account: str) -> Amount:
        return Amount(node.claim(account))

    @routes.get("/disputes")
    def disputes() -> list[views.DisputeRow]:
        return node.disputes()

    @routes.post("/disputes", dependencies=acts)
    def open_dispute(body: NewDispute) -> views.DisputeRow:
        return node.open_dispute(body.account, body.receipt, body.why, body.shares)

    @routes.post("/disputes/roots", dependencies=acts)
    def open_root_dispute(body: NewRootDispute) -> views.DisputeRow:
        return node.open_root_dispute(body.account, body.root, body.why)

    @routes.post("/disputes/{number}/answer", dependencies=acts)
    def answer_dispute(number: int, body: AccountOrNone) -> views.DisputeRow:
        return node.answer_dispute(number, body.account)

    @routes.post("/disputes/{number}/advance", dependencies=acts)
    def advance_dispute(number: int) -> views.DisputeRow:
        return node.advance_dispute(number)

    @routes.post("/accounts/{account}/successor", dependencies=acts)
    def rotate_wallet(account: str, body: OtherAccount) -> dict[str, str]:
        return {"holder": node.rotate_wallet(account, body.address)}

    @routes.post("/accounts/{account}/claimer", dependencies=acts)
    def delegate_claims(account: str, body: OtherAccount) -> dict[str, str]:
        node.delegate_claims(account, body.address)
        return {"claimer": body.address}

    @routes.post("/training", dependencies=acts)
    def train(body: TrainingRequest) -> dict[str, str]:
        return {"job": node.start_training(body.datanet, body.version, body.recipe, body.name)}

    @routes.get("/training")
    def training() -> views.TrainingProgress:
        progress = node.training()
        if progress is None:
            raise NotFoundError("no fine-tuning job was started since this node came up")
        return progress

    @routes.post("/proposals", dependencies=acts)
    def propose(body: ProposalRequest) -> dict[str, str]:
        return {"id": node.propose(body.key, int(body.value), body.description)}

    @routes.post("/models/{number}/evaluation", dependencies=acts)
    def propose_evaluation(number: int, body: EvaluationRequest) -> dict[str, str]:
        return {"id": node.propose_evaluation(number, body.evaluation, body.description)}

    @routes.post("/proposals/{proposal}/votes", dependencies=acts)
    def vote(proposal: str, body: VoteRequest) -> dict[str, str]:
        node.vote(proposal, body.voter, body.support)
        return {"state": node.proposal_state(proposal)}

    @routes.post("/proposals/{proposal}/execution", dependencies=acts)
    def execute(proposal: str) -> dict[str, str]:
        return {"state": node.execute(proposal)}

    return routes
