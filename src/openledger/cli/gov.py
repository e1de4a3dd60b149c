"""``openledger gov``: runtime parameters, proposals and votes."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, short_hash, table
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import GovernanceView

app = typer.Typer(help="Governance: parameters, proposals, votes.", no_args_is_help=True)


@app.command()
def params(home: HomeOption = None, json: JsonOption = False) -> None:
    """The chain's runtime parameters."""
    view = _view(home)
    if json:
        print_json(view, GovernanceView)
        return
    rows = table("Runtime parameters", "key", "value", "unit", "bounds", "what it does", right=["value"])
    for row in view.parameters:
        amount = open_amount if row.unit == "wei" else (lambda value: f"{value:,}")
        unit = "OPEN" if row.unit == "wei" else row.unit
        rows.add_row(
            row.key, amount(row.value), unit, f"{amount(row.minimum)} … {amount(row.maximum)}", row.description
        )
    console.print(rows)


@app.command(name="list")
def list_proposals(home: HomeOption = None, json: JsonOption = False) -> None:
    """Every proposal and how its vote stands."""
    view = _view(home)
    if json:
        print_json(view, GovernanceView)
        return
    rows = table("Proposals", "id", "title", "changes", "state", "for", "against", "quorum", "proposer",
                 right=["for", "against", "quorum"])  # fmt: skip
    for row in view.proposals:
        rows.add_row(short_hash(row.id), row.title, row.changes, row.state, open_amount(row.votes_for, 0),
                     open_amount(row.votes_against, 0), open_amount(row.quorum, 0), party(row.proposer))  # fmt: skip
    console.print(rows)


@app.command()
def propose(
    key: Annotated[str, typer.Argument(help="The parameter, such as fee.data.")],
    value: Annotated[int, typer.Argument(help="Its new value in the parameter's unit (ppm, wei, seconds).")],
    why: Annotated[str, typer.Option("--why", help="What the voters should know.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Propose to change one runtime parameter."""
    with network(home) as client:
        made = client.send(calls.propose(key, value, why))
    print_json(made) if json else console.print(f"proposal {made['id']}", soft_wrap=True)


@app.command()
def vote(
    proposal: Annotated[str, typer.Argument(help="The proposal's id.")],
    support: Annotated[str, typer.Argument(help="for, against or abstain.")],
    voter: Annotated[str, typer.Option("--as", help="Address of the voter, whose key this node must hold.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Vote on a proposal."""
    with network(home) as client:
        result = client.send(calls.vote(proposal, voter, support))
    print_json(result) if json else console.print(f"voted; the proposal is {result['state']}")


@app.command()
def execute(
    proposal: Annotated[str, typer.Argument(help="The proposal's id.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Queue a passed proposal, or execute it once its delay is over."""
    with network(home) as client:
        result = client.send(calls.execute(proposal))
    print_json(result) if json else console.print(f"the proposal is {result['state']}")


def _view(home: HomeOption) -> GovernanceView:
    with network(home) as client:
        return client.send(calls.governance())
