"""``openledger datanet challenge``, ``defend``, ``appeal`` …: both sides of a review decision, and what becomes of it."""

from __future__ import annotations

from typing import Annotated

import typer

from openledger.cli.output import console, open_amount, party, print_json, table
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import ChallengeRow, ContributionRow

ContributionArgument = Annotated[int, typer.Argument(help="The contribution's number.")]
BondOption = Annotated[str, typer.Option("--as", help="Who pays the bond: name or address of an account of this node.")]


def finalise(contribution: ContributionArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Make a decision final once its challenge window is over."""
    with network(home) as client:
        row = client.send(calls.finalise(contribution))
    if json:
        print_json(row, ContributionRow)
        return
    console.print(f"contribution {row.id} is {row.state}: {row.accepted} accepted, {row.rejected} rejected")


def challenges(contribution: ContributionArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """The challenges of the decision on a contribution."""
    with network(home) as client:
        rows = client.send(calls.challenges(contribution))
    _show(rows, json=json)


def challenge(
    contribution: ContributionArgument,
    rows: Annotated[list[int], typer.Argument(help="Rows whose decision is wrong, from 1.")],
    account: BondOption,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Challenge what a jury decided on rows; the bond is lost for each row that a larger jury decides the same way."""
    with network(home) as client:
        row = client.send(calls.challenge(contribution, account, rows))
    _show([row], json=json)


def defend(
    contribution: ContributionArgument,
    number: Annotated[int, typer.Argument(help="The challenge's number.")],
    account: BondOption,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Stand by the decision against a challenge, with the same bond."""
    with network(home) as client:
        row = client.send(calls.defend(contribution, number, account))
    _show([row], json=json)


def appeal(
    contribution: ContributionArgument,
    lapse: Annotated[
        bool, typer.Option("--lapse", help="No larger jury can be drawn: wait until the appeal lapses; bonds go back.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Have a larger jury judge the challenged rows by this node's reviewers, make that final, and pay both sides."""
    with network(home) as client:
        rows = client.send(calls.appeal(contribution, lapse=lapse))
        row = client.send(calls.contribution(contribution))
    _show(rows, json=json)
    if not json:
        console.print(f"contribution {row.id} is {row.state}: {row.accepted} accepted, {row.rejected} rejected")


def _show(rows: list[ChallengeRow], *, json: bool) -> None:
    if json:
        print_json(rows, list[ChallengeRow])
        return
    listed = table("Challenges", "contribution", "no.", "rows", "challenger", "defender", "bond each", "settled",
                   right=["no.", "bond each"])  # fmt: skip
    for row in rows:
        listed.add_row(str(row.contribution), str(row.number), ", ".join(map(str, row.rows)), party(row.challenger),
                       party(row.defender), open_amount(row.bond), "yes" if row.settled else "no")  # fmt: skip
    console.print(listed)
