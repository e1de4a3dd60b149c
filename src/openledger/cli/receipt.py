"""``openledger receipt``: list receipts, and explain one to a person."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from eth_utils.address import to_checksum_address
from rich.panel import Panel
from rich.text import Text

from openledger.cli.ask import show_retrieved, show_shares
from openledger.cli.output import (
    console,
    errors,
    open_amount,
    party,
    percent,
    print_json,
    short,
    short_hash,
    table,
    when,
)
from openledger.cli.reporting import TerminalReporter
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import ReceiptPage, calls
from openledger.node.settings import load_settings
from openledger.node.views import ReceiptView, top_words
from openledger.primitives import PPM, NotFoundError

_TOP_RECORDS = 3

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


@app.command()
def counterfactual(
    name: Name,
    without: Annotated[
        str, typer.Option("--without", help="Who is left out: an address, or the name shown by `receipt show`.")
    ],
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Also train the model again without them: the truth, and slow.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """What the answer's loss would be without one contributor: estimated, and with --retrain measured."""
    from openledger.node.audit import opened
    from openledger.node.counterfactual import without as compare

    with network(home) as client:
        address = _address(client.send(calls.receipt(name)), without)
        with (
            TerminalReporter(errors) as reporter,
            opened(name, client, base=load_settings().base or None) as facts,
            reporter.stage("Training again" if retrain else "Measuring", 1) as advance,
        ):
            found = compare(facts, address, retrain=retrain, progress=lambda step, steps, _loss: advance(step, steps))
    if json:
        print_json(found.to_json())
        return
    estimate = found.estimate
    lines = table(
        f"Loss of this answer in nats, without the {found.records} records of {without}", "", "nats", right=["nats"]
    )
    lines.add_row("base model", f"{estimate.base_loss:.2f}")
    lines.add_row("the model that answered", f"{estimate.loss:.2f}")
    lines.add_row("estimated rise without them", f"{estimate.change:+.2f}")
    if found.retrained_change is not None:
        lines.add_row("rise after training again", f"{found.retrained_change:+.2f}")
    console.print(lines)
    console.print(
        f"[dim]All records explain {estimate.explained_ppm / PPM:.1%} of the answer, the others alone "
        f"{estimate.left_ppm / PPM:.1%}. {_audited(found.audit)}[/]"
    )


def _address(view: ReceiptView, who: str) -> str:
    """The address of a contributor who is named by it or by the label that the receipt shows."""
    if re.fullmatch(r"0x[0-9a-fA-F]{40}", who):
        return to_checksum_address(who)
    known = {party.label.casefold(): party.address for party, _ in view.contributors}
    if who.casefold() not in known:
        raise NotFoundError(
            f"no credited contributor {who!r}; there are {', '.join(known) or 'none'}, or give an address"
        )
    return known[who.casefold()]


def _audited(audit: dict[str, Any] | None) -> str:
    contributors = (audit or {}).get("contributors")
    if not contributors:
        return "This model's attribution was not audited: take the estimate as a lead."
    low, high = contributors["interval"]
    return f"Audited over contributors: LDS {contributors['lds']:.2f} ({low:.2f} to {high:.2f})."


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
    _words_of_records(view)
    if view.spans:
        spans = table("Verbatim: these words stand in accepted records (another claim than influence)", "words", "records",
                      right=["records"])  # fmt: skip
        for span in view.spans[:5]:
            spans.add_row(f"“{short(span.text, 80)}”", str(len(span.records)))
        console.print(spans)
    show_retrieved(view)
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


def _words_of_records(view: ReceiptView) -> None:
    """For the top records, the words that each moved most; a record's tokens sum to its score."""
    if not view.records or not view.tokens:
        return
    rows = table("What the top records did to each word (share of the record's influence)", "record", "share", "words",
                 right=["share"])  # fmt: skip
    for record, row in list(zip(view.records, view.influence, strict=True))[:_TOP_RECORDS]:
        rows.add_row(short(record.question, 48), percent(record.ppm), _words(view, row))
    console.print(rows)


def _words(view: ReceiptView, values: list[float]) -> str:
    found = top_words(view.tokens, values)
    return ", ".join(f"{word} {part:.0%}" for word, part in found) or "none stands out"


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
