"""Tools of MCP servers over stdio and streamable HTTP: the operator's list, what a tool says, and every way to fail."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openledger.primitives import NotFoundError, OpenLedgerError
from openledger.studio import McpServer, McpServers

CLOCK = Path(__file__).parent / "servers" / "clock.py"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The same server over streamable HTTP, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(CLOCK), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def servers(address: str) -> McpServers:
    return McpServers(
        {
            "program": McpServer(command=(sys.executable, str(CLOCK))),
            "web": McpServer(url=address),
            "hasty": McpServer(command=(sys.executable, str(CLOCK)), seconds=5),
            "gone": McpServer(command=("/no/such/program",)),
            "shut": McpServer(url="http://127.0.0.1:9/mcp", seconds=5),
        }
    )


@pytest.mark.parametrize("server", ["program", "web"])
def test_a_tool_is_listed_with_its_schema_and_answers(servers: McpServers, server: str) -> None:
    description, schema = servers.tool(server, "now")
    assert description == "The time at a place."
    assert list(schema["properties"]) == ["place"]
    assert servers.call(server, "now", {"place": "Ulm"}) == "It is noon in Ulm."


@pytest.mark.parametrize("server", ["program", "web"])
def test_a_tool_that_fails_is_an_error_with_its_words(servers: McpServers, server: str) -> None:
    with pytest.raises(OpenLedgerError, match=r"the tool failed: .*no clock hangs in Ulm"):
        servers.call(server, "broken", {"place": "Ulm"})
    with pytest.raises(OpenLedgerError, match="the tool failed"):
        servers.call(server, "now", {"nowhere": 1})


def test_only_servers_of_the_operators_list_and_tools_that_they_have_are_reached(servers: McpServers) -> None:
    with pytest.raises(NotFoundError, match=r"'shell' is not allowed here.*allows program, web"):
        servers.call("shell", "now", {})
    with pytest.raises(NotFoundError, match=r"has no tool 'rm'; it has now"):
        servers.tool("program", "rm")


def test_a_server_that_does_not_start_or_answer_is_one_line(servers: McpServers) -> None:
    with pytest.raises(OpenLedgerError, match="the MCP server 'gone' failed"):
        servers.call("gone", "now", {})
    with pytest.raises(OpenLedgerError, match="the MCP server 'shut' failed"):
        servers.call("shut", "now", {})
    began = time.monotonic()
    with pytest.raises(OpenLedgerError, match=r"did not answer within 5 s"):
        servers.call("hasty", "slow", {"place": "Ulm"})
    assert time.monotonic() - began < 15


def test_a_server_is_a_program_or_an_address() -> None:
    for given in ({}, {"command": ["x"], "url": "http://127.0.0.1/"}, {"url": "file:///etc/passwd"}):
        with pytest.raises(ValueError, match=r"a command or a url|pattern"):
            McpServer.model_validate(given)
