"""``/``: the network at a glance, kept up to date while it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from nicegui import ui

from openledger.node.views import BlockRow, Overview, ReceiptRow
from openledger.primitives import OpenLedgerError
from openledger.ui.dom import Tag, div, link, span
from openledger.ui.formatting import amount, compact_amount, exact_amount, plural
from openledger.ui.icons import icon
from openledger.ui.layout import page
from openledger.ui.loading import fetch
from openledger.ui.pages.receipts import receipts_table
from openledger.ui.parts import (
    ROLES,
    Column,
    Region,
    Slice,
    big_number,
    card,
    empty,
    page_head,
    role_colour,
    show_hash,
    show_time,
    split_bar,
    table,
)

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

_REFRESH_SECONDS = 6.0


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/", "Overview")
    async def overview() -> None:
        with page_head("Overview", "Whose data shaped each answer, and what they were paid for it."):
            pass
        view = await fetch(node.overview)
        show = _draw()
        show(view)

        async def refresh() -> None:
            with suppress(OpenLedgerError):
                show(await asyncio.to_thread(node.overview))

        ui.timer(_REFRESH_SECONDS, refresh, immediate=False)


def _draw() -> Callable[[Overview], None]:
    """Draws the empty page; what is returned fills it, again and again."""
    flow = Region(_flow)
    with card("Latest answers", flush=True) as head:
        with head:
            link("All receipts", "/receipts")
        answers = Region(_answers)
    with div("columns wide-left"):
        with div("stack"):
            with card("Who was paid"):
                paid = Region(_paid)
            with card("Latest blocks", flush=True):
                blocks = Region(_blocks)
        with card("The chain"):
            chain = Region(_chain)

    def show(view: Overview) -> None:
        flow.show(replace(view, block_number=0, blocks_recent=[], receipts_recent=[]))
        answers.show(view.receipts_recent)
        paid.show(view.fees_by_role)
        blocks.show(view.blocks_recent)
        chain.show(view)

    return show


def _flow(view: Overview) -> None:
    people, sets = plural(view.contributors, "contributor"), plural(view.datanets, "Datanet")
    with Tag("nav", classes="flow", aria_label="From data to pay"):
        _stage("datanets", "Data", f"{view.records_accepted:,}", f"records accepted, by {people}", "/datanets")
        _stage("models", "Models", f"{view.models:,}", f"trained on {sets}", "/models")
        _stage("receipts", "Answers", f"{view.receipts:,}", "each with a signed receipt", "/receipts")
        _stage(
            "shield",
            "On chain",
            f"{view.batches:,}",
            f"{plural(view.batches, 'batch', 'batches')} of receipts",
            "/payouts",
        )
        paid = f"of {compact_amount(view.total_fees)} in fees"
        _stage("payouts", "Paid", compact_amount(view.total_paid), paid, "/payouts", exact_amount(view.total_paid))


def _answers(rows: list[ReceiptRow]) -> None:
    if rows:
        receipts_table(rows)
    else:
        empty("No answer yet.", "Ask a model on its page, or over the API.", "openledger ask MODEL 'question'")


def _paid(fees_by_role: dict[str, int]) -> None:
    parts = [
        Slice(role.capitalize(), wei, amount(wei), exact_amount(wei), role_colour(role))
        for role in ROLES
        if (wei := fees_by_role.get(role, 0))
    ]
    if parts:
        split_bar(parts, "Fees paid so far, by role")
    else:
        empty("Nobody has been paid yet.", "Fees are paid out when receipts are posted to the chain.")


def _stage(symbol: str, name: str, value: str, note: str, target: str, tip: str = "") -> None:
    with link("", target):
        with span("", "flow-name"):
            icon(symbol)
            span(name)
        big_number(value, "flow-value", tip)
        span(note, "flow-note")


def _chain(view: Overview) -> None:
    with Tag("dl", classes="pairs"):
        for name, value, tip in (
            ("Chain id", str(view.chain_id), ""),
            ("Block", f"{view.block_number:,}", ""),
            ("Staked", compact_amount(view.total_staked), exact_amount(view.total_staked)),
            ("Treasury", compact_amount(view.treasury), exact_amount(view.treasury)),
        ):
            Tag("dt", name)
            Tag("dd", value, data_tip=tip or None)
        for name, address in sorted(view.contracts.items()):
            Tag("dt", name)
            with Tag("dd"):
                show_hash(address, f"address of {name}")


def _blocks(rows: list[BlockRow]) -> None:
    if not rows:
        empty("No block yet.")
        return
    columns = [
        Column[BlockRow]("Block", lambda row: span(f"{row.number:,}", "cell-title")),
        Column[BlockRow]("Time", lambda row: show_time(row.time)),
        Column[BlockRow]("Transactions", lambda row: span(f"{row.transactions:,}"), "number"),
        Column[BlockRow]("Gas used", lambda row: span(f"{row.gas_used:,}"), "number"),
    ]
    table("Latest blocks", columns, rows, stacks=False)
