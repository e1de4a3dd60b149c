"""``/supply``: OPEN: what exists, what circulates, what is released when, and what use demands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openledger.node.views import BucketRow, SupplyView
from openledger.primitives import PPM
from openledger.ui.charts import release_schedule
from openledger.ui.components import Chart
from openledger.ui.dom import Tag, div, paragraph, span
from openledger.ui.formatting import amount, compact_amount, exact_amount, percent, plural
from openledger.ui.layout import page
from openledger.ui.loading import fetch
from openledger.ui.parts import (
    Column,
    Slice,
    card,
    empty,
    figure,
    page_head,
    series_colour,
    show_amount,
    show_party,
    split_bar,
    table,
)

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/supply", "Supply")
    async def supply() -> None:
        with page_head("Supply", "OPEN is fixed at one billion: what circulates, what is locked, and what use pays."):
            pass
        _draw(await fetch(node.supply))


def _draw(view: SupplyView) -> None:
    with div("figures"):
        for name, wei, note in (
            ("Total supply", view.total, "fixed"),
            ("Circulating", view.circulating, _part(view.circulating, view.total)),
            ("Locked", view.locked, _part(view.locked, view.total)),
            ("Staked", view.staked, "secures reviews, hosts and validators"),
            ("Wrapped as gOPEN", view.wrapped, "may vote"),
        ):
            figure(name, compact_amount(wei), note, tip=exact_amount(wei))
    with div("columns wide-left"):
        with card("Release schedule", "What each bucket has released by each month after genesis."):
            if view.schedule:
                last = view.schedule[-1]
                released = compact_amount(sum(last[1].values()))
                label = f"Stacked area chart of released OPEN by bucket; {released} after {last[0]} months"
                Chart(release_schedule(view.schedule), label).classes("tall")
            else:
                empty("No schedule is known.")
        with div("stack"):
            with card("Allocation"):
                slices = [
                    Slice(
                        row.name.capitalize(),
                        row.total,
                        _percent(row.total, view.total),
                        exact_amount(row.total),
                        series_colour(position),
                    )
                    for position, row in enumerate(view.buckets)
                ]
                split_bar(slices, "Allocation of the total supply by bucket")
            with card("Demand from use", "What people have paid to use the network, since genesis."):
                with Tag("dl", classes="pairs"):
                    for name, wei in (("Fees for answers", view.fees_paid), ("Gas", view.gas_paid)):
                        Tag("dt", name)
                        Tag("dd", amount(wei), data_tip=exact_amount(wei))
                    used = view.fees_paid + view.gas_paid
                    Tag("dt", "Of circulating")
                    Tag("dd", percent(used * PPM // view.circulating) if view.circulating else "–")
                if used == 0:
                    paragraph("Nothing was used yet.", "muted")
    with card("Buckets", "Amounts in OPEN.", flush=True):
        _buckets(view.buckets)


def _percent(wei: int, total: int) -> str:
    return percent(wei * PPM // total) if total else ""


def _part(wei: int, total: int) -> str:
    return f"{_percent(wei, total)} of all" if total else ""


def _buckets(rows: list[BucketRow]) -> None:
    if not rows:
        empty("No bucket is known.")
        return

    def terms(row: BucketRow) -> None:
        if row.linear_months == 0:
            span("free at genesis", "muted")
            return
        cliff = f"from month {row.cliff_months} " if row.cliff_months else ""
        span(f"linear {cliff}over {plural(row.linear_months, 'month')}", "muted")

    def wei(title: str, field: str) -> Column[BucketRow]:
        return Column(title, lambda row: show_amount(getattr(row, field), compact=True, bare=True), "number")

    columns = [
        Column[BucketRow]("Bucket", lambda row: span(row.name.capitalize(), "cell-title")),
        Column[BucketRow]("Terms", terms),
        wei("Total", "total"),
        wei("At genesis", "at_genesis"),
        wei("Released", "released"),
        wei("Releasable", "releasable"),
        wei("Locked", "locked"),
        Column[BucketRow]("Beneficiary", lambda row: show_party(row.beneficiary)),
    ]
    table("Buckets", columns, rows)
