"""``openledger attribution``: try attacks on attribution by real retraining (``audit`` is in accuracy.py)."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from openledger.cli.output import console, errors, print_json, table
from openledger.cli.reporting import TerminalReporter
from openledger.cli.session import JsonOption
from openledger.node.settings import load_settings
from openledger.primitives import InputError
from openledger.storage import write_atomically

app = typer.Typer(
    help="Attribution: how right it is, and how well it stands up to those who try to cheat it.", no_args_is_help=True
)


@app.callback()
def root() -> None:
    """Runs before every sub-command."""


@app.command()
def attack(
    work: Annotated[
        Path, typer.Option(help="Folder for the models that are trained; a stopped campaign goes on from there.")
    ] = Path("build/attacks"),
    seeds: Annotated[
        int, typer.Option(min=1, help="How many training seeds; with each another contributor attacks.")
    ] = 6,
    only: Annotated[list[str] | None, typer.Option(help="Try this attack only; may be given several times.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the scoreboard as JSON here.")] = None,
    json: JsonOption = False,
) -> None:
    """Try every attack on pay, and poison, by retraining real models; show what our shares and other rules pay for each.

    For each seed eleven small models are trained: some five minutes of one core.
    """
    if output is not None and not output.absolute().parent.is_dir():
        raise InputError(f"cannot write {output}: the folder {output.absolute().parent} does not exist; make it first")
    from openledger.attribution.attacks import ATTACKS, scoreboard
    from openledger.datanets import load_records
    from openledger.models import load_base
    from openledger.node.laboratory import DatanetLaboratory, detect_poison

    laboratory = DatanetLaboratory(load_base(load_settings().base or None), load_records(), work / "runs")
    runs = seeds * (1 + (len(only) if only else len(ATTACKS)))
    with TerminalReporter(errors) as reporter, reporter.stage("Attacking", runs + 1) as advance:
        outcomes = scoreboard(laboratory, work, lambda done, _all, _what: advance(done), only=only or (), rounds=seeds)
        found = detect_poison(laboratory)
        advance(runs + 1)
    document: dict[str, Any] = {
        "command": "openledger attribution attack",
        "task": laboratory.describe(),
        "not_run": [plan.__name__ for plan in ATTACKS if only and plan.__name__ not in only],
        "attacks": [asdict(outcome) for outcome in outcomes],
        "poison": [asdict(row) for row in found],
    }
    if output is not None:
        write_atomically(output, json_module.dumps(document, indent=1).encode() + b"\n")
    if json:
        print_json(document)
        return
    title = "What an attack pays, as a multiple of what was paid before"
    figures = ["pays", "of all pay", "victim loses"]
    rows = table(title, "attack", "rule", *figures, "goal", right=figures)
    for outcome in outcomes:
        taken = outcome.taken
        lost = "" if taken is None else f"{taken.value:.0%} ({taken.low:.0%} to {taken.high:.0%})"
        verdict = {"met": "[green]met[/]", "missed": "[red]missed[/]"}.get(outcome.verdict, outcome.verdict)
        multiples = (f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in (outcome.paid, outcome.part))
        rows.add_row(outcome.attack, outcome.rule, *multiples, lost, verdict)
    console.print(rows)
    counts = ["records", "flagged", "wrongly flagged"]
    poison = table("Poison", "kind", "found by", *counts, right=counts)
    for row in found:
        poison.add_row(row.kind, row.by, str(row.records), f"{row.recall:.0%}", f"{row.false_positives:.0%}")
    console.print(poison)
