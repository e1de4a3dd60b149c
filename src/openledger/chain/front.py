"""The door of the development chain: a JSON-RPC server that passes on what wallets and applications need, nothing else.

The node behind it would let any caller set balances and clocks; here only the methods in :data:`READS` are forwarded, and
``eth_sendRawTransaction`` goes through the chain's sequencer, which answers when the transaction is in a block on disk.
The application is a plain ASGI app: it can be served alone (:class:`FrontServer`) or mounted into a larger one.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from openledger.chain.anvil import RpcError
from openledger.primitives import ChainError, OpenLedgerError

READS = frozenset({
    "eth_accounts", "eth_blockNumber", "eth_call", "eth_chainId", "eth_createAccessList", "eth_estimateGas",
    "eth_feeHistory", "eth_gasPrice", "eth_getBalance", "eth_getBlockByHash", "eth_getBlockByNumber",
    "eth_getBlockReceipts", "eth_getBlockTransactionCountByHash", "eth_getBlockTransactionCountByNumber", "eth_getCode",
    "eth_getFilterChanges", "eth_getFilterLogs", "eth_getLogs", "eth_getProof", "eth_getStorageAt",
    "eth_getTransactionByBlockHashAndIndex", "eth_getTransactionByBlockNumberAndIndex", "eth_getTransactionByHash",
    "eth_getTransactionCount", "eth_getTransactionReceipt", "eth_maxPriorityFeePerGas", "eth_newBlockFilter",
    "eth_newFilter", "eth_syncing", "eth_uninstallFilter", "net_listening", "net_version", "web3_clientVersion",
    "web3_sha3",
})  # fmt: skip
"""Methods that are passed to the node as they are."""

MAX_BODY = 2 * 1024 * 1024
MAX_BATCH = 100

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
LIMIT_EXCEEDED = -32005

_CLOCK_READERS = frozenset({"eth_call", "eth_estimateGas", "eth_getBlockByNumber"})
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "testserver")


class Front:
    """The door's logic.

    Args:
        upstream: the node's address.
        submit: takes a raw transaction in 0x hex and promises its hash.
        refresh: called before a read that depends on the clock, so that the last block is not long ago.
    """

    def __init__(
        self, upstream: str, submit: Callable[[str], Future[str]], refresh: Callable[[], Future[None] | None]
    ) -> None:
        self._upstream = upstream
        self._submit = submit
        self._refresh = refresh
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def app(self, *, hosts: Sequence[str] = _LOCAL_HOSTS, origins: Sequence[str] = ()) -> Starlette:
        """The ASGI application, answering POST at its root.

        Args:
            hosts: names under which it may be addressed, against DNS rebinding.
            origins: web pages that may read its answers (CORS); none by default.
        """
        middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
        if origins:
            middleware.append(
                Middleware(
                    CORSMiddleware, allow_origins=list(origins), allow_methods=["POST"], allow_headers=["Content-Type"]
                )
            )
        return Starlette(routes=[Route("/", self._endpoint, methods=["POST"])], middleware=middleware)

    async def answer(self, message: Any) -> Any:
        """The answer to a parsed request or batch; None if it held notifications only."""
        if not isinstance(message, list):
            return await self._one(message)
        if not message:
            return _error(None, INVALID_REQUEST, "the batch is empty")
        if len(message) > MAX_BATCH:
            return _error(None, LIMIT_EXCEEDED, f"the batch has {len(message)} requests; at most {MAX_BATCH} are taken")
        answers = [answer for request in message if (answer := await self._one(request)) is not None]
        return answers or None

    async def _endpoint(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            message = f"the content type is {kind!r}; send application/json"
            return JSONResponse(_error(None, INVALID_REQUEST, message), status_code=415)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                message = f"the request is larger than {MAX_BODY} bytes"
                return JSONResponse(_error(None, LIMIT_EXCEEDED, message), status_code=413)
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return JSONResponse(_error(None, PARSE_ERROR, "the request is not JSON"))
        answer = await self.answer(message)
        return Response(status_code=204) if answer is None else JSONResponse(answer)

    async def _one(self, request: Any) -> dict[str, Any] | None:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, INVALID_REQUEST, "a request is an object with a method")
        identifier, parameters = request.get("id"), request.get("params", [])
        if not isinstance(identifier, str | int | float | None):
            return _error(None, INVALID_REQUEST, "the id must be a string, a number or null")
        if not isinstance(parameters, list):
            return _error(identifier, INVALID_PARAMS, "params must be a list")
        answer = await self._dispatch(identifier, request["method"], parameters)
        return None if "id" not in request else answer

    async def _dispatch(self, identifier: Any, method: str, parameters: list[Any]) -> dict[str, Any]:
        try:
            if method == "eth_sendRawTransaction":
                if len(parameters) != 1 or not isinstance(parameters[0], str):
                    return _error(identifier, INVALID_PARAMS, "give one raw transaction in hex")
                result = await asyncio.wrap_future(self._submit(parameters[0]))
                return {"jsonrpc": "2.0", "id": identifier, "result": result}
            if method not in READS:
                return _error(identifier, METHOD_NOT_FOUND, f"the method {method} does not exist or is not offered")
            if method in _CLOCK_READERS and (pending := self._refresh()) is not None:
                await asyncio.wrap_future(pending)
            return await self._forward(identifier, method, parameters)
        except RpcError as error:
            return {"jsonrpc": "2.0", "id": identifier, "error": error.error}
        except OpenLedgerError as error:
            return _error(identifier, INTERNAL, str(error))

    async def _forward(self, identifier: Any, method: str, parameters: list[Any]) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        try:
            response = await self._client().post(self._upstream, json=body)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ChainError(f"the development chain does not answer ({type(error).__name__})") from error
        part = {"error": answer["error"]} if "error" in answer else {"result": answer.get("result")}
        return {"jsonrpc": "2.0", "id": identifier, **part}

    def _client(self) -> httpx.AsyncClient:
        """A client of the running event loop: the same front may serve alone and mounted elsewhere."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(timeout=120, trust_env=False)
        return self._clients[loop]


class FrontServer:
    """Serves an application on a loopback port from a thread of its own.

    Args:
        app: an ASGI application.
        port: the port, or 0 for any free one.

    Raises:
        ChainError: the port is taken.
    """

    def __init__(self, app: Starlette, port: int = 0) -> None:
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="critical", access_log=False, lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="chain-front", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise ChainError(f"cannot listen on 127.0.0.1:{port}; is the port taken?")
            time.sleep(0.005)
        self.port = int(self._server.servers[0].sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stops listening."""
        self._server.should_exit = True
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            self._server.run()
        except SystemExit:
            return


def _error(identifier: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}
