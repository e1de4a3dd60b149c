"""``openledger dispute``: challenging a receipt or a payout root with a bond, and deciding it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, short, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.client.core import Call
from openledger.node.views import DisputeRow
from openledger.primitives import InputError, parse_json

app = typer.Typer(help="Disputes: bonded challenges of receipts and payout roots.", no_args_is_help=True)

AsOption = Annotated[str, typer.Option("--as", help="Address that pays the bond; this node must hold its key.")]
NumberArgument = Annotated[int, typer.Argument(help="The dispute's number.")]


@app.command(name="list")
def list_disputes(home: HomeOption = None, json: JsonOption = False) -> None:
    """All disputes, newest first."""
    with network(home) as client:
        rows = client.send(calls.disputes())
    if json:
        print_json(rows, list[DisputeRow])
        return
    listed = table("Disputes", "no.", "about", "challenger", "accused", "state", "bond", "verdicts", "why",
                   right=["no.", "bond"])  # fmt: skip
    for row in rows:
        listed.add_row(str(row.number), _about(row), party(row.challenger), party(row.accused), row.state,
                       open_amount(row.bond, 0), f"{row.upholds} : {row.rejects}", short(row.why, 50))  # fmt: skip
    console.print(listed)


@app.command(name="open")
def open_dispute(
    receipt: Annotated[str, typer.Argument(help="The receipt's id, or its number.")],
    account: AsOption,
    why: Annotated[str, typer.Option("--why", help="What is wrong, in words.")] = "",
    shares: Annotated[
        Path | None,
        typer.Option(help="JSON file with the [record hash, ppm] pairs that you get; without it this node recomputes."),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Challenge a receipt. The bond is lost if the jury finds the receipt right."""
    _act(calls.open_dispute(account, receipt, why, _read(shares)), home, json=json)


@app.command()
def root(
    number: Annotated[int, typer.Argument(help="The payout root's number.")],
    account: AsOption,
    why: Annotated[str, typer.Option("--why", help="What is wrong, in words.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Challenge a payout root that is not active yet."""
    _act(calls.open_root_dispute(account, number, why), home, json=json)


@app.command()
def answer(
    number: NumberArgument,
    account: Annotated[
        str, typer.Option("--as", help="Address that pays the bond; this node's host if not given.")
    ] = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Stand up for what was challenged, with the same bond."""
    _act(calls.answer_dispute(number, account), home, json=json)


@app.command()
def vote(number: NumberArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Do what can be done now: draw the jury, vote with this node's validators by recomputing, end the round."""
    _act(calls.advance_dispute(number), home, json=json)


def _act(call: Call[DisputeRow], home: Path | None, *, json: bool) -> None:
    with network(home) as client:
        row = client.send(call)
    if json:
        print_json(row, DisputeRow)
        return
    console.print(f"dispute {row.number} about {_about(row)} is {row.state}", soft_wrap=True)
    if row.state == "open":
        console.print(f"[dim]upheld if nobody answers until {when(row.answer_end)}[/]")


def _about(row: DisputeRow) -> str:
    if row.kind == "receipt":
        return f"receipt {row.sequence} of batch {row.subject}"
    return f"payout root {row.subject}"


def _read(path: Path | None) -> list[tuple[str, int]] | None:
    if path is None:
        return None
    pairs = parse_json(path.read_bytes())
    try:
        return [(str(record), int(ppm)) for record, ppm in pairs]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} holds no list of [record hash, ppm] pairs: {error}") from error
