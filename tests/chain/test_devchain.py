"""The development chain: what it acknowledged is there after any end, and the supply is whole at every moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, DevChain, devchain
from openledger.chain.devchain import BASE_FEE_VAULT, MINIMUM_BASE_FEE, SEQUENCER_FEE_VAULT
from openledger.chain.journal import BlockRecord
from openledger.primitives import (
    TOTAL_SUPPLY,
    ChainError,
    ConfigurationError,
    InputError,
    StorageError,
)
from tests.chain.conftest import Network, deployed

SOMEONE = "0x00000000000000000000000000000000000A11cE"
_CHILD = """
import sys
from pathlib import Path
from openledger.chain import Chain, DevChain

dev = DevChain(Path(sys.argv[1])).start()
chain = Chain(dev.rpc_url)
print("ready", flush=True)
while True:
    receipt = chain.transfer(dev.keys.wallet("genesis"), "0x00000000000000000000000000000000000A11cE", 1)
    print(receipt["transactionHash"].hex(), flush=True)
"""


def _pay(dev: DevChain, times: int = 1) -> None:
    chain = Chain(dev.rpc_url)
    for _ in range(times):
        chain.transfer(dev.keys.wallet("genesis"), SOMEONE, 1)


def _block(dev: DevChain, number: int | str) -> Any:
    return Chain(dev.rpc_url).w3.eth.get_block(number)  # type: ignore[arg-type]


def test_a_restart_gives_the_same_blocks_logs_and_clock(tmp_path: Path) -> None:
    network = deployed(tmp_path)
    dev, deployment = network.dev, network.chain.deployment
    dev.warp(86_400)
    _stake(network)
    before = [_block(dev, number).hash for number in range(dev.height + 1)]
    events = network.chain.events("StakeManager", "Staked")
    ahead = network.chain.time()
    dev.stop()
    with DevChain(tmp_path) as again:
        chain = Chain(again.rpc_url, deployment)
        assert [_block(again, number).hash for number in range(again.height + 1)] == before
        assert chain.events("StakeManager", "Staked") == events
        assert len(events) == 1
        assert again.time >= ahead


def test_a_killed_chain_keeps_every_transaction_that_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for transactions in (3, 17, 40):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        acknowledged += [child.stdout.readline().strip() for _ in range(transactions)]
        child.send_signal(signal.SIGKILL)
        child.wait()
        acknowledged += [line.strip() for line in child.stdout if len(line.strip()) == 64]
    with DevChain(tmp_path) as dev:
        chain = Chain(dev.rpc_url)
        assert all(chain.w3.eth.get_transaction_receipt(name)["status"] == 1 for name in acknowledged)  # type: ignore[arg-type]
        assert len(set(acknowledged)) == len(acknowledged)
        # One more may have been written down when the kill came before its answer.
        assert 0 <= chain.balance(SOMEONE) - len(acknowledged) <= 3
        assert sum(dev.balances().values()) == TOTAL_SUPPLY


def test_the_node_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    node = _node_of(tmp_path)
    assert node is not None
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while _node_of(tmp_path) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _node_of(tmp_path) is None


def test_only_one_process_runs_a_home(tmp_path: Path) -> None:
    with (
        DevChain(tmp_path),
        pytest.raises(ConfigurationError, match="another process runs the chain"),
        DevChain(tmp_path),
    ):
        pass
    with DevChain(tmp_path) as dev:
        assert dev.height == 0


def test_a_home_belongs_to_one_chain_id(tmp_path: Path) -> None:
    with DevChain(tmp_path):
        pass
    with pytest.raises(ConfigurationError, match="has the id 161201, not 5"):
        DevChain(tmp_path, 5).start()


def test_a_tampered_journal_is_noticed(tmp_path: Path) -> None:
    with DevChain(tmp_path) as dev:
        _pay(dev, 3)
    path = tmp_path / "chain" / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    block = BlockRecord.parse(json.loads(lines[2]))
    changed = replace(block, timestamp=block.timestamp + 1).line().decode()
    path.write_text("".join([lines[0], lines[1], changed, lines[3]]))
    with pytest.raises(StorageError, match="replaying block 2 gives"):
        DevChain(tmp_path).start()


def test_a_lost_genesis_is_not_made_up_again(tmp_path: Path) -> None:
    with DevChain(tmp_path):
        pass
    (tmp_path / "chain" / "genesis.json").unlink()
    with pytest.raises(StorageError, match="restore it from a backup"):
        DevChain(tmp_path).start()


def test_the_whole_supply_is_there_and_fees_are_not_burnt(network: Network) -> None:
    actor = network.actor(10)
    receipt = network.chain.transfer(actor, SOMEONE, 5)
    fee = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    assert network.chain.balance(actor.address) == 10 * 10**18 - 5 - fee
    balances = network.dev.balances()
    assert sum(balances.values()) == TOTAL_SUPPLY
    assert balances[BASE_FEE_VAULT.lower()] >= receipt["gasUsed"] * MINIMUM_BASE_FEE
    assert balances.get(SEQUENCER_FEE_VAULT.lower(), 0) >= 0


def test_priority_fees_go_to_the_sequencers_vault(network: Network) -> None:
    actor = network.actor(10)
    before = network.chain.balance(SEQUENCER_FEE_VAULT)
    network.dev.submit(_signed(actor, network.chain.chain_id, 0, tip=1_000)).result()
    assert network.chain.balance(SEQUENCER_FEE_VAULT) - before == 21_000 * 1_000


def test_warping_moves_the_clock_and_the_contracts_see_it(network: Network) -> None:
    before = network.chain.time()
    network.dev.warp(3_600)
    assert before + 3_600 <= network.chain.time() <= before + 3_700
    with pytest.raises(InputError, match="only move forward"):
        network.dev.warp(-1)


def test_a_read_after_a_pause_sees_the_present(tmp_path: Path) -> None:
    with DevChain(tmp_path, idle_seconds=1.0) as dev:
        _pay(dev)
        height = dev.height
        time.sleep(2.1)
        assert abs(_block(dev, "latest").timestamp - time.time()) < 2
        assert dev.height > height
        assert _block(dev, "latest").number == dev.height


def test_transactions_that_come_together_share_a_block(network: Network) -> None:
    actors = [network.actor(1) for _ in range(12)]
    start = network.dev.height
    futures = [network.dev.submit(_signed(actor, network.chain.chain_id, 0)) for actor in actors]
    names = [future.result(timeout=30) for future in futures]
    assert len(set(names)) == 12
    assert network.dev.height - start < 12


def test_a_transaction_with_a_future_nonce_is_refused_and_forgotten(network: Network, rpc: Callable[..., Any]) -> None:
    actor = network.actor(1)
    early = _signed(actor, network.chain.chain_id, 1)
    height = network.dev.height
    answer = rpc({"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [early]})
    assert "nonce is ahead" in answer["error"]["message"]
    assert network.dev.height == height
    network.chain.transfer(actor, SOMEONE, 1)
    assert network.chain.nonce(actor.address) == 1


def test_snapshots_shorten_the_replay_and_a_bad_one_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devchain, "_SNAPSHOT_BLOCKS", 20)
    monkeypatch.setattr(devchain, "_HISTORY_BLOCKS", 10)
    with DevChain(tmp_path) as dev:
        _pay(dev, 85)
        expected = [_block(dev, number).hash for number in range(86)]
    folder = tmp_path / "chain" / "snapshots"
    assert sorted(path.name for path in folder.iterdir()) == ["40.state", "60.state", "80.state"]
    replayed = _spy_on_replays(monkeypatch)
    with DevChain(tmp_path) as dev:
        assert [_block(dev, number).hash for number in range(86)] == expected
        assert Chain(dev.rpc_url).balance(SOMEONE) == 85
        _pay(dev, 1)
        after = _block(dev, 86).hash
    assert replayed == [60]
    whole = (folder / "60.state").read_bytes()
    middle = len(whole) // 2
    for damaged in (b"", whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        (folder / "60.state").write_bytes(damaged)
        replayed.clear()
        with DevChain(tmp_path) as dev:
            assert (_block(dev, 86).hash, Chain(dev.rpc_url).balance(SOMEONE)) == (after, 86)
        assert replayed == [60, 40]
        assert "60.state cannot be used" in caplog.text
        caplog.clear()
    assert not [path for path in folder.iterdir() if path.suffix != ".state"]


def test_a_damaged_block_is_made_up_for_by_a_later_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devchain, "_SNAPSHOT_BLOCKS", 20)
    monkeypatch.setattr(devchain, "_HISTORY_BLOCKS", 10)
    with DevChain(tmp_path) as dev:
        _pay(dev, 35)
        expected = [_block(dev, number).hash for number in range(36)]
    _damage(tmp_path, 7)
    with DevChain(tmp_path) as dev:
        assert [_block(dev, number).hash for number in range(36)] == expected
        assert Chain(dev.rpc_url).balance(SOMEONE) == 35
    assert "blocks 7 of the journal are damaged; nothing is lost" in caplog.text


def test_a_damaged_block_without_a_later_snapshot_ends_the_chain_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with DevChain(tmp_path) as dev:
        _pay(dev, 6)
        expected = [_block(dev, number).hash for number in range(4)]
    before = _damage(tmp_path, 4)
    with DevChain(tmp_path) as dev:
        assert dev.height == 3
        assert [_block(dev, number).hash for number in range(4)] == expected
        _pay(dev, 1)
    assert "the chain goes on from block 3, and 3 blocks are lost" in caplog.text
    assert (tmp_path / "chain" / "journal.jsonl.damaged-1").read_bytes() == before
    with DevChain(tmp_path) as dev:
        assert Chain(dev.rpc_url).balance(SOMEONE) == 4


def test_a_damaged_genesis_is_refused(tmp_path: Path) -> None:
    with DevChain(tmp_path) as dev:
        _pay(dev, 1)
    path = tmp_path / "chain" / "genesis.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="is damaged"):
        DevChain(tmp_path).start()
    path.write_text(whole.replace(hex(TOTAL_SUPPLY), hex(TOTAL_SUPPLY + 1)))
    with pytest.raises(StorageError, match="replaying block 1 gives"):
        DevChain(tmp_path).start()


def test_a_snapshot_that_the_disk_refuses_does_not_stop_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devchain, "_SNAPSHOT_BLOCKS", 2)
    with DevChain(tmp_path) as dev:
        (tmp_path / "chain" / "snapshots").symlink_to("/proc/self")
        _pay(dev, 5)
    assert "no snapshot after block 2" in caplog.text
    with DevChain(tmp_path) as dev:
        assert Chain(dev.rpc_url).balance(SOMEONE) == 5


def test_a_front_port_can_be_chosen_and_a_taken_one_is_reported(tmp_path: Path) -> None:
    with DevChain(tmp_path / "a") as first:
        port = int(first.rpc_url.rpartition(":")[2])
        with pytest.raises(ChainError, match=f"cannot listen on 127.0.0.1:{port}"):
            DevChain(tmp_path / "b", port=port).start()
    with DevChain(tmp_path / "b", port=port) as second:
        assert second.rpc_url == f"http://127.0.0.1:{port}"


def test_a_stopped_chain_says_so(tmp_path: Path) -> None:
    dev = DevChain(tmp_path)
    with pytest.raises(ConfigurationError, match="not running"):
        _ = dev.rpc_url
    dev.stop()


def test_when_the_node_dies_nothing_is_acknowledged_any_more(tmp_path: Path) -> None:
    with DevChain(tmp_path) as dev:
        _pay(dev)
        node = _node_of(tmp_path)
        assert node is not None
        os.kill(node, signal.SIGKILL)
        with pytest.raises(ChainError, match=r"does not answer|has stopped|refused"):
            _pay(dev)
        with pytest.raises(ChainError, match=r"does not answer|has stopped"):
            dev.warp(1)
    with DevChain(tmp_path) as dev:
        assert Chain(dev.rpc_url).balance(SOMEONE) == 1


def test_what_the_disk_refuses_is_not_acknowledged(tmp_path: Path) -> None:
    with DevChain(tmp_path) as dev:
        _pay(dev)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, dev._book._stream.fileno())
        os.close(full)
        with pytest.raises(ChainError, match=r"cannot write to .*No space left"):
            _pay(dev)
        with pytest.raises(ChainError, match="has stopped"):
            _pay(dev)
    with DevChain(tmp_path) as dev:
        assert Chain(dev.rpc_url).balance(SOMEONE) == 1
        _pay(dev)


def test_many_transactions_of_one_account_replay(tmp_path: Path) -> None:
    with DevChain(tmp_path) as dev:
        genesis = dev.keys.wallet("genesis")
        futures = [dev.submit(_signed(genesis, dev.chain_id, nonce)) for nonce in range(300)]
        names = [future.result() for future in futures]
        height = dev.height
    with DevChain(tmp_path) as dev:
        assert dev.height == height
        chain = Chain(dev.rpc_url)
        assert chain.balance(SOMEONE) == chain.nonce(genesis.address) == len(set(names)) == 300


def _signed(account: LocalAccount, chain_id: int, nonce: int, tip: int = 0) -> str:
    """A raw payment of 1 wei."""
    fields = {
        "chainId": chain_id,
        "nonce": nonce,
        "to": SOMEONE,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 10**9,
        "maxPriorityFeePerGas": tip,
    }
    return "0x" + account.sign_transaction(fields).raw_transaction.hex()


def _damage(home: Path, block: int) -> bytes:
    """Changes one bit of a block's line in the journal; returns the journal as it is then."""
    path = home / "chain" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[block] = lines[block][:30] + bytes([lines[block][30] ^ 4]) + lines[block][31:]
    path.write_bytes(b"".join(lines))
    return path.read_bytes()


def _stake(network: Network) -> None:
    staking = network.chain.contract("StakeManager").functions.stake(3)
    network.chain.send(network.bank, staking, 1_000 * 10**18)


def _spy_on_replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    heights: list[int] = []
    real = DevChain._replay

    def replay(self: DevChain, records: Any, height: int, snapshot: Any) -> None:
        heights.append(height)
        real(self, records, height, snapshot)

    monkeypatch.setattr(DevChain, "_replay", replay)
    return heights


def _node_of(home: Path) -> int | None:
    """Process id of the node that runs on this home's genesis."""
    wanted = str(home / "chain" / "genesis.json")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if wanted in command and Path(command[0]).name == "anvil":
            return int(entry.name)
    return None
