"""``openledger ask``: ask a model, see the answer, who shaped it and what it cost."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from openledger.cli.output import bar, console, open_amount, party, percent, print_json, short, table
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import ReceiptView, top_words
from openledger.primitives import InputError
from openledger.studio import MAX_LOOKED_UP


def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model's name; the newest if left out.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of the answer.")] = 96,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    key: Annotated[
        str,
        typer.Option("--key", help="API key; this node's own account pays if left out.", envvar="OPENLEDGER_API_KEY"),
    ] = "",
    retrieve: Annotated[
        int,
        typer.Option(
            min=0, max=MAX_LOOKED_UP, help="How many accepted records to look up and put before the question."
        ),
    ] = 0,
    private: Annotated[
        bool, typer.Option("--private", help="Do not publish prompt and answer with the receipt.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a model; the answer comes with a receipt that says whose data shaped it."""
    if not question.strip():
        raise InputError("the question is empty; write what you want to know")
    with network(home, api_key=key or os.environ.get("OPENLEDGER_API_KEY", "")) as client:
        if not model:
            models = client.send(calls.models())
            if not models:
                raise InputError("this network has no model yet; train one with `openledger train`")
            model = models[-1].name
        if not client._api_key:
            client._api_key = client.send(calls.create_key("1", 1.0))["key"]
        answer = client.ask(
            model,
            question,
            publish=not private,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            **({"retrieval": {"top_k": retrieve}} if retrieve else {}),
            on_text=None if json else lambda piece: console.print(piece, end="", markup=False, soft_wrap=True),
        )
        view = client.send(calls.receipt(answer.receipt))
    if json:
        print_json(view, ReceiptView)
        return
    console.print("\n")
    show_shares(view)
    show_retrieved(view)
    console.print(
        f"[dim]receipt[/] {view.row.id}\n[dim]fee[/] {open_amount(view.row.fee)} OPEN for "
        f"{view.prompt_tokens} + {view.output_tokens} tokens   "
        f"[dim]openledger receipt show {view.row.sequence} · openledger verify {view.row.sequence}[/]"
    )


def show_retrieved(view: ReceiptView) -> None:
    """What was looked up for an answer, and what each record in the prompt did to it."""
    if not view.retrieved:
        return
    rows = table("Looked up and put before the question (another claim than influence of training)", "record", "contributor",
                 "likelier by (nats)", "words it made likelier", right=["likelier by (nats)"])  # fmt: skip
    for one in view.retrieved:
        words = ", ".join(word for word, _ in top_words(view.tokens, one.effects)) if view.tokens else ""
        rows.add_row(short(one.question, 48), party(one.contributor), f"{one.effect:+.2f}", words)
    console.print(rows)


def show_shares(view: ReceiptView, most: int = 6) -> None:
    """Who shaped an answer, largest share first."""
    shares = table("Whose data shaped this answer", "contributor", "share", "", right=["share"])
    for who, ppm in view.contributors[:most]:
        shares.add_row(party(who), percent(ppm), f"[cyan]{bar(ppm)}[/]")
    shares.add_row(
        "[dim]base model (residual)[/]", percent(view.row.residual_ppm), f"[dim]{bar(view.row.residual_ppm)}[/]"
    )
    console.print(shares)
    records = table("", "record", "contributor", "share", right=["share"])
    for share in view.records[:most]:
        records.add_row(short(share.question, 64), party(share.contributor), percent(share.ppm))
    console.print(records)
