"""``openledger community``: the bootstrap distribution of OPEN to a published list."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import BootstrapView

app = typer.Typer(help="The community's bootstrap: a list of accounts that claim OPEN once.", no_args_is_help=True)


@app.command()
def show(home: HomeOption = None, json: JsonOption = False) -> None:
    """The list: who gets what, who has claimed, and until when."""
    with network(home) as client:
        view = client.send(calls.community())
    if json:
        print_json(view, BootstrapView)
        return
    rows = table(f"Community bootstrap, claims until {when(view.deadline)}", "account", "address", "OPEN", "claimed",
                 right=["OPEN"])  # fmt: skip
    for row in view.accounts:
        rows.add_row(party(row.account), row.account.address, open_amount(row.amount), "yes" if row.claimed else "no")
    console.print(rows)
    console.print(f"[dim]{open_amount(view.left)} of {open_amount(view.total)} OPEN are left; the remainder goes to "
                  f"{party(view.remainder_to)}[/]")  # fmt: skip


@app.command()
def claim(
    account: Annotated[str, typer.Argument(help="Address on the list; the OPEN can only go there.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Claim what the list gives an account."""
    with network(home) as client:
        wei = int(client.send(calls.claim_grant(account))["wei"])
    print_json({"account": account, "wei": str(wei)}) if json else console.print(
        f"{open_amount(wei, 18)} OPEN claimed to {account}"
    )


@app.command(name="return")
def return_remainder(home: HomeOption = None, json: JsonOption = False) -> None:
    """Pay back what nobody claimed, once the deadline is over."""
    with network(home) as client:
        wei = int(client.send(calls.return_remainder())["wei"])
    print_json({"wei": str(wei)}) if json else console.print(f"{open_amount(wei, 18)} OPEN returned")
