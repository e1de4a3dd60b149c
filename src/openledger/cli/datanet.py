"""``openledger datanet``: Datanets, their versions, contributions and records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, short, short_hash, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import RecordPage, calls
from openledger.node.views import (
    ContradictionRow,
    ContributionRow,
    DatanetRow,
    DatanetView,
    RecordView,
    Submission,
    VersionRow,
)
from openledger.primitives import InputError, parse_json

app = typer.Typer(help="Datanets: communities of data, reviewed by peers.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="The Datanet's number.", metavar="DATANET")]


@app.command(name="list")
def list_datanets(home: HomeOption = None, json: JsonOption = False) -> None:
    """Every Datanet."""
    with network(home) as client:
        found = client.send(calls.datanets())
    if json:
        print_json(found, list[DatanetRow])
        return
    rows = table("Datanets", "#", "name", "owner", "licence", "versions", "records", "contributors",
                 right=["#", "versions", "records", "contributors"])  # fmt: skip
    for row in found:
        rows.add_row(str(row.id), row.name, party(row.owner), row.licence, str(row.versions), f"{row.records:,}",
                     str(row.contributors))  # fmt: skip
    console.print(rows)


@app.command()
def show(number: Number = 1, home: HomeOption = None, json: JsonOption = False) -> None:
    """One Datanet: versions, contributions, people, and what was rejected and why."""
    with network(home) as client:
        view = client.send(calls.datanet(number))
    if json:
        print_json(view, DatanetView)
        return
    console.print(
        f"[bold]{view.row.name}[/]  [dim]{view.row.licence}, owner {party(view.row.owner)}[/]\n{view.row.description}\n"
    )
    versions = table("Versions", "#", "records", "root", "anchored", right=["#", "records"])
    for version in view.versions:
        versions.add_row(str(version.number), f"{version.records:,}", version.root, when(version.time))
    console.print(versions)
    contributions = table("Contributions", "#", "contributor", "rows", "accepted", "rejected", "bond", "slashed", "state",
                          right=["#", "rows", "accepted", "rejected", "bond", "slashed"])  # fmt: skip
    for row in view.contributions:
        contributions.add_row(str(row.id), party(row.contributor), str(row.count), str(row.accepted), str(row.rejected),
                              open_amount(row.bond), open_amount(row.slashed), row.state)  # fmt: skip
    console.print(contributions)
    people = table("Contributors", "name", "accepted", "rejected", "receipts", "earned OPEN",
                   right=["accepted", "rejected", "receipts", "earned OPEN"])  # fmt: skip
    for who in view.contributors:
        people.add_row(
            party(who.party), str(who.accepted), str(who.rejected), str(who.influenced), open_amount(who.earned)
        )
    console.print(people)
    if view.rejections:
        rejected = table("Rejected rows", "record", "contributor", "why")
        for record in view.rejections[:12]:
            reason = next((verdict.reason for verdict in record.verdicts if not verdict.accept), "")
            rejected.add_row(short(record.question, 50), party(record.contributor), short(reason, 70))
        console.print(rejected)


@app.command()
def contradictions(
    contribution: Annotated[int, typer.Argument(help="The contribution's number.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Records of a contribution that speak against accepted ones: the same matter, other facts. For reviewers to look at."""
    with network(home) as client:
        found = client.send(calls.contradictions(contribution))
    if json:
        print_json(found, list[ContradictionRow])
        return
    rows = table(
        f"{len(found)} records speak against accepted ones",
        "record",
        "question",
        "status",
        "says",
        "instead of",
        "against",
    )
    for row in found:
        rows.add_row(short_hash(row.hash), short(row.question, 48), row.status, ", ".join(row.says), ", ".join(row.instead_of),
                     short_hash(row.trusted))  # fmt: skip
    console.print(rows)


