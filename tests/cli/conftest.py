"""A small network, and the command line on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openledger.cli.app import app
from openledger.node.server import Server
from tests.small import serving, small

Run = Callable[..., Any]
"""``run("datanet", "show")`` → what the command writes with ``--json``."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory)


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(built, tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="module")
def run(server: Server) -> Run:
    def command(*arguments: object) -> Any:
        home = str(server.node.home.path)
        done = CliRunner().invoke(app, [*map(str, arguments), "--home", home, "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return command
