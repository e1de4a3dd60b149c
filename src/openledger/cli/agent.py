"""``openledger agent``: agents with an identity, a price and stake on the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from openledger.cli.output import console, open_amount, party, print_json, short, short_hash, table, when
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import AgentBudget, AgentRow, AgentRunRow, AgentRunView, MarketPrompt
from openledger.primitives import InputError, parse_json

app = typer.Typer(help="Agents: identity, model, price and stake on the chain.", no_args_is_help=True)

AgentArgument = Annotated[int, typer.Argument(help="The agent's number.")]
NameOption = Annotated[str, typer.Option(help="What people ask it by: letters, digits, - and _.")]
ModelOption = Annotated[int, typer.Option(min=0, help="The number of its model.")]
ToolOption = Annotated[
    list[str] | None,
    typer.Option(help="What it may use: search, ask:model:NUMBER, ask:agent:NUMBER or mcp:SERVER:TOOL; repeat it."),
]
KeyOption = Annotated[
    str, typer.Option("--key", help="API key; this node's own account pays if left out.", envvar="OPENLEDGER_API_KEY")
]
OwnerOption = Annotated[str, typer.Option("--as", help="The owner: name or address of an account of this node.")]


@app.command(name="list")
def list_agents(home: HomeOption = None, json: JsonOption = False) -> None:
    """Every agent."""
    with network(home) as client:
        _show(client.send(calls.agents()), json=json)


@app.command()
def show(number: AgentArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """One agent."""
    with network(home) as client:
        _show([client.send(calls.agent(number))], json=json)


@app.command(name="register")
def register_agent(
    name: Annotated[str, typer.Argument(help="What people find it by.")],
    account: OwnerOption,
    description: Annotated[str, typer.Option(help="What it does.")] = "",
    endpoint: Annotated[str, typer.Option(help="Where it answers.")] = "",
    model: Annotated[int, typer.Option(min=0, help="The model behind it; 0 for none.")] = 0,
    price: Annotated[str, typer.Option(help="OPEN for a call.")] = "0",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Register an agent: its file is published, its identity is an ERC-721 token of its owner."""
    call = calls.register_agent(account, name, description=description, endpoint=endpoint, model=model, price=price)
    with network(home) as client:
        _show([client.send(call)], json=json)


