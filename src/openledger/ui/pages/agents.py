"""``/agents``, ``/agents/{number}`` and ``/agent-runs/{number}``: agents, what they are, a chat, and what they did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nicegui import ui

from openledger.node.views import AgentBudget, AgentRow, AgentRunRow, AgentRunView, AgentStepRow, AgentView
from openledger.ui.access import may_act
from openledger.ui.chat import AgentChat
from openledger.ui.dom import Tag, div, heading, link, paragraph, span
from openledger.ui.formatting import amount, exact_amount, plural
from openledger.ui.layout import ask_to_sign_in, page
from openledger.ui.loading import fetch
from openledger.ui.pages.receipts import receipt_link
from openledger.ui.parts import (
    Column,
    badge,
    card,
    copy_button,
    empty,
    error_line,
    figure,
    page_head,
    show_amount,
    show_hash,
    show_party,
    show_time,
    table,
)

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views


def register(node: Views) -> None:
    """Serves the pages."""

    @page(node, "/agents", "Agents")
    async def agents() -> None:
        with page_head("Agents", "Models with instructions, tools and limits, registered on the chain with a price."):
            pass
        rows = await fetch(node.agent_rows)
        if not rows:
            with card():
                empty(
                    "No agent yet.",
                    "Deploy one of a model that is served here.",
                    "openledger agent deploy --help",
                )
        with div("grid"):
            for row in rows:
                _agent_card(row)

    @page(node, "/agents/{number}", "Agent", "agents")
    async def agent(number: int) -> None:
        view = await fetch(node.agent_view, number)
        ui.page_title(f"{view.row.name or 'Agent'} · OpenLedger")
        _draw(node, view)

    @page(node, "/agent-runs/{number}", "Run", "agents")
    async def run(number: int) -> None:
        _draw_run(await fetch(node.agent_run, number))


def _agent_card(row: AgentRow) -> None:
    with link("", f"/agents/{row.number}", "card"), div("card-body"):
        with div("line titled"):
            heading(2, row.name or f"Agent {row.number}")
            badge("staked" if row.active else "no stake")
        paragraph(row.description or "It says nothing of itself.", "muted small")
        with Tag("dl", classes="pairs"):
            Tag("dt", "Model")
            Tag("dd", str(row.model or "none"))
            Tag("dt", "Price a call")
            with Tag("dd"):
                show_amount(row.price)
            Tag("dt", "Answers")
            Tag("dd", "here" if row.definition else "elsewhere")
        show_party(row.owner)


def _draw(node: Views, view: AgentView) -> None:
    row = view.row
    with page_head(row.name or f"Agent {row.number}", row.description, crumbs=[("Agents", "/agents")]):
        badge("staked" if row.active else "no stake")
    with div("facts-line"):
        show_party(row.owner)
        if view.model_name:
            link(f"model {view.model_name}", f"/models/{row.model}")
    with div("figures"):
        figure("Price a call", amount(row.price), "beside the fees of its answers", tip=exact_amount(row.price))
        figure("Runs here", f"{len(view.runs):,}", "the newest, 20 at most")
        figure("Number", str(row.number), "in the registry of agents")
    with div("columns wide-left"):
        with div("stack"):
            with card("Chat", "Each answer of its model is paid from this node's consumer account and gets a receipt."):
                if view.problem:
                    error_line(view.problem)
                elif may_act(node):
                    AgentChat(node, row.number, row.name)
                else:
                    ask_to_sign_in("ask this agent here")
            with card("Runs", "Newest first.", flush=bool(view.runs)):
                if view.runs:
                    _runs(view.runs)
                else:
                    empty("It has not run on this node yet.")
        with div("stack"):
            if view.definition:
                _definition(view)
            if view.budget is not None:
                _budget(view.budget)
            with card("On the chain"), Tag("dl", classes="pairs"):
                Tag("dt", "Definition")
                with Tag("dd"):
                    show_hash(row.definition, "definition's hash") if row.definition else span("none", "muted")
                Tag("dt", "Registration")
                with Tag("dd"):
                    if row.uri.startswith("blob:"):
                        show_hash(row.uri.removeprefix("blob:"), "registration file's hash")
                    else:
                        span(row.uri or "none")
                Tag("dt", "Paid at")
                with Tag("dd"):
                    show_party(row.wallet)


def _definition(view: AgentView) -> None:
    made = view.definition
    with card("Definition", "What is hashed. Other instructions are another hash on the chain."):
        paragraph(made["instructions"] or "It has no instructions of its own.", "" if made["instructions"] else "muted")
        with Tag("dl", classes="pairs small"):
            for name, value in _facts(made):
                Tag("dt", name)
                Tag("dd", value)
        with Tag("details"):
            Tag("summary", "The document", "small")
            Tag("pre", json.dumps(made, ensure_ascii=False, indent=1))
    with card("Use it from a program", "The API is OpenAI's; an agent is asked as a model is."), div("line"):
        Tag("code", view.id)
        copy_button(view.id, "name over the API")


def _budget(budget: AgentBudget) -> None:
    with card("Runs by itself", "Paid from what its owner set aside, and never beyond."):
        with div("line"):
            badge(budget.state)
        if budget.why:
            paragraph(budget.why, "muted small")
        with Tag("dl", classes="pairs"):
            Tag("dt", "Set aside")
            with Tag("dd"):
                show_amount(budget.cap)
            Tag("dt", "Of it redeemed")
            with Tag("dd"):
                show_amount(budget.spent)
        command = f"openledger agent fund {budget.agent} 1"
        with div("line"):
            Tag("code", command)
            copy_button(command, "command")


def _facts(made: dict[str, Any]) -> list[tuple[str, str]]:
    limits = made["limits"]
    facts = [
        ("Tools", ", ".join(map(_tool, made["tools"])) or "none"),
        ("Always first", ", ".join(call["tool"] for call in made["plan"]) or "nothing"),
        ("Looks up", plural(made["retrieval"], "record") if made["retrieval"] else "nothing"),
        ("At most", f"{plural(limits['steps'], 'step')}, {limits['spend']} OPEN of fees, {limits['seconds']} s"),
    ]
    for trigger in made["triggers"]:
        what = (
            f"every {trigger['seconds']} s"
            if trigger["kind"] == "schedule"
            else f"at a new version of Datanet {trigger['datanet']}"
        )
        facts.append(("Runs by itself", f"{what}: {trigger['question']}"))
    return facts


def _tool(tool: dict[str, Any]) -> str:
    match tool["kind"]:
        case "search":
            return "search in records"
        case "ask":
            return f"ask model {tool['model']}" if tool["model"] else f"ask agent {tool['agent']}"
        case _:
            return f"{', '.join(tool['tools'])} of {tool['server']}"


def _runs(rows: list[AgentRunRow]) -> None:
    table(
        "Runs",
        [
            Column("Run", lambda row: link(str(row.number), f"/agent-runs/{row.number}", "strong")),
            Column("Question", _asked, "text"),
            Column("State", lambda row: badge(row.state)),
            Column("Fees", lambda row: show_amount(row.fee), "number"),
        ],
        rows,
    )


def _asked(row: AgentRunRow) -> None:
    span(row.question)
    with div("cell-note"):
        show_time(row.started)


def _draw_run(view: AgentRunView) -> None:
    row = view.row
    crumbs = [("Agents", "/agents"), (f"Agent {row.agent}", f"/agents/{row.agent}")]
    with page_head(f"Run {row.number}", row.question, crumbs=crumbs):
        badge(row.state)
    with div("facts-line"):
        show_party(row.consumer)
        span(row.cause)
        show_time(row.started)
    with div("figures"):
        figure("Fees", amount(row.fee), "of all its answers", tip=exact_amount(row.fee))
        paid = "paid to the agent" if row.payment else row.unpaid or "not paid"
        figure("Price", amount(row.price), paid if row.price else "it has none", tip=exact_amount(row.price))
        figure("Receipts", str(len(view.receipts)), "one for each answer")
    if view.error:
        error_line(view.error)
    if row.answer:
        with card("Answer"):
            paragraph(row.answer)
    with card("Steps", "What the model wrote and what its tools brought, in order.", flush=bool(view.steps)):
        if view.steps:
            _steps(view.steps)
        else:
            empty("Nothing was done.")
    with card("Hashes", "The record lists every step and receipt."), Tag("dl", classes="pairs"):
        for name, value in (("Definition", row.definition), ("Record", row.record), ("Payment", row.payment)):
            Tag("dt", name)
            with Tag("dd"):
                show_hash(value, name.lower()) if value else span("none", "muted")


def _steps(rows: list[AgentStepRow]) -> None:
    table(
        "Steps",
        [
            Column("What", _what),
            Column("With", lambda row: span(row.arguments), "text"),
            Column("Result", lambda row: span(row.result), "text"),
            Column("OPEN", lambda row: show_amount(row.fee), "number"),
            Column("Proof", _proof),
        ],
        rows,
    )


def _what(row: AgentStepRow) -> None:
    if row.kind == "model":
        span("model" if not row.name else f"model calls {row.name}")
    else:
        with div("line"):
            span(row.name, "strong")
            if row.failed:
                badge("failed")


def _proof(row: AgentStepRow) -> None:
    if row.run:
        link(f"run {row.run}", f"/agent-runs/{row.run}")
    for receipt in row.receipts if not row.run else ():
        receipt_link("receipt", receipt)
    if not row.receipts and not row.run:
        span("–", "muted")
