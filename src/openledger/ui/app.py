"""Puts the pages on a node's web server."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import app as pages_app
from nicegui import ui
from starlette.datastructures import MutableHeaders

from openledger.ui import access
from openledger.ui.icons import FAVICON
from openledger.ui.pages import ALL, missing

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from openledger.ui.views_protocol import Views

_STATIC = Path(__file__).parent / "static"
_STATIC_URL = "/_openledger"
_RECONNECT_SECONDS = 20.0
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}
"""For HTML: nothing is loaded from, sent to or framed by another site. Vue compiles templates, hence ``unsafe-eval``."""


class _PageHeaders:
    """ASGI middleware that gives every HTML response :data:`_HEADERS`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    for name, value in _HEADERS.items():
                        headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _versioned(name: str) -> str:
    digest = hashlib.sha256((_STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{_STATIC_URL}/{name}?v={digest}"


def register(app: FastAPI, node: Views) -> None:
    """Adds every page to a FastAPI application. Call it last, and once in a process: the pages take every path left.

    Reading is open to whoever reaches the server; acts need the operator's token or one's own wallet
    (:mod:`openledger.ui.access`).
    """
    pages_app.add_static_files(_STATIC_URL, _STATIC)
    ui.add_head_html(f'<script src="{_versioned("openledger.js")}"></script>', shared=True)
    ui.add_head_html(f'<script type="module" src="{_versioned("wallet.js")}"></script>', shared=True)
    ui.add_head_html(f'<link rel="stylesheet" href="{_versioned("openledger.css")}">', shared=True)
    ui.add_head_html(
        '<meta name="description" content="Whose data shaped each answer, and what they were paid">', shared=True
    )
    pages_app.colors(primary="#0b7565", positive="#17703a", negative="#b3261e")
    for register_page in ALL:
        register_page(node)
    app.include_router(access.router(node))
    app.add_middleware(_PageHeaders)
    # NiceGUI looks for its server among all objects, and looking at some of torch's makes them warn.
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.", category=FutureWarning)
    ui.run_with(
        app,
        root=missing.builder(node),
        title="OpenLedger",
        favicon=FAVICON,
        dark=False,
        language="en-US",
        binding_refresh_interval=None,
        reconnect_timeout=_RECONNECT_SECONDS,
        tailwind=False,
        show_welcome_message=False,
    )
