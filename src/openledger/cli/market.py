"""``openledger market``: asking a model through the chain, as a contract does; a host fulfils."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from openledger.cli.output import console, errors, open_amount, party, print_json, short, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import MarketRow
from openledger.primitives import NotFoundError

app = typer.Typer(help="The market: ask through the chain, get an answer or the money back.", no_args_is_help=True)

NumberArgument = Annotated[int, typer.Argument(help="The request's number.")]


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask; it is published on the chain.")],
    account: Annotated[str, typer.Option("--as", help="Who pays: name or address of an account of this node.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Name or number; the newest if left out.")] = "",
    agent: Annotated[
        int, typer.Option(min=0, help="An agent's number instead; model and length of the answer are its own.")
    ] = 0,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of the answer.")] = 96,
    most: Annotated[str, typer.Option(help="The most that it may cost in OPEN; what it can if left out.")] = "",
    seconds: Annotated[int, typer.Option(help="For how long it may take; then the money goes back.")] = 600,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the answer; 0 not to.")] = 60.0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a model or an agent, pay in what it may cost, and wait until a host fulfils the request."""
    with network(home) as client:
        found = [row for row in client.send(calls.models()) if model in ("", row.name, str(row.id))]
        if not found:
            raise NotFoundError(f"no model {model!r}; `openledger model list` shows those that there are")
        options = {"max_tokens": max_tokens, "most": most, "seconds": seconds, "agent": agent}
        row = client.send(calls.ask_market(account, found[-1].id, question, **options))
        until = time.monotonic() + wait
        with errors.status("waiting for a host …"):
            while row.state == "open" and time.monotonic() < until:
                time.sleep(0.5)
                row = client.send(calls.market_request(row.number))
    _show(row, json=json)


@app.command()
def show(number: NumberArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """One request with its answer."""
    with network(home) as client:
        _show(client.send(calls.market_request(number)), json=json)


@app.command(name="list")
def list_requests(home: HomeOption = None, json: JsonOption = False) -> None:
    """The newest requests."""
    with network(home) as client:
        found = client.send(calls.market())
    if json:
        print_json(found, list[MarketRow])
        return
    rows = table("Requests", "no.", "state", "model", "question", "answer", "paid in", "fee",
                 right=["no.", "model", "paid in", "fee"])  # fmt: skip
    for row in found:
        rows.add_row(str(row.number), row.state, str(row.model), short(row.question, 40), short(row.output, 40),
                     open_amount(row.max_fee), open_amount(row.fee))  # fmt: skip
    console.print(rows)


@app.command()
def refund(number: NumberArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Take the money of a request back whose deadline is over."""
    with network(home) as client:
        _show(client.send(calls.refund_market(number)), json=json)


def _show(row: MarketRow, *, json: bool) -> None:
    if json:
        print_json(row, MarketRow)
        return
    console.print(f"request {row.number} to model {row.model} by {party(row.requester)} is {row.state}: {row.question}",
                  markup=False, soft_wrap=True)  # fmt: skip
    if row.state == "fulfilled":
        console.print(row.output, markup=False, soft_wrap=True)
        console.print(f"[dim]host[/] {party(row.host)}   [dim]fee[/] {open_amount(row.fee)} OPEN, the rest of "
                      f"{open_amount(row.max_fee)} went back   [dim]receipt[/] {row.receipt}", soft_wrap=True)  # fmt: skip
    elif row.state == "open":
        console.print(f"[dim]{open_amount(row.max_fee)} OPEN are paid in; they can be taken back after "
                      f"{when(row.deadline)}[/]")  # fmt: skip
