"""Who may act on the pages: reading is open, acts with the node's keys need the operator's token, as in the HTTP API.

A person signs in once with the token; the browser then holds a cookie derived from it, which scripts cannot read and other
sites cannot send. ``openledger up`` shows a link that signs in.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response
from nicegui import ui

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

SIGN_IN = "/sign-in"
_DAYS = 30


def _cookie_name(request: Request) -> str:
    # Browsers do not keep cookies of different ports apart, and there may be several nodes on one machine.
    return f"openledger_operator_{request.url.port or 0}"


def _cookie_value(node: Views) -> str:
    return hmac.new(node.operator_token.encode(), b"openledger pages", hashlib.sha256).hexdigest()


def may_act(node: Views) -> bool:
    """Whether the person who opened the current page has signed in as the operator."""
    request = ui.context.client.request
    given = request.cookies.get(_cookie_name(request), "")
    return hmac.compare_digest(given.encode(), _cookie_value(node).encode())


def router(node: Views) -> APIRouter:
    """Signing in and out."""
    routes = APIRouter(include_in_schema=False)

    @routes.post(SIGN_IN)
    def sign_in(request: Request, token: Annotated[str, Body(embed=True, max_length=512)]) -> Response:
        if not hmac.compare_digest(token.strip().encode(), node.operator_token.encode()):
            return JSONResponse({"error": "that is not the operator's token of this node"}, 403)
        response = Response(status_code=204)
        response.set_cookie(
            _cookie_name(request),
            _cookie_value(node),
            max_age=_DAYS * 86_400,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @routes.post("/sign-out")
    def sign_out(request: Request) -> Response:
        response = Response(status_code=204)
        response.delete_cookie(_cookie_name(request), httponly=True, samesite="strict")
        return response

    return routes
