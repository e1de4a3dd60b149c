"""``openledger agent``: agents with an identity, a price and stake on the chain."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, short, table
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import AgentRow

app = typer.Typer(help="Agents: identity, model, price and stake on the chain.", no_args_is_help=True)

AgentArgument = Annotated[int, typer.Argument(help="The agent's number.")]
OwnerOption = Annotated[str, typer.Option("--as", help="The owner: name or address of an account of this node.")]


@app.command(name="list")
def list_agents(home: HomeOption = None, json: JsonOption = False) -> None:
    """Every agent."""
    with network(home) as client:
        _show(client.send(calls.agents()), json=json)


@app.command()
def show(number: AgentArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """One agent."""
    with network(home) as client:
        _show([client.send(calls.agent(number))], json=json)


@app.command(name="register")
def register_agent(
    name: Annotated[str, typer.Argument(help="What people find it by.")],
    account: OwnerOption,
    description: Annotated[str, typer.Option(help="What it does.")] = "",
    endpoint: Annotated[str, typer.Option(help="Where it answers.")] = "",
    model: Annotated[int, typer.Option(min=0, help="The model behind it; 0 for none.")] = 0,
    price: Annotated[str, typer.Option(help="OPEN for a call.")] = "0",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Register an agent: its file is published, its identity is an ERC-721 token of its owner."""
    call = calls.register_agent(account, name, description=description, endpoint=endpoint, model=model, price=price)
    with network(home) as client:
        _show([client.send(call)], json=json)


@app.command()
def terms(
    number: AgentArgument,
    model: Annotated[int, typer.Option(min=0, help="The model behind it; 0 for none.")],
    price: Annotated[str, typer.Option(help="OPEN for a call.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Set an agent's model and price."""
    with network(home) as client:
        _show([client.send(calls.set_agent_terms(number, model, price))], json=json)


@app.command()
def wallet(
    number: AgentArgument,
    account: Annotated[str, typer.Argument(help="Where it is paid: name or address of an account of this node.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Set the wallet that an agent is paid at and whose stake stands behind it."""
    with network(home) as client:
        _show([client.send(calls.set_agent_wallet(number, account))], json=json)


def _show(found: list[AgentRow], *, json: bool) -> None:
    if json:
        print_json(found, list[AgentRow])
        return
    rows = table(
        "Agents", "no.", "name", "owner", "wallet", "model", "price", "stake", "does", right=["no.", "model", "price"]
    )
    for row in found:
        rows.add_row(str(row.number), row.name, party(row.owner), party(row.wallet), str(row.model or "—"),
                     open_amount(row.price), "yes" if row.active else "none", short(row.description, 40))  # fmt: skip
    console.print(rows)
