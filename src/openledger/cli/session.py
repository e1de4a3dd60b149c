"""Where a command finds its network: the node that runs on the home folder, or one that it starts for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import errors
from openledger.client import OpenLedger
from openledger.node.home import Home
from openledger.node.settings import Settings, load_settings
from openledger.primitives import NotFoundError

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the network's state.", envvar="OPENLEDGER_HOME", show_envvar=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON on the standard output.")]


@contextmanager
def network(home: Path | None, *, api_key: str = "", url: str = "") -> Iterator[OpenLedger]:
    """A client of the node at ``url`` or on ``home``; a node is started for the length of the command where none runs.

    Raises:
        NotFoundError: there is no network in that folder.
    """
    if url:
        with OpenLedger(url, api_key=api_key) as client:
            yield client
        return
    settings = load_settings(home=home)
    place = Home(settings.home)
    running = place.running_url()
    if running is not None:
        with OpenLedger(running, api_key=api_key, operator_token=place.operator_token()) as client:
            yield client
        return
    if not place.founded():
        raise NotFoundError(
            f"no network in {settings.home}; run `openledger demo` or `openledger up` first, or name another folder with --home"
        )
    with _started(settings) as client:
        client._api_key = api_key
        yield client


@contextmanager
def _started(settings: Settings) -> Iterator[OpenLedger]:
    from openledger.node.server import Server

    with errors.status("starting the network …"):
        server = Server(settings.model_copy(update={"port": 0}))
        server.start()
    try:
        with OpenLedger(server.url, operator_token=server.node.operator_token) as client:
            yield client
    finally:
        server.stop()
