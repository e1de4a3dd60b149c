"""OPEN over the bridge and back, through the OP Stack's own messengers and portal on an L1 and an L2 run by ``supersim``.

Real are both messengers, the portal, the deposit that ``supersim`` derives, the withdrawal's storage proof, the dispute game and
its clocks (moved forward). Played by the test: the proposer. The two custom-gas-token predeploys, which ``supersim`` lacks, are
those of :mod:`openledger.chain.l1`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from openledger.chain import Chain, load_artifact
from openledger.chain.l1 import CONTROLLER, L1_MESSENGER, L2_MESSENGER, LIQUIDITY, layers
from openledger.primitives import TOTAL_SUPPLY, WEI_PER_OPEN, ChainError, RevertError, from_hex, keccak, to_hex
from tests.chain.nodes import RICH, rpc

pytestmark = pytest.mark.bridge

PASSER, PORTAL = "0x4200000000000000000000000000000000000016", "0x75CEb25776D0402972B736F6E13Fd0616BE98f22"
GAME_TYPE = 1
WITHDRAWAL = "(uint256,address,address,uint256,uint256,bytes)"
ALICE: LocalAccount = Account.from_key(keccak(b"alice"))


@dataclass(frozen=True)
class Withdrawal:
    """A message on its way to L1, as the portal wants it, and where it began."""

    fields: tuple[int, str, str, int, int, bytes]
    hash: bytes
    block: int


@dataclass(frozen=True)
class Bridge:
    """Both layers with the bridge's ends."""

    l1: Chain
    l2: Chain
    token: Contract
    lockbox: Contract
    minter: Contract

    def lock(self, to: str, amount: int) -> None:
        """Sends OPEN from L1 and waits until the L2 has it."""
        before = self.l2.balance(to)
        self.l1.send(RICH, self.token.functions.approve(self.lockbox.address, amount))
        self.l1.send(RICH, self.lockbox.functions.send(to, amount, 200_000))
        _until(lambda: self.l2.balance(to) == before + amount)

    def withdraw(self, amount: int) -> Withdrawal:
        """Sends native OPEN of Alice from the L2; returns what is to be proved on L1."""
        receipt = self.l2.send(ALICE, self.minter.functions.send(ALICE.address, 200_000), amount)
        topic = keccak(b"MessagePassed(uint256,address,address,uint256,uint256,bytes,bytes32)")
        (log,) = [log for log in receipt["logs"] if bytes(log["topics"][0]) == topic]
        value, gas, data, digest = decode(["uint256", "uint256", "bytes", "bytes32"], bytes(log["data"]))
        sender, target = ("0x" + bytes(word)[12:].hex() for word in log["topics"][2:4])
        fields = (int.from_bytes(bytes(log["topics"][1])), sender, target, value, gas, data)
        return Withdrawal(fields, digest, int(receipt["blockNumber"]))

    def prove(self, withdrawal: Withdrawal, fields: tuple[Any, ...] | None = None) -> str:
        """Proposes the L2's state as its proposer would and proves the withdrawal in it; returns the dispute game."""
        slot = to_hex(keccak(withdrawal.hash + bytes(32)))
        proof = rpc(self.l2.rpc_url, "eth_getProof", PASSER, [slot], hex(withdrawal.block))
        block = rpc(self.l2.rpc_url, "eth_getBlockByNumber", hex(withdrawal.block), False)
        state = (bytes(32), from_hex(block["stateRoot"]), from_hex(proof["storageHash"]), from_hex(block["hash"]))
        claim = keccak(encode(["bytes32"] * 4, list(state)))
        (factory,) = _read(self.l1, PORTAL, "disputeGameFactory()", [], [], ["address"])
        (implementation,) = _read(self.l1, factory, "gameImpls(uint32)", ["uint32"], [GAME_TYPE], ["address"])
        (proposer,) = _read(self.l1, implementation, "proposer()", [], [], ["address"])
        extra = encode(["uint256"], [withdrawal.block])
        rpc(self.l1.rpc_url, "anvil_impersonateAccount", proposer)
        rpc(self.l1.rpc_url, "anvil_setBalance", proposer, hex(10**20))
        create = _call("create(uint32,bytes32,bytes)", ["uint32", "bytes32", "bytes"], [GAME_TYPE, claim, extra])
        rpc(
            self.l1.rpc_url,
            "eth_sendTransaction",
            {"from": proposer, "to": factory, "data": to_hex(create), "gas": hex(10**7)},
        )
        rpc(self.l1.rpc_url, "evm_mine")
        (count,) = _read(self.l1, factory, "gameCount()", [], [], ["uint256"])
        _, _, game = _read(
            self.l1, factory, "gameAtIndex(uint256)", ["uint256"], [count - 1], ["uint32", "uint64", "address"]
        )
        _later(self.l1, 1)
        kinds = [WITHDRAWAL, "uint256", "(bytes32,bytes32,bytes32,bytes32)", "bytes[]"]
        nodes = [from_hex(node) for node in proof["storageProof"][0]["proof"]]
        values = [fields or withdrawal.fields, count - 1, state, nodes]
        _write(self.l1, PORTAL, f"proveWithdrawalTransaction({','.join(kinds)})", kinds, values)
        return str(game)

    def finalize(self, withdrawal: Withdrawal) -> None:
        """Relays a proven withdrawal on L1."""
        _write(self.l1, PORTAL, f"finalizeWithdrawalTransaction({WITHDRAWAL})", [WITHDRAWAL], [withdrawal.fields])

    def resolve(self, game: str) -> None:
        """Lets the game's clocks run out without a challenge, resolves it, and lets the air gap pass."""
        (clock,) = _read(self.l1, game, "maxClockDuration()", [], [], ["uint64"])
        _later(self.l1, clock + 1)
        _write(self.l1, game, "resolveClaim(uint256,uint256)", ["uint256", "uint256"], [0, 0])
        _write(self.l1, game, "resolve()", [], [])
        _later(self.l1, 3_600)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Both layers as `openledger chain l1` runs them."""
    with layers(tmp_path_factory.mktemp("supersim"), *(_free_port() for _ in range(3))) as ends:
        l1, l2 = Chain(ends.l1_rpc, timeout=120), Chain(ends.l2_rpc, timeout=120)
        rpc(l2.rpc_url, "anvil_setBalance", ALICE.address, hex(WEI_PER_OPEN))
        yield Bridge(
            l1, l2, _contract(l1, "OPEN", ends.token), _contract(l1, "OpenLockbox", ends.lockbox),
            _contract(l2, "OpenMinter", ends.minter),
        )  # fmt: skip


def test_open_goes_to_the_l2_and_back_and_is_whole_at_every_step(bridge: Bridge) -> None:
    bridge.lock(ALICE.address, 100 * WEI_PER_OPEN)
    assert bridge.minter.functions.minted().call() == bridge.lockbox.functions.locked().call() == 100 * WEI_PER_OPEN
    assert bridge.l2.balance(LIQUIDITY) == TOTAL_SUPPLY - 100 * WEI_PER_OPEN
    assert bridge.token.functions.balanceOf(bridge.lockbox.address).call() == 100 * WEI_PER_OPEN

    withdrawal = bridge.withdraw(40 * WEI_PER_OPEN)
    assert bridge.minter.functions.minted().call() == 60 * WEI_PER_OPEN
    assert bridge.l2.balance(LIQUIDITY) == TOTAL_SUPPLY - 60 * WEI_PER_OPEN
    with pytest.raises(RevertError):
        bridge.finalize(withdrawal)
    game = bridge.prove(withdrawal)
    with pytest.raises(RevertError):
        bridge.finalize(withdrawal)
    bridge.resolve(game)
    bridge.finalize(withdrawal)
    assert bridge.token.functions.balanceOf(ALICE.address).call() == 40 * WEI_PER_OPEN
    assert bridge.lockbox.functions.locked().call() == bridge.minter.functions.minted().call() == 60 * WEI_PER_OPEN

    # Replayed: by the portal, and by the messenger's own door.
    with pytest.raises(RevertError):
        bridge.finalize(withdrawal)
    _relay_again(bridge.l1, L1_MESSENGER, withdrawal.fields[5])
    assert bridge.token.functions.balanceOf(ALICE.address).call() == 40 * WEI_PER_OPEN


def test_a_deposit_cannot_be_replayed_on_the_l2(bridge: Bridge) -> None:
    before = bridge.l2.balance(ALICE.address)
    bridge.lock(ALICE.address, WEI_PER_OPEN)
    relayed = next(
        block["transactions"][-1]
        for number in range(bridge.l2.w3.eth.block_number, 0, -1)
        if (block := rpc(bridge.l2.rpc_url, "eth_getBlockByNumber", hex(number), True))["transactions"]
        and block["transactions"][-1]["to"] == L2_MESSENGER.lower()
    )
    _relay_again(bridge.l2, L2_MESSENGER, from_hex(relayed["input"]))
    assert bridge.l2.balance(ALICE.address) == before + WEI_PER_OPEN


def test_a_withdrawal_with_another_amount_cannot_be_proved(bridge: Bridge) -> None:
    bridge.lock(ALICE.address, 10 * WEI_PER_OPEN)
    withdrawal = bridge.withdraw(WEI_PER_OPEN)
    nonce, sender, target, value, gas, data = withdrawal.fields
    forged = data.replace(WEI_PER_OPEN.to_bytes(32), (9 * WEI_PER_OPEN).to_bytes(32))
    assert forged != data
    with pytest.raises(ChainError):
        bridge.prove(withdrawal, (nonce, sender, target, value, gas, forged))


@pytest.mark.parametrize("layer", ["l1", "l2"])
def test_nobody_can_speak_to_an_end_directly(bridge: Bridge, layer: str) -> None:
    chain, end = (bridge.l1, bridge.lockbox) if layer == "l1" else (bridge.l2, bridge.minter)
    with pytest.raises(RevertError, match="NotMessenger"):
        chain.send(RICH, end.functions.receiveTransfer(99, RICH.address, RICH.address, WEI_PER_OPEN))


def test_a_message_of_somebody_else_through_the_real_messenger_mints_nothing(bridge: Bridge) -> None:
    before, minted = bridge.l2.balance(LIQUIDITY), bridge.minter.functions.minted().call()
    arguments = [99, RICH.address, RICH.address, WEI_PER_OPEN]
    forged = _call(
        "receiveTransfer(uint256,address,address,uint256)", ["uint256", "address", "address", "uint256"], arguments
    )
    height = bridge.l2.w3.eth.block_number
    _write(
        bridge.l1, L1_MESSENGER, "sendMessage(address,bytes,uint32)", ["address", "bytes", "uint32"],
        [bridge.minter.address, forged, 300_000],
    )  # fmt: skip
    failed = keccak(b"FailedRelayedMessage(bytes32)")
    _until(
        lambda: bool(
            rpc(
                bridge.l2.rpc_url,
                "eth_getLogs",
                {"fromBlock": hex(height), "address": L2_MESSENGER, "topics": [to_hex(failed)]},
            )
        )
    )
    assert (bridge.l2.balance(LIQUIDITY), bridge.minter.functions.minted().call()) == (before, minted)


def test_more_than_the_limit_waits_and_can_be_relayed_later(bridge: Bridge) -> None:
    amount = 1_200 * WEI_PER_OPEN
    bridge.l1.send(RICH, bridge.token.functions.approve(bridge.lockbox.address, amount))
    before, minted = bridge.l2.balance(LIQUIDITY), bridge.minter.functions.minted().call()
    bridge.l1.send(RICH, bridge.lockbox.functions.send(ALICE.address, amount, 200_000))
    time.sleep(3)
    assert (bridge.l2.balance(LIQUIDITY), bridge.minter.functions.minted().call()) == (before, minted)
    assert bridge.lockbox.functions.locked().call() > minted


def test_the_controller_pays_only_its_minters(bridge: Bridge) -> None:
    with pytest.raises(RevertError):
        _write(bridge.l2, CONTROLLER, "mint(address,uint256)", ["address", "uint256"], [RICH.address, 1])
    with pytest.raises(RevertError):
        _write(bridge.l2, LIQUIDITY, "withdraw(uint256)", ["uint256"], [1])


def _relay_again(chain: Chain, messenger: str, call: bytes) -> None:
    """Makes the messenger's relay call once more, as anybody can, and expects a refusal."""
    with pytest.raises(RevertError):
        chain._transact(RICH, {"to": messenger, "data": to_hex(call), "gas": 1_000_000}, 0)  # type: ignore[typeddict-item]


def _contract(chain: Chain, name: str, address: str) -> Contract:
    return chain.w3.eth.contract(address=address, abi=load_artifact(name).abi)  # type: ignore[call-overload]


def _call(signature: str, kinds: list[str], values: list[Any]) -> bytes:
    return keccak(signature.encode())[:4] + encode(kinds, values)


def _read(
    chain: Chain, to: str, signature: str, kinds: list[str], values: list[Any], returned: list[str]
) -> tuple[Any, ...]:
    answer = rpc(chain.rpc_url, "eth_call", {"to": to, "data": to_hex(_call(signature, kinds, values))}, "latest")
    return decode(returned, from_hex(answer))


def _write(chain: Chain, to: str, signature: str, kinds: list[str], values: list[Any]) -> None:
    data = to_hex(_call(signature, kinds, values))
    chain._transact(RICH, {"to": chain.w3.to_checksum_address(to), "data": data}, 0)  # type: ignore[typeddict-item]


def _later(chain: Chain, seconds: int) -> None:
    rpc(chain.rpc_url, "evm_increaseTime", hex(seconds))
    rpc(chain.rpc_url, "evm_mine")


def _until(done: Any) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
