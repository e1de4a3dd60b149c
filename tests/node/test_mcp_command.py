"""``openledger mcp`` as another agent's program finds it: a process of its own, spoken to over stdio by the protocol's client."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from openledger.node.server import Server
from openledger.primitives import WEI_PER_OPEN

pytestmark = pytest.mark.chain


def speak(server: Server, work: Callable[[Client], Awaitable[Any]], *, key: str = "") -> Any:
    """What ``work`` makes of a session with the command, run on the server's home."""
    inherited = {name: os.environ[name] for name in ("PYTHONPATH", "PATH", "OMP_NUM_THREADS") if name in os.environ}
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "openledger.cli", "mcp", "--home", str(server.node.home.path)],
        env={**inherited, "OPENLEDGER_API_KEY": key} if key else inherited,
    )

    async def session() -> Any:
        with anyio.fail_after(300):
            async with Client(stdio_client(program)) as client:
                return await work(client)

    return anyio.run(session)


async def call(client: Client, name: str, **arguments: Any) -> Any:
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer.content
    return answer.structured_content


def test_models_are_listed_asked_with_a_receipt_and_the_receipt_is_shown_and_verified(server: Server) -> None:
    record = server.node.reader.library.accepted()[0]
    key, _, _ = server.node.create_key(WEI_PER_OPEN, 1.0)

    async def work(client: Client) -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"list_models", "ask", "search_records", "show_receipt", "verify_receipt"}
        [model] = (await call(client, "list_models"))["result"]
        assert (model["name"], model["kind"]) == ("tiny", "model")
        asked = await call(client, "ask", model="tiny", question=record.value["question"], max_tokens=12, publish=True)
        found = await call(client, "search_records", datanet=1, words=record.value["question"].split()[-1])
        assert "0x" + record.hash.hex() in [one["hash"] for one in found["records"]]
        shown = await call(client, "show_receipt", receipt=asked["receipt"])
        assert (shown["answer"], shown["question"]) == (asked["text"], record.value["question"])
        assert sum(one["ppm"] for one in shown["contributors"]) + shown["base_model_ppm"] == 1_000_000
        server.node.settle()
        report = await call(client, "verify_receipt", receipt=asked["receipt"])
        assert report["ok"], report

    speak(server, work, key=key.reveal())


def test_a_refusal_is_told_in_the_networks_words_and_the_session_goes_on(server: Server) -> None:
    async def work(client: Client) -> None:
        for name, arguments, says in (
            ("ask", {"model": "tiny", "question": "Why?"}, "asking needs an API key"),
            ("show_receipt", {"receipt": "9999"}, "no receipt"),
            ("search_records", {"datanet": 0, "words": "x"}, "greater than or equal to 1"),
            ("search_records", {"datanet": 1, "words": "x", "limit": 51}, "less than or equal to 50"),
        ):
            answer = await client.call_tool(name, arguments)
            told = json.dumps([part.text for part in answer.content if part.type == "text"])
            assert answer.is_error, name
            assert says in told, told
        assert (await call(client, "list_models"))["result"]

    speak(server, work)
