"""``openledger account``, ``claim`` and ``settle``: who has earned what, and taking it."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import PayoutsView, StakeRow

app = typer.Typer(help="Accounts: earned, claimed, balance.", no_args_is_help=True)

FromOption = Annotated[str, typer.Option("--as", help="Who acts: name or address of an account of this node.")]
RoleArgument = Annotated[str, typer.Argument(help="reviewer, validator, host, operator or agent.")]
AmountArgument = Annotated[str, typer.Argument(help="OPEN.")]


@app.command(name="list")
def list_accounts(home: HomeOption = None, json: JsonOption = False) -> None:
    """Everyone who has earned something."""
    with network(home) as client:
        view = client.send(calls.payouts())
    if json:
        print_json(view, PayoutsView)
        return
    rows = table("Earnings in OPEN", "account", "address", "roles", "earned", "claimed", "balance",
                 right=["earned", "claimed", "balance"])  # fmt: skip
    for row in view.earnings:
        rows.add_row(party(row.party), row.party.address, ", ".join(row.by_role), open_amount(row.earned),
                     open_amount(row.claimed), open_amount(row.balance))  # fmt: skip
    console.print(rows)
    console.print(
        f"[dim]fees {open_amount(view.total_fees)} = paid {open_amount(view.total_paid)} + dust {view.dust} wei[/]"
    )


@app.command()
def rotate(
    account: Annotated[str, typer.Argument(help="Address whose earnings move; this node must hold its key.")],
    successor: Annotated[str, typer.Argument(help="The new wallet; this node must hold its key too.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Move all that an account has earned and will earn to a new wallet, for good."""
    with network(home) as client:
        moved = client.send(calls.rotate_wallet(account, successor))
    print_json(moved) if json else console.print(
        f"{moved['holder']} holds the earnings of {account} now", soft_wrap=True
    )


@app.command()
def delegate(
    account: Annotated[str, typer.Argument(help="Address for which another may claim.")],
    claimer: Annotated[str, typer.Argument(help="Who may claim, to any receiver; the zero address takes it back.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Let another account claim for this one; strangers cannot any more."""
    with network(home) as client:
        made = client.send(calls.delegate_claims(account, claimer))
    print_json(made) if json else console.print(f"{made['claimer']} claims for {account} now", soft_wrap=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What this node shall call it.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Make an account of that name in this node's key store, or show its address if there is one."""
    with network(home) as client:
        made = client.send(calls.create_account(name))
    print_json(made) if json else console.print(f"{made['name']} is {made['address']}", soft_wrap=True)


@app.command()
def send(
    to: Annotated[str, typer.Argument(help="Receiver: the name of an account of this node, or any address.")],
    amount: Annotated[str, typer.Argument(help="OPEN.")],
    account: FromOption,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Send OPEN."""
    with network(home) as client:
        made = client.send(calls.send_open(account, to, amount))
    print_json(made) if json else console.print(f"{to} holds {open_amount(int(made['balance']))} OPEN now")


@app.command()
def stake(
    role: RoleArgument, amount: AmountArgument, account: FromOption, home: HomeOption = None, json: JsonOption = False
) -> None:
    """Stake OPEN in a role, to be drawn as reviewer or validator, or to serve as host."""
    with network(home) as client:
        _stake(client.send(calls.stake(account, role, amount)), json=json)


@app.command()
def unstake(
    role: RoleArgument, amount: AmountArgument, account: FromOption, home: HomeOption = None, json: JsonOption = False
) -> None:
    """Ask staked OPEN back; it can be withdrawn after the unbonding time."""
    with network(home) as client:
        _stake(client.send(calls.unstake(account, role, amount)), json=json)


@app.command(name="withdraw")
def withdraw_stake(role: RoleArgument, account: FromOption, home: HomeOption = None, json: JsonOption = False) -> None:
    """Withdraw a stake whose unbonding time is over."""
    with network(home) as client:
        _stake(client.send(calls.withdraw_stake(account, role)), json=json)


def _stake(row: StakeRow, *, json: bool) -> None:
    if json:
        print_json(row, StakeRow)
        return
    leaving = f", {open_amount(row.leaving)} leaving until {when(row.release)}" if row.leaving else ""
    state = "active" if row.active else "below the minimum"
    console.print(f"{party(row.account)} has {open_amount(row.staked)} OPEN staked as {row.role} ({state}){leaving}")


def claim(
    account: Annotated[str, typer.Argument(help="Address whose earnings to claim; they can only go to that account.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Claim what an account has earned, to that account."""
    with network(home) as client:
        wei = int(client.send(calls.claim(account))["wei"])
    if json:
        print_json({"account": account, "wei": str(wei)})
    else:
        console.print(f"{open_amount(wei, 18)} OPEN claimed to {account}")


def settle(home: HomeOption = None, json: JsonOption = False) -> None:
    """Post the waiting receipts to the chain and compute the new payouts now."""
    with network(home) as client:
        result = client.send(calls.settle())
    if json:
        print_json(result)
    else:
        console.print(f"{result['posted']} receipts posted")
