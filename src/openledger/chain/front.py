"""The door of the development chain: a JSON-RPC server that passes on what wallets and applications need, nothing else.

The node behind it would let any caller set balances and clocks; here only the methods in :data:`READS` are forwarded, and
``eth_sendRawTransaction`` goes through the chain's sequencer, which answers when the transaction is in a block on disk.
The same requests come over HTTP or a websocket, which also carries subscriptions. The application is a plain ASGI app: it can
be served alone (:class:`FrontServer`) or mounted into a larger one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from openledger.chain.anvil import RpcError
from openledger.chain.limits import RateLimit
from openledger.chain.subscriptions import Feed, Subscriber
from openledger.primitives import ChainError, InputError, OpenLedgerError

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
MAX_IN_FLIGHT = 32
"""Requests of one websocket that are answered at the same time; further ones wait."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
LIMIT_EXCEEDED = -32005
"""EIP-1474: too many requests, or too large a one."""

_KEEP_ALIVE_SECONDS = 75
"""Longer than programs wait between their looks at the chain, so that none meets a connection that is just being closed."""
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013
_CLOCK_READERS = frozenset({"eth_call", "eth_estimateGas", "eth_getBlockByNumber"})
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "testserver")


class Front:
    """The door's logic.

    Args:
        upstream: the node's address.
        submit: takes a raw transaction in 0x hex and promises its hash.
        refresh: called before a read that depends on the clock, so that the last block is not long ago.
        following: the time, in Unix seconds, for which gas is estimated: later than that of every block so far.
        limit: what one client, known by its address, may ask; without it there is no limit.

    Attributes:
        feed: the sequencer tells it of blocks, and it tells the websockets that subscribed.
    """

    def __init__(
        self,
        upstream: str,
        submit: Callable[[str], Future[str]],
        refresh: Callable[[], Future[None] | None],
        following: Callable[[], int],
        limit: RateLimit | None = None,
    ) -> None:
        self.feed = Feed()
        self._upstream = upstream
        self._submit = submit
        self._refresh = refresh
        self._following = following
        self._limit = limit
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def app(self, *, hosts: Sequence[str] = _LOCAL_HOSTS, origins: Sequence[str] = ()) -> Starlette:
        """The ASGI application, answering POST and websockets at its root.

        Args:
            hosts: names under which it may be addressed, against DNS rebinding.
            origins: web pages that may read its answers (CORS) and open websockets; none by default.
        """
        middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
        if origins:
            middleware.append(
                Middleware(
                    CORSMiddleware, allow_origins=list(origins), allow_methods=["POST"], allow_headers=["Content-Type"]
                )
            )
        socket = partial(self._socket, frozenset(origins))
        return Starlette(routes=[self.route("/"), WebSocketRoute("/", socket)], middleware=middleware)

    def route(self, path: str) -> Route:
        """Requests over HTTP at a path of a larger application, which checks the host that they name."""
        return Route(path, self._endpoint, methods=["POST"], include_in_schema=False)

    async def answer(self, message: Any, subscriber: Subscriber | None = None) -> Any:
        """The answer to a parsed request or batch; None if it held notifications only.

        Args:
            message: what was sent.
            subscriber: the websocket it came by, if it did.
        """
        if not isinstance(message, list):
            return await self._one(message, subscriber)
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
        message = _parsed(body)
        if (wait := self._wait(request, message)) > 0:
            headers = {"Retry-After": str(math.ceil(wait))}
            return JSONResponse(_too_many(message, wait), status_code=429, headers=headers)
        answer = await self.answer(message)
        return Response(status_code=204) if answer is None else JSONResponse(answer)

    async def _socket(self, origins: frozenset[str], websocket: WebSocket) -> None:
        origin = websocket.headers.get("origin")
        if origin is not None and origin not in origins:
            await websocket.close(_POLICY_VIOLATION, "web pages of this origin may not connect")
            return
        subscriber = self.feed.join(_client(websocket))
        if subscriber is None:
            await websocket.close(_TRY_AGAIN_LATER, "too many connections")
            return
        try:
            await websocket.accept()
            duties = [
                asyncio.create_task(duty)
                for duty in (
                    self._listen(websocket, subscriber),
                    _speak(websocket, subscriber),
                    subscriber.overrun.wait(),
                )
            ]
            await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)
            if subscriber.overrun.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(websocket.close(_TRY_AGAIN_LATER, "reads too slowly"), 1)
        finally:
            self.feed.leave(subscriber)

    async def _listen(self, websocket: WebSocket, subscriber: Subscriber) -> None:
        """Answers what comes until the client leaves."""
        slots = asyncio.Semaphore(MAX_IN_FLIGHT)

        async def reply(body: str | bytes) -> None:
            try:
                if len(body) > MAX_BODY:
                    message = f"the request is larger than {MAX_BODY} bytes"
                    await subscriber.answer(_error(None, LIMIT_EXCEEDED, message))
                    return
                message = _parsed(body)
                if (wait := self._wait(websocket, message)) > 0:
                    await subscriber.answer(_too_many(message, wait))
                elif (answer := await self.answer(message, subscriber)) is not None:
                    await subscriber.answer(answer)
            finally:
                slots.release()

        async with asyncio.TaskGroup() as replies:
            while (event := await websocket.receive())["type"] == "websocket.receive":
                await slots.acquire()
                text = event.get("text")
                replies.create_task(reply(event["bytes"] if text is None else text))

    def _wait(self, connection: HTTPConnection, message: Any) -> float:
        """Seconds until the client may send this; 0 if at once, and then it is counted."""
        if self._limit is None:
            return 0.0
        return self._limit.take(_client(connection), len(message) if isinstance(message, list) and message else 1)

    async def _one(self, request: Any, subscriber: Subscriber | None = None) -> dict[str, Any] | None:
        if request is _NOT_JSON:
            return _error(None, PARSE_ERROR, "the request is not JSON")
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(_identifier(request), INVALID_REQUEST, "a request is an object with a method")
        identifier, parameters = request.get("id"), request.get("params", [])
        if not isinstance(identifier, str | int | float | None) or isinstance(identifier, bool):
            return _error(None, INVALID_REQUEST, "the id must be a string, a number or null")
        if request.get("jsonrpc", "2.0") != "2.0":
            return _error(identifier, INVALID_REQUEST, 'the protocol is "jsonrpc": "2.0"')
        if not isinstance(parameters, list):
            return _error(identifier, INVALID_PARAMS, "params must be a list")
        answer = await self._dispatch(identifier, request["method"], parameters, subscriber)
        return None if "id" not in request else answer

    async def _dispatch(
        self, identifier: Any, method: str, parameters: list[Any], subscriber: Subscriber | None
    ) -> dict[str, Any]:
        try:
            if method == "eth_sendRawTransaction":
                if len(parameters) != 1 or not isinstance(parameters[0], str):
                    return _error(identifier, INVALID_PARAMS, "give one raw transaction in hex")
                return _result(identifier, await asyncio.wrap_future(self._submit(parameters[0])))
            if method == "eth_subscribe" and subscriber is not None:
                return _result(identifier, subscriber.open(parameters))
            if method == "eth_unsubscribe" and subscriber is not None:
                return _result(identifier, subscriber.close(*parameters[:1] or [None]))
            if method in ("eth_subscribe", "eth_unsubscribe"):
                return _error(identifier, METHOD_NOT_FOUND, f"{method} needs a websocket and a request of its own")
            if method not in READS:
                return _error(identifier, METHOD_NOT_FOUND, f"the method {method} does not exist or is not offered")
            if method in _CLOCK_READERS and (pending := self._refresh()) is not None:
                await asyncio.wrap_future(pending)
            if method == "eth_estimateGas":
                parameters = _estimated_later(parameters, self._following())
            return await self._forward(identifier, method, parameters)
        except RpcError as error:
            return {"jsonrpc": "2.0", "id": identifier, "error": error.error}
        except InputError as error:
            return _error(identifier, INVALID_PARAMS, str(error))
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
            app,
            host="127.0.0.1",
            port=port,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=MAX_BODY,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=2,
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


