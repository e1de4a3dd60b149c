"""Tools of MCP servers that the operator of a node has allowed; what comes back is untrusted text.

Each call opens a connection of its own and closes it, so that nothing is shared between runs. A server is a program that is
started for the call (stdio) or an address (streamable HTTP). The Model Context Protocol's own library speaks to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client

from openledger.openlora import tool_grammar
from openledger.primitives import InputError, NotFoundError, OpenLedgerError
from openledger.studio.mcp_settings import McpServer

_T = TypeVar("_T")
_LISTING_SECONDS = 60.0
_MOST_TOOLS = 200


class McpServers:
    """The servers that agents may be given tools of, by the operator's names for them."""

    def __init__(self, servers: Mapping[str, McpServer] | None = None) -> None:
        self._servers = dict(servers or {})
        self._listed: dict[str, tuple[float, dict[str, tuple[str, dict[str, Any]]]]] = {}

    def tool(self, server: str, name: str) -> tuple[str, dict[str, Any]]:
        """(description, JSON schema of the arguments) of a tool.

        Raises:
            NotFoundError: the operator has not allowed the server, or it has no such tool.
            InputError: its schema is none that an output could follow.
            OpenLedgerError: the server does not answer.
        """
        known = self._listed.get(server)
        if known is None or time.monotonic() - known[0] > _LISTING_SECONDS:
            known = self._listed[server] = time.monotonic(), self._reach(server, _list)
        if name not in known[1]:
            raise NotFoundError(
                f"the MCP server {server!r} has no tool {name!r}; it has {', '.join(known[1]) or 'none'}"
            )
        description, schema = known[1][name]
        tool_grammar({name: schema}, forced=True)
        return description, schema

    def call(self, server: str, name: str, arguments: Mapping[str, Any], seconds: float | None = None) -> str:
        """The text that a tool answers, within ``seconds`` where the server may take longer.

        Raises:
            NotFoundError: the operator has not allowed the server.
            OpenLedgerError: the server does not answer, or the tool failed; the message has its words.
        """
        failed, text = self._reach(server, partial(_call, name=name, arguments=dict(arguments)), seconds)
        if failed:
            raise OpenLedgerError(f"the tool failed: {text}")
        return text

    def _reach(self, name: str, work: Callable[[Client], Awaitable[_T]], seconds: float | None = None) -> _T:
        server = self._servers.get(name)
        if server is None:
            raise NotFoundError(
                f"the MCP server {name!r} is not allowed here; this node's operator allows {', '.join(self._servers) or 'none'}"
            )
        most = min(server.seconds, server.seconds if seconds is None else max(0.1, seconds))
        try:
            return anyio.run(_connected, server, work, most)
        except TimeoutError:
            raise OpenLedgerError(f"the MCP server {name!r} did not answer within {most:g} s") from None
        except OpenLedgerError:
            raise
        except Exception as error:  # the library passes on whatever its transports raise, in groups
            raise OpenLedgerError(f"the MCP server {name!r} failed: {_reason(error)}") from error


async def _connected(server: McpServer, work: Callable[[Client], Awaitable[_T]], seconds: float) -> _T:
    with anyio.fail_after(seconds):
        async with AsyncExitStack() as stack:
            if server.url:
                client = Client(server.url, read_timeout_seconds=seconds)
            else:
                quiet = stack.enter_context(Path(os.devnull).open("w"))  # noqa: SIM115
                program = StdioServerParameters(
                    command=server.command[0],
                    args=list(server.command[1:]),
                    env={name: value.get_secret_value() for name, value in server.environment.items()},
                )
                client = Client(stdio_client(program, errlog=quiet), read_timeout_seconds=seconds)
            return await work(await stack.enter_async_context(client))


async def _list(client: Client) -> dict[str, tuple[str, dict[str, Any]]]:
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    cursor = None
    while len(found) < _MOST_TOOLS:
        page = await client.list_tools(cursor=cursor)
        found |= {tool.name: (tool.description or "", dict(tool.input_schema)) for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


async def _call(client: Client, *, name: str, arguments: dict[str, Any]) -> tuple[bool, str]:
    answer = await client.call_tool(name, arguments)
    parts = [part.text if part.type == "text" else f"({part.type} left out)" for part in answer.content]
    return bool(answer.is_error), "\n".join(parts) or "(nothing)"


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError | OSError | InputError):
        return " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
