"""``openledger model`` and ``openledger train``: models, their cards, and fine-tuning from the command line."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from openledger.cli.output import console, errors, open_amount, party, print_json, table
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import ModelView
from openledger.primitives import ModelError, NotFoundError

app = typer.Typer(help="Models: what they learnt from, how good they are, what they cost.", no_args_is_help=True)


@app.command(name="list")
def list_models(home: HomeOption = None, json: JsonOption = False) -> None:
    """Every registered model."""
    with network(home) as client:
        found = client.send(calls.models())
    if json:
        print_json(found, list[ModelView])
        return
    rows = table("Models", "#", "name", "builder", "Datanet", "right answers", "OPEN per 1,000 tokens in / out", "receipts",
                 right=["#", "right answers", "receipts"])  # fmt: skip
    for model in found:
        rows.add_row(
            str(model.id), model.name, party(model.owner), f"{model.datanet} v{model.datanet_version}",
            f"{model.evaluation.get('accuracy_tuned', 0):.0%}",
            f"{open_amount(model.input_price)} / {open_amount(model.output_price)}", str(model.receipts),
        )  # fmt: skip
    console.print(rows)


@app.command()
def card(
    name: Annotated[str, typer.Argument(help="The model's name or number.", metavar="MODEL")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """A model's card: sources, recipe, evaluation, hashes."""
    with network(home) as client:
        found = next((model for model in client.send(calls.models()) if name in (model.name, str(model.id))), None)
    if found is None:
        raise NotFoundError(f"no model {name!r}; `openledger model list` shows those that there are")
    if json:
        print_json(found, ModelView)
    else:
        console.print(Markdown(found.card))


def train(
    name: Annotated[str, typer.Argument(help="The new model's name.")],
    datanet: Annotated[int, typer.Option(help="The Datanet's number.")] = 1,
    version: Annotated[int, typer.Option(help="Its version; 0 is the newest.")] = 0,
    base: Annotated[str, typer.Option(help="Base model: a folder or a hub id; the shipped one if left out.")] = "",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the LoRA adapter; its alpha is twice that.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Fine-tune a model on a Datanet, evaluate it, build its influence index, and register it on the chain."""
    asked: dict[str, Any] = {
        "base": base or None, "epochs": epochs, "rank": rank, "alpha": None if rank is None else 2 * rank,
        "learning_rate": learning_rate, "seed": seed
    }  # fmt: skip
    recipe = {field: value for field, value in asked.items() if value is not None}
    with network(home) as client:
        client.send(calls.train(datanet, version, name, recipe))
        columns = (TextColumn("{task.description:28}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                   TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=errors, transient=True) as progress:
            task = progress.add_task("waiting", total=1)
            while True:
                state = client.send(calls.training())
                if state.error:
                    raise ModelError(state.error)
                progress.update(task, description=state.stage, completed=state.step, total=max(state.steps, 1))
                if state.stage == "registered":
                    break
                time.sleep(0.5)
        found = next(model for model in client.send(calls.models()) if model.name == name)
    if json:
        print_json(found, ModelView)
    else:
        console.print(Markdown(found.card))
