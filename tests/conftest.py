"""The real network that integration and browser tests share: the main job, run once by its own command.

The first attempt at the main job is interrupted half-way with Ctrl-C on purpose; the second, on the same folder, must work.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, text

from openledger.node.home import Home
from tests.postgres import postgres_server

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # how fast a machine draws examples says nothing about what is tested

COMMAND = [sys.executable, "-m", "openledger.cli"]
_INTERRUPT_AFTER = "contributions"
_PATIENCE_SECONDS = 1500
_LONG = ("node", "openlora")
"""Folders whose tests start networks and engines."""
_DATABASES = itertools.count(1)


@dataclass(frozen=True)
class Demo:
    """The finished main job: its home, its JSON document, what it printed, and how the interrupted attempt ended."""

    home: Path
    document: dict[str, Any]
    output: str
    interrupted_code: int
    interrupted_output: str


@dataclass
class Network:
    """The demo's network as a service that stays: `openledger up` in a process of its own."""

    home: Path
    document: dict[str, Any]
    process: subprocess.Popen[str]
    url: str

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Starts it (again) and waits until it answers."""
        self.process = start_up(self.home)
        self.url = wait_for_url(self.home, self.process)


def openledger(*arguments: str, home: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    where = [] if home is None else ["--home", str(home)]
    return subprocess.run(
        [*COMMAND, *arguments, *where],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
        **options,
    )


def start_up(home: Path) -> subprocess.Popen[str]:
    """`openledger up` on a free port."""
    log = (home.parent / "up.log").open("a")
    return subprocess.Popen(
        [*COMMAND, "up", "--home", str(home), "--port", "0"], stdout=log, stderr=subprocess.STDOUT, text=True
    )


def wait_for_url(home: Path, process: subprocess.Popen[str]) -> str:
    """Where the node answers, once it does."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(
                f"`openledger up` ended with {process.returncode}: {(home.parent / 'up.log').read_text()}"
            )
        url = Home(home).running_url()
        if url is not None and json.loads((home / "node.json").read_text())["pid"] == process.pid:
            return url
        time.sleep(0.2)
    raise RuntimeError("`openledger up` did not answer in time")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The main job, interrupted once and then run to its end."""
    folder = tmp_path_factory.mktemp("demo")
    home, path = folder / "home", folder / "demo.json"
    code, partial = _interrupt(home, folder / "never.json")
    assert not (folder / "never.json").exists()
    done = openledger("demo", "--json", str(path), home=home, env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return Demo(home, json.loads(path.read_text()), done.stdout, code, partial)


@pytest.fixture(scope="session")
def network(demo: Demo) -> Iterator[Network]:
    """The demo's network, running."""
    process = start_up(demo.home)
    running = Network(demo.home, demo.document, process, wait_for_url(demo.home, process))
    yield running
    running.process.send_signal(signal.SIGINT)
    try:
        running.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        running.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server; its URL."""
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'node.sqlite'}"
    server: str = request.getfixturevalue("postgres")
    name = f"test{next(_DATABASES)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


def _interrupt(home: Path, path: Path) -> tuple[int, str]:
    # A shell that runs these tests in the background lets its children ignore Ctrl-C; a person's does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = home.parent / "interrupted.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*COMMAND, "demo", "--home", str(home), "--json", str(path)],
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while _INTERRUPT_AFTER not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        return process.wait(timeout=120), log.read_text()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that stands on the main job, directly or through its network; other rooms have networks of their own.

    Files that take long come first, so that two workers end at about the same time.
    """
    for item in items:
        if "demo" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.network)
    items.sort(key=lambda item: item.path.parent.name not in _LONG)
