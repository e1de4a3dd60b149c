"""``openledger access``: who may read a Datanet, and what its contributors earn by that."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, short, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import AccessRow, GrantRow, IncomeRow

app = typer.Typer(help="Access to Datanets: requests, grants, income.", no_args_is_help=True)

DatanetArgument = Annotated[int, typer.Argument(help="The Datanet's number.", metavar="DATANET")]
RequestArgument = Annotated[int, typer.Argument(help="The request's number.")]
AddressArgument = Annotated[str, typer.Argument(help="The reader's address.")]
DaysOption = Annotated[float, typer.Option(help="For how long, in days from now.")]


@app.command(name="list")
def list_requests(number: DatanetArgument = 1, home: HomeOption = None, json: JsonOption = False) -> None:
    """The requests for access to a Datanet."""
    with network(home) as client:
        _show(client.send(calls.access_requests(number)), json=json)


@app.command()
def request(
    number: DatanetArgument,
    account: Annotated[str, typer.Option("--as", help="The reader: name or address of an account of this node.")],
    purpose: Annotated[str, typer.Option(help="What the records are wanted for; it is published.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Ask for access and pay its fee; granted at once where access is for sale, else the owner decides."""
    with network(home) as client:
        _show([client.send(calls.request_access(number, account, purpose))], json=json)


@app.command()
def grant(
    number: DatanetArgument,
    request: RequestArgument,
    days: DaysOption = 365.0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Grant a request as the Datanet's owner; the fee goes to the owner and the contributors."""
    with network(home) as client:
        _show([client.send(calls.grant_request(number, request, days))], json=json)


@app.command()
def deny(number: DatanetArgument, request: RequestArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Deny a request as the Datanet's owner; the fee goes back."""
    with network(home) as client:
        _show([client.send(calls.deny_request(number, request))], json=json)


@app.command()
def withdraw(
    number: DatanetArgument, request: RequestArgument, home: HomeOption = None, json: JsonOption = False
) -> None:
    """Take your open request back; the fee goes back."""
    with network(home) as client:
        _show([client.send(calls.withdraw_request(number, request))], json=json)


@app.command()
def show(number: DatanetArgument, account: AddressArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Whether an account may read a Datanet now."""
    with network(home) as client:
        _standing(client.send(calls.grant(number, account)), json=json)


@app.command()
def allow(
    number: DatanetArgument,
    account: AddressArgument,
    days: DaysOption = 365.0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Let an account read without a request, as the Datanet's owner."""
    with network(home) as client:
        _standing(client.send(calls.grant_access(number, account, days)), json=json)


@app.command()
def revoke(
    number: DatanetArgument, account: AddressArgument, home: HomeOption = None, json: JsonOption = False
) -> None:
    """Take back access that was not paid for, as the Datanet's owner."""
    with network(home) as client:
        _standing(client.send(calls.revoke_access(number, account)), json=json)


@app.command()
def income(number: DatanetArgument = 1, home: HomeOption = None, json: JsonOption = False) -> None:
    """What contributions have earned by access and licences of a Datanet, and not claimed."""
    with network(home) as client:
        found = client.send(calls.income(number))
    if json:
        print_json(found, list[IncomeRow])
        return
    rows = table("Income in OPEN", "version", "contribution", "contributor", "claimable",
                 right=["version", "contribution", "claimable"])  # fmt: skip
    for row in found:
        rows.add_row(str(row.version), str(row.contribution), party(row.contributor), open_amount(row.claimable))
    console.print(rows)


@app.command()
def claim(
    number: DatanetArgument,
    version: Annotated[int, typer.Argument(help="The version that was licensed.")],
    contribution: Annotated[int, typer.Argument(help="The contribution's number.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Pay a contribution's income to its contributor."""
    with network(home) as client:
        wei = int(client.send(calls.claim_income(number, version, contribution))["wei"])
    if json:
        print_json({"contribution": contribution, "wei": str(wei)})
    else:
        console.print(f"{open_amount(wei, 18)} OPEN paid to the contributor of contribution {contribution}")


def _show(found: list[AccessRow], *, json: bool) -> None:
    if json:
        print_json(found, list[AccessRow])
        return
    rows = table("Requests for access", "no.", "Datanet", "account", "state", "fee", "purpose", right=["no.", "fee"])
    for row in found:
        rows.add_row(str(row.request), str(row.datanet), party(row.account), row.state, open_amount(row.fee),
                     short(row.purpose))  # fmt: skip
    console.print(rows)


def _standing(row: GrantRow, *, json: bool) -> None:
    if json:
        print_json(row, GrantRow)
        return
    paid = " (paid for)" if row.paid else ""
    until = f", by a grant until {when(row.until)}{paid}" if row.until and row.access else ""
    console.print(f"{party(row.account)} {'may' if row.access else 'may not'} read Datanet {row.datanet}{until}")
