"""The clients that people use work through the front unchanged: web3.py, ethers, viem and cast, none of them imitated."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.utils.subscriptions import LogsSubscription, NewHeadsSubscription

from openledger.chain import load_artifact
from openledger.chain.deployment import ZERO_ADDRESS
from openledger.chain.toolchain import node_folder, npm_command, packaged_program, run
from openledger.primitives import WEI_PER_OPEN
from tests.chain.conftest import Network

CLIENTS = Path(__file__).parent / "clients"
WRAPPED = 3 * WEI_PER_OPEN


@cache
def _installed() -> Path:
    """The folder of the JavaScript clients at their pinned versions, fetched if they are not there."""
    if not (CLIENTS / "node_modules" / ".package-lock.json").is_file():
        run([*npm_command(), "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund"], CLIENTS)
    return CLIENTS


def _receiver(network: Network, name: str) -> str:
    return network.dev.keys.wallet(name).address


def _short_of_gopen(actor: LocalAccount) -> dict[str, Any]:
    """The refusal to send 5 wei of gOPEN that the account does not have."""
    return {"name": "ERC20InsufficientBalance", "arguments": [actor.address, "0", "5"]}


def _findings(network: Network, script: str, actor: LocalAccount, receiver: str) -> dict[str, Any]:
    gopen = {"address": network.chain.address("GOPEN"), "abi": load_artifact("GOPEN").abi}
    given = {
        "rpcUrl": network.dev.rpc_url,
        "wsUrl": network.dev.ws_url,
        "key": "0x" + actor.key.hex().removeprefix("0x"),
        "receiver": receiver,
        "gopen": gopen,
    }
    result = subprocess.run(
        [str(node_folder() / "node"), str(_installed() / script)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_ethers_reads_sends_decodes_and_subscribes(network: Network) -> None:
    actor, receiver = network.actor(10), _receiver(network, "paid.by.ethers")
    found = _findings(network, "ethers.mjs", actor, receiver)
    assert found == {
        "chainId": 161201,
        "balance": "7",
        "sameBlock": True,
        "nonce": 1,
        "refusal": _short_of_gopen(actor),
        "events": [str(WRAPPED)],
        "heads": True,
        "wrapped": [f"{ZERO_ADDRESS} {actor.address} {WRAPPED}"],
    }


def test_viem_reads_sends_decodes_and_subscribes(network: Network) -> None:
    actor, receiver = network.actor(10), _receiver(network, "paid.by.viem")
    found = _findings(network, "viem.mjs", actor, receiver)
    assert found == {
        "chainId": 161201,
        "balance": "7",
        "sameBlock": True,
        "refusal": _short_of_gopen(actor),
        "events": [str(WRAPPED)],
        "heads": True,
        "wrapped": [str(WRAPPED)],
        "pending": True,
        "failures": [],
    }


def test_cast_reads_sends_and_decodes(network: Network) -> None:
    actor, receiver = network.actor(10), _receiver(network, "paid.by.cast")
    gopen, key = network.chain.address("GOPEN"), ["--private-key", "0x" + actor.key.hex().removeprefix("0x")]
    assert _cast(network, ["chain-id"]) == "161201"
    _cast(network, ["send", receiver, "--value", "7", *key])
    assert _cast(network, ["balance", receiver]) == "7"
    sent = json.loads(_cast(network, ["send", gopen, "deposit()", "--value", "3ether", *key, "--json"]))
    assert int(sent["status"], 16) == 1
    held = _cast(network, ["call", gopen, "balanceOf(address)(uint256)", actor.address])
    assert held.split()[0] == str(WRAPPED)
    logs = json.loads(_cast(network, ["logs", "--from-block", sent["blockNumber"], "--address", gopen, "--json"]))
    assert {log["transactionHash"] for log in logs} == {sent["transactionHash"]}
    with pytest.raises(AssertionError, match=r"ERC20InsufficientBalance|execution reverted"):
        _cast(network, ["send", gopen, "transfer(address,uint256)", receiver, str(2 * WRAPPED), *key])


def test_cast_speaks_over_the_websocket_too(network: Network) -> None:
    assert _cast(network, ["chain-id"], url=network.dev.ws_url) == "161201"
    assert int(_cast(network, ["block-number"], url=network.dev.ws_url)) > 0


def test_web3_batches_requests(network: Network) -> None:
    w3 = Web3(Web3.HTTPProvider(network.dev.rpc_url))
    with w3.batch_requests() as batch:
        batch.add(w3.eth.get_block("latest"))
        batch.add(w3.eth.get_balance(network.bank.address))
        block, balance = batch.execute()
    assert block["number"] > 0
    assert balance > 0


def test_web3_subscribes_to_heads_and_logs(network: Network) -> None:
    actor = network.actor(10)
    gopen = network.chain.contract("GOPEN")
    heads, logs = [], []

    async def listen() -> None:
        async with AsyncWeb3(WebSocketProvider(network.dev.ws_url)) as w3:

            async def on_head(context: Any) -> None:
                heads.append(context.result["number"])

            async def on_log(context: Any) -> None:
                logs.append(context.result["blockNumber"])

            await w3.subscription_manager.subscribe(
                [
                    NewHeadsSubscription(handler=on_head),
                    LogsSubscription(address=gopen.address, handler=on_log),
                ]
            )
            handling = asyncio.create_task(w3.subscription_manager.handle_subscriptions())
            receipt = await asyncio.to_thread(network.chain.send, actor, gopen.functions.deposit(), WRAPPED)
            async with asyncio.timeout(20):
                while receipt["blockNumber"] not in heads or receipt["blockNumber"] not in logs:
                    await asyncio.sleep(0.01)
            handling.cancel()
            await asyncio.gather(handling, return_exceptions=True)

    asyncio.run(listen())
    assert heads == sorted(heads)


def _cast(network: Network, words: Sequence[str], url: str | None = None) -> str:
    program = packaged_program(_installed() / "node_modules", "cast")
    assert program is not None
    command = [str(program), *words, "--rpc-url", url or network.dev.rpc_url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
