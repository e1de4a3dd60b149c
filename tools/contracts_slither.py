"""Runs Slither on the contracts and fails on any finding that ``contracts/slither.toml`` does not explain.

Usage: ``python tools/contracts_slither.py``, after ``bash tools/audit.sh slither``. Slither's own Foundry mode cleans the build
and compiles the tests; here forge compiles the sources into ``build/slither-out`` and Slither reads that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

from openledger.chain import toolchain

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = ROOT / "contracts"
OUT = ROOT / "build" / "slither-out"
RESULT = ROOT / "build" / "slither.json"
LOG = ROOT / "build" / "slither.log"


def main() -> int:
    """Returns the exit status: 0 if every finding is explained and every explanation explains one."""
    triage = tomllib.loads((CONTRACTS / "slither.toml").read_text(encoding="utf-8"))["explained"]
    expected = {(entry["check"], entry["where"]): entry.get("count", 1) for entry in triage if entry["reason"]}
    analyse()
    found = findings()
    wrong = False
    for (check, where), texts in sorted(found.items()):
        if (check, "*") in expected or expected.get((check, where)) == len(texts):
            continue
        wrong = True
        print(f"not explained: {len(texts)} of {check} at {where}\n    " + "\n    ".join(texts))
    for check, where in sorted(expected.keys() - found.keys()):
        if where == "*" and any(check == other for other, _ in found):
            continue
        wrong = True
        print(f"explained but not found any more: {check} at {where}")
    if wrong:
        print("fix the code, or say in contracts/slither.toml why it is right")
        return 1
    print(f"{sum(map(len, found.values()))} findings in {len(found)} places, all explained")
    return 0


def analyse() -> None:
    """Compiles the sources and writes Slither's findings to :data:`RESULT`."""
    forge = toolchain.find_program("forge")
    build = [str(forge), "build", "--skip", "test", "--build-info", "--ast", "--force", "--out", str(OUT)]
    build += ["--build-info-path", str(OUT / "build-info"), "--cache-path", str(OUT.parent / "slither-cache")]
    for stale in (OUT / "build-info").glob("*.json"):
        stale.unlink()
    toolchain.run(build, CONTRACTS)
    RESULT.unlink(missing_ok=True)
    path = os.pathsep.join([str(forge.parent), str(toolchain.node_folder()), os.environ.get("PATH", "")])
    slither = [str(ROOT / "build" / "slither" / "bin" / "slither"), ".", "--foundry-ignore-compile"]
    slither += ["--foundry-out-directory", str(OUT), "--filter-paths", "node_modules|test/", "--json", str(RESULT)]
    # Slither's status is not 0 when it finds something: what counts is the file that it writes.
    with LOG.open("w", encoding="utf-8") as log:
        subprocess.run(slither, cwd=CONTRACTS, env={**os.environ, "PATH": path}, stdout=log, stderr=log, check=False)
    if not RESULT.is_file():
        raise SystemExit(f"Slither wrote no result; its messages are in {LOG}")


def findings() -> dict[tuple[str, str], list[str]]:
    """Slither's findings by (check, ``Contract.function`` or ``Contract``)."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    if not result["success"]:
        raise SystemExit(f"Slither failed: {result['error']}")
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for finding in result["results"]["detectors"]:
        where = place(finding["elements"][0])
        found[finding["check"], where].append(" ".join(finding["description"].split()))
    return found


def place(element: dict[str, object]) -> str:
    """``Contract.function`` of the function that an element is or is in, else the element's own name."""
    names = [str(element["name"])]
    while element["type"] != "contract":
        fields = element.get("type_specific_fields")
        if not isinstance(fields, dict) or "parent" not in fields:
            break
        element = fields["parent"]
        if element["type"] in ("contract", "function"):
            if element["type"] == "function" and len(names) == 1:
                names = []
            names.insert(0, str(element["name"]))
    return ".".join(names)


if __name__ == "__main__":
    sys.exit(main())
