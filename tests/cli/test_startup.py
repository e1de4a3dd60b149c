"""What a command needs is all that it loads: libraries for models are there for those commands that use a model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOR_MODELS = {"accelerate", "bm25s", "mcp", "numba", "peft", "ray", "sympy", "torch", "transformers"}
FOR_A_NODE = {"alembic", "eth_account", "fastapi", "pyarrow", "sqlalchemy", "uvicorn", "web3"}

PROGRAM = """
import json, sys
from typer.testing import CliRunner
from openledger.cli.app import app

commands = json.loads(sys.argv[1])
ended = [[done.exit_code, done.output] for done in (CliRunner().invoke(app, command) for command in commands)]
json.dump({"ended": ended, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}, sys.stdout)
"""


def loaded(*commands: list[str], exit_code: int = 0) -> set[str]:
    """The top-level modules of a fresh process after these commands, each of which has to end so."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(commands)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [code for code, _ in told["ended"]] == [exit_code] * len(commands), told["ended"]
    return set(told["loaded"])


def test_help_and_settings_load_neither_models_nor_a_node() -> None:
    assert not loaded(["--help"], ["gov", "--help"], ["config", "--json"]) & (FOR_MODELS | FOR_A_NODE)


def test_a_refusal_loads_neither_models_nor_a_node(tmp_path: Path) -> None:
    home = ["--home", str(tmp_path / "none")]
    assert not loaded(["supply", *home], ["receipt", "list", *home], exit_code=1) & (FOR_MODELS | FOR_A_NODE)


@pytest.mark.chain
def test_a_node_that_is_asked_for_no_model_loads_none(built: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(built, home)
    asked = (["supply"], ["agent", "list"])
    found = loaded(*([*command, "--home", str(home), "--json"] for command in asked))
    assert not found & FOR_MODELS
    assert found >= FOR_A_NODE - {"pyarrow"}
