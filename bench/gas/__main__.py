"""Gas of one inference on chain: OpenLedger's ledger beside the usual designs, all by receipts of a real chain.

Run ``python -m bench.gas``; the table goes to ``bench/results/gas.json`` and to the terminal. Every figure is a transaction's
``gasUsed`` divided by the inferences in it, in a steady state: a first transaction of the same kind has been made before, so
that no slot is written for the first time but those that every batch needs. Receipt hashes are keccak hashes, hence calldata
without zero bytes to speak of.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from rich.console import Console
from rich.table import Table

from openledger.chain import Chain, DevChain, Holders, Role, deploy, toolchain
from openledger.primitives import WEI_PER_OPEN, from_hex, keccak
from openledger.tokenomics import load_allocation

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gas.json"
BATCHES = (1, 100, 1_000, 2_000)


@dataclass(frozen=True)
class Row:
    """One measurement: ``batch`` inferences in one transaction of ``gas``."""

    design: str
    batch: int
    contributors: int | None
    gas: int
    gas_per_inference: float
    on_chain: str


def measure() -> list[Row]:
    """All rows, on a fresh development chain."""
    with tempfile.TemporaryDirectory() as folder, DevChain(Path(folder)) as dev:
        chain, host = Chain(dev.rpc_url), dev.keys.wallet("host")
        bank = dev.keys.wallet("community")
        deploy(chain, dev.keys.wallet("genesis"), load_allocation(), holders=Holders(free={"community": bank.address}))
        chain.transfer(bank, host.address, 10_000 * WEI_PER_OPEN)
        stake = chain.contract("StakeManager").functions.stake(Role.HOST)
        chain.send(host, stake, 1_000 * WEI_PER_OPEN)
        return [*_openledger(chain, host), *_peers(chain, host)]


def _openledger(chain: Chain, host: LocalAccount) -> Iterator[Row]:
    ledger = chain.contract("InferenceLedger").functions
    _gas(chain, host, ledger.post(0, _receipts(1)))
    for batch in BATCHES:
        first = ledger.nextSequence(host.address).call()
        gas = _gas(chain, host, ledger.post(first, _receipts(batch)))
        yield Row("openledger", batch, None, gas, gas / batch, "every receipt hash, and the Merkle root over them")


def _peers(chain: Chain, host: LocalAccount) -> Iterator[Row]:
    compiled = _compile()
    address = chain.create(host, from_hex(compiled["evm"]["bytecode"]["object"]))
    peers = chain.w3.eth.contract(address=address, abi=compiled["abi"]).functions  # type: ignore[call-overload]
    listed: tuple[tuple[str, Callable[[list[bytes]], Any], str], ...] = (
        ("one event per inference", peers.record, "every receipt hash, in logs"),
        ("one hash over the batch", peers.hashAll, "every receipt hash, but no short proof of one"),
        ("root only", lambda receipts: peers.rootOnly(receipts[0]), "the root; receipts must be had from elsewhere"),
    )
    for design, function, on_chain in listed:
        _gas(chain, host, function(_receipts(1)))
        for batch in BATCHES:
            gas = _gas(chain, host, function(_receipts(batch)))
            yield Row(design, batch, None, gas, gas / batch, on_chain)
    for design, function in (
        ("token transfer to each contributor", peers.payEach),
        ("credit to each contributor", peers.creditEach),
    ):
        for contributors in (10, 1_000):
            accounts = [
                chain.w3.to_checksum_address(keccak(bytes([9]), n.to_bytes(4, "big"))[12:]) for n in range(contributors)
            ]
            _gas(chain, host, function(accounts, 1))
            gas = _gas(chain, host, function(accounts, 1))
            yield Row(design, 1, contributors, gas, gas, "every contributor's payment")


def _gas(chain: Chain, wallet: LocalAccount, call: Any) -> int:
    return int(chain.send(wallet, call)["gasUsed"])


def _receipts(count: int) -> list[bytes]:
    return [keccak(b"receipt", number.to_bytes(4, "big")) for number in range(count)]


def _compile() -> dict[str, Any]:
    folder = toolchain.contracts_folder()
    assert folder is not None, "the benchmark runs from a checkout of the repository"
    request = {
        "language": "Solidity",
        "sources": {"Peers.sol": {"content": (Path(__file__).parent / "Peers.sol").read_text(encoding="utf-8")}},
        "settings": {
            "remappings": ["@openzeppelin/=node_modules/@openzeppelin/"],
            "optimizer": {"enabled": True, "runs": 800},
            "evmVersion": "cancun",
            "outputSelection": {"Peers.sol": {"Peers": ["abi", "evm.bytecode.object"]}},
        },
    }
    command = [str(toolchain.node_folder() / "node"), "tools/solc", "--standard-json"]
    result = subprocess.run(command, cwd=folder, input=json.dumps(request), capture_output=True, text=True, check=True)
    answer = json.loads(result.stdout)
    assert "contracts" in answer, answer.get("errors")
    contract: dict[str, Any] = answer["contracts"]["Peers.sol"]["Peers"]
    return contract


def main() -> None:
    """Measures, writes the results and shows them."""
    rows = measure()
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"command": "python -m bench.gas", "unit": "gas", "rows": [asdict(row) for row in rows]}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    table = Table("design", "batch", "contributors", "gas per inference", "on chain")
    for row in rows:
        people = "" if row.contributors is None else f"{row.contributors:,}"
        table.add_row(row.design, f"{row.batch:,}", people, f"{row.gas_per_inference:,.0f}", row.on_chain)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
