"""``openledger up``: the network as a service that stays, with its pages and APIs."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from openledger.cli.output import console, errors
from openledger.cli.reporting import TerminalReporter
from openledger.cli.session import HomeOption
from openledger.node.home import Home
from openledger.node.settings import load_settings

if TYPE_CHECKING:
    from openledger.node.server import Server


def up(
    home: HomeOption = None,
    host: Annotated[str | None, typer.Option(help="Address to bind to; loopback by default.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
) -> None:
    """Run the network until Ctrl-C: embedded chain, gateway, settlement, pages. State is kept over restarts.

    The first start sets the network up: it deploys the contracts, has a Datanet reviewed, and trains a model on it.
    """
    from openledger.node.founding import founding
    from openledger.node.server import RPC, Server
    from openledger.ui import register
    from openledger.ui.access import SIGN_IN

    settings = load_settings(home=home, host=host, port=port)
    if not Home(settings.home).founded():
        console.print(f"Setting up a new network in {settings.home}; this takes a few minutes once.")
        with TerminalReporter(errors) as reporter, founding(settings, reporter):
            pass
    server = Server(settings, register)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with errors.status("starting the network …"):
        server.start()
    try:
        server.node.start_work(lambda done: console.print(f"[dim]{done}[/]"))
        console.print(f"[bold]OpenLedger is up[/]: {server.url}")
        console.print(f"  page             {server.url}/")
        console.print(f"  act on the pages {_sign_in(server.url + SIGN_IN, server)}", soft_wrap=True)
        console.print(f"  OpenAI API       {server.url}/v1   [dim](key: openledger key create)[/]")
        console.print(f"  API reference    {server.url}/api/docs")
        console.print(f"  chain (JSON-RPC) {server.url}{RPC}   [dim]chain id {server.node.chain.chain_id}[/]")
        console.print(f"  state            {settings.home}\n[dim]Ctrl-C stops it; nothing is lost.[/]")
        stop.wait()
        console.print("stopping …")
    finally:
        server.stop()


def _sign_in(url: str, server: Server) -> str:
    """The link that signs the operator in; where the output may be kept, only where the token is found."""
    if console.is_terminal:
        return f"{url}#{server.node.operator_token}"
    return f"{url}   [dim](token: operator.token in the state folder)[/]"
