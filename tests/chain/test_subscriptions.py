"""Websockets at the front: what was subscribed to arrives in order, and nobody can take more than a share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from openledger.chain import Chain, DevChain, subscriptions
from openledger.chain.limits import RateLimit
from openledger.chain.subscriptions import Feed, LogFilter
from openledger.primitives import WEI_PER_OPEN, InputError
from tests.chain.conftest import Network

SOMEONE = "0x00000000000000000000000000000000000A11cE"
WORDS = st.sampled_from(["0x" + digit * 64 for digit in "abc"])
ADDRESSES = st.sampled_from(["0x" + digit * 40 for digit in "123"])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[DevChain]:
    """A chain whose front allows three requests at once and one more each hundred seconds."""
    with DevChain(tmp_path, limit=RateLimit(0.01, 3)) as dev:
        yield dev


def test_new_heads_and_logs_arrive_as_the_node_would_answer_them(network: Network) -> None:
    actor = network.actor(10)
    gopen = network.chain.contract("GOPEN")

    async def story(socket: ClientConnection) -> None:
        heads = await _ask(socket, "eth_subscribe", "newHeads")
        logs = await _ask(socket, "eth_subscribe", "logs", {"address": gopen.address})
        receipt = await asyncio.to_thread(network.chain.send, actor, gopen.functions.deposit(), WEI_PER_OPEN)
        (head,) = await _notices(socket, heads, 1)
        found = await _notices(socket, logs, len(receipt["logs"]))
        block = await _ask(socket, "eth_getBlockByNumber", head["number"], False)
        assert {name: block[name] for name in head} == head
        assert "transactions" not in head
        assert found == await _ask(
            socket, "eth_getLogs", {"blockHash": receipt["blockHash"].to_0x_hex(), "address": gopen.address}
        )

    _with_socket(network.dev, story)


def test_pending_transactions_are_named_before_their_block(network: Network) -> None:
    actor = network.actor(10)

    async def story(socket: ClientConnection) -> None:
        pending = await _ask(socket, "eth_subscribe", "newPendingTransactions")
        heads = await _ask(socket, "eth_subscribe", "newHeads")
        receipt = await asyncio.to_thread(network.chain.transfer, actor, SOMEONE, 1)
        messages = [json.loads(await socket.recv()) for _ in range(2)]
        assert [message["params"]["subscription"] for message in messages] == [pending, heads]
        assert messages[0]["params"]["result"] == receipt["transactionHash"].to_0x_hex()

    _with_socket(network.dev, story)


def test_an_ended_subscription_is_silent(network: Network) -> None:
    actor = network.actor(10)

    async def story(socket: ClientConnection) -> None:
        first = await _ask(socket, "eth_subscribe", "newHeads")
        second = await _ask(socket, "eth_subscribe", "newHeads")
        assert await _ask(socket, "eth_unsubscribe", first) is True
        assert await _ask(socket, "eth_unsubscribe", first) is False
        await asyncio.to_thread(network.chain.transfer, actor, SOMEONE, 1)
        await _notices(socket, second, 1)

    _with_socket(network.dev, story)


def test_a_websocket_answers_single_requests_batches_and_garbage(network: Network) -> None:
    async def story(socket: ClientConnection) -> None:
        assert await _ask(socket, "eth_chainId") == hex(161201)
        batch = [_request("eth_chainId", identifier=7), _request("eth_subscribe", "newHeads", identifier=8)]
        await socket.send(json.dumps(batch))
        answers = json.loads(await socket.recv())
        assert answers[0]["result"] == hex(161201)
        assert answers[1]["error"]["code"] == -32601
        await socket.send("{")
        assert json.loads(await socket.recv())["error"]["code"] == -32700
        await socket.send(json.dumps(_request("eth_chainId")).encode())
        assert json.loads(await socket.recv())["result"] == hex(161201)

    _with_socket(network.dev, story)


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        ["blocks"],
        [{"kind": "newHeads"}],
        ["newHeads", {}],
        ["newPendingTransactions", True],
        ["logs", []],
        ["logs", {"address": "0x12"}],
        ["logs", {"topics": [["0x" + "ab" * 32, 5]]}],
        ["logs", {"topics": [None] * 5}],
    ],
)
def test_a_subscription_that_makes_no_sense_is_refused(network: Network, parameters: list[Any]) -> None:
    async def story(socket: ClientConnection) -> None:
        await socket.send(json.dumps(_request("eth_subscribe", *parameters)))
        assert json.loads(await socket.recv())["error"]["code"] == -32602

    _with_socket(network.dev, story)


def test_subscriptions_need_a_websocket(rpc: Callable[..., Any]) -> None:
    assert rpc(_request("eth_subscribe", "newHeads"))["error"]["code"] == -32601
    assert rpc(_request("eth_unsubscribe", "0x1"))["error"]["code"] == -32601


def test_a_connection_has_a_bounded_number_of_subscriptions(network: Network) -> None:
    async def story(socket: ClientConnection) -> None:
        for _ in range(subscriptions.MAX_SUBSCRIPTIONS):
            await _ask(socket, "eth_subscribe", "newHeads")
        await socket.send(json.dumps(_request("eth_subscribe", "newHeads")))
        assert "end one first" in json.loads(await socket.recv())["error"]["message"]

    _with_socket(network.dev, story)


def test_a_client_has_a_bounded_number_of_connections(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "MAX_CONNECTIONS", 2)

    async def story() -> None:
        async with connect(network.dev.ws_url), connect(network.dev.ws_url):
            with pytest.raises(InvalidStatus):
                await connect(network.dev.ws_url)
        await asyncio.sleep(0.1)
        async with connect(network.dev.ws_url) as again:
            assert await _ask(again, "eth_chainId") == hex(161201)

    asyncio.run(story())


def test_web_pages_of_unnamed_origins_cannot_open_a_websocket(network: Network) -> None:
    async def story() -> None:
        with pytest.raises(InvalidStatus, match="403"):
            await connect(network.dev.ws_url, origin="https://evil.example")  # type: ignore[arg-type]

    asyncio.run(story())


def test_who_reads_too_slowly_is_cut_off_and_not_left_with_gaps(tmp_path: Path) -> None:
    async def story(dev: DevChain) -> None:
        async with connect(dev.ws_url) as socket:
            heads = await _ask(socket, "eth_subscribe", "newHeads")
            header = {"number": "0x1", "padding": "0" * 20_000}
            for _ in range(3 * subscriptions.MAX_WAITING):
                dev.front.feed.block(header, [])
            received = 0
            with pytest.raises(ConnectionClosed):
                while True:
                    assert json.loads(await socket.recv())["params"]["subscription"] == heads
                    received += 1
            assert received < 3 * subscriptions.MAX_WAITING
        async with asyncio.timeout(20):
            while not dev.front.feed.idle:
                await asyncio.sleep(0.05)

    with DevChain(tmp_path) as dev:
        asyncio.run(story(dev))


def test_too_many_requests_over_a_websocket_are_refused_with_the_time_to_wait(small: DevChain) -> None:
    async def story(socket: ClientConnection) -> None:
        for _ in range(3):
            await _ask(socket, "eth_chainId")
        await socket.send(json.dumps(_request("eth_chainId", identifier="x")))
        answer = json.loads(await socket.recv())
        assert (answer["id"], answer["error"]["code"]) == ("x", -32005)
        assert 90 < answer["error"]["data"]["retryAfter"] <= 100

    _with_socket(small, story)


def test_stopping_the_chain_ends_its_websockets(tmp_path: Path) -> None:
    async def story(dev: DevChain) -> None:
        socket = await connect(dev.ws_url)
        await _ask(socket, "eth_subscribe", "newHeads")
        await asyncio.to_thread(dev.stop)
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    asyncio.run(story(DevChain(tmp_path).start()))


@given(
    st.lists(ADDRESSES, max_size=2),
    st.lists(st.none() | WORDS | st.lists(WORDS, max_size=2), max_size=3),
    ADDRESSES,
    st.lists(WORDS, max_size=3),
)
def test_a_log_is_wanted_as_ethereum_defines_it(
    addresses: list[str], topics: list[Any], address: str, log_topics: list[str]
) -> None:
    wanted = LogFilter.parse({"address": addresses, "topics": topics})
    fits = (not addresses or address in addresses) and len(topics) <= len(log_topics)
    for topic, has in zip(topics, log_topics, strict=False):
        fits = fits and (not topic or has == topic or (isinstance(topic, list) and has in topic))
    assert wanted.matches({"address": address, "topics": log_topics}) == fits


def test_an_event_loop_that_has_ended_disturbs_nobody() -> None:
    feed = Feed()

    async def join() -> None:
        feed.join("someone")

    asyncio.run(join())
    feed.block({"number": "0x1"}, [])
    with pytest.raises(InputError, match="hex strings"):
        LogFilter.parse({"address": 5})


def test_the_chain_goes_on_when_nobody_listens(network: Network) -> None:
    chain = Chain(network.dev.rpc_url)
    before = chain.w3.eth.block_number
    chain.transfer(network.actor(1), SOMEONE, 1)
    assert chain.w3.eth.block_number > before


def _request(method: str, *parameters: Any, identifier: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": list(parameters)}


async def _ask(socket: ClientConnection, method: str, *parameters: Any) -> Any:
    await socket.send(json.dumps(_request(method, *parameters)))
    while "id" not in (answer := json.loads(await socket.recv())):
        continue
    return answer["result"]


async def _notices(socket: ClientConnection, subscription: str, count: int) -> list[Any]:
    found = []
    async with asyncio.timeout(20):
        while len(found) < count:
            message = json.loads(await socket.recv())
            if message.get("params", {}).get("subscription") == subscription:
                found.append(message["params"]["result"])
    return found


def _with_socket(dev: DevChain, story: Callable[[ClientConnection], Awaitable[None]]) -> None:
    async def run() -> None:
        async with connect(dev.ws_url, max_size=None) as socket:
            await story(socket)

    asyncio.run(run())