@app.command()
def deploy(
    account: OwnerOption,
    file: Annotated[
        Path | None, typer.Argument(help="The definition as JSON; the options below make one without it.")
    ] = None,
    name: NameOption = "",
    model: ModelOption = 0,
    instructions: Annotated[str, typer.Option(help="Its system prompt.")] = "",
    description: Annotated[str, typer.Option(help="What it does.")] = "",
    retrieve: Annotated[int, typer.Option(min=0, help="Records to look up and put before a question.")] = 0,
    tool: ToolOption = None,
    price: Annotated[str, typer.Option(help="OPEN for a call, beside the fees of its answers.")] = "0",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Deploy an agent: its definition is published, and the chain names its hash."""
    from openledger.studio import AgentDefinition

    made = {"name": name, "model": model, "instructions": instructions, "description": description, "retrieval": retrieve,
            "tools": [_tool(one) for one in tool or ()]}  # fmt: skip
    definition = AgentDefinition.read(made if file is None else _read(file)).document()
    with network(home) as client:
        _show([client.send(calls.deploy_agent(account, definition, price))], json=json)


@app.command()
def update(
    number: AgentArgument,
    file: Annotated[Path, typer.Argument(help="The new definition as JSON.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Give an agent another definition; the chain then names another hash."""
    from openledger.studio import AgentDefinition

    definition = AgentDefinition.read(_read(file)).document()
    with network(home) as client:
        _show([client.send(calls.update_agent(number, definition))], json=json)


@app.command()
def definition(number: AgentArgument, home: HomeOption = None) -> None:
    """Write an agent's definition as JSON."""
    with network(home) as client:
        print_json(client.send(calls.agent_definition(number)))


@app.command()
def ask(
    agent: Annotated[str, typer.Argument(help="The agent's number or name.")],
    question: Annotated[str, typer.Argument(help="What to ask.")],
    key: KeyOption = "",
    private: Annotated[
        bool, typer.Option("--private", help="Do not publish the run and its prompts and answers.")
    ] = False,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Ask an agent; it takes its steps, and the run lists the receipt of every answer."""
    if not question.strip():
        raise InputError("the question is empty; write what you want to know")
    name = f"agent/{agent}" if agent.isdecimal() else f"agent:{agent.removeprefix('agent:')}"
    with network(home, api_key=key) as client:
        if not key:
            client._api_key = client.send(calls.create_key("5", 1.0))["key"]
        answer = client.ask(
            name,
            question,
            publish=not private,
            on_text=None if json else lambda piece: console.print(piece, end="", markup=False, soft_wrap=True),
        )
        run = client.send(calls.agent_run(answer.run))
    if json:
        print_json(run, AgentRunView)
        return
    console.print("\n")
    _show_run(run)


@app.command()
def prompt(
    number: AgentArgument,
    question: Annotated[str, typer.Argument(help="What a contract wants to ask.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Write what a contract passes to InferenceMarket.request for an agent's answer: a model, and the prompt's bytes."""
    with network(home) as client:
        made = client.send(calls.agent_prompt(number, question))
    if json:
        print_json(made, MarketPrompt)
        return
    console.print(f"[dim]model[/] {made.model}")
    console.print(made.prompt, markup=False, soft_wrap=True)


@app.command()
def fund(
    number: AgentArgument,
    amount: Annotated[str, typer.Argument(help="OPEN to add.")],
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How long it may be spent.")] = 30.0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Set OPEN aside for an agent's own runs, as its owner; they are the most that its triggers can spend."""
    with network(home) as client:
        _show_budget(client.send(calls.fund_agent(number, amount, days)), json=json)


@app.command()
def budget(number: AgentArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """What is set aside for an agent's own runs, and whether it runs."""
    with network(home) as client:
        _show_budget(client.send(calls.agent_budget(number)), json=json)


@app.command()
def runs(number: AgentArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """An agent's runs on this node, newest first."""
    with network(home) as client:
        found = client.send(calls.agent_runs(number))
    if json:
        print_json(found, list[AgentRunRow])
        return
    rows = table("Runs", "run", "when", "cause", "state", "fees", "price", "question", "answer",
                 right=["run", "fees", "price"])  # fmt: skip
    for row in found:
        rows.add_row(str(row.number), when(row.started), row.cause, row.state, open_amount(row.fee), open_amount(row.price),
                     short(row.question, 32), short(row.answer, 32))  # fmt: skip
    console.print(rows)


@app.command()
def run(
    number: Annotated[int, typer.Argument(help="The run's number.")], home: HomeOption = None, json: JsonOption = False
) -> None:
    """One run with its steps and receipts."""
    with network(home) as client:
        found = client.send(calls.agent_run(number))
    if json:
        print_json(found, AgentRunView)
        return
    _show_run(found)


@app.command()
def terms(
    number: AgentArgument,
    model: Annotated[int, typer.Option(min=0, help="The model behind it; 0 for none.")],
    price: Annotated[str, typer.Option(help="OPEN for a call.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Set an agent's model and price."""
    with network(home) as client:
        _show([client.send(calls.set_agent_terms(number, model, price))], json=json)


@app.command()
def wallet(
    number: AgentArgument,
    account: Annotated[str, typer.Argument(help="Where it is paid: name or address of an account of this node.")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Set the wallet that an agent is paid at and whose stake stands behind it."""
    with network(home) as client:
        _show([client.send(calls.set_agent_wallet(number, account))], json=json)


def _show_budget(budget: AgentBudget, *, json: bool) -> None:
    if json:
        print_json(budget, AgentBudget)
        return
    console.print(
        f"agent {budget.agent} is {budget.state}{': ' + budget.why if budget.why else ''}\n[dim]set aside[/] "
        f"{open_amount(budget.cap)} OPEN until {when(budget.expiry)}, {open_amount(budget.spent)} of it redeemed",
        soft_wrap=True,
    )


def _show_run(run: AgentRunView) -> None:
    steps = table("Steps", "what", "with", "result", "OPEN", "receipts", right=["OPEN"])
    for step in run.steps:
        what = f"tool {step.name}" if step.kind == "tool" else f"model calls {step.name}" if step.name else "model"
        steps.add_row(f"[red]{what}[/]" if step.failed else what, short(step.arguments, 32), short(step.result, 48),
                      open_amount(step.fee), " ".join(short_hash(receipt) for receipt in step.receipts))  # fmt: skip
    console.print(steps)
    row = run.row
    price = (
        ""
        if not row.price
        else f" + price {open_amount(row.price)} ({'paid' if row.payment else row.unpaid or 'not paid'})"
    )
    console.print(
        f"[dim]run[/] {row.number} is {row.state}{': ' + run.error if run.error else ''}   [dim]fees[/] {open_amount(row.fee)}"
        f"{price} OPEN\n[dim]definition[/] {row.definition}\n[dim]record[/]     {row.record}",
        soft_wrap=True,
    )


def _read(file: Path) -> Any:
    try:
        return parse_json(file.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error


def _tool(text: str) -> dict[str, Any]:
    match text.split(":"):
        case ["search"]:
            return {"kind": "search"}
        case ["ask", ("model" | "agent") as what, number] if number.isdecimal():
            return {"kind": "ask", what: int(number)}
        case ["mcp", server, name]:
            return {"kind": "mcp", "server": server, "tools": [name]}
    raise InputError(f"{text!r} is no tool; write search, ask:model:1, ask:agent:1 or mcp:SERVER:TOOL")


def _show(found: list[AgentRow], *, json: bool) -> None:
    if json:
        print_json(found, list[AgentRow])
        return
    rows = table(
        "Agents", "no.", "name", "owner", "wallet", "model", "price", "stake", "does", right=["no.", "model", "price"]
    )
    for row in found:
        rows.add_row(str(row.number), row.name, party(row.owner), party(row.wallet), str(row.model or "—"),
                     open_amount(row.price), "yes" if row.active else "none", short(row.description, 40))  # fmt: skip
    console.print(rows)
