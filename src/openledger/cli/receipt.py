"""``openledger receipt``: list receipts, and explain one to a person."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.panel import Panel
from rich.text import Text

from openledger.cli.ask import show_shares
from openledger.cli.output import (
    console,
    open_amount,
    party,
    percent,
    print_json,
    short,
    short_hash,
    table,
    when,
)
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import ReceiptPage, calls
from openledger.node.views import ReceiptView

app = typer.Typer(help="Receipts: who shaped an answer, and who was paid for it.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(help="The receipt's number, its id, or the first 6 hex digits of it.", metavar="ID")
]


@app.command(name="list")
def list_receipts(
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="How many of the newest to pass over.")] = 0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """The newest receipts."""
    with network(home) as client:
        page = client.send(calls.receipts(offset, limit))
    if json:
        print_json(page, ReceiptPage)
        return
    rows = table(f"{page.total} receipts", "#", "id", "time", "question", "top contributor", "share", "fee", "status",
                 right=["#", "share", "fee"])  # fmt: skip
    for row in page.rows:
        rows.add_row(
            str(row.sequence), short_hash(row.id), when(row.time), short(row.prompt, 48), party(row.top_contributor),
            percent(row.top_ppm), open_amount(row.fee), row.status,
        )  # fmt: skip
    console.print(rows)


@app.command()
def show(name: Name, home: HomeOption = None, json: JsonOption = False) -> None:
    """Explain one receipt: the answer, whose data shaped it, word by word, and where the fee goes."""
    with network(home) as client:
        view = client.send(calls.receipt(name))
    if json:
        print_json(view, ReceiptView)
        return
    explain(view)


@app.command()
def body(name: Name, home: HomeOption = None) -> None:
    """Write the public body of a receipt as JSON, as it was signed: what `openledger verify FILE` reads."""
    with network(home) as client:
        print_json(client.send(calls.receipt_body(name)))


def explain(view: ReceiptView) -> None:
    """Prints a receipt for a person."""
    row = view.row
    console.print(Panel(Text(row.prompt), title="Question", title_align="left", border_style="dim"))
    console.print(Panel(_heat(view), title=f"Answer of {row.model_name}", title_align="left", border_style="cyan"))
    if view.records:
        console.print(
            "[dim]Colour: how much training on the credited records changed each word "
            "(measured influence, not copying).[/]\n"
        )
    show_shares(view)
    if view.spans:
        spans = table("Verbatim: these words stand in accepted records (another claim than influence)", "words", "records",
                      right=["records"])  # fmt: skip
        for span in view.spans[:5]:
            spans.add_row(f"“{short(span.text, 80)}”", str(len(span.records)))
        console.print(spans)
    if view.payouts:
        paid = table(f"Where the fee of {open_amount(row.fee)} OPEN goes", "account", "role", "OPEN", right=["OPEN"])
        for who, role, wei in view.payouts:
            paid.add_row(party(who), role, open_amount(wei, 9))
        console.print(paid)
    place = f"batch {view.batch}, transaction {view.transaction}" if view.batch else "not posted to the chain yet"
    console.print(
        f"[dim]receipt[/] {row.id}  [dim]#[/]{row.sequence}  [dim]{when(row.time)}[/]\n"
        f"[dim]status[/] {row.status} ({place})\n[dim]host[/] {party(view.host)}  [dim]consumer[/] {party(view.consumer)}\n"
        f"[dim]check it yourself:[/] openledger verify {row.sequence}"
    )


def _heat(view: ReceiptView) -> Text:
    totals = [sum(max(0.0, row[position]) for row in view.influence) for position in range(len(view.tokens))]
    peak = max(totals, default=0.0)
    text = Text()
    for token, total in zip(view.tokens, totals, strict=True):
        strength = total / peak if peak > 0 else 0.0
        red, green, blue = (int(255 - (255 - full) * strength) for full in (255, 140, 0))
        style = f"rgb({red},{green},{blue})" if strength > 0.05 else "default"
        text.append(token, style=style + (" bold" if strength > 0.6 else ""))
    return text
