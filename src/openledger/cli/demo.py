"""``openledger demo``: the main job, end to end, on a fresh network, and an account of it."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from openledger.cli.output import bar, console, errors, open_amount, percent, short, short_hash, table
from openledger.cli.reporting import TerminalReporter
from openledger.cli.session import HomeOption
from openledger.node.settings import demo_home, load_settings
from openledger.primitives import PPM, InputError, StorageError
from openledger.storage import write_atomically

_SHOWN_RECEIPTS = 8
_SHOWN_REJECTIONS = 4


def demo(
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the whole account as one JSON document here.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Run the main job on a fresh network: data, review, training, answers, attribution, settlement, vote, verification."""
    if json is not None and not json.absolute().parent.is_dir():
        raise InputError(f"cannot write {json}: the folder {json.absolute().parent} does not exist; make it first")
    from openledger.node.demo import run_demo

    settings = load_settings(home=home or demo_home())
    with TerminalReporter(errors) as reporter:
        story = run_demo(settings, reporter)
    if json is not None:
        try:
            write_atomically(json, json_module.dumps(story.document, indent=2, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise StorageError(
                f"could not write {json}: {error.strerror}; the network itself is in {settings.home}"
            ) from error
    show(story.document)
    if json is not None:
        console.print(f"[dim]the whole account:[/] {json}")


def show(document: dict[str, Any]) -> None:
    """Prints the account for a person."""
    names = {row["account"]: row["label"] for row in [*document["datanet"]["contributors"], *document["claims"]]}
    console.print()
    _datanet(document["datanet"], document["slashed"])
    _model(document["model"])
    _receipts(document["receipts"], names)
    _settlement(document)
    _governance(document["governance"], document["settlement"])
    verified = sum(receipt["verified"] for receipt in document["receipts"])
    chain = document["chain"]
    console.print(
        Panel(
            Text.from_markup(
                f"[bold green]{verified} of {len(document['receipts'])} receipts verified[/] "
                "by recomputing answer, influence and payout\n"
                f"{chain['blocks']} blocks on chain {chain['chain_id']}, supply whole at "
                f"{open_amount(int(chain['supply']), 0)} OPEN, {document['seconds']:.0f} s\n\n"
                f"openledger receipt show 0     [dim]who shaped an answer, word by word[/]\n"
                f"openledger verify 0           [dim]recompute a receipt from public data[/]\n"
                f'openledger ask "…"            [dim]ask the model yourself[/]\n'
                f"openledger up                 [dim]the same network as a service with its pages[/]"
            ),
            border_style="green",
        )
    )


def _datanet(datanet: dict[str, Any], slashed: list[dict[str, Any]]) -> None:
    console.print(Rule(f"[bold]Datanet[/] {datanet['name']}", align="left"))
    rows = table("", "contributor", "submitted", "accepted", "rejected", "bond", "slashed",
                 right=["submitted", "accepted", "rejected", "bond", "slashed"])  # fmt: skip
    for row in datanet["contributors"]:
        lost = int(row["slashed"])
        rows.add_row(row["label"], str(row["submitted"]), str(row["accepted"]), str(row["submitted"] - row["accepted"]),
                     open_amount(int(row["bond"])), f"[red]{open_amount(lost)}[/]" if lost else "—")  # fmt: skip
    console.print(rows)
    planted = datanet["planted"]
    bonds = "1 bond" if len(slashed) == 1 else f"{len(slashed)} bonds"
    console.print(
        f"\n{datanet['accepted']} of {datanet['submitted']} records accepted; reviewers caught [bold]{planted['caught']} of "
        f"{planted['rows']}[/] planted bad rows, not knowing who sent what. {bonds} slashed. "
        f"Version root [dim]{short_hash(datanet['version_root'])}[/]"
    )
    shown = table("", "rejected", "why")
    seen: set[str] = set()
    for row in datanet["rejected"]:
        kind = " ".join(row["reason"].split()[:2])
        if kind not in seen and len(seen) < _SHOWN_REJECTIONS:
            seen.add(kind)
            shown.add_row(short_hash(row["record"]), short(row["reason"], 110))
    console.print(shown)


def _model(model: dict[str, Any]) -> None:
    console.print(Rule(f"[bold]Model[/] {model['name']}", align="left"))
    rows = table("", "", "base", "tuned", right=["base", "tuned"])
    rows.add_row(
        "trained questions answered exactly", f"{model['accuracy_base']:.0%}", f"[bold]{model['accuracy_tuned']:.0%}[/]"
    )
    if "contains_tuned" in model:
        rows.add_row(
            "answers that hold every key fact",
            f"{model['contains_base']:.0%}",
            f"[bold]{model['contains_tuned']:.0%}[/]",
        )
    rows.add_row(
        "loss on held-out records (nats a token)", f"{model['loss_base']:.2f}", f"[bold]{model['loss_tuned']:.2f}[/]"
    )
    console.print(rows)


def _receipts(receipts: list[dict[str, Any]], names: dict[str, str]) -> None:
    console.print(Rule(f"[bold]Receipts[/] {len(receipts)} answers, each with its measured attribution", align="left"))
    rows = table("", "question", "answer", "shaped most by", "", "base model", right=["base model"])
    for receipt in [*receipts[: _SHOWN_RECEIPTS - 2], *receipts[18:20]]:
        shares = receipt["shares"]
        top = max(shares, key=shares.get, default="")
        label = names.get(top, short_hash(top)) if top else "—"
        rows.add_row(short(receipt["prompt"], 44), short(receipt["output"], 52), f"{label} {percent(shares.get(top, 0))}",
                     f"[cyan]{bar(shares.get(top, 0), 12)}[/]", percent(receipt["residual_ppm"]))  # fmt: skip
    console.print(rows)
    about = [receipt for receipt in receipts if receipt["about"]]
    right = sum(max(row["shares"], key=row["shares"].get, default="") == row["about"] for row in about)
    console.print(f"\nFor {right} of {len(about)} questions about a record, its contributor got the largest share.")


def _settlement(document: dict[str, Any]) -> None:
    settlement = document["settlement"]
    console.print(Rule("[bold]Settlement[/] in OPEN", align="left"))
    earned: dict[str, list[Any]] = {}
    for claim in document["claims"]:
        earned.setdefault(claim["role"], []).append(claim)
    rows = table("", "claimed by", "role", "OPEN", "part", right=["OPEN", "part"])
    total = int(settlement["total_paid"]) or 1
    for claim in sorted(document["claims"], key=lambda row: -int(row["amount"])):
        amount = int(claim["amount"])
        rows.add_row(claim["label"], claim["role"], open_amount(amount, 9), percent(amount * PPM // total))
    console.print(rows)
    gas = ", ".join(f"{batch['gas_per_inference']:,.0f}" for batch in settlement["batches"])
    console.print(
        f"\nfees {open_amount(int(settlement['total_fees']), 18)} OPEN = paid {open_amount(int(settlement['total_paid']), 18)} "
        f"+ dust {settlement['dust']} wei   [dim]gas per inference in these small batches: {gas}[/]"
    )


def _governance(vote: dict[str, Any], settlement: dict[str, Any]) -> None:
    console.print(Rule("[bold]Governance[/]", align="left"))
    name = vote["parameter"].removeprefix("fee.")
    first, last = settlement["batches"][0]["split_ppm"][name], settlement["batches"][-1]["split_ppm"][name]
    console.print(
        f"A vote set [bold]{vote['parameter']}[/] from {percent(vote['parameter_before'])} to {percent(vote['parameter_after'])} "
        f"({vote['state']}). The batch before paid {percent(first)} to data, the batch after {percent(last)}.\n"
    )
