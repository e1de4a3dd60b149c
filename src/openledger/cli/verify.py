"""``openledger verify``: recompute a receipt from public data alone, and say yes or no."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import console, errors, print_json
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.node.settings import load_settings


def verify(
    receipt: Annotated[
        str,
        typer.Argument(
            help="The receipt's number, id, first 6 hex digits, or a file with its public body.", metavar="ID"
        ),
    ],
    private: Annotated[
        Path | None,
        typer.Option("--private-body", help="File that opens the prompt and output hashes, if not published."),
    ] = None,
    url: Annotated[
        str, typer.Option("--url", help="A node to fetch public data from; the one on --home if left out.")
    ] = "",
    other_processor: Annotated[
        bool,
        typer.Option(
            "--other-processor",
            help="This processor is of another kind than the host's, so let shares differ by 0.15% of the answer.",
        ),
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Recompute a receipt: signature, inclusion on chain, influence and payout. Exit 0 when all hold, 1 when not."""
    with network(home, url=url) as client, errors.status("recomputing …"):
        from openledger.node.audit import audit

        report = audit(
            receipt,
            client,
            base=load_settings().base or None,
            private_body=private,
            other_processor=other_processor,
        )
    if json:
        print_json(report.to_json())
    else:
        for check in report.checks:
            mark = "[green]✓[/]" if check.ok else "[bold red]✗[/]"
            console.print(f"{mark} {check.name}", highlight=False)
            if check.detail:
                console.print(f"  [dim]{check.detail}[/]" if check.ok else f"  {check.detail}", soft_wrap=True)
        verdict = "[bold green]holds[/]" if report.ok else "[bold red]does not hold[/]"
        console.print(f"\nreceipt {report.receipt_id} {verdict}")
    if not report.ok:
        raise typer.Exit(1)