@app.command()
def records(
    number: Number = 1,
    text: Annotated[str, typer.Option(help="Only records that hold this text.")] = "",
    status: Annotated[str, typer.Option(help="accepted, rejected or under review.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Search a Datanet's records."""
    with network(home) as client:
        page = client.send(calls.records(number, text=text, status=status, limit=limit, offset=offset))
    if json:
        print_json(page, RecordPage)
        return
    rows = table(f"{page.total} records", "record", "question", "contributor", "status", "receipts", right=["receipts"])
    for record in page.rows:
        rows.add_row(short_hash(record.hash), short(record.question, 70), party(record.contributor), record.status,
                     str(record.influenced))  # fmt: skip
    console.print(rows)


@app.command()
def record(
    digest: Annotated[str, typer.Argument(metavar="HASH")], home: HomeOption = None, json: JsonOption = False
) -> None:
    """One record and its life: accepted, trained, influenced, paid."""
    with network(home) as client:
        view = client.send(calls.record(digest))
    if json:
        print_json(view, RecordView)
        return
    console.print(f"[bold]{view.question}[/]\n{view.answer}\n", markup=False)
    console.print(
        f"[dim]contributor[/] {party(view.contributor)}   [dim]status[/] {view.status}   "
        f"[dim]trained in[/] {', '.join(view.trained_in) or '—'}   [dim]credited in[/] {view.influenced} receipts"
    )
    verdicts = table("Verdicts", "reviewer", "verdict", "reason")
    for verdict in view.verdicts:
        verdicts.add_row(party(verdict.reviewer), "accept" if verdict.accept else "[red]reject[/]", verdict.reason)
    console.print(verdicts)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="Rows as JSONL, JSON, CSV or Parquet.")],
    account: Annotated[str, typer.Option("--as", help="The contributor: an account of this node.")],
    number: Annotated[int, typer.Option("--datanet", help="The Datanet's number.")] = 1,
    licence: Annotated[str, typer.Option(help="SPDX identifier under which the rows are given.")] = "Apache-2.0",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Contribute rows: checked by the gate, signed, and submitted with a bond. Reviewers judge them next."""
    from openledger.datanets import read_rows

    rows = list(read_rows(file))
    for number_of_row, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f"row {number_of_row} of {file} is {short(repr(row), 40)}; a record is a JSON object")
    with network(home) as client:
        made = client.send(calls.contribute(number, account, licence, rows))
    if json:
        print_json(made, Submission)
        return
    console.print(
        f"contribution {made.id}: {made.count} rows submitted   [dim]next: openledger datanet review {made.id}[/]"
    )
    if made.findings:
        found = table("What the gate noticed (advice to the reviewers)", "row", "check", "", "what", right=["row"])
        for finding in made.findings:
            found.add_row(str(finding.row), finding.check, finding.severity, short(finding.message, 90))
        console.print(found)


@app.command()
def review(
    contribution: Annotated[int, typer.Argument(help="The contribution's number.")],
    challengeable: Annotated[
        bool, typer.Option("--challengeable", help="Do not wait for the challenge window and make the decision final.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Draw a jury, and let the reviewers whose keys this node holds judge, commit and reveal."""
    with network(home) as client:
        row = client.send(calls.review(contribution, challengeable=challengeable))
    if json:
        print_json(row, ContributionRow)
        return
    if challengeable:
        console.print(f"contribution {row.id} is {row.state}   [dim]next: openledger datanet finalise {row.id}[/]")
        return
    console.print(
        f"contribution {row.id}: {row.accepted} accepted, {row.rejected} rejected, {open_amount(row.slashed)} OPEN of the bond "
        f"slashed; judged by {', '.join(party(who) for who in row.reviewers)}"
    )


@app.command()
def anchor(number: Number = 1, home: HomeOption = None, json: JsonOption = False) -> None:
    """Anchor the Datanet's next version: every accepted record under one root on the chain."""
    with network(home) as client:
        version = client.send(calls.anchor(number))
    if json:
        print_json(version, VersionRow)
        return
    console.print(f"version {version.number}: {version.records:,} records, root {version.root}", soft_wrap=True)


@app.command()
def remove(
    digest: Annotated[str, typer.Argument(help="The record's hash.", metavar="HASH")],
    account: Annotated[str, typer.Option("--as", help="The record's contributor or the Datanet's owner.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Take an accepted record out of all versions to come."""
    with network(home) as client:
        stone = client.send(calls.remove_record(digest, account))
    if json:
        print_json(stone)
        return
    console.print(f"record {stone.record} is not in version {stone.version} of Datanet {stone.datanet} and later ones",
                  soft_wrap=True)  # fmt: skip


@app.command()
def removed(
    number: Annotated[int, typer.Argument(help="The Datanet's number.", metavar="DATANET")] = 1,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """The records that were removed from a Datanet."""
    with network(home) as client:
        stones = client.send(calls.tombstones(number))
    if json:
        print_json(stones)
        return
    rows = table("Removed records", "record", "contribution", "from version", right=["contribution", "from version"])
    for stone in stones:
        rows.add_row(stone.record, str(stone.contribution), str(stone.version))
    console.print(rows)


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="Description as JSON, in the shape of the shipped datanet.json.")],
    account: Annotated[str, typer.Option("--as", help="The owner: name or address of an account of this node.")],
    access: Annotated[str, typer.Option(help="Who may read: open, paid or granted; never changes.")] = "open",
    owner_part: Annotated[
        float, typer.Option(min=0, max=100, help="The owner's part of its income, in percent; never changes.")
    ] = 0.0,
    row_cap: Annotated[int, typer.Option(min=0, help="Most records of one contributor; 0 for no cap.")] = 0,
    access_fee: Annotated[str, typer.Option(help="OPEN for access.")] = "0",
    licence_fee: Annotated[str, typer.Option(help="OPEN for each fine-tuning job.")] = "0",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Register a Datanet: schema, review policy, who may read, what it costs."""
    description = parse_json(file.read_bytes())
    if not isinstance(description, dict):
        raise InputError(f"{file} holds no JSON object; see datanet.json for the shape")
    conditions = {"access": access, "owner_ppm": round(owner_part * 10_000), "row_cap": row_cap,
                  "access_fee": access_fee, "licence_fee": licence_fee}  # fmt: skip
    with network(home) as client:
        row = client.send(calls.create_datanet(account, description, **conditions))
    if json:
        print_json(row)
        return
    console.print(f"Datanet {row.id}, {row.name}, belongs to {party(row.owner)}")
