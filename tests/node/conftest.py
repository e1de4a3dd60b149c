"""A small network with a model that was trained on its three records in a few seconds; the model is real and knows little."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from openledger.node.progress import LogReporter
from openledger.node.server import Server
from openledger.node.service import Node
from openledger.node.settings import Settings
from tests.small import once, serving, small


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's home; nothing runs on it."""

    def train(home: Path) -> None:
        shutil.copytree(small(tmp_path_factory), home)
        node = Node.open(Settings(home=home, engine="thread"))
        try:
            assert node.trainer.run(1, 1, {"epochs": 1}, "tiny", LogReporter()) == 1
        finally:
            node.close()
        shutil.rmtree(home / "work", ignore_errors=True)

    return once(tmp_path_factory, "trained", train)


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A copy of it with its API, whose background work only a test does."""
    with serving(trained, tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def node(server: Server) -> Node:
    return server.node
