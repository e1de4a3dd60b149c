"""``openledger host``: who serves models, where, and with what stake."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import HostRow

app = typer.Typer(help="Hosts: where they answer and what they serve.", no_args_is_help=True)

HostOption = Annotated[str, typer.Option("--as", help="The host: name or address; this node's own if left out.")]
ModelsArgument = Annotated[list[int], typer.Argument(help="Models by number.")]


@app.command(name="list")
def list_hosts(home: HomeOption = None, json: JsonOption = False) -> None:
    """Every host that was ever listed."""
    with network(home) as client:
        _show(client.send(calls.hosts()), json=json)


@app.command()
def register(
    uri: Annotated[str, typer.Argument(help="Where it answers, such as https://host.example/v1.")],
    profile: Annotated[str, typer.Option(help="What it says of its hardware and terms; published.")] = "",
    account: HostOption = "host",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List a host with its stake, or change its listing."""
    with network(home) as client:
        _show([client.send(calls.register_host(uri, profile, account))], json=json)


@app.command()
def serve(
    models: ModelsArgument, account: HostOption = "host", home: HomeOption = None, json: JsonOption = False
) -> None:
    """Say that the host serves these models."""
    with network(home) as client:
        _show([client.send(calls.serve_models(models, True, account))], json=json)


@app.command()
def drop(
    models: ModelsArgument, account: HostOption = "host", home: HomeOption = None, json: JsonOption = False
) -> None:
    """Say that the host no longer serves these models."""
    with network(home) as client:
        _show([client.send(calls.serve_models(models, False, account))], json=json)


@app.command()
def retire(account: HostOption = "host", home: HomeOption = None, json: JsonOption = False) -> None:
    """Take the host off the list; its stake stays."""
    with network(home) as client:
        _show([client.send(calls.retire_host(account))], json=json)


def _show(found: list[HostRow], *, json: bool) -> None:
    if json:
        print_json(found, list[HostRow])
        return
    rows = table("Hosts", "host", "address", "answers at", "models", "stake", "listed", "since", right=["stake"])
    for row in found:
        rows.add_row(party(row.party), row.party.address, row.uri, ", ".join(map(str, row.models)) or "—",
                     open_amount(row.staked, 0), "yes" if row.listed else "no", when(row.since))  # fmt: skip
    console.print(rows)