def _estimated_later(parameters: list[Any], moment: int) -> list[Any]:
    """An estimate for the block that will come, unless the caller named another block or gave a time of his own.

    In the second of the last block a checkpoint of votes is written over; a second later it is a new one, which costs twenty
    thousand gas more. A wallet that adds nothing to its estimate would run out of gas.
    """
    transaction, block, states, *overrides = parameters + [None] * (3 - len(parameters))
    if transaction is None or overrides or block not in (None, "latest", "pending"):
        return parameters
    return [transaction, "pending", states or {}, {"time": hex(moment)}]


class _NotJson:
    """What stands for a body that is not JSON."""


_NOT_JSON = _NotJson()


def _parsed(body: str | bytes | bytearray) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NOT_JSON


async def _speak(websocket: WebSocket, subscriber: Subscriber) -> None:
    while True:
        await websocket.send_text(json.dumps(await subscriber.next(), separators=(",", ":")))


def _client(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def _identifier(request: Any) -> Any:
    """The id of a request that may be malformed."""
    identifier = request.get("id") if isinstance(request, dict) else None
    return identifier if isinstance(identifier, str | int | float) and not isinstance(identifier, bool) else None


def _too_many(message: Any, wait: float) -> dict[str, Any]:
    answer = _error(_identifier(message), LIMIT_EXCEEDED, f"too many requests; try again in {math.ceil(wait)} s")
    answer["error"]["data"] = {"retryAfter": math.ceil(wait)}
    return answer


def _result(identifier: Any, value: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "result": value}


def _error(identifier: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}
