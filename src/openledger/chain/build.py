"""Builds the contracts and keeps the shipped artifacts equal to their source.

::

    python -m openledger.chain.build            compile contracts/, write the artifacts and docs/contracts-reference.md
    python -m openledger.chain.build --check    compile and compare; exit status 1 if one differs or a function is not documented
    python -m openledger.chain.build --test     run the Solidity tests, and compare their gas with contracts/.gas-snapshot
    python -m openledger.chain.build --gas      write contracts/.gas-snapshot
    python -m openledger.chain.build --coverage measure the tests' coverage; exit status 1 if lines or branches are below 95%
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from openledger.chain import contract_reference, toolchain
from openledger.chain.artifacts import CONTRACTS
from openledger.primitives import ConfigurationError, OpenLedgerError

_LEAST_COVERAGE = 0.95
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
    parser.add_argument("--coverage", action="store_true", help="measure line and branch coverage of the contracts")
    parser.add_argument("--gas", action="store_true", help="write down the gas of the Solidity tests")
    options = parser.parse_args(arguments)
    try:
        return coverage() if options.coverage else _build(check=options.check, test=options.test, gas=options.gas)
    except OpenLedgerError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def coverage() -> int:
    """Runs the Solidity tests without the optimizer and prints what they cover of ``contracts/src``.

    Returns:
        1 if less than 95% of the lines or of the branches were run, else 0.
    """
    folder = _source()
    out = folder.parent / "build" / "coverage"
    out.mkdir(parents=True, exist_ok=True)
    report = out / "lcov.info"
    toolchain.run(
        [
            *(str(toolchain.find_program("forge")), "coverage", "--no-match-coverage", "(test|node_modules)"),
            *("--report", "lcov", "--report-file", str(report)),
            *("--out", str(out / "out"), "--cache-path", str(out / "cache")),
        ],
        folder,
    )
    low = False
    for what, parts in coverage_of(report.read_text(encoding="utf-8")).items():
        run = sum(parts.values())
        print(f"{what}: {run} of {len(parts)}, {100 * run / len(parts):.2f}%")
        for place in sorted(place for place, hit in parts.items() if not hit):
            print(f"    not run: {place}")
        low = low or run < _LEAST_COVERAGE * len(parts)
    return int(low)


def coverage_of(lcov: str) -> dict[str, dict[str, bool]]:
    """Whether each line and each branch was run, by its place, from a report in lcov's format."""
    found: dict[str, dict[str, bool]] = {"lines": {}, "branches": {}}
    file = ""
    for entry in lcov.splitlines():
        kind, _, value = entry.partition(":")
        fields = value.split(",")
        if kind == "SF":
            file = value
        elif kind == "DA":
            found["lines"][f"{file}:{fields[0]}"] = fields[1] != "0"
        elif kind == "BRDA":
            found["branches"][f"{file}:{fields[0]} branch {fields[1]}.{fields[2]}"] = fields[3] not in ("0", "-")
    return found


def _source() -> Path:
    folder = toolchain.contracts_folder()
    if folder is None:
        raise ConfigurationError("the contracts' source is not here; run this from a checkout of the repository")
    if not (folder / "node_modules").is_dir():
        toolchain.install()
    return folder


def _build(*, check: bool, test: bool, gas: bool) -> int:
    folder = _source()
    if test or gas:
        forge = str(toolchain.find_program("forge"))
        snapshot = [forge, "snapshot", "--no-match-test", _RANDOM_TESTS]
        if test:
            toolchain.run([forge, "test"], folder)
        toolchain.run([*snapshot, "--check"] if test else snapshot, folder)
        return 0
    artifacts = compile_contracts(folder)
    compiled = contract_reference.read_compiled(folder)
    text = contract_reference.reference(folder, compiled, CONTRACTS)
    page = folder.parent / "docs" / "contracts-reference.md"
    if not check:
        write(artifacts)
        page.write_text(text, encoding="utf-8")
        print(f"wrote {len(artifacts)} artifacts to {ARTIFACTS}, and {page.name}")
        return 0
    changed = differences(artifacts)
    if not page.is_file() or page.read_text(encoding="utf-8") != text:
        changed.append(f"docs/{page.name}")
    if changed:
        print(f"these differ from the source: {', '.join(changed)}; run `python -m openledger.chain.build`")
    missing = contract_reference.undocumented(compiled, CONTRACTS)
    for line in missing:
        print(line)
    if changed or missing:
        return 1
    print(f"{len(artifacts)} artifacts and docs/{page.name} match the source; every function says how it is misused")
    return 0


def _artifact_text(out: Path, name: str) -> str:
    compiled = json.loads((out / f"{name}.sol" / f"{name}.json").read_text(encoding="utf-8"))
    content = {"abi": compiled["abi"], "bytecode": compiled["bytecode"]["object"], "contract": name}
    return json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main())
