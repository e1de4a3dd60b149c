"""Who may act on the pages: reading is open, acts with the node's keys need the operator's token, as in the HTTP API.

A person signs in once, with the token or with a wallet of their own (EIP-4361), which may act for its own account and nothing
else. The browser then holds a cookie for it, which scripts cannot read and other sites cannot send; from the operator's the
token cannot be told. One browser is one of the two at a time. ``openledger up`` shows a link that signs the operator in.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response
from nicegui import ui

from openledger.node.server import RPC
from openledger.node.signing_in import SESSION_SECONDS
from openledger.primitives import ConfigurationError, OpenLedgerError

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

SIGN_IN = "/sign-in"
_DAYS = 30
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """The address of these pages as a browser knows it, such as ``http://127.0.0.1:8600``."""

    origin: str

    @property
    def domain(self) -> str:
        """Host and port."""
        return urlsplit(self.origin).netloc


def _cookie_name(request: Request, kind: str) -> str:
    # Browsers do not keep cookies of different ports apart, and there may be several nodes on one machine.
    return f"openledger_{kind}_{request.url.port or 0}"


def _cookie_value(node: Views) -> str:
    return hmac.new(node.operator_token.encode(), b"openledger pages", hashlib.sha256).hexdigest()


def may_act(node: Views) -> bool:
    """Whether the person who opened the current page has signed in as the operator."""
    request = ui.context.client.request
    given = request.cookies.get(_cookie_name(request, "operator"), "")
    return hmac.compare_digest(given.encode(), _cookie_value(node).encode())


def wallet_account(node: Views) -> str | None:
    """The account whose wallet the person who opened the current page has signed in with."""
    request = ui.context.client.request
    return node.signing_in.account(request.cookies.get(_cookie_name(request, "wallet"), ""))


def wallet_network(node: Views) -> dict[str, Any]:
    """What a wallet must know of the chain to be used on the current page."""
    return _network(node, _place(node, ui.context.client.request))


def _place(node: Views, request: Request) -> Place:
    """Where the pages are, if a wallet can trust that: at the address in the settings, or on loopback at this server's port.

    Raises:
        ConfigurationError: under another name, which anybody could make point here to collect signatures.
    """
    asked = f"{request.url.scheme}://{request.url.netloc}"
    public = node.public_url
    if public and urlsplit(public).netloc == request.url.netloc:
        return Place(public)
    server = request.scope.get("server") or ("", None)
    if request.url.hostname in _LOOPBACK and (request.url.port or 80) == server[1]:
        return Place(asked)
    raise ConfigurationError(
        f"wallets cannot be used under {asked}: its operator has not set it as OPENLEDGER_PUBLIC_URL"
        + (f", which is {public}" if public else "")
    )


def _network(node: Views, place: Place) -> dict[str, Any]:
    return {
        "chainId": node.chain_id,
        "name": f"OpenLedger {node.chain_id}",
        "rpcUrl": place.origin + RPC,
        "pageUrl": place.origin,
    }


def _set(response: Response, request: Request, kind: str, value: str, seconds: int) -> None:
    response.set_cookie(
        _cookie_name(request, kind),
        value,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def _forget(response: Response, request: Request, *kinds: str) -> None:
    for kind in kinds:
        response.delete_cookie(_cookie_name(request, kind), httponly=True, samesite="strict")


def _refused(error: OpenLedgerError) -> Response:
    return JSONResponse({"error": str(error)}, 403)


def router(node: Views) -> APIRouter:
    """Signing in and out."""
    routes = APIRouter(include_in_schema=False)

    @routes.post(SIGN_IN)
    def sign_in(request: Request, token: Annotated[str, Body(embed=True, max_length=512)]) -> Response:
        if not hmac.compare_digest(token.strip().encode(), node.operator_token.encode()):
            return JSONResponse({"error": "that is not the operator's token of this node"}, 403)
        response = Response(status_code=204)
        _forget(response, request, "wallet")
        _set(response, request, "operator", _cookie_value(node), _DAYS * 86_400)
        return response

    @routes.post(f"{SIGN_IN}/wallet/message")
    def message(request: Request, address: Annotated[str, Body(embed=True, max_length=64)]) -> Response:
        try:
            place = _place(node, request)
            text, nonce = node.signing_in.message(address, place.domain, place.origin + SIGN_IN)
        except OpenLedgerError as error:
            return _refused(error)
        return JSONResponse({"message": text, "nonce": nonce, "network": _network(node, place)})

    @routes.post(f"{SIGN_IN}/wallet")
    def sign_in_with_wallet(
        request: Request,
        address: Annotated[str, Body(max_length=64)],
        nonce: Annotated[str, Body(max_length=64)],
        signature: Annotated[str, Body(max_length=40_000)],
    ) -> Response:
        try:
            place = _place(node, request)
            token = node.signing_in.check(address, place.domain, place.origin + SIGN_IN, nonce, signature)
        except OpenLedgerError as error:
            return _refused(error)
        response = JSONResponse({})
        _forget(response, request, "operator")
        _set(response, request, "wallet", token, SESSION_SECONDS)
        return response

    @routes.post("/sign-out")
    def sign_out(request: Request) -> Response:
        response = Response(status_code=204)
        _forget(response, request, "operator", "wallet")
        return response

    return routes
