"""Proves the accounting properties in ``contracts/test/symbolic`` for all inputs with Halmos; fails if one is not proven.

Usage: ``python tools/contracts_halmos.py [CONTRACT ...]``, after ``bash tools/audit.sh halmos``. Halmos builds the project
itself; the environment keeps it to the symbolic tests and to a folder of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from openledger.chain import toolchain

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = ROOT / "contracts"
OUT = ROOT / "build" / "halmos-out"


def main() -> int:
    """Returns Halmos' exit status: 0 if everything was proven."""
    path = [str(toolchain.find_program("forge").parent), str(toolchain.node_folder()), os.environ.get("PATH", "")]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(path),
        "FOUNDRY_TEST": "test/symbolic",
        "FOUNDRY_OUT": str(OUT),
        "FOUNDRY_CACHE_PATH": str(OUT.parent / "halmos-cache"),
    }
    command = [str(ROOT / "build" / "halmos" / "bin" / "halmos"), "--forge-build-out", os.path.relpath(OUT, CONTRACTS)]
    command += ["--match-contract", "|".join(sys.argv[1:]) or "^Symbolic", "--no-status", "--solver-threads", "1"]
    # Bounds: loops are unrolled three times, signatures have 65 bytes; everything else is any value of its type.
    command += ["--loop", "3", "--default-bytes-lengths", "65", "--solver-timeout-assertion", "300s"]
    return subprocess.run(command, cwd=CONTRACTS, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
