#!/usr/bin/env bash
# Sets up the virtual environment and the chain tools in this checkout. Run by `make setup`; safe to run again.
# PyTorch goes in first and alone: on a machine with a GPU, set TORCH="torch==2.13.0" and your pip index to the build you want.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3.11}"
VENV="${VENV:-.venv}"
TORCH="${TORCH:-torch==2.13.0}"

"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || {
  echo "OpenLedger needs Python 3.11 or newer; $PYTHON is $("$PYTHON" --version 2>&1). Run: make PYTHON=/path/to/python3.11 setup" >&2
  exit 1
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
export PIP_DISABLE_PIP_VERSION_CHECK=1
# Most modules of these libraries are never imported, so they are not all compiled here; the last step compiles those that every
# command with a model imports, once for all processes, wherever PYTHONDONTWRITEBYTECODE would have each do it again.
echo "Installing PyTorch …"
"$VENV/bin/python" -m pip install --quiet --no-compile -c constraints.txt "$TORCH"
echo "Installing OpenLedger and its libraries …"
"$VENV/bin/python" -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
echo "Installing the chain tools (anvil, forge, solc) …"
"$VENV/bin/python" -m openledger.chain.toolchain --install
echo "Compiling what loading a model imports …"
env -u PYTHONDONTWRITEBYTECODE "$VENV/bin/python" -c 'from openledger.models import load_base; load_base()'
