"""``openledger mcp``: this network's tools for other people's agents, over the Model Context Protocol on stdin and stdout."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.session import HomeOption, network


def mcp(
    url: Annotated[str, typer.Option(help="The node's address; the node on the home folder if left out.")] = "",
    key: Annotated[
        str,
        typer.Option(
            "--key", help="API key that pays for answers; without one nothing is asked.", envvar="OPENLEDGER_API_KEY"
        ),
    ] = "",
    home: HomeOption = None,
) -> None:
    """Serve the network's tools to an MCP client over standard input and output: models, ask, search, receipts, verify."""
    from openledger.client.mcp import make_server

    with network(home, api_key=key, url=url) as client:
        make_server(client).run()
