"""The node as a web server: OpenAI-compatible API, the node's own API, and the pages, on one port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from openledger import __version__
from openledger.node import api
from openledger.node.service import Node
from openledger.node.settings import Settings
from openledger.primitives import ConfigurationError
from openledger.studio import gateway

Page = Callable[[FastAPI, Node], None]
"""Adds the pages to the application (:func:`openledger.ui.register`)."""


RPC = "/rpc"
"""Where wallets reach the chain; it stays over restarts, as the address of the chain's own front does not."""
_LOOPBACK = ("127.0.0.1", "localhost")


def make_app(node: Node, page: Page | None = None) -> FastAPI:
    """The application over an open node; bound to loopback, it answers only under a loopback name and its public address."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPIOffline(
        title="OpenLedger",
        version=__version__,
        description="Ask models over the OpenAI-compatible API; read everything else under /api.",
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
        static_url="/api/reference",
        lifespan=lifespan,
    )
    if node.settings.host in _LOOPBACK:
        # A page elsewhere whose name is made to point here must not read this node (DNS rebinding).
        public = urlsplit(node.public_url).hostname
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, *([public] if public else [])])
    gateway.install_errors(app)
    app.include_router(gateway.router(lambda: node.studio, node.default_sampling))
    app.include_router(api.router(node))

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(node.metrics(), media_type=CONTENT_TYPE_LATEST)

    app.router.routes.append(node.devchain.front.route(RPC))
    if page is not None:
        page(app, node)
    return app


class Server:
    """A node and its web server in this process.

    Args:
        settings: where the node lives and what it binds to; port 0 takes a free one.
        page: adds the pages; None serves the APIs alone.
    """

    def __init__(self, settings: Settings, page: Page | None = None) -> None:
        self._settings = settings
        self._page = page
        self._thread: threading.Thread | None = None
        self._uvicorn: uvicorn.Server | None = None
        self.node: Node
        self.url = ""

    def start(self, node: Node | None = None) -> None:
        """Opens the node (unless an open one is given), binds, and serves from a thread of its own.

        Raises:
            ConfigurationError: the port is taken, or another node has the home folder.
        """
        self.node = node or Node.open(self._settings)
        try:
            bound = self._bind()
            host, port = bound.getsockname()[:2]
            self.url = f"http://{host}:{port}"
            config = uvicorn.Config(
                make_app(self.node, self._page), log_level="warning", access_log=False, timeout_graceful_shutdown=5
            )
            self._uvicorn = uvicorn.Server(config)
            self._thread = threading.Thread(target=self._uvicorn.run, args=([bound],), name="web", daemon=True)
            self._thread.start()
            while not self._uvicorn.started:
                if not self._thread.is_alive():
                    raise ConfigurationError("the web server did not start; see the error above")
                time.sleep(0.02)
            self.node.home.announce(self.url)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops serving and closes the node."""
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=15)
        self.node.close()

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self._settings.host, self._settings.port))
        except OSError as error:
            bound.close()
            raise ConfigurationError(
                f"cannot bind to {self._settings.host}:{self._settings.port}: {error.strerror}; "
                "choose another port with --port or OPENLEDGER_PORT"
            ) from error
        return bound
