"""``/``: the network at a glance, kept up to date while it is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nicegui import ui

from openledger.node.views import BlockRow, Overview
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
        shown = await fetch(node.overview)
        with div("stack") as body:
            _draw(shown)

        async def refresh() -> None:
            nonlocal shown
            try:
                fresh = await asyncio.to_thread(node.overview)
            except OpenLedgerError:
                return
            if fresh != shown and not body.is_deleted:
                shown = fresh
                body.clear()
                with body:
                    _draw(shown)

        ui.timer(_REFRESH_SECONDS, refresh, immediate=False)


def _draw(view: Overview) -> None:
    with Tag("nav", classes="flow", aria_label="From data to pay"):
        _stage(
            "datanets",
            "Data",
            f"{view.records_accepted:,}",
            "records accepted, by " + plural(view.contributors, "contributor"),
            "/datanets",
        )
        _stage("models", "Models", f"{view.models:,}", "trained on " + plural(view.datanets, "Datanet"), "/models")
        _stage("receipts", "Answers", f"{view.receipts:,}", "each with a signed receipt", "/receipts")
        _stage(
            "shield",
            "On chain",
            f"{view.batches:,}",
            plural(view.batches, "batch", "batches") + " of receipts",
            "/payouts",
        )
        _stage(
            "payouts",
            "Paid",
            compact_amount(view.total_paid),
            f"of {compact_amount(view.total_fees)} in fees",
            "/payouts",
            tip=exact_amount(view.total_paid),
        )
    with card("Latest answers", flush=True) as head:
        with head:
            link("All receipts", "/receipts")
        if view.receipts_recent:
            receipts_table(view.receipts_recent)
        else:
            empty("No answer yet.", "Ask a model on its page, or over the API.", "openledger ask MODEL 'question'")
    with div("columns wide-left"):
        with div("stack"):
            with card("Who was paid"):
                _paid(view)
            with card("Latest blocks", flush=True):
                _blocks(view.blocks_recent)
        with card("The chain"):
            _chain(view)


def _paid(view: Overview) -> None:
    parts = [
        Slice(role.capitalize(), wei, amount(wei), exact_amount(wei), role_colour(role))
        for role in ROLES
        if (wei := view.fees_by_role.get(role, 0))
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
