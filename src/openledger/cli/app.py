"""The ``openledger`` command: its sub-commands, and how errors end it."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import warnings

import typer

from openledger import __version__
from openledger.cli import (
    access,
    account,
    accuracy,
    adapter,
    agent,
    appeal,
    attribution,
    chain,
    community,
    config,
    datanet,
    demo,
    dispute,
    gov,
    growth,
    host,
    key,
    market,
    mcp,
    model,
    receipt,
    serve,
    serving,
    supply,
    verify,
)
from openledger.cli import ask as ask_module
from openledger.cli.output import errors
from openledger.primitives import OpenLedgerError

app = typer.Typer(
    name="openledger",
    help="OpenLedger: the people whose data teaches a model are paid each time that model answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True),
) -> None:
    """Runs before every command."""
    if version:
        typer.echo(f"openledger {__version__}")
        raise typer.Exit


app.command()(demo.demo)
app.command()(serve.up)
app.command()(serving.serve)
app.command()(ask_module.ask)
app.command()(verify.verify)
app.add_typer(receipt.app, name="receipt")
for verb in (appeal.finalise, appeal.challenges, appeal.challenge, appeal.defend, appeal.appeal):
    datanet.app.command()(verb)
app.add_typer(datanet.app, name="datanet")
app.add_typer(access.app, name="access")
app.add_typer(model.app, name="model")
attribution.app.command()(accuracy.audit)
attribution.app.command()(growth.extend)
app.add_typer(attribution.app, name="attribution")
app.command(name="train")(model.train)
app.add_typer(key.app, name="key")
app.add_typer(adapter.app, name="adapter")
app.add_typer(account.app, name="account")
app.command(name="claim")(account.claim)
app.command(name="settle")(account.settle)
app.add_typer(dispute.app, name="dispute")
app.add_typer(market.app, name="market")
app.add_typer(host.app, name="host")
app.add_typer(agent.app, name="agent")
app.command()(mcp.mcp)
app.add_typer(community.app, name="community")
app.add_typer(chain.app, name="chain")
app.add_typer(gov.app, name="gov")
app.command()(supply.supply)
app.command()(config.config)


def main() -> None:
    """Runs the command line and exits: 0 when all is well, 1 or 2 with one line of error, 130 after Ctrl-C."""
    # What is left at the end need not be searched for cycles: that takes seconds where torch is loaded.
    atexit.register(gc.freeze)
    code = 0
    for library in ("peft", "transformers", "eth_utils", "torch"):
        warnings.filterwarnings("ignore", module=library)
    try:
        app(standalone_mode=True)
    except OpenLedgerError as error:
        errors.print(f"[bold red]Error:[/] {_escape(str(error))}", soft_wrap=True)
        code = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        errors.print(f"[bold red]Error:[/] {_escape(str(error))}", soft_wrap=True)
        code = 1
    sys.exit(code)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
