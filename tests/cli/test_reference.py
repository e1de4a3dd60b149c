"""Every command can be reached, and the reference in docs/cli.md says what the commands themselves say."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import typer

import openledger.cli
from openledger.cli.app import app

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def test_every_noun_of_the_command_line_is_registered() -> None:
    modules = [importlib.import_module(f"openledger.cli.{found.name}") for found in pkgutil.iter_modules(openledger.cli.__path__)
               if found.name not in ("app", "__main__")]  # fmt: skip
    nouns = {
        id(module.app): module.__name__ for module in modules if isinstance(getattr(module, "app", None), typer.Typer)
    }
    assert set(nouns) == {id(group.typer_instance) for group in app.registered_groups}, nouns


def test_the_reference_is_what_the_commands_say(tmp_path: Path) -> None:
    written = tmp_path / "cli.md"
    command = [sys.executable, "-m", "typer", "openledger.cli.app", "utils", "docs", "--name", "openledger"]
    done = subprocess.run([*command, "--output", str(written)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert written.read_text(encoding="utf-8") == REFERENCE.read_text(encoding="utf-8"), " ".join(command)
