"""``openledger attribution audit``: measure by retraining how right a model's attribution is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import console, errors, print_json, table
from openledger.cli.reporting import TerminalReporter
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.settings import load_settings
from openledger.primitives import InputError, NotFoundError


def audit(
    name: Annotated[str, typer.Argument(help="The model's name or number.", metavar="MODEL")],
    work: Annotated[Path, typer.Option(help="Folder for results; a stopped audit goes on from there.")] = Path(
        "build/audit"
    ),
    retrainings: Annotated[int, typer.Option(min=3, help="Trainings on random halves of the records.")] = 16,
    contributor_retrainings: Annotated[int, typer.Option(min=0, help="And on halves of the contributors.")] = 16,
    leave_out: Annotated[bool, typer.Option(help="Leave out each contributor once, too.")] = False,
    questions: Annotated[int, typer.Option(min=1, help="How many of the model's answers are judged.")] = 40,
    propose: Annotated[
        str, typer.Option(help="Publish the outcome and propose, with this reason, that the network accepts it.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to go on.")] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Retrain a model without some of its records and see whether its attribution foretold what its answers lose."""
    with network(home) as client:
        found = next((model for model in client.send(calls.models()) if name in (model.name, str(model.id))), None)
        if found is None:
            raise NotFoundError(f"no model {name!r}; `openledger model list` shows those that there are")
        from openledger.attribution.audit import FEWEST_CONTRIBUTORS
        from openledger.node.accuracy import EVALUATION, audit_model, cost_seconds, evaluation, fetch

        with errors.status("fetching the model …"):
            subject = fetch(found.id, client, work / "files", load_settings().base or None)
    contributors = len(set(subject.contributors))
    left_out = contributors if leave_out else 0
    halves = contributor_retrainings if contributors >= FEWEST_CONTRIBUTORS else 0
    seconds = cost_seconds(subject.run, retrainings, halves, left_out)
    errors.print(
        f"{retrainings} trainings on halves of the records, {halves} on halves of the {contributors} contributors, "
        f"{left_out} without one contributor: "
        f"about {seconds / 60:.0f} minutes. Results go to {work}; a stopped audit goes on from there."
    )
    if not (yes or json or typer.confirm("Go on?", err=True)):
        raise InputError("nothing was retrained; say --yes to go on without being asked")
    with TerminalReporter(errors) as reporter, reporter.stage("Retraining", 1) as advance:
        outcome = audit_model(
            subject,
            work / f"audit-{found.id}",
            questions=questions,
            retrainings=retrainings,
            contributor_retrainings=halves,
            leave_out=leave_out,
            progress=advance,
        )
    made = evaluation(subject, outcome, questions)
    proposal = ""
    if propose:
        with network(home) as client:
            proposal = client.send(calls.propose_evaluation(found.id, made, propose))["id"]
    if json:
        print_json({**made, "proposal": proposal} if propose else made)
        return
    rows = table("Linear datamodelling score", "level", "score", "95% interval", right=["score", "95% interval"])
    levels = (("records", outcome.records), ("contributors", outcome.contributors), ("verbatim spans", outcome.spans))
    for level, score in levels:
        if score is not None:
            rows.add_row(level, f"{score.lds:.2f}", f"{score.low:.2f} to {score.high:.2f}")
    console.print(rows)
    if outcome.left_out is not None:
        console.print(
            f"Leaving out each of {outcome.left_out.contributors} contributors: error {outcome.left_out.error:.2f} of the "
            f"real changes, correlation {outcome.left_out.correlation:.2f}"
        )
    console.print(f"[dim]written to {work / f'audit-{found.id}' / EVALUATION}[/]", soft_wrap=True)
    if proposal:
        console.print(f"proposal {proposal}", soft_wrap=True)
