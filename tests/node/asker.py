"""A contract that asks a model, compiled and deployed for a test."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from eth_abi.abi import encode

from openledger.chain.toolchain import contracts_folder, node_folder
from openledger.node.service import Node


def make_asker(node: Node, *, refuses: bool) -> Any:
    """A deployed contract that asks the market as the consumer wills, and keeps what it is told unless it refuses to be."""
    folder = contracts_folder()
    assert folder is not None
    source = {
        "language": "Solidity",
        "sources": {"A.sol": {"content": (Path(__file__).parent / "contracts" / "Asker.sol").read_text()}},
        "settings": {"outputSelection": {"*": {"*": ["evm.bytecode.object", "abi"]}}, "evmVersion": "cancun"},
    }
    command = [str(node_folder() / "node"), str(folder / "tools" / "solc"), "--standard-json"]
    done = subprocess.run(command, input=json.dumps(source), capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)["contracts"]["A.sol"]["Asker"]
    arguments = encode(["address", "bool"], [node.chain.address("InferenceMarket"), refuses])
    code = bytes.fromhex(made["evm"]["bytecode"]["object"]) + arguments
    address = node.chain.create(node.keys.wallet("consumer"), code)
    return node.chain.w3.eth.contract(address=address, abi=made["abi"])
