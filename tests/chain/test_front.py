"""The front: what a wallet needs passes, everything else is refused in JSON-RPC's own way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from openledger.chain import DevChain, devchain
from openledger.chain.front import MAX_BATCH, MAX_BODY
from openledger.chain.limits import RateLimit
from tests.chain.conftest import Network

Rpc = Callable[..., Any]


def _request(method: str, *parameters: object, identifier: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": list(parameters)}


def test_a_wallets_questions_are_answered(network: Network, rpc: Rpc) -> None:
    assert rpc(_request("eth_chainId"))["result"] == hex(161201)
    assert int(rpc(_request("eth_getBalance", network.bank.address, "latest"))["result"], 16) > 10**24
    assert rpc(_request("net_version", identifier="a"))["id"] == "a"
    assert rpc(_request("eth_accounts"))["result"] == []


@pytest.mark.parametrize(
    "method",
    [
        "anvil_setBalance",
        "anvil_impersonateAccount",
        "anvil_dumpState",
        "anvil_loadState",
        "hardhat_setBalance",
        "evm_increaseTime",
        "evm_mine",
        "evm_setNextBlockTimestamp",
        "evm_snapshot",
        "debug_traceTransaction",
        "trace_block",
        "txpool_content",
        "erigon_getHeaderByNumber",
        "ots_getApiLevel",
        "eth_sendTransaction",
        "eth_sign",
        "eth_signTransaction",
        "eth_sendUnsignedTransaction",
        "personal_sign",
        "miner_start",
        "eth_mining",
        "web3_sha3 ",
        "ETH_CHAINID",
        "",
    ],
)
def test_what_is_not_on_the_list_does_not_exist(rpc: Rpc, method: str) -> None:
    assert rpc(_request(method))["error"]["code"] == -32601


def test_nobody_can_make_money_through_the_front(network: Network, rpc: Rpc) -> None:
    someone = network.actor(1).address
    before = network.chain.balance(someone)
    for method in ("anvil_setBalance", "hardhat_setBalance", "tenderly_setBalance", "anvil_addBalance"):
        rpc(_request(method, someone, hex(10**30)))
        rpc([_request(method, someone, hex(10**30))])
    assert network.chain.balance(someone) == before


def test_an_estimate_holds_a_second_later_for_wallets_that_add_nothing_to_it(network: Network, rpc: Rpc) -> None:
    chain, gopen = network.chain, network.chain.contract("GOPEN")
    first = network.actor(10)
    for block in ([], [None], ["latest"], ["pending"], ["latest", {}]):
        actor = network.actor(10)
        call = {"from": actor.address, "to": gopen.address, "value": "0x7", "data": gopen.encode_abi("deposit")}
        chain.send(first, gopen.functions.deposit(), 1)
        gas = int(rpc(_request("eth_estimateGas", call, *block))["result"], 16)
        network.dev.warp(1)
        transaction = {
            "to": gopen.address,
            "value": 7,
            "data": call["data"],
            "gas": gas,
            "nonce": 0,
            "chainId": 161201,
            "maxFeePerGas": 10**9,
            "maxPriorityFeePerGas": 0,
        }
        raw = actor.sign_transaction(transaction).raw_transaction
        name = rpc(_request("eth_sendRawTransaction", raw.to_0x_hex()))["result"]
        assert rpc(_request("eth_getTransactionReceipt", name))["result"]["status"] == "0x1", block


def test_an_estimate_for_a_named_block_or_time_is_for_that_one(network: Network, rpc: Rpc) -> None:
    chain, gopen, actor = network.chain, network.chain.contract("GOPEN"), network.actor(10)
    chain.send(actor, gopen.functions.deposit(), 1)
    block = chain.w3.eth.get_block("latest")
    call = {"from": actor.address, "to": gopen.address, "value": "0x7", "data": gopen.encode_abi("deposit")}
    later, now, same = (
        int(rpc(_request("eth_estimateGas", call, *rest))["result"], 16)
        for rest in (["latest"], [hex(block["number"])], ["latest", {}, {"time": hex(block["timestamp"])}])
    )
    assert later - now > 20_000
    assert now == same
    assert rpc(_request("eth_estimateGas"))["error"]["code"] == -32602


def test_a_batch_is_answered_one_by_one_and_notifications_are_not(rpc: Rpc) -> None:
    silent = {"jsonrpc": "2.0", "method": "eth_chainId"}
    answers = rpc([_request("eth_chainId"), silent, _request("evm_mine", identifier=2), 7])
    assert [answer.get("id") for answer in answers] == [1, 2, None]
    assert "result" in answers[0]
    assert [answer["error"]["code"] for answer in answers[1:]] == [-32601, -32600]


def test_a_notification_alone_gets_no_body(network: Network) -> None:
    answer = httpx.post(network.dev.rpc_url, json={"jsonrpc": "2.0", "method": "eth_chainId"})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("[]", -32600),
        ("7", -32600),
        ('"eth_chainId"', -32600),
        ('{"id": 1}', -32600),
        ('{"id": 1, "method": 5}', -32600),
        ('{"id": {}, "method": "eth_chainId"}', -32600),
        ('{"id": true, "method": "eth_chainId"}', -32600),
        ('{"jsonrpc": "1.0", "id": 1, "method": "eth_chainId"}', -32600),
        ('{"id": 1, "method": "eth_getBalance", "params": {"address": "0x"}}', -32602),
        ('{"id": 1, "method": "eth_sendRawTransaction", "params": []}', -32602),
        ('{"id": 1, "method": "eth_sendRawTransaction", "params": [5]}', -32602),
        ("{", -32700),
        ("[" * 100_000, -32700),
    ],
)
def test_malformed_requests_get_the_standard_codes(network: Network, body: str, code: int) -> None:
    answer = httpx.post(network.dev.rpc_url, content=body, headers={"content-type": "application/json"})
    assert answer.json()["error"]["code"] == code


def test_too_much_at_once_is_refused(network: Network, rpc: Rpc) -> None:
    assert rpc([_request("eth_chainId")] * (MAX_BATCH + 1))["error"]["code"] == -32005
    answer = httpx.post(
        network.dev.rpc_url, content=b" " * (MAX_BODY + 1), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_web_page_can_neither_post_a_form_nor_rebind_a_name(network: Network) -> None:
    plain = httpx.post(network.dev.rpc_url, content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    rebound = httpx.post(network.dev.rpc_url, json=_request("eth_chainId"), headers={"host": "evil.example"})
    assert rebound.status_code == 400
    foreign = httpx.post(network.dev.rpc_url, json=_request("eth_chainId"), headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_a_bad_transaction_is_refused_with_the_nodes_reason(rpc: Rpc) -> None:
    assert "error" in rpc(_request("eth_sendRawTransaction", "0x1234"))
    assert "error" in rpc(_request("eth_sendRawTransaction", "not hex"))


def test_the_same_front_can_be_mounted_in_another_application(network: Network) -> None:
    app = network.dev.front.app(hosts=("node.example",), origins=("https://app.example",))
    client = TestClient(app, base_url="http://node.example")
    answer = client.post("/", json=_request("eth_chainId"), headers={"origin": "https://app.example"})
    assert answer.json()["result"] == hex(161201)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert client.get("/").status_code == 405


def test_too_many_requests_get_429_and_the_time_to_wait(tmp_path: Path) -> None:
    with DevChain(tmp_path, limit=RateLimit(0.1, 5)) as dev:
        batch = httpx.post(dev.rpc_url, json=[_request("eth_chainId")] * 4)
        assert len(batch.json()) == 4
        assert httpx.post(dev.rpc_url, json=[_request("eth_chainId")] * 2).status_code == 429
        assert httpx.post(dev.rpc_url, json=_request("eth_chainId")).status_code == 200
        refused = httpx.post(dev.rpc_url, json=_request("eth_chainId", identifier=9))
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert refused.json()["id"] == 9
        assert refused.json()["error"]["code"] == -32005


def test_when_too_many_transactions_wait_the_pool_says_that_it_is_full(
    network: Network, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devchain, "_MOST_WAITING", 0)
    answer = rpc(_request("eth_sendRawTransaction", "0x02"))
    assert answer["error"]["code"] == -32000
    assert "txpool is full" in answer["error"]["message"]
