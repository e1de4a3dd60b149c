"""The engine's process is killed under a node that answers: receipts stay, nobody pays for half an answer, and it comes back."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from openledger.node.server import Server
from openledger.node.service import Node
from openledger.node.serving import Shelf
from openledger.node.settings import Settings
from openledger.openlora import Engine, EngineProcess
from openledger.primitives import WEI_PER_OPEN
from openledger.settlement import ReceiptBody
from openledger.studio import ApiKey

pytestmark = pytest.mark.chain
QUESTION = [{"role": "user", "content": "What happened?"}]
_LONG_TEXT = {"type": "object", "properties": {"said": {"type": "string", "minLength": 5000}}, "required": ["said"]}
LONG = {
    "max_tokens": 450,
    "response_format": {"type": "json_schema", "json_schema": {"name": "long", "schema": _LONG_TEXT}},
}
"""An answer that cannot end before it has that many tokens."""


@pytest.fixture
def key(node: Node) -> ApiKey:
    return node.create_key(5 * WEI_PER_OPEN, 1.0)[0]


def ai(server: Server, key: ApiKey) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key.reveal(), max_retries=0, timeout=120)


def process_of(node: Node) -> EngineProcess:
    engine = node.shelf.engine
    assert isinstance(engine, EngineProcess)
    return engine


def receipts(node: Node) -> set[str]:
    return {row.id for row in node.receipts(limit=500)[0]}


def test_a_killed_engine_loses_no_acknowledged_receipt_and_charges_for_none_that_it_left_unfinished(
    server: Server, node: Node, key: ApiKey
) -> None:
    client = ai(server, key)

    def ask() -> str:
        answer = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=8, store=True)
        return str(answer.model_extra["openledger"]["receipt"])

    acknowledged = {ask() for _ in range(3)}
    before, owed = receipts(node), node.book.owed(key.consumer)
    assert acknowledged <= before
    engine = process_of(node)
    restarts = engine.restarts

    def begin(seed: int) -> openai.Stream[ChatCompletionChunk]:
        stream = client.chat.completions.create(model="tiny", messages=QUESTION, stream=True, seed=seed, **LONG)
        next(stream)
        return stream

    with ThreadPoolExecutor(4) as pool:
        streams = list(pool.map(begin, range(4)))
    os.kill(engine.process_id, signal.SIGKILL)
    for stream in streams:
        with pytest.raises(openai.APIError) as interrupted:
            list(stream)
        assert interrupted.value.body["code"] == "engine_restarting"
        assert interrupted.value.body["type"] == "server_error"
        assert "send the request again" in interrupted.value.body["message"]
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=8)
    assert refused.value.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) >= 1
    assert (receipts(node), node.book.owed(key.consumer)) == (before, owed)
    assert node.inference.available(key) == 5 * WEI_PER_OPEN - owed + node.escrow.redeemed(
        key.consumer, node.host.address
    )

    engine.wait()
    assert engine.restarts == restarts + 1
    after = ask()
    assert receipts(node) == before | {after}
    node.settle()
    for receipt in acknowledged | {after}:
        assert all(check.ok for check in node.verify(receipt)), receipt
    assert f"openledger_engine_restarts_total {restarts + 1}" in httpx.get(f"{server.url}/metrics").text


def test_validators_and_the_market_wait_for_an_engine_that_was_killed(node: Node, server: Server, key: ApiKey) -> None:
    answer = ai(server, key).chat.completions.create(model="tiny", messages=QUESTION, store=True, max_tokens=200)
    receipt = answer.model_extra["openledger"]["receipt"]  # type: ignore[index]
    record = node.receipts_store.find(receipt)
    body = ReceiptBody.from_json(record.body)
    private = node.receipts_store.private_of(body)
    assert private is not None
    engine = process_of(node)
    with ThreadPoolExecutor(1) as pool:
        os.kill(engine.process_id, signal.SIGKILL)
        recomputed = pool.submit(node.shelf.recompute, body, private).result()
    assert recomputed.shares == body.shares
    assert recomputed.output == answer.choices[0].message.content


def test_the_engine_can_stay_a_thread_of_the_node(tmp_path: Path, node: Node) -> None:
    assert Settings().engine == "process"
    inside = Shelf(None, node.chain, node.blobs, tmp_path / "work", node.reader.library)
    try:
        assert isinstance(inside.engine, Engine)
    finally:
        inside.engine.close()
