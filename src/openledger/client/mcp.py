"""An MCP server over the client: what other people's agents may do on a network with one API key.

The client of the Model Context Protocol is a program of somebody else; what it asks is read as any outside input, and an error is
told in the network's own words. Answers cost what the API key lets them cost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from openledger.client.clients import OpenLedger, calls
from openledger.node.audit import audit
from openledger.primitives import OpenLedgerError, format_open

P = ParamSpec("P")
T = TypeVar("T")
_READS = ToolAnnotations(read_only_hint=True)
_PAYS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False)

Question = Annotated[str, Field(min_length=1, max_length=20_000, description="What to ask.")]
Receipt = Annotated[
    str, Field(min_length=1, max_length=66, description="A receipt's number, id, or first 6 hex digits.")
]


def make_server(client: OpenLedger) -> MCPServer:
    """The server, whose tools act through ``client``."""
    server = MCPServer(
        "OpenLedger",
        instructions="Models whose answers credit and pay the people whose data shaped them. Every answer has a receipt.",
    )

    @server.tool(annotations=_READS)
    @_told
    def list_models() -> list[dict[str, Any]]:
        """The network's models and agents, by the names that `ask` takes; prices in OPEN per 1,000 tokens, or a call."""
        models = [
            {
                "name": model.name, "kind": "model", "status": model.status, "datanet": model.datanet,
                "input_price": format_open(model.input_price), "output_price": format_open(model.output_price),
            }
            for model in client.send(calls.models())
        ]  # fmt: skip
        agents = [
            {
                "name": f"agent/{agent.number}", "kind": "agent", "title": agent.name, "description": agent.description,
                "price": format_open(agent.price), "model": agent.model,
            }
            for agent in client.send(calls.agents())
            if agent.definition
        ]  # fmt: skip
        return [*models, *agents]

    @server.tool(annotations=_PAYS)
    @_told
    def ask(
        question: Question,
        model: Annotated[str, Field(max_length=200, description="A name that `list_models` gives.")],
        max_tokens: Annotated[int | None, Field(ge=1, le=8192, description="Most tokens of the answer.")] = None,
        publish: Annotated[
            bool, Field(description="Publish question and answer, so that anyone can recompute it.")
        ] = False,
    ) -> dict[str, Any]:
        """Ask a model or an agent. It costs a fee, which the answer tells, and is paid by the API key of this server."""
        limit: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        answer = client.ask(model, question, publish=publish, **limit)
        return {
            "text": answer.text, "receipt": answer.receipt, "fee": format_open(answer.fee), "run": answer.run,
            "contributors_ppm": answer.contributors, "base_model_ppm": answer.residual_ppm,
        }  # fmt: skip

    @server.tool(annotations=_READS)
    @_told
    def search_records(
        datanet: Annotated[int, Field(ge=1, description="The Datanet's number.")],
        words: Annotated[str, Field(min_length=1, max_length=500, description="Words that a record must have.")],
        limit: Annotated[int, Field(ge=1, le=50, description="How many records at most.")] = 10,
    ) -> dict[str, Any]:
        """Search a Datanet's accepted records for words."""
        found = client.send(calls.records(datanet, text=words, status="accepted", limit=limit))
        return {
            "total": found.total,
            "records": [
                {
                    "hash": row.hash,
                    "question": row.question,
                    "answer": row.answer,
                    "contributor": row.contributor.address,
                }
                for row in found.rows
            ],
        }

    @server.tool(annotations=_READS)
    @_told
    def show_receipt(receipt: Receipt) -> dict[str, Any]:
        """One answer's receipt: what it cost, where it stands, and whose records shaped the answer, in ppm."""
        view = client.send(calls.receipt(receipt))
        return {
            "id": view.row.id, "number": view.row.sequence, "model": view.row.model_name, "status": view.row.status,
            "question": view.row.prompt, "answer": view.row.output, "fee": format_open(view.row.fee),
            "contributors": [{"address": who.address, "name": who.label, "ppm": ppm} for who, ppm in view.contributors],
            "base_model_ppm": view.row.residual_ppm,
            "records": [{"hash": one.hash, "ppm": one.ppm, "question": one.question} for one in view.records],
        }  # fmt: skip

    @server.tool(annotations=_READS)
    @_told
    def verify_receipt(receipt: Receipt) -> dict[str, Any]:
        """Recompute a receipt from public data: its place on the chain, the answer, its attribution and pay. Takes a while."""
        return audit(receipt, client).to_json()

    return server


def _told(tool: Callable[P, T]) -> Callable[P, T]:
    """The same tool, whose refusals reach the client in their own words."""

    @functools.wraps(tool)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return tool(*args, **kwargs)
        except OpenLedgerError as error:
            raise ToolError(str(error)) from error

    return told
