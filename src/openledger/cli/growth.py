"""``openledger attribution extend``: what records that came after a model was trained would have done to an answer of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import console, errors, print_json, short, table
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.node.settings import load_settings
from openledger.primitives import to_hex


def extend(
    receipt: Annotated[str, typer.Argument(help="A receipt of the model: number, id, or 6 hex digits.", metavar="ID")],
    output: Annotated[Path, typer.Option(help="New folder for the extended influence index.")],
    version: Annotated[int, typer.Option(min=0, help="The later Datanet version; the newest if left out.")] = 0,
    most: Annotated[int, typer.Option(min=1, help="How many records to show.")] = 8,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Add the records of a later Datanet version to a model's influence index, and show which of them an answer would owe to.

    The model is not trained again and nobody is paid by this index: a new record's score says what training on it would do.
    """
    from openledger.node.audit import opened
    from openledger.node.growth import expected, grow

    with network(home) as client, opened(receipt, client, base=load_settings().base or None) as facts:
        with errors.status("measuring the records that came since …"):
            grown = grow(facts, facts.body.receipt.model, version, output)
            found = expected(facts, grown, most)
        shown = [(one, str(facts.library.find(one.record).value.get("question", ""))) for one in found]
    if json:
        print_json(
            {
                "index": to_hex(grown.index.digest()),
                "version": grown.version,
                "added": grown.added,
                "records": [{**asdict(one), "record": to_hex(one.record)} for one in found],
            }
        )
        return
    title = f"{grown.added} records of version {grown.version} added to {grown.index.records - grown.added}: the most influence"
    rows = table(title, "record", "contributor", "score", "", right=["score"])
    for one, question in shown:
        rows.add_row(short(question, 48), one.contributor, f"{one.score:+.3g}", "new" if one.new else "trained on")
    console.print(rows)
    console.print(f"[dim]index {to_hex(grown.index.digest())} in {output}[/]", soft_wrap=True)
