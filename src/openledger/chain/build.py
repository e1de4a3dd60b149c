"""Builds the contracts and keeps the shipped artifacts equal to their source.

::

    python -m openledger.chain.build            compile contracts/ and write the artifacts
    python -m openledger.chain.build --check    compile and compare; exit status 1 if an artifact differs
    python -m openledger.chain.build --test     run the Solidity tests, and compare their gas with contracts/.gas-snapshot
    python -m openledger.chain.build --gas      write contracts/.gas-snapshot
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from openledger.chain import toolchain
from openledger.chain.artifacts import CONTRACTS
from openledger.primitives import ConfigurationError, OpenLedgerError

_RANDOM_TESTS = "^(testFuzz_|invariant_)"

ARTIFACTS = Path(__file__).resolve().parent / "artifacts"


def compile_contracts(folder: Path) -> dict[str, str]:
    """Compiles the Foundry project and returns the text of each artifact file by contract name."""
    toolchain.run([str(toolchain.find_program("forge")), "build", "--skip", "test"], folder)
    return {name: _artifact_text(folder / "out", name) for name in CONTRACTS}


def write(artifacts: dict[str, str]) -> None:
    """Writes the artifact files and removes those of contracts that are gone."""
    ARTIFACTS.mkdir(exist_ok=True)
    for path in ARTIFACTS.glob("*.json"):
        if path.stem not in artifacts:
            path.unlink()
    for name, text in artifacts.items():
        (ARTIFACTS / f"{name}.json").write_text(text, encoding="utf-8")


def differences(artifacts: dict[str, str]) -> list[str]:
    """Names of the contracts whose shipped artifact is missing or not what the source compiles to."""
    return [
        name
        for name, text in artifacts.items()
        if not (path := ARTIFACTS / f"{name}.json").is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m openledger.chain.build", description="Build the contracts.")
    parser.add_argument("--check", action="store_true", help="compare with the shipped artifacts, write nothing")
    parser.add_argument("--test", action="store_true", help="run the Solidity tests and compare their gas")
    parser.add_argument("--gas", action="store_true", help="write down the gas of the Solidity tests")
    options = parser.parse_args(arguments)
    try:
        return _build(check=options.check, test=options.test, gas=options.gas)
    except OpenLedgerError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _build(*, check: bool, test: bool, gas: bool) -> int:
    folder = toolchain.contracts_folder()
    if folder is None:
        raise ConfigurationError("the contracts' source is not here; run this from a checkout of the repository")
    if not (folder / "node_modules").is_dir():
        toolchain.install()
    if test or gas:
        forge = str(toolchain.find_program("forge"))
        snapshot = [forge, "snapshot", "--no-match-test", _RANDOM_TESTS]
        if test:
            toolchain.run([forge, "test"], folder)
        toolchain.run([*snapshot, "--check"] if test else snapshot, folder)
        return 0
    artifacts = compile_contracts(folder)
    if not check:
        write(artifacts)
        print(f"wrote {len(artifacts)} artifacts to {ARTIFACTS}")
        return 0
    if changed := differences(artifacts):
        print(f"artifacts differ from the source: {', '.join(changed)}; run `python -m openledger.chain.build`")
        return 1
    print(f"{len(artifacts)} artifacts match the source")
    return 0


def _artifact_text(out: Path, name: str) -> str:
    compiled = json.loads((out / f"{name}.sol" / f"{name}.json").read_text(encoding="utf-8"))
    content = {"abi": compiled["abi"], "bytecode": compiled["bytecode"]["object"], "contract": name}
    return json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
