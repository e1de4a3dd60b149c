"""The predeploys that `openledger chain l1` puts on its L2 are what their source compiles to."""

from __future__ import annotations

import json
import subprocess

from openledger.chain.l1 import FILES
from openledger.chain.toolchain import contracts_folder, node_folder


def compiled() -> dict[str, str]:
    """Deployed code of the predeploys by name, compiled with the project's own compiler."""
    folder = contracts_folder()
    assert folder is not None
    source = {"language": "Solidity", "sources": {"C.sol": {"content": (FILES / "CustomGasToken.sol").read_text()}},
              "settings": {"outputSelection": {"*": {"*": ["evm.deployedBytecode.object"]}}, "evmVersion": "cancun"}}  # fmt: skip
    command = [str(node_folder() / "node"), str(folder / "tools" / "solc"), "--standard-json"]
    result = json.loads(
        subprocess.run(command, input=json.dumps(source), capture_output=True, text=True, check=True).stdout
    )
    contracts = result["contracts"]["C.sol"]
    return {name: "0x" + entry["evm"]["deployedBytecode"]["object"] for name, entry in contracts.items()}


def test_the_shipped_predeploys_are_compiled_from_their_source() -> None:
    assert json.loads((FILES / "predeploys.json").read_text()) == compiled()
