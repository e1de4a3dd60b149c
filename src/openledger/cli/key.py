"""``openledger key``: API keys, each a session key with a cap and an expiry on the chain."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, print_json, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls

app = typer.Typer(help="API keys with a spending cap.", no_args_is_help=True)


@app.command()
def create(
    cap: Annotated[str, typer.Option(help="The most it can ever spend, in OPEN.")] = "10",
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How long it lives.")] = 30.0,
    model: Annotated[
        list[str] | None, typer.Option(help="Name of a model that may be asked with it; repeat it. All if left out.")
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Make an API key paid by this node's consumer account. It is shown once and stored nowhere."""
    with network(home) as client:
        made = client.send(calls.create_key(cap, days, model or ()))
    if json:
        print_json(made)
        return
    console.print(made["key"], soft_wrap=True)
    console.print(
        f"[dim]spends at most {open_amount(int(made['cap']))} OPEN of {made['consumer']} until {when(int(made['expires']))}; "
        "whoever has it can spend that much, so keep it[/]"
    )
